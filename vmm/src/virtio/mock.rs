//! A driver for tests: it sets a device up as a driver does, hands it chains, and waits for them.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::VirtioDevice;
use super::mmio::Transport;
use crate::device::Device;
use crate::machine::memory::Memory;
use crate::meter::{Counter, Meter, Reading};

/// Distance of the queues' rings from one another.
const QUEUE: u64 = 0x8000;
const AVAILABLE: u64 = 0x4000;
const USED: u64 = 0x6000;
/// Where buffers are.
const BUFFERS: u64 = 0x4_0000;
/// Length of each queue.
pub(super) const SIZE: u16 = 64;
/// Bytes of guest memory.
const MEMORY: usize = 0x20_0000;

/// A part of a chain.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// What the device reads.
    Out(Vec<u8>),
    /// What the device writes: as many bytes.
    In(usize),
    /// A descriptor as it is: address, length, flags beside NEXT.
    Raw(u64, u32, u16),
}

/// A driver and its device.
pub(super) struct Driver<D> {
    pub(super) transport: Transport<D>,
    pub(super) memory: Memory,
    pub(super) meter: Arc<Meter>,
    wakes: Vec<(usize, OwnedFd)>,
    queues: Vec<Queue>,
    /// Where the next buffer goes.
    buffer: u64,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    next_descriptor: u16,
    available: u16,
    /// All that were made available.
    chains: Vec<Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    head: u16,
    filled: Vec<(u64, usize)>,
}

/// Memory and meter, for a device to be made with.
pub(super) fn parts() -> (Memory, Arc<Meter>) {
    let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    let meter = Arc::new(Meter::create(None::<std::fs::File>).unwrap());
    (memory, meter)
}

impl<D: VirtioDevice> Driver<D> {
    /// A driver that has agreed on all features but `without`, and is ready.
    pub(super) fn new(device: D, memory: Memory, meter: Arc<Meter>, without: u64) -> Self {
        let event = || EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let count = device.queue_sizes().len();
        let wakes = device.wakes().into_iter();
        let wakes = wakes.map(|(queue, fd)| (queue, fd.try_clone_to_owned().unwrap()));
        let wakes = wakes.collect();
        let doorbells = (0..count).map(|_| event()).collect();
        let transport = Transport::new(
            device,
            memory.clone(),
            event(),
            doorbells,
            Arc::clone(&meter),
        );
        let mut driver = Self {
            transport,
            memory,
            meter,
            wakes,
            queues: vec![Queue::default(); count],
            buffer: BUFFERS,
        };
        driver.set_up(without);
        driver
    }

    /// Resets the device and sets it up again.
    pub(super) fn set_up(&mut self, without: u64) {
        for status in [0, 1, 3] {
            self.write(0x70, status);
        }
        for page in 0..2 {
            self.write(0x14, page);
            let features = self.read(0x10) & !((without >> (32 * page)) as u32);
            // Without event indexes: a device is then to interrupt each time.
            let features = if page == 0 {
                features & !(1 << 29)
            } else {
                features
            };
            self.write(0x24, page);
            self.write(0x20, features);
        }
        self.write(0x70, 11);
        assert_eq!(self.read(0x70), 11, "features are refused");
        for index in 0..self.queues.len() {
            let base = (index as u64 * QUEUE) as u32;
            let zeros = vec![0; QUEUE as usize];
            self.memory
                .write(&zeros, GuestAddress(base.into()))
                .unwrap();
            for (register, value) in [
                (0x30, index as u32),
                (0x38, SIZE.into()),
                (0x80, base),
                (0x90, base + AVAILABLE as u32),
                (0xA0, base + USED as u32),
                (0x44, 1),
            ] {
                self.write(register, value);
            }
            assert_eq!(self.read(0x44), 1, "a queue is refused");
        }
        self.write(0x70, 15);
        self.queues.fill(Queue::default());
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.transport.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub(super) fn write(&self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    /// Features that the device offers.
    pub(super) fn offered(&self) -> u64 {
        self.write(0x14, 0);
        let low = u64::from(self.read(0x10));
        self.write(0x14, 1);
        low | u64::from(self.read(0x10)) << 32
    }

    /// Makes a chain available, without ringing; says which one of the queue's it is.
    pub(super) fn put(&mut self, queue: usize, parts: &[Part]) -> usize {
        let base = queue as u64 * QUEUE;
        let head = self.queues[queue].next_descriptor % SIZE;
        let mut filled = vec![];
        for (number, part) in parts.iter().enumerate() {
            let (address, length, flags) = match part {
                Part::Out(bytes) => {
                    let at = self.place(bytes.len());
                    self.memory.write(bytes, GuestAddress(at)).unwrap();
                    (at, bytes.len() as u32, 0)
                }
                Part::In(length) => {
                    let at = self.place(*length);
                    filled.push((at, *length));
                    (at, *length as u32, 2)
                }
                Part::Raw(at, length, flags) => (*at, *length, *flags),
            };
            let index = self.queues[queue].next_descriptor % SIZE;
            self.queues[queue].next_descriptor += 1;
            let more = number + 1 < parts.len();
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&address.to_le_bytes());
            bytes[8..12].copy_from_slice(&length.to_le_bytes());
            bytes[12..14].copy_from_slice(&(flags | u16::from(more)).to_le_bytes());
            bytes[14..].copy_from_slice(&((index + 1) % SIZE).to_le_bytes());
            let at = base + 16 * u64::from(index);
            self.memory.write(&bytes, GuestAddress(at)).unwrap();
        }
        let q = &mut self.queues[queue];
        let slot = base + AVAILABLE + 4 + 2 * u64::from(q.available % SIZE);
        q.available += 1;
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        let index = GuestAddress(base + AVAILABLE + 2);
        self.memory
            .store(q.available, index, Ordering::Release)
            .unwrap();
        q.chains.push(Sent { head, filled });
        q.chains.len() - 1
    }

    fn place(&mut self, length: usize) -> u64 {
        if self.buffer + length as u64 > MEMORY as u64 {
            self.buffer = BUFFERS;
        }
        let at = self.buffer;
        // Buffers do not touch one another: a write past the end of one would not be seen.
        self.buffer += (length as u64 + 64).next_multiple_of(16);
        at
    }

    /// How many chains of a queue were given back.
    pub(super) fn used(&self, queue: usize) -> u16 {
        let index = GuestAddress(queue as u64 * QUEUE + USED + 2);
        self.memory.load(index, Ordering::Acquire).unwrap()
    }

    /// Chains of a queue as they were given back: which one, and how many bytes were written.
    pub(super) fn given_back(&self, queue: usize) -> Vec<(u16, u32)> {
        let entry = |index: u16| {
            let at = queue as u64 * QUEUE + USED + 4 + 8 * u64::from(index % SIZE);
            let [head, length]: [u32; 2] = self.memory.read_obj(GuestAddress(at)).unwrap();
            (head as u16, length)
        };
        (0..self.used(queue)).map(entry).collect()
    }

    /// Rings, and serves whatever the device waits for, until so many chains were given back.
    pub(super) fn wait(&self, queue: usize, used: u16) {
        loop {
            while self.transport.serve(queue) {}
            if self.used(queue) >= used {
                return;
            }
            let fds = self.wakes.iter();
            let mut polls: Vec<_> = fds.map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
            let patience = Timespec {
                tv_sec: 10,
                tv_nsec: 0,
            };
            let ready = rustix::event::poll(&mut polls, Some(&patience)).unwrap();
            assert!(ready > 0, "a chain is never given back");
        }
    }

    /// Sends a chain, waits for it, and gives what the device wrote into it.
    pub(super) fn send(&mut self, queue: usize, parts: &[Part]) -> Vec<u8> {
        let chain = self.put(queue, parts);
        self.wait(queue, self.queues[queue].available);
        self.filled(queue, chain)
    }

    /// What is in the parts of a chain that the device writes.
    pub(super) fn filled(&self, queue: usize, chain: usize) -> Vec<u8> {
        let mut all = vec![];
        for (at, length) in &self.queues[queue].chains[chain].filled {
            let mut bytes = vec![0; *length];
            self.memory.read(&mut bytes, GuestAddress(*at)).unwrap();
            all.extend(bytes);
        }
        all
    }

    /// The first descriptor of a chain.
    pub(super) fn head(&self, queue: usize, chain: usize) -> u16 {
        self.queues[queue].chains[chain].head
    }

    pub(super) fn reading(&self) -> Reading {
        self.meter.read()
    }

    pub(super) fn misuses(&self) -> u64 {
        self.reading().counter(Counter::DriverErrors)
    }
}
