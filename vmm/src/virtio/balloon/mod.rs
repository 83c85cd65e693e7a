//! The memory balloon (section 5.5): by it memory goes from a guest back to the host, and returns.
//!
//! ```text
//!   set_target --config interrupt--> driver --inflate: pages--> a hole in guest memory, the host has them
//!                                           --deflate: pages--> the guest uses them again: they come as it touches them
//!                                           --reporting: free ranges--> a hole as well, for as long as they are free
//!   timer -----statistics buffer---> driver --statistics--> kept until somebody asks
//! ```
//!
//! A page that was given up reads as zeros and costs the host nothing, until the guest touches it: then it is an ordinary page again, whether or
//! not the driver said so first. So what a driver says can hurt its own guest alone, and nothing has to be remembered of it.
//!
//! Queues are numbered in order, those of features that were not agreed on left out: as Linux does, and not as the specification's fixed
//! numbers say.

mod holes;
pub mod stats;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use self::holes::{PAGE, Runs};
use self::stats::Statistics;
use super::VirtioDevice;
use super::ring::{BadChain, Broken, Chain, Kept, Ring};
use crate::machine::memory::Memory;
use crate::meter::{Counter, Meter};
use crate::spec;

/// Device id.
const ID: u32 = 5;
/// Lengths of the queues to inflate and deflate, of statistics, of reports.
const SIZE: u16 = 128;
/// Most pages of one chain: drivers put a page full of numbers there at most.
const CHAIN_PAGES: usize = 1024;
const PAGES_PER_MIB: u64 = (1 << 20) / PAGE;

// Features (section 5.5.3).
const STATS: u64 = 1 << 1;
const DEFLATE_ON_OOM: u64 = 1 << 2;
const REPORTING: u64 = 1 << 5;

/// A balloon cannot be, or not of this size.
#[derive(Debug, thiserror::Error)]
pub enum BalloonError {
    /// More than there is.
    #[error("a balloon cannot take {mib} MiB from a guest of {memory} MiB")]
    Target {
        /// What was asked for.
        mib: u64,
        /// What there is.
        memory: u64,
    },
    /// No timer for its statistics.
    #[error("the balloon's timer cannot be made")]
    Timer(#[source] io::Error),
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Inflate,
    Deflate,
    Statistics,
    Reporting,
}

/// The device.
pub struct Balloon {
    features: u64,
    /// Queues that the driver agreed on, in order; all that are offered until it did.
    roles: Vec<Role>,
    sizes: Vec<u16>,
    /// Target and actual size in pages, as the driver reads and writes them.
    config: [u8; 8],
    /// A buffer that the driver put there for statistics, already read.
    held: Option<Kept>,
    /// The driver is to be asked for statistics.
    ask: bool,
    interval_s: u16,
    timer: OwnedFd,
    statistics: Statistics,
    memory: Memory,
    meter: Arc<Meter>,
}

impl Balloon {
    /// A balloon as a description has it, for `memory`.
    ///
    /// # Errors
    /// [`BalloonError`].
    pub fn new(
        wanted: spec::Balloon,
        memory: Memory,
        meter: Arc<Meter>,
    ) -> Result<Self, BalloonError> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let mut features = 0;
        if wanted.deflate_on_oom {
            features |= DEFLATE_ON_OOM;
        }
        if wanted.stats_interval_s > 0 {
            features |= STATS;
        }
        if wanted.free_page_reporting {
            features |= REPORTING;
        }
        let roles = roles(features);
        let mut balloon = Self {
            features,
            sizes: vec![SIZE; roles.len()],
            roles,
            config: [0; 8],
            held: None,
            ask: false,
            interval_s: wanted.stats_interval_s,
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)
                .map_err(|e| BalloonError::Timer(e.into()))?,
            statistics: Statistics::default(),
            memory,
            meter,
        };
        balloon.set_target(wanted.target_mib)?;
        Ok(balloon)
    }

    /// Sets how much the guest is to give up; the transport tells the driver (`reconfigure`).
    ///
    /// # Errors
    /// [`BalloonError::Target`] where the guest has less.
    pub fn set_target(&mut self, mib: u64) -> Result<(), BalloonError> {
        let bytes: u64 = self.memory.iter().map(GuestMemoryRegion::len).sum();
        let memory = bytes >> 20;
        let pages = u32::try_from(mib.saturating_mul(PAGES_PER_MIB));
        match pages {
            Ok(pages) if mib <= memory => {
                self.config[..4].copy_from_slice(&pages.to_le_bytes());
                Ok(())
            }
            _ => Err(BalloonError::Target { mib, memory }),
        }
    }

    /// Pages that the guest is to give up.
    #[must_use]
    pub fn target_pages(&self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.config[i]))
    }

    /// Pages that it says it gave up.
    #[must_use]
    pub fn actual_pages(&self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.config[4 + i]))
    }

    /// What it was described with, the target brought up to date.
    #[must_use]
    pub fn described(&self) -> spec::Balloon {
        spec::Balloon {
            target_mib: u64::from(self.target_pages()) / PAGES_PER_MIB,
            deflate_on_oom: self.features & DEFLATE_ON_OOM != 0,
            stats_interval_s: self.interval_s,
            free_page_reporting: self.features & REPORTING != 0,
        }
    }

    /// The guest's last statistics; `None` where the balloon was made without.
    #[must_use]
    pub fn statistics(&self) -> Option<&Statistics> {
        (self.interval_s > 0).then_some(&self.statistics)
    }

    /// Changes the seconds between statistics, of which there are some already; `false` where that is not so, or none are to be left.
    #[must_use]
    pub fn set_interval(&mut self, seconds: u16) -> bool {
        if self.interval_s == 0 || seconds == 0 {
            return self.interval_s == seconds;
        }
        self.interval_s = seconds;
        if self.held.is_some() {
            self.start_timer();
        }
        true
    }

    /// Asks again when the interval is over.
    fn start_timer(&self) {
        let value = Timespec {
            tv_sec: self.interval_s.into(),
            tv_nsec: 0,
        };
        let spec = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        // A relative time of seconds is always taken.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec);
    }

    /// The pages that a chain names by their numbers.
    fn pages(chain: &Chain<'_>) -> Result<Runs, BadChain> {
        let mut numbers = vec![];
        for buffer in chain.buffers() {
            let buffer = buffer?;
            let count = buffer.slice.len() / 4;
            let whole = buffer.slice.len().is_multiple_of(4);
            if buffer.writable || !whole || numbers.len() + count > CHAIN_PAGES {
                return Err(BadChain);
            }
            let mut bytes = vec![0; buffer.slice.len()];
            buffer.slice.copy_to(&mut bytes[..]);
            let (numbers_here, _) = bytes.as_chunks();
            numbers.extend(numbers_here.iter().map(|n| u32::from_le_bytes(*n)));
        }
        Ok(Runs::of_pages(numbers))
    }

    fn inflate(&self, chain: &Chain<'_>) -> Result<(), BadChain> {
        let pages = Self::pages(chain)?.give_up(&self.memory)?;
        self.meter.add(Counter::BalloonInflated, pages);
        Ok(())
    }

    fn deflate(&self, chain: &Chain<'_>) -> Result<(), BadChain> {
        let pages = Self::pages(chain)?.count();
        self.meter.add(Counter::BalloonDeflated, pages);
        Ok(())
    }

    /// Free ranges, which the guest does not touch before the chain is given back.
    fn report(&self, chain: &Chain<'_>) -> Result<(), BadChain> {
        for buffer in chain.buffers() {
            let buffer = buffer?;
            if !buffer.writable {
                return Err(BadChain);
            }
            let range = Runs::of_range(buffer.address.0, buffer.slice.len() as u64);
            let pages = range.give_up(&self.memory)?;
            self.meter.add(Counter::BalloonReported, pages);
        }
        Ok(())
    }

    fn take_statistics(&mut self, ring: &mut Ring<'_>) -> Result<(), Broken> {
        // A timer that has not rung says so by an error.
        let rang = rustix::io::read(&self.timer, &mut [0; 8]).is_ok();
        self.ask |= rang;
        if self.ask
            && let Some(kept) = self.held.take()
        {
            self.ask = false;
            ring.done_kept(kept, 0)?;
        }
        while let Some(chain) = ring.next_chain()? {
            // A driver has one buffer for it; of two, the older one goes back.
            if let Some(kept) = self.held.replace(chain.keep()) {
                ring.done_kept(kept, 0)?;
            }
            match Statistics::read(&chain) {
                Ok(statistics) => self.statistics = statistics,
                Err(BadChain) => ring.note_bad_chain(),
            }
            self.start_timer();
        }
        Ok(())
    }
}

fn roles(features: u64) -> Vec<Role> {
    let mut roles = vec![Role::Inflate, Role::Deflate];
    if features & STATS != 0 {
        roles.push(Role::Statistics);
    }
    if features & REPORTING != 0 {
        roles.push(Role::Reporting);
    }
    roles
}

impl VirtioDevice for Balloon {
    fn id(&self) -> u32 {
        ID
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.sizes
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool {
        // The actual size, whole or in parts.
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = begin.saturating_add(data.len());
        if begin < 4 || end > self.config.len() {
            return false;
        }
        self.config[begin..end].copy_from_slice(data);
        true
    }

    fn wakes(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        let statistics = self.roles.iter().position(|r| *r == Role::Statistics);
        statistics
            .map(|queue| (queue, self.timer.as_fd()))
            .into_iter()
            .collect()
    }

    fn activate(&mut self, features: u64) {
        self.roles = roles(features & self.features);
    }

    fn serve(&mut self, index: usize, ring: &mut Ring<'_>) -> Result<(), Broken> {
        let work = match self.roles.get(index) {
            Some(Role::Inflate) => Self::inflate,
            Some(Role::Deflate) => Self::deflate,
            Some(Role::Reporting) => Self::report,
            Some(Role::Statistics) => return self.take_statistics(ring),
            None => return Ok(()),
        };
        while let Some(chain) = ring.next_chain()? {
            if work(self, &chain).is_err() {
                ring.note_bad_chain();
            }
            ring.done(&chain, 0)?;
        }
        Ok(())
    }

    /// The buffer for statistics goes back: the driver fills it anew after the pause.
    fn drain(&mut self) {
        self.ask = self.held.is_some();
    }

    fn reset(&mut self) {
        (self.held, self.ask) = (None, false);
        self.statistics = Statistics::default();
        self.roles = roles(self.features);
        self.config[4..].fill(0);
    }
}

#[cfg(test)]
mod tests;
