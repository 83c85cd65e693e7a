//! The engine on io_uring: requests are under way in the kernel while the guest and the other devices go on.
//!
//! ```text
//!   begin:    job into a free place, its call into the submission queue
//!   submit:   the kernel takes the queue
//!   finished: completions -> their jobs -> over, or the next call of the job
//! ```
//!
//! The kernel holds pointers into guest memory and into a job's list of pieces from the submission to the completion: a job keeps its place and
//! its buffers until then, also where the device forgets the request, and the engine waits for all before it goes.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::event::EventfdFlags;
use rustix::io::Errno;

use super::job::{Call, Job};
use super::{Engine, Finished, Request};

/// The operations that it needs.
const OPERATIONS: [u8; 4] = [
    opcode::Readv::CODE,
    opcode::Writev::CODE,
    opcode::Fsync::CODE,
    opcode::Fallocate::CODE,
];

/// The engine.
pub(super) struct Uring {
    ring: IoUring,
    event: OwnedFd,
    file: OwnedFd,
    /// A job's place is the name of its call.
    jobs: Vec<Option<Job>>,
    free: Vec<usize>,
    finished: VecDeque<Finished>,
}

impl Uring {
    /// For `depth` requests at a time.
    ///
    /// # Errors
    /// Gives the file back where the kernel has no io_uring, an old one, or does not allow it.
    pub(super) fn new(file: OwnedFd, depth: u16) -> Result<Self, (OwnedFd, io::Error)> {
        match set_up(depth) {
            Ok((ring, event)) => Ok(Self {
                ring,
                event,
                file,
                jobs: vec![],
                free: vec![],
                finished: VecDeque::new(),
            }),
            Err(error) => Err((file, error)),
        }
    }

    /// Puts the next call of the job at `place` into the submission queue.
    fn push(&mut self, place: usize) {
        let Some(Some(job)) = self.jobs.get(place) else {
            return;
        };
        let entry = entry(types::Fd(self.file.as_raw_fd()), &job.call()).user_data(place as u64);
        // SAFETY: what the entry points to, the job keeps until the completion of this call, and the engine keeps the job.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            // More than `depth`, for a job has one entry at most.
            self.over(place, Job::give_up);
        }
    }

    fn over(&mut self, place: usize, result: impl FnOnce(Job) -> Finished) {
        if let Some(job) = self.jobs[place].take() {
            self.free.push(place);
            self.finished.push_back(result(job));
        }
    }

    /// Takes all completions that there are.
    fn collect(&mut self) {
        loop {
            let Some(completion) = self.ring.completion().next() else {
                return;
            };
            let place = completion.user_data() as usize;
            let result = completion.result();
            let result = u32::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
            let Some(Some(job)) = self.jobs.get_mut(place) else {
                continue;
            };
            match job.take(result) {
                Some(finished) => self.over(place, |_| finished),
                None => {
                    self.push(place);
                    self.submit();
                }
            }
        }
    }

    fn under_way(&self) -> usize {
        self.jobs.len() - self.free.len()
    }
}

fn set_up(depth: u16) -> io::Result<(IoUring, OwnedFd)> {
    let ring = IoUring::new(u32::from(depth))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    if !OPERATIONS.iter().all(|code| probe.is_supported(*code))
        || !ring.params().is_feature_nodrop()
    {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    ring.submitter().register_eventfd(event.as_raw_fd())?;
    Ok((ring, event))
}

fn entry(file: types::Fd, call: &Call<'_>) -> squeue::Entry {
    match *call {
        Call::Read { at, to } => {
            let pieces = to.pieces();
            opcode::Readv::new(file, pieces.as_ptr(), pieces.len() as u32)
                .offset(at)
                .build()
        }
        Call::Write { at, from, durable } => {
            let pieces = from.pieces();
            opcode::Writev::new(file, pieces.as_ptr(), pieces.len() as u32)
                .offset(at)
                .rw_flags(if durable { libc::RWF_DSYNC } else { 0 })
                .build()
        }
        Call::Sync => opcode::Fsync::new(file)
            .flags(types::FsyncFlags::DATASYNC)
            .build(),
        Call::Allocate { mode, at, length } => opcode::Fallocate::new(file, length)
            .offset(at)
            .mode(mode)
            .build(),
    }
}

impl Engine for Uring {
    fn begin(&mut self, request: Request) {
        let job = Some(Job::new(request));
        let place = match self.free.pop() {
            Some(place) => {
                self.jobs[place] = job;
                place
            }
            None => {
                self.jobs.push(job);
                self.jobs.len() - 1
            }
        };
        self.push(place);
    }

    fn submit(&mut self) {
        if self.ring.submission().is_empty() {
            return;
        }
        if self.ring.submit().is_err() {
            // Interrupted, or out of memory for the moment: the event brings the device back here.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    fn finished(&mut self) -> Option<Finished> {
        if self.finished.is_empty() {
            // An event that is not there says so by an error.
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
            self.collect();
        }
        self.finished.pop_front()
    }

    fn drain(&mut self) {
        self.collect();
        while self.under_way() > 0 {
            // It fails where it was interrupted or the kernel has no memory: neither lasts.
            let _ = self.ring.submit_and_wait(1);
            self.collect();
        }
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        Some(self.event.as_fd())
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.drain();
    }
}
