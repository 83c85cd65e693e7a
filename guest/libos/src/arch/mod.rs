//! The processor: ring 0, the gate into it, page tables. The only place for x86-64 knowledge.
//!
//! Everything that Rust does here happens in ring 3. Ring 0 is `ring0.s`: start, traps, and the few
//! instructions that only ring 0 may execute, reached by [`gate`]. On hosts that emulate ring 0 it is a thousand
//! times slower than ring 3; everywhere it is small enough to read.

pub(crate) mod gate;
pub(crate) mod layout;
pub(crate) mod paging;
#[cfg(not(test))]
mod ring0;

/// The time-stamp counter.
#[inline]
pub(crate) fn tsc() -> u64 {
    // SAFETY: ring 3 may read the counter, for CR4.TSD is clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}
