//! The TSC's frequency where KVM's clock is not there.

use super::Source;
use crate::arch::{gate::{self, Op}, tsc};

/// Ticks a second of the 8254 timer.
const PIT_HERTZ: u64 = 1_193_182;
/// What it counts down from: 10 ms.
const PIT_COUNT: u64 = PIT_HERTZ / 100;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_MODE: u16 = 0x43;
/// Channel 2's gate (bit 0), the speaker's (bit 1), and channel 2's output (bit 5).
const PORT_B: u16 = 0x61;
/// Reads of the output before the timer counts as missing: ten times what 10 ms hold at 1 us a read.
const PATIENCE: u32 = 100_000;
/// What is taken where there is nothing to measure with: the clock runs, though at a wrong rate.
const GUESS: u64 = 2_000_000_000;

/// The frequency in hertz, and who says so.
pub(super) fn frequency() -> (Source, u64) {
    match from_cpuid() {
        Some(hertz) => (Source::Cpuid, hertz),
        None => (Source::Pit, from_pit().unwrap_or(GUESS)),
    }
}

/// Leaf 0x15 (crystal and ratio), else leaf 0x16 (base frequency in MHz).
fn from_cpuid() -> Option<u64> {
    let mut ops = [Op::cpuid(0), Op::cpuid(0x15), Op::cpuid(0x16)];
    // SAFETY: CPUID changes nothing.
    unsafe { gate::batch(&mut ops) };
    let [highest, crystal, base] = ops.map(|op| op.cpuid_result());
    if highest[0] >= 0x15 {
        let [denominator, numerator, hertz, _] = crystal.map(u64::from);
        if denominator != 0 && numerator != 0 && hertz != 0 {
            return Some(hertz * numerator / denominator);
        }
    }
    let mhz = u64::from(base[0] & 0xFFFF);
    (highest[0] >= 0x16 && mhz != 0).then_some(mhz * 1_000_000)
}

/// Ticks of the TSC while channel 2 counts 10 ms.
fn from_pit() -> Option<u64> {
    let mut start = [
        Op::out8(PORT_B, 1),
        // Channel 2, low byte then high byte, mode 0: the output rises when the count is over.
        Op::out8(PIT_MODE, 0xB0),
        Op::out8(PIT_CHANNEL_2, PIT_COUNT as u8),
        Op::out8(PIT_CHANNEL_2, (PIT_COUNT >> 8) as u8),
    ];
    // SAFETY: the timer's channel 2 drives nothing but the speaker, which is off.
    unsafe { gate::batch(&mut start) };
    let before = tsc();
    for _ in 0..PATIENCE {
        let mut read = [Op::in8(PORT_B)];
        // SAFETY: a read of the port changes nothing.
        unsafe { gate::batch(&mut read) };
        if read[0].result() & 1 << 5 != 0 {
            return Some((tsc() - before) * PIT_HERTZ / PIT_COUNT);
        }
    }
    None
}
