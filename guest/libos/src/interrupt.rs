//! Interrupt lines: from a device's wire to a bit in the gate's answer.
//!
//! A *line* is one of the 32 interrupt vectors that ring 0 tells apart. Its stub sets the line's bit, acknowledges the
//! device where the line has an acknowledge register, and ends the interrupt: nothing else happens in ring 0. The
//! event loop finds the bits when it returns from the gate. Line 0 is the local APIC's timer, which has only to wake.

use crate::arch::gate::{Batch, Op};
use crate::arch::layout;
use crate::core_cell::CoreCell;
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

/// `IA32_APIC_BASE`, and its value for the first processor with x2APIC on.
const APIC_BASE: (u32, u64) = (0x1B, 0xFEE0_0D00);
/// Spurious-interrupt vector, and the APIC's switch (bit 8).
const SPURIOUS: (u32, u64) = (
    0x80F,
    0x100 | (layout::FIRST_INTERRUPT as u64 + layout::INTERRUPTS as u64 - 1),
);
/// The timer's entry: TSC deadline mode, line 0.
const TIMER: (u32, u64) = (0x832, 0x4_0000 | layout::FIRST_INTERRUPT as u64);
/// LINT0, masked: else the 8259, which nobody has set up, would deliver its vectors.
const LINT0: (u32, u64) = (0x835, 0x1_0000);

static STARTED: CoreCell<bool> = CoreCell::new(false);

/// Readies the machine for interrupts, before the first is let in: a guest that never sleeps does not pay for it.
pub(crate) fn start() {
    if core::mem::replace(&mut *STARTED.borrow(), true) {
        return;
    }
    let mut batch = Batch::<24>::new();
    batch.extend([APIC_BASE, SPURIOUS, TIMER, LINT0].map(|(msr, value)| Op::write_msr(msr, value)));
    batch.extend(entry(abi::layout::I8042_GSI, KEYBOARD));
    // SAFETY: the local APIC and the I/O APIC are the library OS's, and ring 0 has a stub for each vector.
    unsafe { batch.run() };
}

/// Whether an I/O APIC has this interrupt line.
pub(crate) fn exists(gsi: u32) -> bool {
    gsi < 2 * PINS
}

/// Leads interrupt `gsi`, which [`exists`], to `line`, and has ring 0 acknowledge it at the register `acknowledge`.
pub(crate) fn route(gsi: u32, line: u32, acknowledge: u64) {
    ACKNOWLEDGE[line as usize].store(acknowledge, Ordering::Relaxed);
    let mut batch = Batch::<10>::new();
    batch.extend(entry(gsi, line));
    // SAFETY: the I/O APIC is the library OS's, and ring 0 has a stub for the line.
    unsafe { batch.run() };
}

/// The accesses that write an edge-triggered I/O APIC entry.
fn entry(gsi: u32, line: u32) -> [Op; 4] {
    let ioapic = if gsi < PINS {
        abi::layout::IOAPIC
    } else {
        SECOND_IOAPIC
    };
    let (select, window) = (ioapic, ioapic + 0x10);
    let entry = 0x10 + 2 * (gsi % PINS);
    [
        // The upper half first: the entry goes live with the lower. Destination: local APIC 0.
        Op::write32(select, entry + 1),
        Op::write32(window, 0),
        Op::write32(select, entry),
        Op::write32(window, layout::FIRST_INTERRUPT + line),
    ]
}
