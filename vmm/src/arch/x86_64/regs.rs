//! The state in which PVH enters a guest (`abi::pvh`): 32-bit protected mode, flat segments, paging and interrupts off.

use kvm_bindings::{kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
/// The bit of `rflags` that is always set.
const RFLAGS_RESERVED: u64 = 1 << 1;
/// The interrupt flag of `rflags`.
pub const RFLAGS_IF: u64 = 1 << 9;

/// Segment types: code that may be read, data that may be written, each accessed; a busy 32-bit TSS.
const CODE: u8 = 0xB;
const DATA: u8 = 0x3;
const TSS: u8 = 0xB;

/// Sets registers so that the next entry is at `entry` with `ebx` holding `start_info`.
///
/// # Errors
/// Those of KVM's register calls.
pub fn enter_pvh(vcpu: &VcpuFd, entry: u32, start_info: u64) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    let flat = |selector, type_| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = flat(0x08, CODE);
    let data = flat(0x10, DATA);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        limit: 0x67,
        type_: TSS,
        present: 1,
        ..kvm_segment::default()
    };
    (sregs.gdt.base, sregs.gdt.limit) = (0, 0);
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
    (sregs.cr0, sregs.cr4, sregs.efer) = (CR0_PE | CR0_ET, 0, 0);
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs {
        rip: u64::from(entry),
        rbx: start_info,
        rflags: RFLAGS_RESERVED,
        ..kvm_regs::default()
    })
}
