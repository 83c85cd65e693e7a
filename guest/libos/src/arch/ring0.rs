//! Ring 0: a page of code and a page of data, in `ring0.s`.

use super::layout;
use crate::{boot, interrupt, trap};
use abi::port;
use core::arch::global_asm;

/// The PVH entry note.
#[repr(C, align(4))]
struct Note {
    name_size: u32,
    descriptor_size: u32,
    kind: u32,
    name: [u8; 4],
    entry: [u8; 4],
}

/// Where a monitor enters the image, in 32-bit protected mode.
#[used]
#[unsafe(link_section = ".note.pvh")]
static NOTE: Note = Note {
    name_size: 4,
    descriptor_size: 4,
    kind: abi::pvh::NOTE_TYPE,
    name: *abi::pvh::NOTE_OWNER,
    // The entry is the image's first instruction.
    entry: (layout::RING0_TEXT as u32).to_le_bytes(),
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
