//! Ring 0: a page of code and a page of data, in `ring0.s`.

use super::layout;
use crate::{boot, interrupt, trap};
use abi::port;
use core::arch::global_asm;

/// The notes: PVH's entry, and that this is the library OS.
#[repr(C, align(4))]
struct Notes {
    name_size: u32,
    descriptor_size: u32,
    kind: u32,
    name: [u8; 4],
    entry: [u8; 4],
    own_name_size: u32,
    own_descriptor_size: u32,
    own_kind: u32,
    own_name: [u8; 8],
}

/// Where a monitor enters the image, in 32-bit protected mode; and that it may map the image's own file as a module.
#[used]
#[unsafe(link_section = ".note.pvh")]
static NOTES: Notes = Notes {
    name_size: 4,
    descriptor_size: 4,
    kind: abi::pvh::NOTE_TYPE,
    name: *abi::pvh::NOTE_OWNER,
    // The entry is the image's first instruction.
    entry: (layout::RING0_TEXT as u32).to_le_bytes(),
    own_name_size: abi::pvh::LIBRARY_OS_OWNER.len() as u32,
    own_descriptor_size: 0,
    own_kind: 1,
    own_name: {
        // A name is padded to a multiple of four bytes.
        let [s, h, o, a, l, end] = *abi::pvh::LIBRARY_OS_OWNER;
        [s, h, o, a, l, end, 0, 0]
    },
};

global_asm!(
    include_str!("ring0.s"),
    TEXT = const layout::RING0_TEXT,
    DATA = const layout::RING0_DATA,
    EXIT = const port::EXIT,
    I8042 = const port::I8042_COMMAND,
    RESET = const port::I8042_RESET,
    boot_record = sym boot::RECORD,
    acknowledge = sym interrupt::ACKNOWLEDGE,
    trap_frame = sym trap::FRAME,
    trap_status = sym trap::STATUS,
    trap_handler = sym trap::handle,
    start = sym boot::start,
);
