//! Starting a VM again that has ended: with its disk, its volumes, its addresses and its console's log.
//!
//! ```text
//! monitor gone -> what tells of the last start away -> wanted again, durable -> monitor
//! ```
//! The order matters, because the daemon may be killed between any two: without its meter a VM that is not wanted again yet is one that
//! has ended, and one that is wanted again is one of which no guest ran, which the next daemon starts ([`super::recover`]).

use std::sync::Arc;
use std::time::Duration;

use api::RestartPolicy;
use tokio::task::spawn_blocking;
use tracing::{info, warn};
use vmm::outcome::Cause;

use super::{CreateError, Fleet};
use crate::record::Desired;
use crate::state::State;
use crate::store::StoreError;
use crate::vm::Vm;

/// How long a VM waits that is started again by itself; each time in a row twice as long, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The VM was not started again.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    /// It has not ended, or is on its way out.
    #[error("VM {name} is {state}: only one that has ended is started again")]
    State {
        /// Which.
        name: String,
        /// What it is doing.
        state: State,
    },
    /// The wish could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What its last start left could not be cleared away.
    #[error("cannot clear away what the last start of VM {name} left")]
    Folder {
        /// Which.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No monitor could be started.
    #[error(transparent)]
    Start(#[from] CreateError),
}

impl Fleet {
    /// Starts a VM again that has ended. A caller that goes away in the middle leaves it started.
    ///
    /// # Errors
    /// [`AgainError`]; where no monitor could be started, the VM has failed by that.
    pub async fn again(self: &Arc<Self>, vm: &Arc<Vm>) -> Result<(), AgainError> {
        let (fleet, vm) = (Arc::clone(self), Arc::clone(vm));
        let starting = tokio::spawn(async move { fleet.again_whole(&vm).await });
        match starting.await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    async fn again_whole(self: &Arc<Self>, vm: &Arc<Vm>) -> Result<(), AgainError> {
        let not_ended = || AgainError::State {
            name: vm.name().to_owned(),
            state: vm.state(),
        };
        let _alone = vm.starting().await;
        if !matches!(vm.state(), State::Exited | State::Failed) {
            return Err(not_ended());
        }
        // Its memory and its locks go back first.
        vm.left().await;
        let folder = vm.folder().clone();
        spawn_blocking(move || folder.clear_for_another_start())
            .await
            .unwrap_or_else(|e| Err(e.into()))
            .map_err(|source| AgainError::Folder {
                name: vm.name().to_owned(),
                source,
            })?;
        if !vm.want_again(&self.journal, &self.host.boot_id).await? {
            return Err(not_ended());
        }
        info!(vm = vm.id(), "started again");
        self.start_again(vm).await?;
        Ok(())
    }

    /// Starts a VM again by itself, some time after it ended, where its policy says so and nobody wants otherwise by then.
    pub(super) fn again_by_policy(self: &Arc<Self>, vm: &Arc<Vm>, cause: Cause) {
        let Some(linux) = vm.linux() else { return };
        let rows = vm.restarts_in_a_row();
        let wanted = match linux.restart.policy {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure => {
                is_crash(cause) && linux.restart.max.is_none_or(|max| rows < max)
            }
            RestartPolicy::Always => is_crash(cause) || matches!(cause, Cause::Exit | Cause::Reset),
        };
        if !wanted || vm.desired() != Desired::Run {
            return;
        }
        let wait = FIRST_WAIT
            .saturating_mul(1 << rows.min(10))
            .min(LONGEST_WAIT);
        info!(vm = vm.id(), ?wait, "is started again by its policy");
        let start = vm.starts();
        let (fleet, vm) = (Arc::clone(self), Arc::clone(vm));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // Unless somebody stopped, removed or started it meanwhile.
            if vm.desired() == Desired::Run && vm.starts() == start {
                vm.count_restart();
                if let Err(error) = fleet.again(&vm).await {
                    warn!(
                        vm = vm.id(),
                        error = crate::chain(&error),
                        "cannot start it again"
                    );
                }
            }
        });
    }
}

/// What neither guest nor owner wanted, and may go better the next time.
fn is_crash(cause: Cause) -> bool {
    matches!(cause, Cause::Failed | Cause::TripleFault | Cause::Halted)
}
