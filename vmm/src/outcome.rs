//! How a VM ended, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What ended a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u64)]
pub enum Cause {
    /// The guest wrote its status to the exit port.
    Exit = 1,
    /// The guest asked for a reset.
    Reset = 2,
    /// The guest's processor triple-faulted.
    TripleFault = 3,
    /// Every virtual CPU halted with interrupts off: nothing could wake it.
    Halted = 4,
    /// An instruction that this host's KVM cannot carry out.
    Unsupported = 5,
    /// Its time was over.
    Deadline = 6,
    /// Whoever owns it ended it.
    Stopped = 7,
    /// The monitor could not start or carry on.
    Failed = 8,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 8] = [
        Self::Exit,
        Self::Reset,
        Self::TripleFault,
        Self::Halted,
        Self::Unsupported,
        Self::Deadline,
        Self::Stopped,
        Self::Failed,
    ];

    /// The cause with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|c| *c as u64 == number)
    }
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// What ended it.
    pub cause: Cause,
    /// The guest's exit status, where [`Cause::Exit`]; else zero.
    pub status: u32,
    /// What more is known, for people: an address, an instruction, a limit.
    pub detail: String,
}

impl Outcome {
    /// The guest exited with `status`.
    #[must_use]
    pub fn exit(status: u32) -> Self {
        Self {
            cause: Cause::Exit,
            status,
            detail: String::new(),
        }
    }

    /// It ended by `cause`, of which `detail` says more.
    #[must_use]
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            status: 0,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Exit => return write!(f, "exited with status {}", self.status),
            Cause::Reset => f.write_str("reset by the guest"),
            Cause::TripleFault => f.write_str("triple fault"),
            Cause::Halted => f.write_str("halted with interrupts off"),
            Cause::Unsupported => f.write_str("instruction not supported by this host"),
            Cause::Deadline => f.write_str("deadline passed"),
            Cause::Stopped => f.write_str("stopped"),
            Cause::Failed => f.write_str("monitor failed"),
        }?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}
