//! A driver for the tests of devices whose rings go round and round: it sets a device up, makes buffers of its own choice available, and takes
//! back what became of them, one after the other.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::VirtioDevice;
use super::mmio::Transport;
use crate::device::Device;
use crate::machine::memory::Memory;
use crate::meter::{Counter, Meter};

/// Bytes of guest memory.
const MEMORY: usize = 8 << 20;
/// Distance of the queues' rings from one another.
const QUEUE: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x8000;
const USED: u64 = 0xC000;
/// Where buffers may be.
pub(crate) const BUFFERS: u64 = 0x10_0000;

/// A driver and its device.
pub(crate) struct Driver<D> {
    pub(crate) transport: Arc<Transport<D>>,
    pub(crate) memory: Memory,
    pub(crate) meter: Arc<Meter>,
    line: EventFd,
    queues: Vec<Rings>,
}

#[derive(Clone, Copy, Default)]
struct Rings {
    size: u16,
    next: u16,
    available: u16,
    used: u16,
}

/// One buffer: where, how long, and whether the device writes it.
pub(crate) type Piece = (u64, u32, bool);

impl<D: VirtioDevice> Driver<D> {
    /// A device in reset.
    pub(crate) fn new(make: impl FnOnce(Arc<Meter>) -> D) -> Self {
        let meter = Arc::new(Meter::create(None::<std::fs::File>).unwrap());
        let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let event = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).unwrap();
        let device = make(Arc::clone(&meter));
        let sizes = device.queue_sizes().to_vec();
        let doorbells = sizes.iter().map(|_| event()).collect();
        let line = event();
        let transport = Transport::new(
            device,
            memory.clone(),
            line.try_clone().unwrap(),
            doorbells,
            Arc::clone(&meter),
        );
        let rings = |size: u16| Rings {
            size,
            ..Rings::default()
        };
        Self {
            transport: Arc::new(transport),
            memory,
            meter,
            line,
            queues: sizes.into_iter().map(rings).collect(),
        }
    }

    /// Sets the device up with the features in `features`, and those that every device has to offer.
    pub(crate) fn set_up(&mut self, features: u32) {
        let write = |register: u64, value: u32| {
            self.transport.write(register, &value.to_le_bytes());
        };
        for status in [0, 1, 3] {
            write(0x70, status);
        }
        for (page, features) in [(0, features), (1, 1)] {
            write(0x24, page);
            write(0x20, features);
        }
        write(0x70, 11);
        for (index, queue) in (0_u32..).zip(&mut self.queues) {
            *queue = Rings {
                size: queue.size,
                ..Rings::default()
            };
            let base = u64::from(index) * QUEUE;
            let zeros = [0; QUEUE as usize];
            self.memory.write(&zeros, GuestAddress(base)).unwrap();
            write(0x30, index);
            write(0x38, u32::from(queue.size));
            for (register, offset) in [(0x80, 0), (0x90, AVAILABLE), (0xA0, USED)] {
                write(register, (base + offset) as u32);
                write(register + 4, 0);
            }
            write(0x44, 1);
        }
        write(0x70, 15);
        let mut status = [0; 4];
        self.transport.read(0x70, &mut status);
        assert_eq!(status, [15, 0, 0, 0], "the device cannot be set up");
    }

    /// Makes a chain available; says its head.
    pub(crate) fn post(&mut self, index: usize, pieces: &[Piece]) -> u16 {
        let queue = &mut self.queues[index];
        let base = index as u64 * QUEUE;
        let head = queue.next;
        for (number, (address, length, writable)) in pieces.iter().enumerate() {
            let at = base + 16 * u64::from(queue.next);
            queue.next = (queue.next + 1) % queue.size;
            let more = u16::from(number + 1 < pieces.len());
            let flags = more | u16::from(*writable) << 1;
            self.memory.write_obj(*address, GuestAddress(at)).unwrap();
            self.memory
                .write_obj(*length, GuestAddress(at + 8))
                .unwrap();
            self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
            self.memory
                .write_obj(queue.next, GuestAddress(at + 14))
                .unwrap();
        }
        let slot = base + AVAILABLE + 4 + 2 * u64::from(queue.available % queue.size);
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        queue.available = queue.available.wrapping_add(1);
        self.memory
            .write_obj(queue.available, GuestAddress(base + AVAILABLE + 2))
            .unwrap();
        head
    }

    /// Lets the device work on a queue until it has no more to do.
    pub(crate) fn serve(&self, index: usize) {
        let over = (0..1000).any(|_| !self.transport.serve(index));
        assert!(over, "a queue is served without end");
    }

    /// The next chain that was given back: its head, and how many bytes were written.
    pub(crate) fn used(&mut self, index: usize) -> Option<(u16, u32)> {
        let queue = &mut self.queues[index];
        let base = index as u64 * QUEUE + USED;
        let end: u16 = self.memory.read_obj(GuestAddress(base + 2)).unwrap();
        if end == queue.used {
            return None;
        }
        let at = base + 4 + 8 * u64::from(queue.used % queue.size);
        queue.used = queue.used.wrapping_add(1);
        let head: u32 = self.memory.read_obj(GuestAddress(at)).unwrap();
        let length = self.memory.read_obj(GuestAddress(at + 4)).unwrap();
        Some((head as u16, length))
    }

    /// Waits until the device has raised its line.
    pub(crate) fn wait_for_interrupt(&self) {
        let mut line = [PollFd::from_borrowed_fd(
            // SAFETY: the line lives as long as `self`, which is borrowed.
            unsafe { BorrowedFd::borrow_raw(self.line.as_raw_fd()) },
            PollFlags::IN,
        )];
        assert_eq!(rustix::event::poll(&mut line, None), Ok(1));
        self.line.read().unwrap();
    }

    /// Writes to guest memory.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write(bytes, GuestAddress(address)).unwrap();
    }

    /// Reads guest memory.
    pub(crate) fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// A counter.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.meter.read().counter(counter)
    }
}
