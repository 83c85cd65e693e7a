//! Ending and removing VMs, and making them stand still.

use std::sync::Arc;
use std::time::Duration;

use abi::agent::request::{Request, Shutdown};
use api::{EventKind, StopVm};
use jiff::{SignedDuration, Timestamp};
use tokio::task::spawn_blocking;
use tracing::warn;
use vmm::outcome::{Cause, Outcome};

use super::Fleet;
use crate::agent;
use crate::control::{self, ControlError};
use crate::record::Desired;
use crate::state::{State, Step};
use crate::store::StoreError;
use crate::vm::Vm;

/// How long a Linux guest has to write back and unmount its disks, once its program has ended.
const UNMOUNTING: Duration = Duration::from_secs(10);
/// How long an agent may take to begin with the end, before Ctrl-Alt-Del is pressed.
const AGENT: Duration = Duration::from_secs(3);

/// The VM was not ended, paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// It is over already, or stands still, or does not.
    #[error("VM {name} is {state}, not {needed}")]
    State {
        /// Which.
        name: String,
        /// What it is doing.
        state: State,
        /// What it would have to do.
        needed: &'static str,
    },
    /// The wish could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The monitor said no, or nothing.
    #[error("the monitor of VM {name} did not do it")]
    Control {
        /// Which.
        name: String,
        /// Why.
        source: ControlError,
    },
}

/// The VM was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It lives.
    #[error("VM {name} is {state}: stop it first, or remove it by force")]
    Lives {
        /// Which.
        name: String,
        /// What it is doing.
        state: State,
    },
    /// The wish could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its folder stays.
    #[error("cannot remove the folder of VM {name}")]
    Folder {
        /// Which.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Fleet {
    /// Asks the guest to end and ends it after `timeout`, or what it was created with; one that is over is no error. Waits for the end; a caller that goes away
    /// changes nothing about it.
    ///
    /// # Errors
    /// [`EndError::Store`].
    pub async fn stop(
        self: &Arc<Self>,
        vm: &Arc<Vm>,
        timeout: Option<Duration>,
    ) -> Result<(), EndError> {
        vm.reach(|state| state != State::Creating).await;
        let own = vm
            .linux()
            .map_or(StopVm::DEFAULT_TIMEOUT_MS, |linux| linux.stop_timeout_ms);
        let timeout = timeout.unwrap_or(Duration::from_millis(own));
        let timeout = match vm.linux() {
            // That is its program's time; then its disks are to be unmounted.
            Some(_) if !timeout.is_zero() => timeout.saturating_add(UNMOUNTING),
            _ => timeout,
        };
        let timeout = SignedDuration::try_from(timeout).unwrap_or(SignedDuration::MAX);
        let by = Timestamp::now()
            .checked_add(timeout)
            .unwrap_or(Timestamp::MAX);
        if vm.state().is_ended() {
            return Ok(());
        }
        vm.want(&self.journal, Desired::Stop { by }).await?;
        if vm.step(Step::StopAsked) {
            self.tell(EventKind::Stopping, vm);
        }
        let over = vm.over();
        tokio::spawn(Arc::clone(self).bring_down(Arc::clone(vm), by));
        over.await;
        Ok(())
    }

    /// Ends it now, and waits for that.
    ///
    /// # Errors
    /// [`EndError`], where it is over already for one.
    pub async fn kill(self: &Arc<Self>, vm: &Arc<Vm>) -> Result<(), EndError> {
        let state = vm.reach(|state| state != State::Creating).await;
        if state.is_ended() {
            return Err(not(vm, "running"));
        }
        self.stop(vm, Some(Duration::ZERO)).await
    }

    /// Makes it stand still.
    ///
    /// # Errors
    /// [`EndError`].
    pub async fn pause(&self, vm: &Vm) -> Result<(), EndError> {
        if vm.state() != State::Running {
            return Err(not(vm, "running"));
        }
        control::pause(vm.folder())
            .await
            .map_err(|e| refused(vm, e))?;
        if vm.step(Step::Paused) {
            self.tell(EventKind::Paused, vm);
        }
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// [`EndError`].
    pub async fn resume(&self, vm: &Vm) -> Result<(), EndError> {
        if vm.state() != State::Paused {
            return Err(not(vm, "paused"));
        }
        control::resume(vm.folder())
            .await
            .map_err(|e| refused(vm, e))?;
        if vm.step(Step::Resumed) {
            self.tell(EventKind::Resumed, vm);
        }
        Ok(())
    }

    /// Removes all that is left of it; with `force` also one that lives. When this returns, its memory may still be on
    /// its way back to the host: a monitor takes some tens of milliseconds to be gone, and nobody waits for that.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub async fn remove(self: &Arc<Self>, vm: &Arc<Vm>, force: bool) -> Result<(), RemoveError> {
        let state = vm.reach(|state| state != State::Creating).await;
        if !state.is_ended() && !force {
            return Err(RemoveError::Lives {
                name: vm.name().to_owned(),
                state,
            });
        }
        let (fleet, vm) = (Arc::clone(self), Arc::clone(vm));
        // As with a create: a caller that goes away does not leave half of it.
        let removing = tokio::spawn(async move {
            fleet.want_removed(&vm).await?;
            if let Some(monitor) = vm.monitor()
                && !vm.state().is_ended()
            {
                if let Err(error) = monitor.kill() {
                    warn!(vm = vm.id(), %error, "cannot kill its monitor");
                }
                let by_force = Outcome::new(Cause::Stopped, "removed by force");
                fleet.ended(&vm, by_force);
            }
            vm.reach(State::is_ended).await;
            fleet.clear(&vm).await
        });
        match removing.await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Writes down that a VM is to be removed. On a full disk its own logs make room: who removes VMs may do so for that.
    async fn want_removed(&self, vm: &Vm) -> Result<(), StoreError> {
        match vm.want(&self.journal, Desired::Remove).await {
            Err(StoreError::NoSpace { .. }) => {
                if let Err(error) = vm.folder().empty_logs() {
                    warn!(vm = vm.id(), %error, "cannot empty its logs");
                }
                vm.want(&self.journal, Desired::Remove).await
            }
            other => other,
        }
    }

    /// Clears away what a VM left that is over and not wanted any more.
    pub(super) async fn clear(self: &Arc<Self>, vm: &Arc<Vm>) -> Result<(), RemoveError> {
        vm.step(Step::RemoveAsked);
        let folder = vm.folder().clone();
        let (fleet, id) = (Arc::clone(self), vm.id().to_owned());
        let has_network = vm.linux().is_some_and(|linux| linux.lease.is_some());
        let cleared = spawn_blocking(move || {
            if has_network {
                fleet.plugs.release(&id);
            }
            folder.clear()
        });
        let cleared = cleared.await;
        cleared
            .unwrap_or_else(|e| Err(e.into()))
            .map_err(|source| RemoveError::Folder {
                name: vm.name().to_owned(),
                source,
            })?;
        // The folder first: a record without a folder is one that is still to be removed, a folder without a record is nobody's.
        vm.forget(&self.journal);
        self.table().remove(vm);
        if vm.step(Step::Cleared) {
            self.tell(EventKind::Removed, vm);
        }
        Ok(())
    }

    /// Asks the guest to end, and kills its monitor when `by` has come.
    pub(super) async fn bring_down(self: Arc<Self>, vm: Arc<Vm>, by: Timestamp) {
        let left = Timestamp::now().duration_until(by);
        let start = vm.starts();
        let over = vm.over();
        if let Ok(left) = Duration::try_from(left)
            && !left.is_zero()
        {
            let graceful = async {
                tokio::join!(ask_to_end(&vm, left), over);
            };
            if tokio::time::timeout(left, graceful).await.is_ok() {
                return;
            }
        }
        if let Some(monitor) = vm.monitor()
            && !vm.state().is_ended()
            && vm.starts() == start
            && let Err(error) = monitor.kill()
        {
            warn!(vm = vm.id(), pid = monitor.pid(), %error, "cannot kill its monitor");
        }
    }
}

/// Asks a guest to end: a Linux guest's agent, where it answers, else by Ctrl-Alt-Del. Before it is entered there is nobody to ask.
async fn ask_to_end(vm: &Vm, left: Duration) {
    if vm.linux().is_some() {
        let time = left.saturating_sub(UNMOUNTING);
        let shutdown = Request::Shutdown(Shutdown {
            timeout_ms: u32::try_from(time.as_millis()).unwrap_or(u32::MAX),
            force: false,
        });
        // One that stands still hears nothing.
        let _ = control::resume(vm.folder()).await;
        match agent::open(vm.folder(), shutdown, AGENT).await {
            // The connection lasts as long as the guest: closing it now would say nothing, but to keep it costs nothing either.
            Ok(_connection) => return vm.over().await,
            Err(error) => warn!(vm = vm.id(), %error, "cannot ask its agent to end it"),
        }
    }
    if let Err(error) = control::shut_down(vm.folder()).await {
        warn!(vm = vm.id(), %error, "cannot ask the guest to end");
    }
}

fn not(vm: &Vm, needed: &'static str) -> EndError {
    EndError::State {
        name: vm.name().to_owned(),
        state: vm.state(),
        needed,
    }
}

fn refused(vm: &Vm, source: ControlError) -> EndError {
    EndError::Control {
        name: vm.name().to_owned(),
        source,
    }
}
