//! The states in which a guest is entered, interrupts off and segments flat: by PVH (`abi::pvh`) in 32-bit protected mode, paging
//! off; by Linux's boot protocol in long mode, on the monitor's first page tables.

use kvm_bindings::{kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;

use crate::boot::linux;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// The bit of `rflags` that is always set.
const RFLAGS_RESERVED: u64 = 1 << 1;
/// The interrupt flag of `rflags`.
pub const RFLAGS_IF: u64 = 1 << 9;

/// Segment types: code that may be read, data that may be written, each accessed; a busy 32-bit TSS.
const CODE: u8 = 0xB;
const DATA: u8 = 0x3;
const TSS: u8 = 0xB;

/// How the first processor enters the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// By PVH, at `entry`, with `ebx` holding `info`.
    Pvh {
        /// The entry.
        entry: u32,
        /// The start information.
        info: u64,
    },
    /// By Linux's 64-bit boot protocol, at `entry`, with `rsi` holding `zero_page`.
    Linux {
        /// The entry.
        entry: u64,
        /// The zero page.
        zero_page: u64,
    },
}

/// Sets registers so that the next entry is so.
///
/// # Errors
/// Those of KVM's register calls.
pub fn enter(vcpu: &VcpuFd, start: Start) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    let flat = |selector, type_, long: u8| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1 - long,
        l: long,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    let data;
    let mut regs = kvm_regs {
        rflags: RFLAGS_RESERVED,
        ..kvm_regs::default()
    };
    match start {
        Start::Pvh { entry, info } => {
            sregs.cs = flat(0x08, CODE, 0);
            data = flat(0x10, DATA, 0);
            (sregs.gdt.base, sregs.gdt.limit) = (0, 0);
            (sregs.cr0, sregs.cr4, sregs.efer) = (CR0_PE | CR0_ET, 0, 0);
            (regs.rip, regs.rbx) = (entry.into(), info);
        }
        Start::Linux { entry, zero_page } => {
            sregs.cs = flat(0x10, CODE, 1);
            data = flat(0x18, DATA, 0);
            (sregs.gdt.base, sregs.gdt.limit) = (linux::GDT, 0x1F);
            sregs.cr3 = linux::PAGE_TABLES;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            (regs.rip, regs.rsi) = (entry, zero_page);
        }
    }
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        limit: 0x67,
        type_: TSS,
        present: 1,
        ..kvm_segment::default()
    };
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&regs)
}
