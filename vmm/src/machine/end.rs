//! How a VM comes to its end: the first who reports it is right, and the control thread hears of it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::outcome::Outcome;
use crate::sync::lock;

/// The end of one VM.
#[derive(Debug)]
pub struct End {
    outcome: Mutex<Option<Outcome>>,
    over: AtomicBool,
    event: EventFd,
}

impl End {
    /// An end that has not come yet.
    ///
    /// # Errors
    /// Where there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            outcome: Mutex::default(),
            over: AtomicBool::new(false),
            event: EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
        })
    }

    /// The VM is over; only the first report counts.
    pub fn report(&self, outcome: Outcome) {
        let mut slot = lock(&self.outcome);
        if slot.is_none() {
            *slot = Some(outcome);
            self.over.store(true, Ordering::Release);
            // It cannot be full: it is written once.
            let _ = self.event.write(1);
        }
    }

    /// Whether the VM is over: virtual CPUs ask before they enter the guest again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        lock(&self.outcome).clone()
    }
}

impl AsRawFd for End {
    /// Readable from the end on.
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
