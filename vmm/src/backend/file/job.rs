//! From a request to system calls: which one is next, and what its result means.
//!
//! ```text
//!             +-- less than all, or interrupted --+
//!             v                                   |
//!   read, write, fallocate -----------------------+--> durable and not yet on disk: fdatasync --> over
//!             |  not supported: the next best fallocate, if there is one
//! ```
//!
//! A pure state machine: an engine makes the calls.

use libc::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};
use rustix::io::Errno;

use super::buffers::Buffers;
use super::{Failure, Finished, Request, Work};

/// How often a call is made again that did not happen: interrupted, or cancelled because the thread that asked for it has ended.
const RETRIES: u32 = 100;

/// A system call on the file.
#[derive(Debug)]
pub enum Call<'a> {
    /// `preadv2`.
    Read {
        /// Where in the file.
        at: u64,
        /// Where in memory.
        to: &'a Buffers,
    },
    /// `pwritev2`.
    Write {
        /// Where in the file.
        at: u64,
        /// Where in memory.
        from: &'a Buffers,
        /// With `RWF_DSYNC`.
        durable: bool,
    },
    /// `fdatasync`.
    Sync,
    /// `fallocate`.
    Allocate {
        /// Its mode.
        mode: i32,
        /// Where in the file.
        at: u64,
        /// Bytes.
        length: u64,
    },
}

/// A request being carried out.
#[derive(Debug)]
pub struct Job {
    token: u32,
    work: Work,
    durable: bool,
    /// Only the `fdatasync` of a durable request is left.
    syncing: bool,
    /// `ZERO_RANGE` was refused.
    no_zero_range: bool,
    retries: u32,
}

impl Job {
    /// From a request. It has at least one call to make.
    #[must_use]
    pub fn new(request: Request) -> Self {
        Self {
            token: request.token,
            work: request.work,
            durable: request.durable,
            syncing: false,
            no_zero_range: false,
            retries: 0,
        }
    }

    /// The call to make now.
    #[must_use]
    pub fn call(&self) -> Call<'_> {
        if self.syncing {
            return Call::Sync;
        }
        match &self.work {
            Work::Read { at, to } => Call::Read { at: *at, to },
            Work::Write { at, from } => Call::Write {
                at: *at,
                from,
                durable: self.durable,
            },
            Work::Flush => Call::Sync,
            Work::Discard { at, length } => Call::Allocate {
                mode: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                at: *at,
                length: *length,
            },
            Work::Zero {
                at,
                length,
                may_unmap,
            } => Call::Allocate {
                mode: if *may_unmap || self.no_zero_range {
                    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                } else {
                    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
                },
                at: *at,
                length: *length,
            },
        }
    }

    /// Takes the call's result, a count of bytes where it has one; `None` where there is another call to make.
    pub fn take(&mut self, result: Result<u32, Errno>) -> Option<Finished> {
        match result {
            Ok(count) => self.done(u64::from(count)),
            Err(Errno::INTR | Errno::CANCELED | Errno::AGAIN) if self.retries < RETRIES => {
                self.retries += 1;
                None
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.refused(),
            Err(errno) => self.over(Err(Failure::Io(errno))),
        }
    }

    /// The end of a job whose call could not be made.
    #[must_use]
    pub fn give_up(self) -> Finished {
        Finished {
            token: self.token,
            result: Err(Failure::Io(Errno::AGAIN)),
        }
    }

    fn done(&mut self, count: u64) -> Option<Finished> {
        if self.syncing {
            return self.over(Ok(()));
        }
        match &mut self.work {
            Work::Read { at, to: buffers } | Work::Write { at, from: buffers } => {
                if count == 0 || count > buffers.len() {
                    return self.over(Err(Failure::Short));
                }
                *at += count;
                buffers.advance(count);
                // A write was made durable by its own flag.
                if buffers.is_empty() {
                    self.over(Ok(()))
                } else {
                    None
                }
            }
            Work::Discard { .. } | Work::Zero { .. } if self.durable => {
                self.syncing = true;
                None
            }
            _ => self.over(Ok(())),
        }
    }

    fn refused(&mut self) -> Option<Finished> {
        if let Work::Zero {
            may_unmap: false, ..
        } = self.work
            && !self.no_zero_range
            && !self.syncing
        {
            // A hole reads as zeros too. The driver asked for its space to be kept, but a sparse file promises none.
            self.no_zero_range = true;
            return None;
        }
        self.over(Err(Failure::Unsupported))
    }

    fn over(&self, result: Result<(), Failure>) -> Option<Finished> {
        Some(Finished {
            token: self.token,
            result,
        })
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
