//! The end of a guest, and what its status is.

use crate::arch::gate;
use crate::console;
use abi::status;
use core::fmt;

/// How a program ended: 0 is success, a program chooses from 1 to 100 for its own failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(u32);

impl ExitStatus {
    /// All went well.
    pub const SUCCESS: Self = Self(status::SUCCESS);
    /// It did not: 1.
    pub const FAILURE: Self = Self(1);
    /// Ended by a request to shut down.
    pub const SHUTDOWN: Self = Self(status::SHUTDOWN);

    /// The number.
    #[must_use]
    pub fn code(self) -> u32 {
        self.0
    }
}

impl From<u8> for ExitStatus {
    fn from(code: u8) -> Self {
        Self(code.into())
    }
}

/// What a program's main may return.
pub trait Termination {
    /// The exit status that it stands for, having said on the console what is to be said.
    fn report(self) -> ExitStatus;
}

impl Termination for () {
    fn report(self) -> ExitStatus {
        ExitStatus::SUCCESS
    }
}

impl Termination for core::convert::Infallible {
    fn report(self) -> ExitStatus {
        match self {}
    }
}

impl Termination for ExitStatus {
    fn report(self) -> ExitStatus {
        self
    }
}

impl Termination for u8 {
    fn report(self) -> ExitStatus {
        self.into()
    }
}

impl<T: Termination, E: fmt::Display> Termination for Result<T, E> {
    fn report(self) -> ExitStatus {
        match self {
            Ok(value) => value.report(),
            Err(error) => {
                crate::println!("error: {error}");
                ExitStatus::FAILURE
            }
        }
    }
}

/// Ends the VM, once all output has left.
pub fn exit(status: ExitStatus) -> ! {
    console::drain();
    gate::exit(status.0)
}

/// Ends the VM after a panic or a trap.
pub(crate) fn fail(status: u32) -> ! {
    console::drain();
    gate::exit(status)
}
