//! All VMs of this host: create, find, end, remove, and find again after a restart.
//!
//! ```text
//! create:  check -> reserve id and name -> record durable -> folder -> monitor -> description
//! end:     a monitor says so, or is gone -> outcome from its meter -> record, some time
//! remove:  wish durable -> kill if it lives -> folder away -> record away, some time
//! ```
//! A daemon that is killed between any two of these finds, when it returns, the record, the folder, the lock that a living monitor
//! holds and the meter; [`recover`] decides from these four alone.

mod create;
mod end;
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
use tokio::sync::{RwLock, Semaphore};

pub use create::CreateError;
pub use end::{EndError, RemoveError};
pub use launch::LaunchError;

use crate::events::Events;
use crate::folder::Home;
use crate::host::HostFacts;
use crate::store::journal::Journal;
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
    /// How long a monitor may take to enter its guest, from its start or from when it was found again.
    pub boot_limit: Duration,
    journal: Journal,
    table: Mutex<Table>,
    /// Read while an image becomes one that a VM uses; written while images are removed.
    images_in_flux: RwLock<()>,
    /// The monitor's program.
    vmm: PathBuf,
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
    /// The operating system's, where the host says nothing about itself.
    pub fn new(
        home: Home,
        journal: Journal,
        images: images::Store,
        vmm: PathBuf,
    ) -> io::Result<Self> {
        let host = HostFacts::read()?;
        Ok(Self {
            home,
            events: Arc::new(Events::new()),
            images: Arc::new(images),
            journal,
            table: Mutex::default(),
            images_in_flux: RwLock::new(()),
            vmm,
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

    /// The monitor's program.
    #[must_use]
    pub fn vmm(&self) -> &std::path::Path {
        &self.vmm
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
