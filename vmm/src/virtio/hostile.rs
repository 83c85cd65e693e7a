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
//! ```

use std::io;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::VirtioDevice;
use super::console::Console;
use super::entropy::Entropy;
use super::mmio::Transport;
use crate::backend::console::Output;
use crate::backend::input::{Room, Taker};
use crate::device::{Device, Lifecycle};
use crate::machine::memory::Memory;
use crate::meter::{Counter, Meter};

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

/// Two devices, and memory for a driver to misuse.
pub struct Hostile {
    console: Transport<Console>,
    entropy: Transport<Entropy>,
    memory: Memory,
    meter: Arc<Meter>,
}

/// What there is to drive.
trait Driven: Device + Lifecycle {
    fn serve(&self, queue: usize) -> bool;
}

impl<D: VirtioDevice> Driven for Transport<D> {
    fn serve(&self, queue: usize) -> bool {
        Self::serve(self, queue)
    }
}

impl Hostile {
    /// Devices in reset.
    ///
    /// # Errors
    /// Where memory or descriptors cannot be had.
    pub fn new() -> io::Result<Self> {
        let meter = Meter::create(None::<std::fs::File>).map_err(io::Error::other)?;
        let meter = Arc::new(meter);
        let ranges = [(GuestAddress(0), MEMORY as usize)];
        let memory = Memory::from_ranges(&ranges).map_err(io::Error::other)?;
        let output = Arc::new(Output::new(None, Arc::clone(&meter))?);
        let event = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        Ok(Self {
            console: Transport::new(
                Console::new(output, Room::new()?),
                memory.clone(),
                event()?,
                vec![event()?, event()?],
                Arc::clone(&meter),
            ),
            entropy: Transport::new(
                Entropy::new(Arc::clone(&meter)),
                memory.clone(),
                event()?,
                vec![event()?],
                Arc::clone(&meter),
            ),
            memory,
            meter,
        })
    }

    /// Carries out `input`, and then checks that an honest driver is served.
    ///
    /// # Panics
    /// Where a device does not keep what this module promises.
    pub fn drive(&self, input: &[u8]) {
        let mut input = Input(input);
        let console = input.byte() & 1 == 0;
        let device: &dyn Driven = if console {
            &self.console
        } else {
            &self.entropy
        };
        let queues = if console { 2 } else { 1 };
        self.clear();
        set_status(device, 0);
        if input.byte() & 1 == 0 {
            set_up(device, queues);
        }
        while !input.0.is_empty() {
            self.step(device, &mut input);
        }
        if console && self.console.room() > 0 {
            self.console.take(b"typed");
        }
        device.halt();
        self.clear();
        set_status(device, 0);
        set_up(device, queues);
        self.honest(device, queues - 1, console);
    }

    fn step(&self, device: &dyn Driven, input: &mut Input<'_>) {
        match input.byte() % 5 {
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
            2 => ring(device, usize::from(input.byte() % 3)),
            3 => {
                let queue = u64::from(input.byte() % 2);
                let (head, flags) = (input.half(), input.half() % 8);
                let address = u64::from(input.word()) % (2 * MEMORY);
                let (length, next) = (input.word(), input.half());
                self.describe(queue, head, address, length, flags, next % (2 * SIZE));
                self.make_available(queue, head);
            }
            _ => {
                let mut data = [0; 9];
                let (offset, length) = (u64::from(input.half()), usize::from(input.byte() % 9));
                device.read(offset, &mut data[..=length]);
            }
        }
    }

    /// One buffer for the queue, to be written by the device if it is of a kind that does.
    fn honest(&self, device: &dyn Driven, queue: usize, console: bool) {
        let queue_number = queue as u64;
        let before = self.meter.read();
        let address = queue_number * QUEUE + BUFFER;
        let flags = if console { 0 } else { 2 };
        self.describe(queue_number, 0, address, 8, flags, 0);
        self.make_available(queue_number, 0);
        ring(device, queue);
        let used: u16 = self
            .memory
            .load(
                GuestAddress(queue_number * QUEUE + USED + 2),
                std::sync::atomic::Ordering::Acquire,
            )
            .unwrap_or(0);
        assert_eq!(used, 1, "an honest driver is not served");
        let after = self.meter.read();
        let counter = if console {
            Counter::ConsoleOut
        } else {
            Counter::Entropy
        };
        assert_eq!(after.counter(counter) - before.counter(counter), 8);
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_driver_breaks_a_device(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            Hostile::new().unwrap().drive(&input);
        }

        #[test]
        fn no_chains_break_a_device(
            device in 0..2_u8,
            chains in proptest::collection::vec((0..2_u8, any::<[u8; 14]>()), 1..20),
        ) {
            let mut input = vec![device, 0];
            for (queue, rest) in chains {
                input.extend([3, queue]);
                input.extend(rest);
                input.extend([2, queue]);
            }
            Hostile::new().unwrap().drive(&input);
        }
    }
}
