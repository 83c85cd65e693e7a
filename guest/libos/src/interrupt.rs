//! Interrupt lines: from a device's wire to a bit in the gate's answer.
//!
//! A *line* is one of the 32 interrupt vectors that ring 0 tells apart. Its stub sets the line's bit, acknowledges the
//! device where the line has an acknowledge register, and ends the interrupt: nothing else happens in ring 0. The
//! event loop finds the bits when it returns from the gate. Line 0 is the local APIC's timer, which has only to wake.

use crate::arch::gate::Op;
use crate::arch::layout;
use core::sync::atomic::{AtomicU64, Ordering};

/// The keyboard controller, by which a monitor asks for shutdown.
pub(crate) const KEYBOARD: u32 = 1;
/// First line for a virtio device.
pub(crate) const FIRST_DEVICE: u32 = 2;
/// The lines that devices may have: the last vector is the spurious one.
pub(crate) const DEVICES: core::ops::Range<u32> = FIRST_DEVICE..layout::INTERRUPTS as u32 - 1;

/// Where ring 0 writes 1 to acknowledge a line's device, or zero.
pub(crate) static ACKNOWLEDGE: [AtomicU64; layout::INTERRUPTS] =
    [const { AtomicU64::new(0) }; layout::INTERRUPTS];

/// The second I/O APIC of QEMU's `microvm` machine.
const SECOND_IOAPIC: u64 = 0xFEC1_0000;
/// Pins of an I/O APIC.
const PINS: u32 = 24;

/// The register accesses that lead interrupt `gsi` to `line`, edge-triggered; `None` where no I/O APIC has that pin.
///
/// `acknowledge` is the physical address of the device's acknowledge register, or zero.
pub(crate) fn route(gsi: u32, line: u32, acknowledge: u64) -> Option<[Op; 4]> {
    let (ioapic, pin) = match gsi {
        0..PINS => (abi::layout::IOAPIC, gsi),
        _ if gsi < 2 * PINS => (SECOND_IOAPIC, gsi - PINS),
        _ => return None,
    };
    ACKNOWLEDGE[line as usize].store(acknowledge, Ordering::Relaxed);
    let select = ioapic;
    let window = ioapic + 0x10;
    let entry = 0x10 + 2 * pin;
    Some([
        // The upper half first: the entry goes live with the lower. Destination: local APIC 0.
        Op::write32(select, entry + 1),
        Op::write32(window, 0),
        Op::write32(select, entry),
        Op::write32(window, layout::FIRST_INTERRUPT + line),
    ])
}
