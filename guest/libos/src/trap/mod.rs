//! Traps: every exception ends the guest, with a report that a person can read.
//!
//! Ring 0 copies the registers to [`FRAME`] and enters [`handle`] in ring 3, on a stack of its own. A trap while the
//! report is being made ends the VM from ring 0, with [`STATUS`].

pub(crate) mod backtrace;
mod report;
mod symbols;

use crate::exit;
use abi::status;
use core::sync::atomic::{AtomicU32, Ordering};

/// The registers of a trap, as `ring0.s` lays them down.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Frame {
    pub(crate) cr2: u64,
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rbp: u64,
    pub(crate) rdi: u64,
    pub(crate) rsi: u64,
    pub(crate) rdx: u64,
    pub(crate) rcx: u64,
    pub(crate) rbx: u64,
    pub(crate) rax: u64,
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

/// Where ring 0 puts the registers.
pub(crate) static mut FRAME: Frame = Frame {
    cr2: 0,
    r15: 0,
    r14: 0,
    r13: 0,
    r12: 0,
    r11: 0,
    r10: 0,
    r9: 0,
    r8: 0,
    rbp: 0,
    rdi: 0,
    rsi: 0,
    rdx: 0,
    rcx: 0,
    rbx: 0,
    rax: 0,
    vector: 0,
    error: 0,
    rip: 0,
    cs: 0,
    rflags: 0,
    rsp: 0,
    ss: 0,
};

/// The exit status if ring 0 must end the VM by itself.
pub(crate) static STATUS: AtomicU32 = AtomicU32::new(status::TRAP);

/// Ring 3's side of a trap.
pub(crate) extern "C" fn handle(frame: *const Frame) -> ! {
    // SAFETY: ring 0 passes the address of `FRAME`, and has filled it.
    let frame = unsafe { *frame };
    let status = match frame.vector {
        0 | 16 | 19 => status::ARITHMETIC,
        6 => status::INVALID_INSTRUCTION,
        10..=14 | 17 => status::BAD_ACCESS,
        _ => status::TRAP,
    };
    STATUS.store(status, Ordering::Relaxed);
    report::print(&frame);
    exit::fail(status)
}
