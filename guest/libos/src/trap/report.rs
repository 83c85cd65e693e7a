//! What a trap says on the console.

use super::{Frame, backtrace};
use crate::console::last_words;
use crate::{arch::layout::PAGE, boot, image};
use core::fmt;

/// The processor's names for its exceptions (Intel SDM, volume 3, table 6-1).
fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error (#DE)",
        1 => "debug exception (#DB)",
        2 => "non-maskable interrupt",
        3 => "breakpoint (#BP)",
        4 => "overflow (#OF)",
        5 => "bound range exceeded (#BR)",
        6 => "invalid instruction (#UD)",
        7 => "device not available (#NM)",
        10 => "invalid task state segment (#TS)",
        11 => "segment not present (#NP)",
        12 => "stack segment fault (#SS)",
        13 => "general protection fault (#GP)",
        14 => "page fault (#PF)",
        16 => "floating-point error (#MF)",
        17 => "alignment check (#AC)",
        18 => "machine check (#MC)",
        19 => "SIMD floating-point error (#XM)",
        21 => "control protection fault (#CP)",
        _ => "unexpected interrupt",
    }
}

/// What a page fault's error code says of the access.
fn access(error: u64) -> &'static str {
    if error & 1 << 4 != 0 {
        "execution"
    } else if error & 1 << 1 != 0 {
        "write"
    } else {
        "read"
    }
}

/// What lies at an address, in words.
struct Place(u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.0;
        if address < PAGE {
            return f.write_str("null dereference: the first page is never mapped");
        }
        let regions = image::regions();
        if let Some(region) = regions.iter().find(|r| r.range.contains(&address)) {
            let overflow = if region.name.starts_with("guard") {
                "stack overflow: "
            } else {
                ""
            };
            return write!(f, "{overflow}{}", region.name);
        }
        let Some(machine) = boot::machine() else {
            return f.write_str("before memory was known");
        };
        let module = machine.module.map(<[u8]>::as_ptr_range);
        if module.is_some_and(|m| m.contains(&(address as *const u8))) {
            f.write_str("the boot module, which is read-only")
        } else if address < abi::layout::IMAGE_START {
            f.write_str("what the monitor handed over")
        } else if machine.ram.hold(&(address..address + 1)) {
            f.write_str("heap or page tables")
        } else {
            f.write_str("no memory is mapped there")
        }
    }
}

/// Prints the report.
pub(super) fn print(frame: &Frame) {
    let ring = frame.cs & 3;
    last_words(format_args!("\ntrap: {}", name(frame.vector)));
    match frame.vector {
        14 => {
            let why = if frame.error & 1 == 0 {
                "not mapped"
            } else {
                "not allowed"
            };
            last_words(format_args!(
                ": {} of {:#x} {why}\n  there: {}\n",
                access(frame.error),
                frame.cr2,
                Place(frame.cr2)
            ));
        }
        10..=13 | 17 | 21 => last_words(format_args!(", error code {:#x}\n", frame.error)),
        _ => last_words(format_args!("\n")),
    }
    last_words(format_args!(
        "  rip {:016x}  rsp {:016x}  rflags {:x}  ring {ring}\n",
        frame.rip, frame.rsp, frame.rflags
    ));
    let registers = [
        [("rax", frame.rax), ("rbx", frame.rbx), ("rcx", frame.rcx), ("rdx", frame.rdx)],
        [("rsi", frame.rsi), ("rdi", frame.rdi), ("rbp", frame.rbp), ("r8 ", frame.r8)],
        [("r9 ", frame.r9), ("r10", frame.r10), ("r11", frame.r11), ("r12", frame.r12)],
    ];
    for row in registers {
        for (name, value) in row {
            last_words(format_args!("  {name} {value:016x}"));
        }
        last_words(format_args!("\n"));
    }
    last_words(format_args!(
        "  r13 {:016x}  r14 {:016x}  r15 {:016x}\n",
        frame.r13, frame.r14, frame.r15
    ));
    backtrace::print(Some(frame.rip), frame.rbp);
}
