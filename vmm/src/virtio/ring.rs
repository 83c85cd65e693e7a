//! Split virtqueues (section 2.7), with everything that a driver can get wrong in one place.

use std::sync::atomic::{Ordering, fence};

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::backend::vector::{self, Vector};
use crate::machine::memory::Memory;

/// Most chains that are served before others have their turn.
const TURN: u16 = 64;
/// In the available ring's flags: the driver looks by itself.
const NO_INTERRUPT: u16 = 1;

/// A ring makes no sense: an index that cannot be, a head outside the table, memory that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver's ring makes no sense")]
pub struct Broken;

/// A chain makes no sense: a buffer outside memory, in the wrong direction, or a next one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver's buffers make no sense")]
pub struct BadChain;

/// A queue during one turn of its device.
pub struct Ring<'a> {
    queue: &'a mut Queue,
    memory: &'a Memory,
    left: u16,
    bad_chains: u64,
    /// Where the used ring was when the turn began.
    first_used: u16,
    again: bool,
}

/// What a turn left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The driver wants an interrupt.
    pub(crate) interrupt: bool,
    /// The turn was over before the ring was empty, or the device asks for another one.
    pub(crate) more: bool,
    /// Chains that made no sense.
    pub(crate) bad_chains: u64,
}

impl<'a> Ring<'a> {
    /// A turn on `queue`; where it takes no chains, they are only given back.
    pub(crate) fn new(queue: &'a mut Queue, memory: &'a Memory, takes: bool) -> Self {
        let left = if takes { TURN } else { 0 };
        let first_used = queue.next_used();
        Self {
            queue,
            memory,
            left,
            bad_chains: 0,
            first_used,
            again: false,
        }
    }

    /// The next chain that the driver made available; `None` where there is none, or the turn is over.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn next_chain(&mut self) -> Result<Option<Chain<'a>>, Broken> {
        if self.left == 0 {
            return Ok(None);
        }
        loop {
            let next = self.queue.iter(self.memory).map_err(|_| Broken)?.next();
            if let Some(chain) = next {
                self.left -= 1;
                return Ok(Some(Chain {
                    chain,
                    memory: self.memory,
                }));
            }
            // The driver may have added one just before it saw that it has to ring.
            if !self
                .queue
                .enable_notification(self.memory)
                .map_err(|_| Broken)?
            {
                return Ok(None);
            }
        }
    }

    /// Gives a chain back, into which `written` bytes were written.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn done(&mut self, chain: &Chain<'_>, written: u32) -> Result<(), Broken> {
        self.done_kept(chain.keep(), written)
    }

    /// Gives a chain back that was kept from an earlier turn on the same queue, with no reset between.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn done_kept(&mut self, kept: Kept, written: u32) -> Result<(), Broken> {
        self.queue
            .add_used(self.memory, kept.head, written)
            .map_err(|_| Broken)
    }

    /// Gives chains back that the driver is to find all at once, with what was written into each (section 2.7.8: it may look any time).
    ///
    /// # Errors
    /// [`Broken`].
    pub fn done_together(&mut self, chains: &[(Chain<'_>, u32)]) -> Result<(), Broken> {
        let Some(((last, written), others)) = chains.split_last() else {
            return Ok(());
        };
        let size = self.queue.size();
        let mut next = self.queue.next_used();
        for (chain, written) in others {
            let place = GuestAddress(self.queue.used_ring())
                .checked_add(4 + 8 * u64::from(next % size))
                .ok_or(Broken)?;
            let head = u32::from(chain.chain.head_index());
            self.memory
                .write_obj([head.to_le(), written.to_le()], place)
                .map_err(|_| Broken)?;
            next = next.wrapping_add(1);
        }
        // It publishes all that stand before.
        self.queue.set_next_used(next);
        self.done(last, *written)
    }

    /// Leaves the chains that were taken last, and not given back, to a later turn.
    pub fn put_back(&mut self, chains: impl IntoIterator<Item = Chain<'a>>) {
        for _ in chains {
            let next = self.queue.next_avail();
            self.queue.set_next_avail(next.wrapping_sub(1));
            self.left += 1;
        }
    }

    /// How many chains there can be.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Makes the turn one of as many chains as there can be, where it takes any: for work that needs several of them at a time.
    pub fn lengthen(&mut self) {
        if self.left > 0 {
            self.left = self.left.max(self.size());
        }
    }

    /// Asks for another turn, after the others had theirs.
    pub fn ask_again(&mut self) {
        self.again = true;
    }

    /// Counts a chain that made no sense.
    pub fn note_bad_chain(&mut self) {
        self.bad_chains += 1;
    }

    /// Ends the turn.
    pub(crate) fn finish(self) -> Result<Turn, Broken> {
        let used = self.queue.next_used() != self.first_used;
        let interrupt = used && self.wants_interrupt()?;
        Ok(Turn {
            interrupt,
            more: self.again || self.left == 0,
            bad_chains: self.bad_chains,
        })
    }

    /// Whether the driver wants to hear of what was given back in this turn (section 2.7.7).
    fn wants_interrupt(&self) -> Result<bool, Broken> {
        // It writes what it wants, and then looks whether anything was given back: in the other order here.
        fence(Ordering::SeqCst);
        let available = GuestAddress(self.queue.avail_ring());
        let load = |offset: u64| {
            let place = available.checked_add(offset).ok_or(Broken)?;
            let value = self.memory.load::<u16>(place, Ordering::Relaxed);
            value.map(u16::from_le).map_err(|_| Broken)
        };
        if !self.queue.event_idx_enabled() {
            return Ok(load(0)? & NO_INTERRUPT == 0);
        }
        let event = load(4 + 2 * u64::from(self.queue.size()))?;
        let now = self.queue.next_used();
        Ok(now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(self.first_used))
    }
}

/// A chain of buffers.
pub struct Chain<'a> {
    chain: DescriptorChain<&'a Memory>,
    memory: &'a Memory,
}

/// What gives a chain back after the turn that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    head: u16,
}

/// A buffer of a chain.
pub struct Buffer<'a> {
    /// Where it is.
    pub slice: VolatileSlice<'a>,
    /// Where that is for the guest.
    pub address: GuestAddress,
    /// The device writes it; else the driver wrote it.
    pub writable: bool,
}

impl<'a> Chain<'a> {
    /// For a device that gives the chain back in a later turn.
    #[must_use]
    pub fn keep(&self) -> Kept {
        Kept {
            head: self.chain.head_index(),
        }
    }

    /// The chain's bytes, where the device is to write all of them or, if not `writable`, none.
    ///
    /// # Errors
    /// [`BadChain`]; also where there are more buffers than one system call takes.
    pub fn vector(&self, writable: bool) -> Result<Vector<'a>, BadChain> {
        let mut vector = Vector::default();
        for (count, buffer) in self.buffers().enumerate() {
            let buffer = buffer?;
            if buffer.writable != writable || count >= vector::PIECES {
                return Err(BadChain);
            }
            vector.push(buffer.slice);
        }
        Ok(vector)
    }

    /// The buffers in order, up to the first that makes no sense.
    pub fn buffers(&self) -> impl Iterator<Item = Result<Buffer<'a>, BadChain>> + use<'a> {
        let memory = self.memory;
        let mut chain = Some(self.chain.clone());
        // A chain whose first buffer is not there is cut as well.
        let mut more = true;
        std::iter::from_fn(move || {
            let Some(descriptor) = chain.as_mut()?.next() else {
                chain = None;
                return more.then_some(Err(BadChain));
            };
            more = descriptor.has_next();
            let found = memory.get_slice(descriptor.addr(), descriptor.len() as usize);
            if found.is_err() {
                chain = None;
            }
            Some(found.map_err(|_| BadChain).map(|slice| Buffer {
                slice,
                address: descriptor.addr(),
                writable: descriptor.is_write_only(),
            }))
        })
    }
}
