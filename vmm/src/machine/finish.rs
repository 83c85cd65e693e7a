//! Instructions that KVM could not emulate, and that a few lines finish.
//!
//! Where ring 0 is emulated, some are missing that every kernel has. Two of them do so little that the monitor does it:
//!
//! | instruction | what it does |
//! |---|---|
//! | `fwait` (9B) | waits for the x87 unit: nothing, there is no pending exception that a kernel would want |
//! | `int3` (CC) | #BP behind it |
//!
//! All others end the VM ([`super::exits`]).

use kvm_bindings::kvm_vcpu_events;
use kvm_ioctls::VcpuFd;

use super::exits;
use super::vcpu::Shared;

const FWAIT: u8 = 0x9B;
const INT3: u8 = 0xCC;
/// #BP.
const BREAKPOINT: u8 = 3;

/// Finishes the instruction at which KVM gave up, if it is one of those and ring 0 is emulated here; says whether it did.
pub(super) fn finish(vcpu: &mut VcpuFd, shared: &Shared) -> bool {
    exits::emulation_failed(vcpu)
        && shared.ring0_is_emulated()
        && carry_out(vcpu, shared).unwrap_or(false)
}

fn carry_out(vcpu: &VcpuFd, shared: &Shared) -> Result<bool, kvm_ioctls::Error> {
    let mut regs = vcpu.get_regs()?;
    if exits::ring(vcpu) != 0 {
        return Ok(false);
    }
    let instruction = exits::instruction(vcpu, &shared.memory, regs.rip).map(|bytes| bytes[0]);
    match instruction {
        Some(FWAIT) => {}
        Some(INT3) => {
            let mut events: kvm_vcpu_events = vcpu.get_vcpu_events()?;
            events.exception.injected = 1;
            events.exception.nr = BREAKPOINT;
            events.exception.has_error_code = 0;
            vcpu.set_vcpu_events(&events)?;
        }
        _ => return Ok(false),
    }
    regs.rip += 1;
    vcpu.set_regs(&regs)?;
    Ok(true)
}
