//! A split virtqueue, the driver's side (section 2.7).
//!
//! Every buffer is one descriptor, and descriptor *i* is always slot *i* of the driver: no chains, no free list. What
//! the device writes is checked before it is used: a slot that it was not given, or more bytes than fit, and
//! the queue is broken for good.

use super::mmio::QueueAddresses;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// `VIRTQ_DESC_F_WRITE`: the device writes the buffer.
const DEVICE_WRITES: u16 = 2;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`.
const NO_NOTIFY: u16 = 1;

#[derive(Default)]
#[repr(C)]
struct Descriptor {
    address: AtomicU64,
    length: AtomicU32,
    flags: AtomicU16,
    next: AtomicU16,
}

#[derive(Default)]
#[repr(C)]
struct UsedElement {
    id: AtomicU32,
    length: AtomicU32,
}

/// The three parts, as the device sees them. `align`: section 2.7's 16, 2 and 4.
#[repr(C, align(16))]
struct Memory<const N: usize> {
    descriptors: [Descriptor; N],
    driver_flags: AtomicU16,
    driver_index: AtomicU16,
    driver_ring: [AtomicU16; N],
    _event: AtomicU32,
    device_flags: AtomicU16,
    device_index: AtomicU16,
    device_ring: [UsedElement; N],
}

/// The device wrote something that no device may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// A buffer that the device has given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// Its slot.
    pub(crate) slot: usize,
    /// Bytes that the device wrote to it.
    pub(crate) written: usize,
}

/// A queue of `N` slots, a power of two up to 64.
pub(crate) struct Queue<const N: usize> {
    memory: Box<Memory<N>>,
    /// Slots that the device has, a bit each.
    in_flight: u64,
    /// What the device may write to each slot.
    capacity: [u32; N],
    offered: u16,
    taken: u16,
    broken: bool,
}

impl<const N: usize> Queue<N> {
    /// An empty queue that interrupts nobody.
    pub(crate) fn new() -> Self {
        const { assert!(N.is_power_of_two() && N <= 64) };
        Self {
            memory: Box::new(Memory {
                descriptors: core::array::from_fn(|_| Descriptor::default()),
                driver_flags: AtomicU16::new(NO_INTERRUPT),
                driver_index: AtomicU16::new(0),
                driver_ring: [const { AtomicU16::new(0) }; N],
                _event: AtomicU32::new(0),
                device_flags: AtomicU16::new(0),
                device_index: AtomicU16::new(0),
                device_ring: core::array::from_fn(|_| UsedElement::default()),
            }),
            in_flight: 0,
            capacity: [0; N],
            offered: 0,
            taken: 0,
            broken: false,
        }
    }

    /// Where the device finds it.
    pub(crate) fn addresses(&self) -> QueueAddresses {
        QueueAddresses {
            descriptors: (&raw const self.memory.descriptors) as u64,
            driver: (&raw const self.memory.driver_flags) as u64,
            device: (&raw const self.memory.device_flags) as u64,
            size: N as u16,
        }
    }

    /// A slot that the device does not have.
    pub(crate) fn free_slot(&self) -> Option<usize> {
        let slot = self.in_flight.trailing_ones() as usize;
        (slot < N).then_some(slot)
    }

    /// Whether the device has any slot.
    pub(crate) fn busy(&self) -> bool {
        self.in_flight != 0 && !self.broken
    }

    /// Gives the device `length` bytes at `address` to read.
    ///
    /// # Safety
    /// They stay as they are until [`Self::take`] gives `slot` back, or for ever.
    pub(crate) unsafe fn offer_to_read(&mut self, slot: usize, address: u64, length: u32) {
        self.offer(slot, address, length, 0);
    }

    /// Gives the device `length` bytes at `address` to write.
    ///
    /// # Safety
    /// Nobody else touches them until [`Self::take`] gives `slot` back, or for ever.
    pub(crate) unsafe fn offer_to_write(&mut self, slot: usize, address: u64, length: u32) {
        self.offer(slot, address, length, DEVICE_WRITES);
    }

    fn offer(&mut self, slot: usize, address: u64, length: u32, flags: u16) {
        debug_assert_eq!(self.in_flight & 1 << slot, 0, "slot {slot} offered twice");
        let descriptor = &self.memory.descriptors[slot];
        descriptor.address.store(address, Ordering::Relaxed);
        descriptor.length.store(length, Ordering::Relaxed);
        descriptor.flags.store(flags, Ordering::Relaxed);
        self.capacity[slot] = if flags == DEVICE_WRITES { length } else { 0 };
        self.in_flight |= 1 << slot;
        self.memory.driver_ring[self.offered as usize % N].store(slot as u16, Ordering::Relaxed);
        self.offered = self.offered.wrapping_add(1);
        // Release: the device that sees the index sees the descriptor.
        self.memory
            .driver_index
            .store(self.offered, Ordering::Release);
    }

    /// Whether the device wants to be told of what was offered.
    pub(crate) fn wants_notification(&self) -> bool {
        // The index must be visible before the flag is read, or both sides could wait for the other.
        fence(Ordering::SeqCst);
        self.memory.device_flags.load(Ordering::Relaxed) & NO_NOTIFY == 0
    }

    /// Whether the device has said anything that [`Self::take`] has not seen.
    pub(crate) fn has_used(&self) -> bool {
        self.memory.device_index.load(Ordering::Relaxed) != self.taken
    }

    /// Takes back one buffer that the device is done with.
    pub(crate) fn take(&mut self) -> Result<Option<Done>, Broken> {
        if self.broken {
            return Err(Broken);
        }
        let index = self.memory.device_index.load(Ordering::Acquire);
        if index == self.taken {
            return Ok(None);
        }
        let element = &self.memory.device_ring[self.taken as usize % N];
        let slot = element.id.load(Ordering::Relaxed) as usize;
        let written = element.length.load(Ordering::Relaxed);
        // A device may write less than there is room for. In a buffer that it only read, any length is meaningless.
        let given = slot < N && self.in_flight & 1 << slot != 0;
        if !given || (self.capacity[slot] != 0 && written > self.capacity[slot]) {
            self.broken = true;
            return Err(Broken);
        }
        self.taken = self.taken.wrapping_add(1);
        self.in_flight &= !(1 << slot);
        Ok(Some(Done {
            slot,
            written: written.min(self.capacity[slot]) as usize,
        }))
    }

    /// Turns the device's interrupts for this queue on or off. After turning them on, look once more before sleeping.
    pub(crate) fn set_interrupts(&self, on: bool) {
        let flags = if on { 0 } else { NO_INTERRUPT };
        self.memory.driver_flags.store(flags, Ordering::Relaxed);
        if on {
            fence(Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
