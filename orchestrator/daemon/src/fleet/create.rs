//! Making a VM.

use std::fs::File;
use std::io;
use std::sync::Arc;

use api::{CreateVm, EventKind};
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tracing::debug;

use super::Fleet;
use super::launch::{self, LaunchError, Launched};
use crate::name;
use crate::process::Process;
use crate::record::{Desired, Record};
use crate::spec::{self, SpecError};
use crate::state::Step;
use crate::store::StoreError;
use crate::vm::Vm;

/// No VM was made, and nothing of one is left.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// What was asked for makes no sense, or does not fit.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// There is no such image.
    #[error(transparent)]
    Image(#[from] images::InspectError),
    /// The image is of a kind that no monitor is started for yet.
    #[error("image {0} is a Linux root file system, and only library OSs are started")]
    Kind(images::Digest),
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
            let (digest, image) = self.open_image(request.image.clone()).await?;
            (self.reserve(request, &digest)?, image)
        };
        if let Err(error) = vm.write(&self.journal).await {
            self.undo(&vm);
            return Err(error.into());
        }
        debug!(vm = vm.id(), "written down");
        self.tell(EventKind::Created, &vm);
        if let Err(error) = self.start(&vm, image).await {
            self.undo(&vm);
            return Err(error);
        }
        Ok(vm)
    }

    /// Starts the monitor of a VM that is written down and has none.
    pub(super) async fn start(
        self: &Arc<Self>,
        vm: &Arc<Vm>,
        image: File,
    ) -> Result<(), CreateError> {
        let system = |action| move |source| CreateError::System { action, source };
        let _turn = self
            .launches
            .acquire()
            .await
            .map_err(|e| system("get a turn")(io::Error::other(e)))?;
        let fleet = Arc::clone(self);
        let launching = Arc::clone(vm);
        let Launched { mut child, socket } = spawn_blocking(move || {
            let (record, folder) = (launching.base(), launching.folder());
            launch::launch(&fleet.vmm, fleet.kvm.as_ref(), record, folder, &image)
        })
        .await
        .map_err(|e| system("start a thread")(e.into()))??;
        debug!(vm = vm.id(), "launched");
        let watched = Process::of_child(&child)
            .and_then(|process| Ok((process, tokio::net::UnixStream::from_std(socket)?)));
        match watched {
            Ok((process, socket)) => {
                let process = Arc::new(process);
                vm.set_monitor(Some(Arc::clone(&process)));
                vm.step(Step::Launched);
                tokio::spawn(Arc::clone(self).watch_child(Arc::clone(vm), process, child, socket));
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
    pub(super) async fn open_image(
        &self,
        reference: String,
    ) -> Result<(images::Digest, File), CreateError> {
        let images = Arc::clone(&self.images);
        let opened = spawn_blocking(move || images.open_image(&reference))
            .await
            .map_err(|e| CreateError::System {
                action: "start a thread",
                source: e.into(),
            })??;
        match opened {
            images::Opened::LibOs { digest, file } => Ok((digest, file)),
            images::Opened::Linux { digest, .. } => Err(CreateError::Kind(digest)),
        }
    }

    /// Gives the VM its id and name, which are nobody else's from here on.
    fn reserve(&self, request: CreateVm, digest: &images::Digest) -> Result<Arc<Vm>, CreateError> {
        let random = |source| CreateError::System {
            action: "get random bytes",
            source,
        };
        let memory_mib = spec::memory_mib(&request);
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
        let folder = self.home.vm(&id);
        let record = Record {
            id,
            name,
            image: request.image,
            digest: digest.to_string(),
            args: request.args,
            env: request.env,
            vcpus: request.vcpus,
            memory_mib,
            timeout_ms: request.timeout_ms,
            auto_remove: request.auto_remove,
            created_at: Timestamp::now(),
            host_boot: self.host.boot_id.clone(),
            desired: Desired::Run,
            ended: None,
        };
        let vm = Arc::new(Vm::new(record, folder));
        table.insert(&vm);
        Ok(vm)
    }

    /// Takes back a VM whose monitor was not started.
    fn undo(&self, vm: &Vm) {
        if let Err(error) = vm.folder().clear() {
            tracing::warn!(vm = vm.id(), %error, "the folder of a VM that was not made stays");
        }
        vm.forget(&self.journal);
        self.table().remove(vm);
        let never =
            vmm::outcome::Outcome::new(vmm::outcome::Cause::Failed, "it could not be started");
        vm.end(&self.journal, never, Timestamp::now(), None);
        vm.step(Step::RemoveAsked);
        vm.step(Step::Cleared);
    }
}
