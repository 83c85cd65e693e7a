//! Disks' files: a raw image in a regular file, or a block device.
//!
//! ```text
//!                begin, submit                         preadv2, pwritev2, fdatasync, fallocate
//!   device  ------------------->  Box<dyn Engine>  --+-- Plain: in the caller's thread, done when begin returns
//!           <------------------                      |
//!            wake, finished                          +-- Uring: the kernel works on while the guest runs
//! ```
//!
//! Device and file meet at the trait [`Engine`]. Which one a disk has is found out at run time: [`Backing::engine`] takes io_uring where the
//! kernel allows it. Both carry out the same [`job::Job`], which knows what a request needs: several system calls, where
//! the first one did less than asked for.
//!
//! A [`Backing`] is a file that was checked and locked: whole sectors, not empty, opened for what the disk is to do, and nobody else's.
//!
//! - [`buffers`]: guest memory that a request reads or writes, kept while it is under way.
//! - [`job`]: from a request to system calls.
//! - [`plain`], [`uring`]: the engines.

pub mod buffers;
pub mod job;
mod plain;
mod uring;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, FlockOperation, OFlags, SeekFrom, fcntl_getfl, flock, fstat, seek};
use rustix::io::Errno;

use self::buffers::Buffers;
use crate::spec::IoEngine;

/// Bytes of a sector: the unit of everything.
pub const SECTOR: u64 = 512;

/// What is to be done with a file. Ranges are bytes, whole sectors within the file: the device has checked them.
#[derive(Debug)]
pub enum Work {
    /// From the file, from byte `at` on, to guest memory.
    Read {
        /// Where in the file.
        at: u64,
        /// Where in memory.
        to: Buffers,
    },
    /// From guest memory to the file.
    Write {
        /// Where in the file.
        at: u64,
        /// Where in memory.
        from: Buffers,
    },
    /// What was finished before is on the disk after.
    Flush,
    /// Nobody wants the range's content any more.
    Discard {
        /// Where in the file.
        at: u64,
        /// Bytes.
        length: u64,
    },
    /// The range reads as zeros.
    Zero {
        /// Where in the file.
        at: u64,
        /// Bytes.
        length: u64,
        /// Space on the disk may be given up.
        may_unmap: bool,
    },
}

/// A piece of work as the device hands it over.
#[derive(Debug)]
pub struct Request {
    /// The device's own name for it.
    pub token: u32,
    /// What.
    pub work: Work,
    /// It is on the disk when it is finished, as if a flush had followed.
    pub durable: bool,
}

/// A piece of work that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The device's name for it.
    pub token: u32,
    /// What became of it.
    pub result: Result<(), Failure>,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The file cannot do this at all: a file system without holes.
    #[error("the disk's file does not support this")]
    Unsupported,
    /// The kernel refused: no space, a broken disk.
    #[error("the disk's file: {0}")]
    Io(Errno),
    /// The file became shorter than it was.
    #[error("the disk's file ends before the disk does")]
    Short,
}

/// Carries out requests on one file. Called by one thread at a time, with the device's lock held, from any thread.
///
/// Requests that are under way together may be carried out in any order.
pub trait Engine: Send {
    /// Takes a request. It is under way, or finished, when this returns.
    fn begin(&mut self, request: Request);

    /// Tells the kernel of what was begun; to be called after the last [`Self::begin`] of a turn.
    fn submit(&mut self);

    /// A request that is over, each once.
    fn finished(&mut self) -> Option<Finished>;

    /// Waits until nothing is under way: [`Self::finished`] then gives all that is left, and nothing touches the buffers of any request.
    fn drain(&mut self);

    /// Becomes readable each time a request is finished that was under way; `None` where none ever is.
    fn wake(&self) -> Option<BorrowedFd<'_>>;
}

/// A file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum BackingError {
    /// A directory, a pipe, a terminal.
    #[error("it is neither a regular file nor a block device")]
    NotFile,
    /// A disk of no sectors.
    #[error("it is empty")]
    Empty,
    /// Not whole sectors.
    #[error("its {0} bytes are not a multiple of {SECTOR}")]
    Ragged(u64),
    /// The descriptor does not allow what the disk is to do.
    #[error("it was not opened for {0}")]
    Access(&'static str),
    /// Another VM has it, or another program that locks.
    #[error("it is in use: another VM or program has locked it")]
    Locked,
    /// io_uring was asked for by name, and this host does not allow it.
    #[error("io_uring cannot be had for it")]
    Uring(#[source] io::Error),
    /// The kernel refused.
    #[error("it cannot be used")]
    System(#[source] io::Error),
}

/// A disk's file, checked and locked. The lock (`flock`: exclusive where the disk is written, shared where it is only read) belongs to the
/// open file: it lasts until all of its descriptors are closed, also those that a launcher kept.
#[derive(Debug)]
pub struct Backing {
    file: OwnedFd,
    sectors: u64,
}

impl Backing {
    /// Checks and locks.
    ///
    /// # Errors
    /// [`BackingError`].
    pub fn open(file: OwnedFd, read_only: bool) -> Result<Self, BackingError> {
        let sectors = Self::check(&file, read_only)?;
        let lock = if read_only {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        flock(&file, lock).map_err(|e| match e {
            Errno::WOULDBLOCK => BackingError::Locked,
            other => BackingError::System(other.into()),
        })?;
        Ok(Self { file, sectors })
    }

    /// Checks alone; says how many sectors it has.
    ///
    /// # Errors
    /// [`BackingError`].
    pub fn check(file: &OwnedFd, read_only: bool) -> Result<u64, BackingError> {
        let system = |e: Errno| BackingError::System(e.into());
        let stat = fstat(file).map_err(system)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::BlockDevice) {
            return Err(BackingError::NotFile);
        }
        let access = fcntl_getfl(file).map_err(system)? & OFlags::RWMODE;
        if access == OFlags::WRONLY {
            return Err(BackingError::Access("reading"));
        }
        if !read_only && access != OFlags::RDWR {
            return Err(BackingError::Access("writing"));
        }
        // A block device has no size in its status, but it has an end.
        match seek(file, SeekFrom::End(0)).map_err(system)? {
            0 => Err(BackingError::Empty),
            bytes if !bytes.is_multiple_of(SECTOR) => Err(BackingError::Ragged(bytes)),
            bytes => Ok(bytes / SECTOR),
        }
    }

    /// How many sectors it has.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// What carries out requests on it, at most `depth` at a time: the one that was asked for, or the best that this host allows.
    ///
    /// # Errors
    /// [`BackingError::Uring`].
    pub fn engine(
        self,
        kind: Option<IoEngine>,
        depth: u16,
    ) -> Result<Box<dyn Engine>, BackingError> {
        if kind == Some(IoEngine::Sync) {
            return Ok(Box::new(plain::Plain::new(self.file)));
        }
        match uring::Uring::new(self.file, depth) {
            Ok(uring) => Ok(Box::new(uring)),
            Err((file, _)) if kind.is_none() => Ok(Box::new(plain::Plain::new(file))),
            Err((_, error)) => Err(BackingError::Uring(error)),
        }
    }
}

#[cfg(test)]
mod tests;
