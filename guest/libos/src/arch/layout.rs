//! Addresses, selectors and vectors that ring 0, the linker script (`build/guest.ld`) and Rust agree on.

/// Ring 0's code: one page.
pub(crate) const RING0_TEXT: u64 = 0x10_0000;
/// Ring 0's data: one page, which `ring0.s` lays out.
pub(crate) const RING0_DATA: u64 = 0x10_1000;

/// Bytes of a 4 KiB page.
pub(crate) const PAGE: u64 = 0x1000;
/// Bytes of a 2 MiB page.
pub(crate) const HUGE: u64 = 0x20_0000;
/// Bytes of a 1 GiB page.
pub(crate) const GIANT: u64 = 0x4000_0000;

/// Vector of interrupt line 0: see [`crate::interrupt`].
pub(crate) const FIRST_INTERRUPT: u32 = 0x20;
/// How many interrupt vectors there are. The last is the local APIC's spurious one.
pub(crate) const INTERRUPTS: usize = 32;
