//! The transport: a device's registers (section 4.2.2) and its set-up (section 3.1.1).

use crate::arch::gate::{Batch, Op};
use crate::interrupt;
use abi::cmdline;
use core::fmt;

pub(super) const MAGIC: u64 = 0x000;
pub(super) const VERSION: u64 = 0x004;
pub(super) const DEVICE_ID: u64 = 0x008;
const DEVICE_FEATURES: u64 = 0x010;
const DEVICE_FEATURES_SELECT: u64 = 0x014;
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SELECT: u64 = 0x024;
const QUEUE_SELECT: u64 = 0x030;
const QUEUE_SIZE_MAX: u64 = 0x034;
const QUEUE_SIZE: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const QUEUE_NOTIFY: u64 = 0x050;
const INTERRUPT_ACKNOWLEDGE: u64 = 0x064;
const STATUS: u64 = 0x070;
const QUEUE_DESCRIPTORS: u64 = 0x080;
const QUEUE_DRIVER: u64 = 0x090;
const QUEUE_DEVICE: u64 = 0x0A0;

/// "virt".
pub(super) const MAGIC_VALUE: u32 = 0x7472_6976;
/// The interface of virtio 1.0 and later.
pub(super) const VERSION_2: u32 = 2;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const FAILED: u32 = 128;

/// `VIRTIO_F_VERSION_1` in the upper word of features: the only feature that the drivers need.
const VERSION_1: u32 = 1;

/// Most queues of a device that is set up here.
const QUEUES: usize = 2;
/// Accesses of a set-up: reset, features and status; eleven a queue; the interrupt's route.
const ACCESSES: usize = 9 + 11 * QUEUES + 4;

/// Where the parts of a queue are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueAddresses {
    /// Its descriptors.
    pub(crate) descriptors: u64,
    /// The driver's ring.
    pub(crate) driver: u64,
    /// The device's ring.
    pub(crate) device: u64,
    /// Entries of each.
    pub(crate) size: u16,
}

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetUpError {
    /// It does not offer virtio 1.
    Legacy,
    /// It refused the features asked for.
    Features,
    /// A queue of it is smaller than the driver's.
    Queue { index: u32, max: u32 },
    /// No I/O APIC has its interrupt line.
    Line(u32),
}

impl fmt::Display for SetUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy => f.write_str("it does not offer virtio 1"),
            Self::Features => f.write_str("it refused the driver's features"),
            Self::Queue { index, max } => write!(f, "queue {index} holds only {max}"),
            Self::Line(gsi) => write!(f, "no I/O APIC has interrupt line {gsi}"),
        }
    }
}

/// A device as its driver holds it.
#[derive(Debug)]
pub(crate) struct Transport {
    base: u64,
    gsi: u32,
    line: u32,
}

impl Transport {
    /// The device of the command line, to interrupt on `line`.
    pub(super) fn new(device: cmdline::Device, line: u32) -> Self {
        Self {
            base: device.base,
            gsi: device.gsi,
            line,
        }
    }

    /// Brings the device up with its first queues, in one batch.
    ///
    /// What the device answers is checked behind the batch: one that would not go along is failed and left alone.
    pub(crate) fn set_up(&self, queues: &[QueueAddresses]) -> Result<(), SetUpError> {
        let register = |offset| self.base + offset;
        let mut batch = Batch::<ACCESSES>::new();
        let mut write = |offset, value: u32| batch.push(Op::write32(register(offset), value));
        write(STATUS, 0);
        write(STATUS, ACKNOWLEDGE | DRIVER);
        write(DEVICE_FEATURES_SELECT, 1);
        write(DRIVER_FEATURES_SELECT, 1);
        // The lower word stays zero, as the reset left it.
        write(DRIVER_FEATURES, VERSION_1);
        write(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        let offered = batch.push(Op::read32(register(DEVICE_FEATURES)));
        let accepted = batch.push(Op::read32(register(STATUS)));
        let mut maxima = [0; QUEUES];
        for (index, queue) in queues.iter().enumerate() {
            let mut write = |offset, value: u32| batch.push(Op::write32(register(offset), value));
            write(QUEUE_SELECT, index as u32);
            write(QUEUE_SIZE, queue.size.into());
            for (offset, address) in [
                (QUEUE_DESCRIPTORS, queue.descriptors),
                (QUEUE_DRIVER, queue.driver),
                (QUEUE_DEVICE, queue.device),
            ] {
                write(offset, address as u32);
                write(offset + 4, (address >> 32) as u32);
            }
            maxima[index] = batch.push(Op::read32(register(QUEUE_SIZE_MAX)));
            batch.push(Op::write32(register(QUEUE_READY), 1));
        }
        let acknowledge = register(INTERRUPT_ACKNOWLEDGE);
        let route = interrupt::route(self.gsi, self.line, acknowledge);
        batch.extend(route.ok_or(SetUpError::Line(self.gsi))?);
        let ok = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
        batch.push(Op::write32(register(STATUS), ok));
        // SAFETY: the device's own registers, and queues that live as long as the driver.
        unsafe { batch.run() };

        let checks = || {
            if batch.result(offered) & VERSION_1 == 0 {
                return Err(SetUpError::Legacy);
            }
            if batch.result(accepted) & FEATURES_OK == 0 {
                return Err(SetUpError::Features);
            }
            for (index, (queue, place)) in queues.iter().zip(maxima).enumerate() {
                let (index, max) = (index as u32, batch.result(place));
                if max < queue.size.into() {
                    return Err(SetUpError::Queue { index, max });
                }
            }
            Ok(())
        };
        checks().inspect_err(|_| {
            let mut batch = Batch::<1>::new();
            batch.push(Op::write32(register(STATUS), FAILED));
            // SAFETY: the device's own register; a failed device touches its queues no more.
            unsafe { batch.run() };
        })
    }

    /// Tells the device that a queue has something for it.
    ///
    /// From ring 3: an exit of its own costs less than the gate with one inside.
    pub(crate) fn notify(&self, queue: u32) {
        let register = (self.base + QUEUE_NOTIFY) as *mut u32;
        // SAFETY: the device's own register, mapped for ring 3.
        unsafe { register.write_volatile(queue) };
    }
}
