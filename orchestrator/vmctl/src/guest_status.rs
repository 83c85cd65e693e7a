//! A VM's end as a process's exit status.

use api::{Cause, Vm};

/// The VM's time was over, as `timeout(1)` says it.
const OUT_OF_TIME: u8 = 124;
/// The VM broke.
const BROKE: u8 = 126;
/// Somebody ended it from outside: 128 + SIGKILL.
const STOPPED: u8 = 137;

/// The exit status that says how `vm` ended. `vmctl --help` tells people of it.
pub(crate) fn exit_status(vm: &Vm) -> u8 {
    let Some(outcome) = &vm.outcome else {
        return BROKE;
    };
    match outcome.cause {
        Cause::Exit => u8::try_from(outcome.status).unwrap_or(u8::MAX),
        // A guest that asks to begin anew has ended as it wished.
        Cause::Reset => 0,
        Cause::Deadline => OUT_OF_TIME,
        Cause::Stopped => STOPPED,
        Cause::TripleFault | Cause::Halted | Cause::Unsupported | Cause::Failed => BROKE,
    }
}
