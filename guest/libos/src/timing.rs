//! How long the boot took, by phase: `libos.timing=1` prints it.

use crate::arch::tsc;
use crate::{boot, clock, options};
use core::sync::atomic::{AtomicU64, Ordering};

/// What has been done at a mark.
#[derive(Clone, Copy)]
pub(crate) enum Phase {
    /// Ring 0 has handed over.
    Ring3,
    /// The page tables are built.
    Tables,
    /// They are in use, the clock runs, the devices have said who they are.
    Switched,
    /// The heap has its memory.
    Heap,
    /// The console is up.
    Console,
}

const NAMES: [&str; 5] = [
    "ring 0, to ring 3",
    "page tables built",
    "first gate: tables on, clock, devices found",
    "heap",
    "console",
];

/// TSC at each mark.
static MARKS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// Notes that a phase is over: reading the TSC is all it costs.
pub(crate) fn mark(phase: Phase) {
    MARKS[phase as usize].store(tsc(), Ordering::Relaxed);
}

/// Prints the phases in microseconds, where the command line asks for it.
pub(crate) fn report() {
    if !options::timing() {
        return;
    }
    let scale = clock::scale();
    let mut before = boot::record().entry;
    let entry = before;
    for (name, mark) in NAMES.iter().zip(&MARKS) {
        let now = mark.load(Ordering::Relaxed);
        let us = scale.nanoseconds(now.wrapping_sub(before)) / 1000;
        crate::println!("libos.timing: {us:>6} us  {name}");
        before = now;
    }
    let us = scale.nanoseconds(before.wrapping_sub(entry)) / 1000;
    crate::println!("libos.timing: {us:>6} us  in all; clock: {}", clock::source());
}
