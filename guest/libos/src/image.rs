//! The image's own parts, as the linker script lays them out.

use crate::arch::layout::{PAGE, RING0_DATA, RING0_TEXT};
use crate::arch::paging;
use core::ops::Range;

/// A part of the image: where, with which rights, and what a trap report calls it.
pub(crate) struct Region {
    /// Its addresses, in whole pages.
    pub(crate) range: Range<u64>,
    /// Its rights: one of `paging`'s.
    pub(crate) flags: u64,
    /// Its name.
    pub(crate) name: &'static str,
}

macro_rules! linker_symbols {
    ($($name:ident)*) => {
        unsafe extern "C" { $(static $name: u8;)* }
    };
}

linker_symbols! {
    __text_start __text_end __rodata_start __rodata_end __data_start __data_end __main_guard
    __main_stack __main_stack_top __trap_guard __trap_stack __trap_stack_top __image_end
}

macro_rules! between {
    ($start:ident, $end:ident) => {
        (&raw const $start) as u64..(&raw const $end) as u64
    };
}

/// The image's parts.
pub(crate) fn regions() -> [Region; 9] {
    let region = |range, flags, name| Region { range, flags, name };
    [
        region(RING0_TEXT..RING0_TEXT + PAGE, paging::RING0_TEXT, "ring 0's code"),
        region(RING0_DATA..RING0_DATA + PAGE, paging::RING0_DATA, "ring 0's data"),
        region(between!(__text_start, __text_end), paging::TEXT, "code"),
        region(between!(__rodata_start, __rodata_end), paging::CONSTANT, "constants"),
        region(between!(__data_start, __data_end), paging::DATA, "data"),
        region(between!(__main_guard, __main_stack), paging::NOTHING, "guard page of the main stack"),
        region(between!(__main_stack, __main_stack_top), paging::DATA, "main stack"),
        region(between!(__trap_guard, __trap_stack), paging::NOTHING, "guard page of the trap stack"),
        region(between!(__trap_stack, __trap_stack_top), paging::DATA, "trap stack"),
    ]
}

/// The first page behind the image.
pub(crate) fn end() -> u64 {
    ((&raw const __image_end) as u64).next_multiple_of(PAGE)
}

/// The stacks of ring 3.
pub(crate) fn stacks() -> [Range<u64>; 2] {
    [
        between!(__main_stack, __main_stack_top),
        between!(__trap_stack, __trap_stack_top),
    ]
}

/// Whether the address is in ring 3's code.
pub(crate) fn is_code(address: u64) -> bool {
    between!(__text_start, __text_end).contains(&address)
}
