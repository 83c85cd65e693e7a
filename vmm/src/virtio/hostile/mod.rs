//! A driver made of arbitrary bytes: for tests, and for whoever fuzzes the devices.
//!
//! [`Hostile::drive`] reads its input as a program of a driver that may do anything: write any register, put anything into memory, ring
//! any doorbell, from a fresh device or from one that it had set up properly. Whatever it does, the device answers in bounded time, does
//! not panic, and serves an honest driver after a reset.
//!
//! ```text
//! input:  which device, whether to set up first, then steps
//! step:   0 register offset/4 value      write a register
//!         1 address length bytes         write memory
//!         2 queue                        ring
//!         3 queue head flags address length next    write a descriptor and make it available
//!         4 offset length                read
//!         5 queue kind sector length flags    make a chain available as a disk's driver does
//!         6 queue length writable operation ports flags count    send a packet or a frame, or offer room for one
//!         7 what which length            somebody on the host does something
//! ```

mod devices;
mod peers;

use std::io;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};

use self::devices::{Driven, Honest, Maker, Subject};
use crate::machine::memory::Memory;
use crate::meter::{Counter, Meter};
use crate::spec::IoEngine;

/// Bytes of guest memory.
const MEMORY: u64 = 0x1_0000;
/// Distance of the queues' rings from one another in memory.
const QUEUE: u64 = 0x4000;
/// Length of a queue that is set up properly.
const SIZE: u16 = 16;
/// Where in a queue's memory its rings are.
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFER: u64 = 0x3000;
/// Most turns that one ring of a doorbell may take: a ring holds 2^16 chains at most, a turn serves 64.
const TURNS: usize = 1024;

/// Devices, and memory for a driver to misuse.
pub struct Hostile {
    subjects: Vec<Subject>,
    memory: Memory,
    meter: Arc<Meter>,
}

impl Hostile {
    /// A console and an entropy device, in reset.
    ///
    /// # Errors
    /// Where memory or descriptors cannot be had.
    pub fn new() -> io::Result<Self> {
        Self::of(|maker| Ok(vec![maker.console()?, maker.entropy()?]))
    }

    /// Disks, with the plain engine and, where the host allows it, with io_uring.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn block() -> io::Result<Self> {
        Self::of(|maker| {
            let uring = maker.block(IoEngine::Async);
            let disks = [maker.block(IoEngine::Sync)?].into_iter();
            Ok(disks.chain(uring).collect())
        })
    }

    /// A memory balloon.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn balloon() -> io::Result<Self> {
        Self::of(|maker| Ok(vec![maker.balloon()?]))
    }

    /// A network device.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn net() -> io::Result<Self> {
        Self::of(|maker| Ok(vec![maker.net()?]))
    }

    /// A socket device, with host programs that come, talk, listen and leave.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn vsock() -> io::Result<Self> {
        Self::of(|maker| Ok(vec![maker.vsock()?]))
    }

    fn of(make: impl FnOnce(&Maker) -> io::Result<Vec<Subject>>) -> io::Result<Self> {
        let maker = Maker::new()?;
        Ok(Self {
            subjects: make(&maker)?,
            memory: maker.memory,
            meter: maker.meter,
        })
    }

    /// Carries out `input`, and then checks that an honest driver is served.
    ///
    /// # Panics
    /// Where a device does not keep what this module promises.
    pub fn drive(&self, input: &[u8]) {
        let mut input = Input(input);
        let subject = &self.subjects[usize::from(input.byte()) % self.subjects.len()];
        let device = &*subject.device;
        self.clear();
        set_status(device, 0);
        if input.byte() & 1 == 0 {
            set_up(device, subject.queues);
        }
        while !input.0.is_empty() {
            self.step(subject, &mut input);
        }
        if let Some(taker) = &subject.taker
            && taker.room() > 0
        {
            taker.take(b"typed");
        }
        device.halt();
        set_status(device, 0);
        if let Some(peers) = &subject.peers {
            peers.leave();
        }
        self.clear();
        set_up(device, subject.queues);
        self.honest(device, &subject.honest);
    }

    fn step(&self, subject: &Subject, input: &mut Input<'_>) {
        let device = &*subject.device;
        let queues = subject.queues as u8;
        match input.byte() % 8 {
            0 => {
                let register = u64::from(input.byte()) * 4;
                device.write(register, &input.word().to_le_bytes());
            }
            1 => {
                let address = u64::from(input.half());
                let length = usize::from(input.byte());
                let bytes: Vec<u8> = (0..length).map(|_| input.byte()).collect();
                // Beyond the end is no place to write: a driver cannot either.
                let _ = self.memory.write(&bytes, GuestAddress(address));
            }
            2 => ring(device, usize::from(input.byte() % (queues + 1))),
            3 => {
                let queue = u64::from(input.byte() % queues);
                let (head, flags) = (input.half(), input.half() % 8);
                let address = u64::from(input.word()) % (2 * MEMORY);
                let (length, next) = (input.word(), input.half());
                self.describe(queue, head, address, length, flags, next % (2 * SIZE));
                self.make_available(queue, head);
            }
            4 => {
                let mut data = [0; 9];
                let (offset, length) = (u64::from(input.half()), usize::from(input.byte() % 9));
                device.read(offset, &mut data[..=length]);
            }
            5 => {
                let queue = u64::from(input.byte() % queues);
                let mut header = [0; 16];
                header[0] = input.byte();
                header[8..10].copy_from_slice(&input.half().to_le_bytes());
                let (length, flags) = (u32::from(input.half()), u16::from(input.byte() % 4));
                self.request(queue, &header, length, flags);
            }
            6 => self.packet(queues, input),
            _ => {
                let (what, which, length) = (input.byte(), input.byte(), input.half());
                if let Some(peers) = &subject.peers {
                    peers.act(what, usize::from(which), usize::from(length));
                }
            }
        }
    }

    /// A chain as disks know them: what the device reads, data of this length in either direction, a byte to write.
    fn request(&self, queue: u64, header: &[u8], length: u32, flags: u16) {
        let at = queue * QUEUE + BUFFER;
        let _ = self.memory.write(header, GuestAddress(at));
        self.describe(queue, 0, at, header.len() as u32, 1, 1);
        self.describe(queue, 1, at + 16, length, flags | 1, 2);
        self.describe(queue, 2, at + 15, 1, 2, 0);
        self.make_available(queue, 0);
    }

    /// A chain with a packet's header of the socket device, which is a frame to others, or with room for one.
    fn packet(&self, queues: u8, input: &mut Input<'_>) {
        let queue = u64::from(input.byte() % queues);
        let (length, writable) = (u32::from(input.half()), u16::from(input.byte() & 1));
        let mut header = [0; 44];
        (header[0], header[8], header[28]) = (peers::CID as u8, 2, 1);
        header[24..26].copy_from_slice(&(length as u16).to_le_bytes());
        header[30] = input.byte();
        // Few ports, so that packets find their connections.
        let ports = input.byte();
        (header[16], header[20]) = (ports & 15, ports >> 4);
        // Connections to the guest have host ports from here on.
        header[23] = (input.byte() & 1) << 6;
        (header[32], header[37], header[40]) = (input.byte(), input.byte(), input.byte());
        let at = queue * QUEUE + BUFFER;
        if writable == 0 {
            let _ = self.memory.write(&header, GuestAddress(at));
        }
        self.describe(queue, 4, at, 44, writable << 1 | 1, 5);
        self.describe(queue, 5, at + 0x100, length, writable << 1, 0);
        self.make_available(queue, 4);
    }

    fn honest(&self, device: &dyn Driven, asked: &Honest) {
        let queue = asked.queue as u64;
        let before = self.meter.read();
        let at = queue * QUEUE + BUFFER;
        let _ = self.memory.write(asked.out, GuestAddress(at));
        let (out, both) = (asked.out.len() as u32, asked.filled > 0);
        let first = u16::from(out == 0);
        self.describe(queue, 0, at, out, u16::from(both), 1);
        self.describe(queue, 1, at + 0x100, asked.filled, 2, 0);
        self.make_available(queue, first);
        ring(device, asked.queue);
        // What was begun is also finished.
        device.pause();
        let used: u16 = self
            .memory
            .load(
                GuestAddress(queue * QUEUE + USED + 2),
                std::sync::atomic::Ordering::Acquire,
            )
            .unwrap_or(0);
        assert_eq!(used, 1, "an honest driver is not served");
        let after = self.meter.read();
        let counted = after.counter(asked.counter) - before.counter(asked.counter);
        assert_eq!(counted, asked.adds);
        assert_eq!(
            after.counter(Counter::DriverErrors),
            before.counter(Counter::DriverErrors),
            "an honest driver is refused"
        );
    }

    fn clear(&self) {
        let zeros = [0; 0x1000];
        for page in (0..MEMORY).step_by(zeros.len()) {
            let _ = self.memory.write(&zeros, GuestAddress(page));
        }
    }

    fn describe(&self, queue: u64, head: u16, address: u64, length: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        let at = queue * QUEUE + 16 * u64::from(head % SIZE);
        let _ = self.memory.write(&bytes, GuestAddress(at));
    }

    fn make_available(&self, queue: u64, head: u16) {
        let ring = queue * QUEUE + AVAILABLE;
        let index: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap_or(0);
        let slot = ring + 4 + 2 * u64::from(index % SIZE);
        let _ = self.memory.write_obj(head, GuestAddress(slot));
        let _ = self
            .memory
            .write_obj(index.wrapping_add(1), GuestAddress(ring + 2));
    }
}

fn ring(device: &dyn Driven, queue: usize) {
    let over = (0..TURNS).any(|_| !device.serve(queue));
    assert!(over, "a queue is served without end");
}

fn set_status(device: &dyn Driven, status: u32) {
    device.write(0x70, &status.to_le_bytes());
}

/// What an honest driver does (section 3.1.1).
fn set_up(device: &dyn Driven, queues: usize) {
    let write = |register: u64, value: u32| device.write(register, &value.to_le_bytes());
    set_status(device, 1);
    set_status(device, 3);
    write(0x24, 1);
    write(0x20, 1);
    set_status(device, 11);
    for queue in 0..queues as u32 {
        let base = queue * QUEUE as u32;
        write(0x30, queue);
        write(0x38, u32::from(SIZE));
        write(0x80, base);
        write(0x90, base + AVAILABLE as u32);
        write(0xA0, base + USED as u32);
        write(0x44, 1);
    }
    set_status(device, 15);
}

/// Input that gives zeros after its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn word(&mut self) -> u32 {
        u32::from(self.half()) | u32::from(self.half()) << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_driver_that_does_nothing_harms_nothing() {
        let hostile = Hostile::new().unwrap();
        hostile.drive(&[]);
        hostile.drive(&[1, 1]);
    }

    #[test]
    fn a_chain_that_ends_nowhere_is_counted() {
        let hostile = Hostile::new().unwrap();
        // A descriptor on the transmit queue whose address is outside memory; a ring of the doorbell.
        hostile.drive(&[0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0, 0, 2, 1]);
        assert_eq!(hostile.meter.read().counter(Counter::DriverErrors), 1);
    }

    #[test]
    fn a_chain_that_bites_its_tail_ends() {
        let hostile = Hostile::new().unwrap();
        // Descriptor 0 continues at descriptor 0.
        hostile.drive(&[0, 0, 3, 1, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 2, 1]);
        assert_eq!(hostile.meter.read().counter(Counter::DriverErrors), 1);
    }

    fn all() -> [Hostile; 5] {
        [
            Hostile::new(),
            Hostile::block(),
            Hostile::balloon(),
            Hostile::net(),
            Hostile::vsock(),
        ]
        .map(Result::unwrap)
    }

    /// Steps of a program that is about packets and frames.
    fn packets() -> impl Strategy<Value = Vec<u8>> {
        let packet = (0..3_u8, 0..3000_u16, 0..2_u8, 0..9_u8, any::<[u8; 5]>()).prop_map(
            |(queue, length, writable, operation, rest)| {
                let [low, high] = length.to_le_bytes();
                let mut step = vec![6, queue, low, high, writable, operation];
                step.extend(rest);
                step
            },
        );
        let act = (0..8_u8, 0..4_u8, any::<[u8; 2]>())
            .prop_map(|(what, which, [low, high])| vec![7, what, which, low, high]);
        let ring = (0..3_u8).prop_map(|queue| vec![2, queue]);
        let steps = prop_oneof![3 => packet, 2 => act, 3 => ring];
        proptest::collection::vec(steps, 1..60).prop_map(|steps| {
            let steps = steps.concat();
            [&[0, 0][..], &steps].concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn no_driver_breaks_a_device(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            all().iter().for_each(|hostile| hostile.drive(&input));
        }

        #[test]
        fn no_chains_break_a_device(
            device in 0..2_u8,
            chains in proptest::collection::vec((0..4_u8, any::<[u8; 14]>()), 1..20),
        ) {
            let mut input = vec![device, 0];
            for (queue, rest) in chains {
                input.extend([3, queue]);
                input.extend(rest);
                input.extend([2, queue]);
            }
            all().iter().for_each(|hostile| hostile.drive(&input));
        }

        #[test]
        fn no_packets_break_a_net_or_a_socket_device(input in packets()) {
            Hostile::net().unwrap().drive(&input);
            Hostile::vsock().unwrap().drive(&input);
        }

        #[test]
        fn no_requests_break_a_disk(
            device in 0..2_u8,
            requests in proptest::collection::vec(
                (0..16_u8, 0..80_u16, prop_oneof![Just(512_u16), Just(16), any::<u16>()], 0..4_u8),
                1..30,
            ),
        ) {
            let mut input = vec![device, 0];
            for (kind, sector, length, flags) in requests {
                input.extend([5, 0, kind]);
                input.extend(sector.to_le_bytes());
                input.extend(length.to_le_bytes());
                input.extend([flags, 2, 0]);
            }
            Hostile::block().unwrap().drive(&input);
        }
    }
}
