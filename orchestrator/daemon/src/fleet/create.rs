//! Making a VM.

use std::io;
use std::sync::Arc;

use api::{CreateVm, EventKind};
use images::Opened;
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tracing::debug;

use super::Fleet;
use super::launch::{LaunchError, Launched};
use crate::disk::volume::VolumeError;
use crate::linux::spec::{self as linux, LinuxSpecError};
use crate::name;
use crate::plug::PlugError;
use crate::process::Process;
use crate::record::{Desired, LinuxRecord, Record};
use crate::spec::{self, SpecError};
use crate::state::Step;
use crate::store::{Change, StoreError};
use crate::vm::Vm;

/// No VM was made, and nothing of one is left.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// What was asked for makes no sense, or does not fit.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// What was asked for is nothing for a Linux guest.
    #[error(transparent)]
    Linux(#[from] LinuxSpecError),
    /// It gets no network.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// A volume could not be made.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// There is no such image.
    #[error(transparent)]
    Image(#[from] images::InspectError),
    /// The name is another's.
    #[error("the name {name:?} is taken by VM {id}: choose another, or remove that one")]
    Taken {
        /// The name.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No monitor could be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The operating system failed otherwise.
    #[error("cannot {action}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl CreateError {
    pub(super) fn thread(source: io::Error) -> Self {
        Self::System {
            action: "start a thread",
            source,
        }
    }
}

/// What a request comes to with its image.
#[derive(Debug)]
struct Plan {
    memory_mib: u64,
    network: Option<String>,
    linux: Option<Box<LinuxRecord>>,
}

impl Plan {
    fn of(request: &CreateVm, image: &Opened, host_memory_mib: u64) -> Result<Self, CreateError> {
        let memory = |default| {
            let asked = request.memory_mib.unwrap_or(default);
            spec::check_memory(asked, host_memory_mib)
        };
        match image {
            Opened::LibOs { .. } => {
                spec::check_libos(request)?;
                Ok(Self {
                    memory_mib: memory(spec::MEMORY_MIB)?,
                    network: None,
                    linux: None,
                })
            }
            Opened::Linux { manifest, .. } => {
                let name = request.name.as_deref().unwrap_or("vm");
                let wanted = linux::resolve(request, &manifest.config, name)?;
                Ok(Self {
                    memory_mib: memory(linux::MEMORY_MIB)?,
                    network: wanted.network,
                    linux: Some(Box::new(wanted.record)),
                })
            }
        }
    }
}

impl Fleet {
    /// Makes a VM and starts it. A caller that goes away in the middle leaves it made.
    ///
    /// # Errors
    /// [`CreateError`].
    pub async fn create(self: &Arc<Self>, request: CreateVm) -> Result<Arc<Vm>, CreateError> {
        let fleet = Arc::clone(self);
        // A task of its own: dropped half-way, the VM would be reserved for ever.
        match tokio::spawn(async move { fleet.create_whole(request).await }).await {
            Ok(result) => result,
            Err(e) => Err(CreateError::System {
                action: "finish the request",
                source: io::Error::other(e),
            }),
        }
    }

    async fn create_whole(self: Arc<Self>, request: CreateVm) -> Result<Arc<Vm>, CreateError> {
        spec::check(&request, self.host.memory_mib)?;
        let (vm, image) = {
            let _kept = self.images_in_flux.read().await;
            let image = self.open_image(request.image.clone()).await?;
            let plan = Plan::of(&request, &image, self.host.memory_mib)?;
            let fleet = Arc::clone(&self);
            let digest = image.digest();
            // Volumes may have to be made first.
            let reserved = spawn_blocking(move || fleet.reserve(request, plan, &digest));
            let vm = reserved
                .await
                .map_err(|e| CreateError::thread(e.into()))??;
            (vm, image)
        };
        if let Err(error) = vm.write(&self.journal).await {
            self.undo(&vm).await;
            return Err(error.into());
        }
        debug!(vm = vm.id(), "written down");
        self.tell(EventKind::Created, &vm);
        if let Err(error) = self.start(&vm, image).await {
            self.undo(&vm).await;
            return Err(error);
        }
        Ok(vm)
    }

    /// Starts the monitor of a VM that is written down and has none.
    pub(super) async fn start(
        self: &Arc<Self>,
        vm: &Arc<Vm>,
        image: Opened,
    ) -> Result<(), CreateError> {
        let ring0_emulated = match &image {
            Opened::LibOs { .. } => false,
            Opened::Linux { .. } => self.ring0_is_emulated().await,
        };
        let system = |action| move |source| CreateError::System { action, source };
        let _turn = self
            .launches
            .acquire()
            .await
            .map_err(|e| system("get a turn")(io::Error::other(e)))?;
        let fleet = Arc::clone(self);
        let launching = Arc::clone(vm);
        let Launched { mut child, socket } =
            spawn_blocking(move || fleet.launch(&launching, image, ring0_emulated))
                .await
                .map_err(|e| CreateError::thread(e.into()))??;
        debug!(vm = vm.id(), "launched");
        let watched = Process::of_child(&child)
            .and_then(|process| Ok((process, tokio::net::UnixStream::from_std(socket)?)));
        match watched {
            Ok((process, socket)) => {
                let process = Arc::new(process);
                vm.set_monitor(Some(Arc::clone(&process)));
                vm.step(Step::Launched);
                tokio::spawn(Arc::clone(self).watch_child(Arc::clone(vm), process, child, socket));
                self.keep_agent(vm);
                Ok(())
            }
            Err(source) => {
                // Nobody would notice its end: out of descriptors, most likely.
                let _ = child.kill();
                let _ = spawn_blocking(move || child.wait()).await;
                Err(system("watch the monitor")(source))
            }
        }
    }

    /// The image that `reference` means, opened.
    pub(super) async fn open_image(&self, reference: String) -> Result<Opened, CreateError> {
        let images = Arc::clone(&self.images);
        let opened = spawn_blocking(move || images.open_image(&reference))
            .await
            .map_err(|e| CreateError::thread(e.into()))??;
        Ok(opened)
    }

    /// Gives the VM its id and name, which are nobody else's from here on, and its volumes, which are there from here on.
    fn reserve(
        &self,
        request: CreateVm,
        plan: Plan,
        digest: &images::Digest,
    ) -> Result<Arc<Vm>, CreateError> {
        let random = |source| CreateError::System {
            action: "get random bytes",
            source,
        };
        // Until the VM is known as one that uses them.
        let still = self.volumes.still();
        for mount in &request.volumes {
            still.ensure(&self.disks, &mount.volume)?;
        }
        let mut table = self.table();
        let id = loop {
            let id = name::new_id().map_err(random)?;
            if !table.by_id.contains_key(&id) {
                break id;
            }
        };
        let name = match request.name {
            Some(name) => name,
            None => name::new_name(&id, |name| table.by_name.contains_key(name)).map_err(random)?,
        };
        if let Some(id) = table.by_name.get(&name) {
            let id = id.clone();
            return Err(CreateError::Taken { name, id });
        }
        let mut linux = plan.linux;
        if let Some(linux) = &mut linux {
            if request.hostname.is_none() {
                linux.hostname.clone_from(&name);
            }
            if let Some(network) = &plan.network {
                let leased = self.plugs.lease(&id, &name, network, &request.ports)?;
                linux.lease = Some(leased.0);
                if let Some(made) = leased.1 {
                    // Written with the VM's record, which comes after it, or not at all.
                    self.journal.later(Change::PutNetwork(Box::new(made)));
                }
            }
        }
        let folder = self.home.vm(&id);
        let record = Record {
            id,
            name,
            image: request.image,
            digest: digest.to_string(),
            args: request.args,
            env: request.env,
            vcpus: request.vcpus,
            memory_mib: plan.memory_mib,
            timeout_ms: request.timeout_ms,
            auto_remove: request.auto_remove,
            created_at: Timestamp::now(),
            host_boot: self.host.boot_id.clone(),
            desired: Desired::Run,
            ended: None,
            starts: 0,
            linux,
        };
        let vm = Arc::new(Vm::new(record, folder));
        table.insert(&vm);
        Ok(vm)
    }

    /// Takes back a VM whose monitor was not started: who is told that it was not made does not find it after a crash either.
    async fn undo(&self, vm: &Vm) {
        if let Err(error) = vm.folder().clear() {
            tracing::warn!(vm = vm.id(), %error, "the folder of a VM that was not made stays");
        }
        if vm.linux().is_some() {
            self.plugs.release(vm.id());
        }
        if let Err(error) = vm.forget_now(&self.journal).await {
            tracing::warn!(vm = vm.id(), %error, "the record of a VM that was not made stays");
        }
        self.table().remove(vm);
        let never =
            vmm::outcome::Outcome::new(vmm::outcome::Cause::Failed, "it could not be started");
        vm.end(&self.journal, never, Timestamp::now(), None);
        vm.step(Step::RemoveAsked);
        vm.step(Step::Cleared);
    }
}
