//! The block device (section 5.2): one queue of requests, on a file of the host.
//!
//! ```text
//!   ring --chain--> Request::parse --> refused: status at once
//!                        |
//!                        +--> Engine::begin ... Finished --> status byte --> ring
//!                 [places: what is under way, at most DEPTH]
//! ```
//!
//! A request is taken off the ring while there is a place for it and the rate limit admits it. What the engine finishes is given back in whatever
//! order: a driver that wants an order waits, and flushes.
//!
//! A driver that has not agreed on flushes gets a disk without a cache: each write is on the host's disk before it is given
//! back (section 5.2.6.2). With flushes the host's page cache holds what was written, and a flush covers all that was given back before it was
//! made available.

mod config;
mod request;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES,
};
use vm_memory::{Bytes, GuestAddress};

use self::config::Config;
use self::request::{Status, Task};
use super::VirtioDevice;
use super::ring::{Broken, Chain, Kept, Ring};
use crate::backend::file::{self, Backing, BackingError, Engine, Failure, Finished, Work};
use crate::machine::memory::Memory;
use crate::meter::{Counter, Meter};
use crate::rate::{LimitChange, Limiter};
use crate::spec;

/// Device id.
const ID: u32 = 2;
/// Length of the queue, and most requests that are under way.
const DEPTH: u16 = 256;
const QUEUES: [u16; 1] = [DEPTH];

/// A disk cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Its file cannot be one.
    #[error("disk {0}: its file cannot be used")]
    Backing(spec::DeviceId, #[source] BackingError),
    /// No timer for its rate limit.
    #[error("disk {0}: its rate limit cannot be kept")]
    Limiter(spec::DeviceId, #[source] std::io::Error),
}

/// The device.
pub struct Block {
    engine: Box<dyn Engine>,
    limiter: Limiter,
    config: Config,
    serial: [u8; VIRTIO_BLK_ID_BYTES as usize],
    sectors: u64,
    read_only: bool,
    write_through: bool,
    /// What is under way, by the token that the engine has for it.
    places: Vec<Option<UnderWay>>,
    free: Vec<u32>,
    memory: Memory,
    meter: Arc<Meter>,
}

/// A request that the engine has.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    chain: Kept,
    /// Where its status goes.
    status: GuestAddress,
    /// Bytes that it puts into guest memory, beside the status.
    filled: u32,
    what: What,
}

/// A request as it is counted.
#[derive(Clone, Copy, Debug)]
enum What {
    Read(u64),
    Write(u64),
    Flush,
    Discard,
}

impl Block {
    /// A disk as a description has it, on requests in `memory`.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn new(disk: spec::Disk, memory: Memory, meter: Arc<Meter>) -> Result<Self, BlockError> {
        let refused = |error| BlockError::Backing(disk.id.clone(), error);
        let backing = Backing::open(disk.file, disk.read_only).map_err(refused)?;
        let sectors = backing.sectors();
        let engine = backing.engine(disk.io_engine, DEPTH).map_err(refused)?;
        let limiter =
            Limiter::new(disk.rate).map_err(|error| BlockError::Limiter(disk.id.clone(), error))?;
        Ok(Self::with_engine(
            engine,
            sectors,
            disk.read_only,
            disk.id.as_str(),
            limiter,
            memory,
            meter,
        ))
    }

    fn with_engine(
        engine: Box<dyn Engine>,
        sectors: u64,
        read_only: bool,
        id: &str,
        limiter: Limiter,
        memory: Memory,
        meter: Arc<Meter>,
    ) -> Self {
        let mut serial = [0; VIRTIO_BLK_ID_BYTES as usize];
        let length = id.len().min(serial.len());
        serial[..length].copy_from_slice(&id.as_bytes()[..length]);
        Self {
            engine,
            limiter,
            config: Config::new(sectors, DEPTH),
            serial,
            sectors,
            read_only,
            write_through: true,
            places: vec![None; usize::from(DEPTH)],
            free: (0..u32::from(DEPTH)).collect(),
            memory,
            meter,
        }
    }

    /// Changes its rate limit, while it runs.
    pub fn change_limit(&mut self, change: LimitChange) {
        self.limiter.change(change);
    }

    /// Takes a chain off the ring: begins what it asks for, or refuses it.
    fn take(&mut self, chain: &Chain<'_>, ring: &mut Ring<'_>) -> Result<(), Broken> {
        let Ok(request) = request::parse(chain, &self.memory) else {
            ring.note_bad_chain();
            self.limiter.spend(0);
            return ring.done(chain, 0);
        };
        self.limiter.spend(request.task.bytes());
        let (work, filled, what) = match self.work(request.task) {
            Ok(work) => work,
            Err((status, filled)) => {
                if status != Status::Ok {
                    self.meter.add(Counter::DiskErrors, 1);
                }
                return self.give_back(ring, chain.keep(), request.status, status, filled);
            }
        };
        // There is a place: `serve` looked.
        let token = self.free.pop().unwrap_or_default();
        self.places[token as usize] = Some(UnderWay {
            chain: chain.keep(),
            status: request.status,
            filled,
            what,
        });
        self.engine.begin(file::Request {
            token,
            work,
            durable: self.write_through,
        });
        Ok(())
    }

    /// What the engine is to do for a task, and how many bytes of guest memory that fills; or the status of a task that is over already.
    fn work(&self, task: Task) -> Result<(Work, u32, What), (Status, u32)> {
        let refused = |status| (status, 0);
        match task {
            Task::Read { sector, to } => {
                let at = self.range(sector, to.len()).map_err(refused)?;
                let bytes = to.len();
                Ok((Work::Read { at, to }, bytes as u32, What::Read(bytes)))
            }
            Task::Write { sector, from } => {
                let at = self.writable_range(sector, from.len()).map_err(refused)?;
                let bytes = from.len();
                Ok((Work::Write { at, from }, 0, What::Write(bytes)))
            }
            Task::Flush => Ok((Work::Flush, 0, What::Flush)),
            Task::Discard(segment) => {
                if segment.flags != 0 {
                    return Err(refused(Status::Unsupported));
                }
                let length = config::bounded(segment.sectors).ok_or(refused(Status::Error))?;
                let at = self
                    .writable_range(segment.sector, length)
                    .map_err(refused)?;
                Ok((Work::Discard { at, length }, 0, What::Discard))
            }
            Task::WriteZeroes(segment) => {
                let may_unmap = match segment.flags {
                    0 => false,
                    request::UNMAP => true,
                    _ => return Err(refused(Status::Unsupported)),
                };
                let length = config::bounded(segment.sectors).ok_or(refused(Status::Error))?;
                let at = self
                    .writable_range(segment.sector, length)
                    .map_err(refused)?;
                let work = Work::Zero {
                    at,
                    length,
                    may_unmap,
                };
                Ok((work, 0, What::Discard))
            }
            Task::Id { to } => Err((Status::Ok, to.fill(&self.memory, &self.serial))),
            Task::Unknown => Err(refused(Status::Unsupported)),
            Task::Invalid => Err(refused(Status::Error)),
        }
    }

    /// Where `length` bytes from `sector` on are in the file, if they are there: whole sectors, at least one, none past the end.
    fn range(&self, sector: u64, length: u64) -> Result<u64, Status> {
        let whole = length > 0 && length.is_multiple_of(file::SECTOR);
        let end = sector.checked_add(length / file::SECTOR);
        if whole && end.is_some_and(|end| end <= self.sectors) {
            // The file has as many bytes.
            Ok(sector * file::SECTOR)
        } else {
            Err(Status::Error)
        }
    }

    fn writable_range(&self, sector: u64, length: u64) -> Result<u64, Status> {
        if self.read_only {
            return Err(Status::Error);
        }
        self.range(sector, length)
    }

    /// Gives back what the engine has finished.
    fn finish(&mut self, ring: &mut Ring<'_>) -> Result<(), Broken> {
        while let Some(Finished { token, result }) = self.engine.finished() {
            let Some(under_way) = self.places[token as usize].take() else {
                continue;
            };
            self.free.push(token);
            let status = match result {
                Ok(()) => Status::Ok,
                Err(Failure::Unsupported) => Status::Unsupported,
                Err(Failure::Io(_) | Failure::Short) => Status::Error,
            };
            self.count(status, under_way.what);
            let filled = if status == Status::Ok {
                under_way.filled
            } else {
                0
            };
            self.give_back(ring, under_way.chain, under_way.status, status, filled)?;
        }
        Ok(())
    }

    fn give_back(
        &self,
        ring: &mut Ring<'_>,
        chain: Kept,
        place: GuestAddress,
        status: Status,
        filled: u32,
    ) -> Result<(), Broken> {
        // It was there when the chain was read, and memory does not go away.
        let _ = self.memory.write_obj(status as u8, place);
        ring.done_kept(chain, filled.saturating_add(1))
    }

    fn count(&self, status: Status, what: What) {
        let add = |counter, n| self.meter.add(counter, n);
        if status != Status::Ok {
            return add(Counter::DiskErrors, 1);
        }
        match what {
            What::Read(bytes) => {
                add(Counter::DiskReads, 1);
                add(Counter::DiskReadBytes, bytes);
            }
            What::Write(bytes) => {
                add(Counter::DiskWrites, 1);
                add(Counter::DiskWriteBytes, bytes);
            }
            What::Flush => add(Counter::DiskFlushes, 1),
            What::Discard => add(Counter::DiskDiscards, 1),
        }
    }
}

impl VirtioDevice for Block {
    fn id(&self) -> u32 {
        ID
    }

    fn features(&self) -> u64 {
        let always =
            1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE | 1 << VIRTIO_BLK_F_FLUSH;
        if self.read_only {
            always | 1 << VIRTIO_BLK_F_RO
        } else {
            always | 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUES
    }

    fn config(&self) -> &[u8] {
        self.config.bytes()
    }

    fn wakes(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        let engine = self.engine.wake();
        engine
            .into_iter()
            .chain([self.limiter.as_fd()])
            .map(|fd| (0, fd))
            .collect()
    }

    fn activate(&mut self, features: u64) {
        self.write_through = features & 1 << VIRTIO_BLK_F_FLUSH == 0;
    }

    fn serve(&mut self, _index: usize, ring: &mut Ring<'_>) -> Result<(), Broken> {
        self.limiter.clear();
        self.finish(ring)?;
        while !self.free.is_empty()
            && self.limiter.admits()
            && let Some(chain) = ring.next_chain()?
        {
            self.take(&chain, ring)?;
        }
        self.engine.submit();
        self.finish(ring)
    }

    fn drain(&mut self) {
        self.engine.drain();
    }

    fn reset(&mut self) {
        self.engine.drain();
        while let Some(Finished { token, .. }) = self.engine.finished() {
            if self.places[token as usize].take().is_some() {
                self.free.push(token);
            }
        }
        self.write_through = true;
    }
}

#[cfg(test)]
mod tests;
