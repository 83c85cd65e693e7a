//! virtio devices over memory-mapped registers (virtio 1.2, section 4.2).
//!
//! The command line says where devices are; one batch through the gate asks them all who they are; a driver takes the
//! first device of its kind and sets it up in one more batch. Queues are polled while the guest is awake, and
//! interrupt only a guest that is about to sleep.

pub(crate) mod console;
mod mmio;
mod queue;
pub(crate) mod rng;

use crate::arch::gate::{Batch, Op};
use crate::arch::layout::GIANT;
use crate::interrupt;
use crate::memory::map::Ranges;
use abi::cmdline;
use core::ops::Range;
pub(crate) use mmio::{SetUpError, Transport};
pub(crate) use queue::Queue;

/// Most devices: the interrupt lines there are.
pub(crate) const MAX: usize = (interrupt::DEVICES.end - interrupt::DEVICES.start) as usize;

/// A kind of device (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Section 5.3.
    Console = 3,
    /// Section 5.4.
    Entropy = 4,
}

/// A device that the command line names.
#[derive(Clone, Copy)]
pub(crate) struct Listed {
    device: cmdline::Device,
    /// What it says it is; zero where nothing answers or a driver has taken it.
    id: u32,
    version: u32,
}

impl Listed {
    /// Its registers' addresses.
    pub(crate) fn registers(&self) -> Range<u64> {
        self.device.base..self.device.base + self.device.size
    }
}

/// The devices of this machine.
pub(crate) struct Found {
    list: [Option<Listed>; MAX],
}

/// Bytes of registers that a driver touches.
const REGISTERS: u64 = 0x100;

/// The devices that `cmdline` lists. Words that name RAM, wrap, or are too small for the registers are not devices.
pub(crate) fn listed(cmdline: &str, ram: &Ranges) -> Found {
    let mut found = Found::new();
    let devices = cmdline::words(cmdline).filter_map(|word| cmdline::Device::parse(word.raw()));
    let plausible = devices.filter(|d| {
        let end = d.base.checked_add(d.size).filter(|&end| end <= 4096 * GIANT);
        d.size >= REGISTERS
            && end.is_some_and(|end| {
                d.base >= abi::layout::IMAGE_START
                    && ram.iter().all(|r| end <= r.start || r.end <= d.base)
            })
    });
    for (slot, device) in found.list.iter_mut().zip(plausible) {
        *slot = Some(Listed {
            device,
            id: 0,
            version: 0,
        });
    }
    found
}

impl Found {
    /// None.
    pub(crate) const fn new() -> Self {
        Self { list: [None; MAX] }
    }

    /// The devices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Listed> {
        self.list.iter().flatten()
    }

    /// Adds the accesses that identify the devices; gives the place of the first.
    pub(crate) fn ask<const N: usize>(&self, batch: &mut Batch<N>) -> usize {
        let mut first = None;
        for device in self.iter() {
            for register in [mmio::MAGIC, mmio::VERSION, mmio::DEVICE_ID] {
                let place = batch.push(Op::read32(device.device.base + register));
                first.get_or_insert(place);
            }
        }
        first.unwrap_or(0)
    }

    /// Takes the answers out of the batch that has run.
    pub(crate) fn answered<const N: usize>(&mut self, batch: &Batch<N>, first: usize) {
        for (i, device) in self.list.iter_mut().flatten().enumerate() {
            let answer = |register: usize| batch.result(first + 3 * i + register);
            if answer(0) == mmio::MAGIC_VALUE {
                (device.version, device.id) = (answer(1), answer(2));
            }
        }
    }

    /// Takes the first device of `kind` for a driver. Devices of the legacy interface are passed over, and said so.
    pub(crate) fn take(&mut self, kind: Kind) -> Option<Transport> {
        let lines = interrupt::DEVICES;
        for (device, line) in self.list.iter_mut().flatten().zip(lines) {
            if device.id != kind as u32 {
                continue;
            }
            device.id = 0;
            if device.version == mmio::VERSION_2 {
                return Some(Transport::new(device.device, line));
            }
            crate::println!(
                "libos: the {kind:?} device at {:#x} has version {} of virtio-mmio, not 2, and is not used \
                 (QEMU: -global virtio-mmio.force-legacy=false)",
                device.device.base,
                device.version,
            );
        }
        None
    }
}
