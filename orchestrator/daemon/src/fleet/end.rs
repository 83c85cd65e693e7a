//! Ending and removing VMs, and making them stand still.

use std::sync::Arc;
use std::time::Duration;

use api::EventKind;
use jiff::{SignedDuration, Timestamp};
use tokio::task::spawn_blocking;
use tracing::warn;
use vmm::outcome::{Cause, Outcome};

use super::Fleet;
use crate::control::{self, ControlError};
use crate::record::Desired;
use crate::state::{State, Step};
use crate::store::StoreError;
use crate::vm::Vm;

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
    /// Asks the guest to end and ends it after `timeout`; one that is over is no error. Waits for the end; a caller that goes away
    /// changes nothing about it.
    ///
    /// # Errors
    /// [`EndError::Store`].
    pub async fn stop(self: &Arc<Self>, vm: &Arc<Vm>, timeout: Duration) -> Result<(), EndError> {
        vm.reach(|state| state != State::Creating).await;
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
        tokio::spawn(Arc::clone(self).bring_down(Arc::clone(vm), by));
        vm.reach(State::is_ended).await;
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
        self.stop(vm, Duration::ZERO).await
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
    pub(super) async fn clear(&self, vm: &Arc<Vm>) -> Result<(), RemoveError> {
        vm.step(Step::RemoveAsked);
        let folder = vm.folder().clone();
        let cleared = spawn_blocking(move || folder.clear()).await;
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
        if let Ok(left) = Duration::try_from(left)
            && !left.is_zero()
        {
            let graceful = async {
                // Before it is entered there is nobody to ask.
                if let Err(error) = control::shut_down(vm.folder()).await {
                    warn!(vm = vm.id(), %error, "cannot ask the guest to end");
                }
                vm.reach(State::is_ended).await;
            };
            if tokio::time::timeout(left, graceful).await.is_ok() {
                return;
            }
        }
        if let Some(monitor) = vm.monitor()
            && !vm.state().is_ended()
            && let Err(error) = monitor.kill()
        {
            warn!(vm = vm.id(), pid = monitor.pid(), %error, "cannot kill its monitor");
        }
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
