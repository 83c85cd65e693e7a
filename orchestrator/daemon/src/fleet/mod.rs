//! All VMs of this host: create, find, end, remove, and find again after a restart.
//!
//! ```text
//! create:  check -> reserve id and name -> record durable -> folder -> monitor -> description
//! end:     a monitor says so, or is gone -> outcome from its meter -> record, some time
//! remove:  wish durable -> kill if it lives -> folder away -> record away, some time
//! ```
//! A daemon that is killed between any two of these finds, when it returns, the record, the folder, the lock that a living monitor
//! holds and the meter; [`recover`] decides from these four alone.

mod again;
mod create;
mod end;
mod keep;
mod launch;
pub mod recover;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{EventKind, VmCounts};
use network::{Network, NetworkSpec};
use tokio::sync::{OnceCell, RwLock, Semaphore};

pub use again::AgainError;
pub use create::CreateError;
pub use end::{EndError, RemoveError};
pub use launch::LaunchError;

use crate::disk::volume::Volumes;
use crate::disk::{DiskError, Disks};
use crate::events::Events;
use crate::folder::Home;
use crate::host::{HostFacts, ProbeError, probe};
use crate::linux::boot::Programs;
use crate::plug::{PlugError, Plugs};
use crate::store::journal::Journal;
use crate::store::{Change, StoreError};
use crate::vm::Vm;

/// How long a monitor may take to enter its guest; it takes milliseconds, and longer only where hundreds start at once.
const BOOT: Duration = Duration::from_secs(60);

/// All VMs, and what making one takes.
#[derive(Debug)]
pub struct Fleet {
    /// The daemon's directory.
    pub home: Home,
    /// What happens is told here.
    pub events: Arc<Events>,
    /// Images.
    pub images: Arc<images::Store>,
    /// What the host has.
    pub host: HostFacts,
    /// Makes disks.
    pub disks: Disks,
    /// Disks that outlive VMs.
    pub volumes: Volumes,
    /// Networks.
    pub plugs: Plugs,
    /// How long a monitor may take to enter its guest, from its start or from when it was found again.
    pub boot_limit: Duration,
    journal: Journal,
    table: Mutex<Table>,
    /// Read while an image becomes one that a VM uses; written while images are removed.
    images_in_flux: RwLock<()>,
    /// The monitor's program.
    vmm: PathBuf,
    /// What Linux guests boot.
    programs: Programs,
    /// What the monitor found out about this host's KVM.
    probe: OnceCell<serde_json::Value>,
    /// Opened once for all monitors; where that failed, each tries and says why itself.
    kvm: Option<File>,
    /// Starting more monitors at once than this only makes each slower.
    launches: Semaphore,
}

#[derive(Debug, Default)]
struct Table {
    by_id: BTreeMap<String, Arc<Vm>>,
    by_name: HashMap<String, String>,
}

/// A network was not made, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It cannot be made.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// It cannot be removed.
    #[error(transparent)]
    Remove(#[from] network::book::RemoveError),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The fleet cannot be managed.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The host says nothing about itself.
    #[error("cannot ask the host what it has")]
    Host(#[from] io::Error),
    /// There is no place for disks.
    #[error(transparent)]
    Disks(#[from] DiskError),
}

/// No VM, or several.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// None.
    #[error("there is no VM {0:?}")]
    Unknown(String),
    /// Several.
    #[error("{count} VMs have ids that begin with {prefix:?}: give more digits")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many.
        count: usize,
    },
}

impl Fleet {
    /// An empty fleet; [`Fleet::recover`] fills it.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn new(
        home: Home,
        journal: Journal,
        images: images::Store,
        vmm: PathBuf,
        programs: Programs,
    ) -> Result<Self, FleetError> {
        let host = HostFacts::read()?;
        let disks = Disks::open(home.templates())?;
        let volumes = Volumes::open(home.volumes())?;
        let plugs = Plugs::open(home.dir());
        Ok(Self {
            home,
            events: Arc::new(Events::new()),
            images: Arc::new(images),
            journal,
            table: Mutex::default(),
            images_in_flux: RwLock::new(()),
            disks,
            volumes,
            plugs,
            vmm,
            programs,
            probe: OnceCell::new(),
            kvm: File::options()
                .read(true)
                .write(true)
                .open("/dev/kvm")
                .inspect_err(|error| tracing::warn!(%error, "cannot open /dev/kvm"))
                .ok(),
            launches: Semaphore::new(2 * host.cpus as usize),
            host,
            boot_limit: BOOT,
        })
    }

    /// The VM that `reference` means: an id, a name, or the beginning of one id.
    ///
    /// # Errors
    /// [`FindError`].
    pub fn find(&self, reference: &str) -> Result<Arc<Vm>, FindError> {
        let table = self.table();
        let exact = table
            .by_id
            .get(reference)
            .or_else(|| table.by_id.get(table.by_name.get(reference)?));
        if let Some(vm) = exact {
            return Ok(Arc::clone(vm));
        }
        let shown = || reference.chars().take(64).collect();
        if reference.is_empty() {
            return Err(FindError::Unknown(shown()));
        }
        let mut found = table
            .by_id
            .range(reference.to_owned()..)
            .take_while(|(id, _)| id.starts_with(reference));
        match (found.next(), found.count()) {
            (None, _) => Err(FindError::Unknown(shown())),
            (Some((_, vm)), 0) => Ok(Arc::clone(vm)),
            (Some(_), more) => Err(FindError::Ambiguous {
                prefix: shown(),
                count: more + 1,
            }),
        }
    }

    /// The VMs that live, or all, in the order of their making.
    #[must_use]
    pub fn list(&self, all: bool) -> Vec<Arc<Vm>> {
        let mut list: Vec<_> = self
            .table()
            .by_id
            .values()
            .filter(|vm| all || !vm.state().is_ended())
            .cloned()
            .collect();
        list.sort_by_key(|vm| (vm.base().created_at, vm.id().to_owned()));
        list
    }

    /// How many VMs there are, and how many mebibytes those that live may use.
    #[must_use]
    pub fn counts(&self) -> (VmCounts, u64) {
        let mut counts = VmCounts::default();
        let mut promised = 0;
        for vm in self.table().by_id.values() {
            counts.total += 1;
            if vm.state().is_ended() {
                counts.ended += 1;
            } else {
                counts.live += 1;
                promised += vm.base().memory_mib;
            }
        }
        (counts, promised)
    }

    /// The VMs of each image.
    #[must_use]
    pub fn image_users(&self) -> HashMap<String, Vec<String>> {
        let mut users: HashMap<String, Vec<String>> = HashMap::new();
        for vm in self.table().by_id.values() {
            let of = users.entry(vm.base().digest.clone()).or_default();
            of.push(vm.name().to_owned());
        }
        users
    }

    /// Runs `change` while no VM can begin to use an image; it is told which are in use.
    pub async fn change_images<T>(
        &self,
        change: impl FnOnce(&HashMap<String, Vec<String>>) -> T,
    ) -> T {
        let _alone = self.images_in_flux.write().await;
        change(&self.image_users())
    }

    /// Makes a network and writes it down.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn create_network(
        &self,
        name: &str,
        spec: &NetworkSpec,
    ) -> Result<Network, NetworkError> {
        let network = self.plugs.create(name, spec)?;
        let written = Change::PutNetwork(Box::new(network.clone()));
        if let Err(error) = self.journal.put(written).await {
            if let Ok(networks) = self.plugs.networks() {
                let _ = networks.remove(name);
            }
            return Err(error.into());
        }
        Ok(network)
    }

    /// Removes a network in which no VM is.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn remove_network(&self, name: &str) -> Result<(), NetworkError> {
        self.plugs.networks()?.remove(name)?;
        self.journal
            .put(Change::DeleteNetwork(name.to_owned()))
            .await?;
        Ok(())
    }

    /// The VMs in a network.
    #[must_use]
    pub fn network_users(&self, network: &str) -> Vec<String> {
        let table = self.table();
        let is_in = |vm: &&Arc<Vm>| {
            let lease = vm.linux().and_then(|linux| linux.lease.as_ref());
            lease.is_some_and(|lease| lease.network == network)
        };
        let users = table.by_id.values().filter(is_in);
        users.map(|vm| vm.name().to_owned()).collect()
    }

    /// What the monitor finds out about this host's KVM, once. A probe that failed is tried again: what was missing may be
    /// there by now.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub async fn probe(&self) -> Result<&serde_json::Value, ProbeError> {
        self.probe.get_or_try_init(|| probe(&self.vmm)).await
    }

    /// Whether ring 0 is emulated here, which a Linux kernel should know. Where that cannot be found out, no monitor starts either.
    async fn ring0_is_emulated(&self) -> bool {
        match self.probe().await {
            Ok(facts) => facts["ring0_emulated"].as_bool().unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "cannot probe the host");
                false
            }
        }
    }

    /// The VMs of each volume.
    #[must_use]
    pub fn volume_users(&self, volume: &str) -> Vec<String> {
        let table = self.table();
        let uses = |vm: &&Arc<Vm>| {
            vm.linux()
                .is_some_and(|linux| linux.volumes.iter().any(|mount| mount.volume == volume))
        };
        let users = table.by_id.values().filter(uses);
        users.map(|vm| vm.name().to_owned()).collect()
    }

    /// Writes down what is left to write. VMs live on. Blocks.
    pub fn close(&self) {
        self.journal.close();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, kind: EventKind, vm: &Vm) {
        let outcome = (kind == EventKind::Ended)
            .then(|| vm.status().ended)
            .flatten();
        let outcome = outcome.map(|ended| crate::metrics::outcome(&ended.outcome));
        self.events.tell(kind, vm.reference(), outcome);
    }
}

/// The digests that VMs use.
#[must_use]
pub fn digests(users: &HashMap<String, Vec<String>>) -> HashSet<images::Digest> {
    users.keys().filter_map(|d| d.parse().ok()).collect()
}

impl Table {
    fn insert(&mut self, vm: &Arc<Vm>) {
        self.by_id.insert(vm.id().to_owned(), Arc::clone(vm));
        self.by_name
            .insert(vm.name().to_owned(), vm.id().to_owned());
    }

    fn remove(&mut self, vm: &Vm) {
        self.by_id.remove(vm.id());
        self.by_name.remove(vm.name());
    }
}
