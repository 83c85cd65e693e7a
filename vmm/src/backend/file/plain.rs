//! The engine for hosts that do not allow io_uring: system calls in the caller's thread.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::job::{Call, Job};
use super::{Engine, Finished, Request};

/// The engine.
#[derive(Debug)]
pub(super) struct Plain {
    file: OwnedFd,
    finished: VecDeque<Finished>,
}

impl Plain {
    pub(super) fn new(file: OwnedFd) -> Self {
        Self {
            file,
            finished: VecDeque::new(),
        }
    }

    fn make(&self, call: &Call<'_>) -> Result<u32, Errno> {
        let fd = self.file.as_raw_fd();
        let result = match *call {
            Call::Read { at, to } => {
                let pieces = to.pieces();
                // SAFETY: the pieces are memory that `to` keeps mapped, as many as `Buffers` lets in.
                unsafe { libc::preadv(fd, pieces.as_ptr(), pieces.len() as i32, at.cast_signed()) }
            }
            Call::Write { at, from, durable } => {
                let pieces = from.pieces();
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                // SAFETY: as above.
                unsafe {
                    libc::pwritev2(
                        fd,
                        pieces.as_ptr(),
                        pieces.len() as i32,
                        at.cast_signed(),
                        flags,
                    )
                }
            }
            // SAFETY: no memory is involved.
            Call::Sync => unsafe { libc::fdatasync(fd) as isize },
            // SAFETY: as above.
            Call::Allocate { mode, at, length } => unsafe {
                libc::fallocate(fd, mode, at.cast_signed(), length.cast_signed()) as isize
            },
        };
        // The kernel moves less than 2 GiB in one call.
        u32::try_from(result).map_err(|_| {
            Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
        })
    }
}

impl Engine for Plain {
    fn begin(&mut self, request: Request) {
        let mut job = Job::new(request);
        let finished = loop {
            let result = self.make(&job.call());
            if let Some(finished) = job.take(result) {
                break finished;
            }
        };
        self.finished.push_back(finished);
    }

    fn submit(&mut self) {}

    fn finished(&mut self) -> Option<Finished> {
        self.finished.pop_front()
    }

    fn drain(&mut self) {}

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
