//! Exits that end a VM, in words.

use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress};

use super::memory::Memory;
use super::vcpu::Shared;
use crate::outcome::{Cause, Outcome};

/// Longest instruction.
const INSTRUCTION_MAX: usize = 15;
/// Where a processor starts after a reset: what some hosts show after a triple fault.
const RESET_RIP: u64 = 0xFFF0;

/// An exit that nobody served, without the borrow of its virtual CPU.
#[derive(Debug)]
pub(super) enum Last {
    Shutdown,
    InternalError,
    FailEntry(u64),
    MemoryFault { address: u64, size: u64 },
    SystemEvent(u32),
    Unexpected(String),
    Failed(kvm_ioctls::Error),
}

impl Last {
    pub(super) fn of(exit: Result<VcpuExit<'_>, kvm_ioctls::Error>) -> Self {
        match exit {
            Ok(VcpuExit::Shutdown) => Self::Shutdown,
            Ok(VcpuExit::InternalError) => Self::InternalError,
            Ok(VcpuExit::FailEntry(reason, _)) => Self::FailEntry(reason),
            Ok(VcpuExit::MemoryFault { gpa, size, .. }) => Self::MemoryFault { address: gpa, size },
            Ok(VcpuExit::SystemEvent(kind, _)) => Self::SystemEvent(kind),
            Ok(other) => Self::Unexpected(format!("{other:?}")),
            Err(error) => Self::Failed(error),
        }
    }
}

/// What it means for the VM.
pub(super) fn outcome(last: Last, vcpu: &mut VcpuFd, shared: &Shared) -> Outcome {
    let rip = vcpu.get_regs().ok().map(|regs| regs.rip);
    let place = rip.map_or_else(String::new, |rip| format!(" at rip {rip:#x}"));
    match last {
        Last::Shutdown => {
            let known = rip.filter(|rip| *rip != RESET_RIP);
            Outcome::new(
                Cause::TripleFault,
                known.map_or_else(String::new, |rip| format!("rip {rip:#x}")),
            )
        }
        Last::InternalError => Outcome::new(Cause::Unsupported, unsupported(vcpu, shared)),
        Last::FailEntry(reason) => Outcome::new(
            Cause::Unsupported,
            format!("the processor refused to enter the guest{place}, reason {reason:#x}"),
        ),
        Last::MemoryFault { address, size } => Outcome::new(
            Cause::Failed,
            format!("{size} bytes of guest memory at {address:#x} cannot be reached{place}"),
        ),
        Last::SystemEvent(kvm_bindings::KVM_SYSTEM_EVENT_RESET) => Outcome::new(Cause::Reset, ""),
        Last::SystemEvent(kind) => {
            Outcome::new(Cause::Reset, format!("system event {kind}{place}"))
        }
        Last::Unexpected(exit) => Outcome::new(
            Cause::Failed,
            format!("KVM gave an exit not known here{place}: {exit}"),
        ),
        Last::Failed(error) => {
            Outcome::new(Cause::Failed, format!("KVM_RUN failed{place}: {error}"))
        }
    }
}

/// Whether the last exit, an internal error of KVM, was an instruction that it cannot emulate.
pub(super) fn emulation_failed(vcpu: &mut VcpuFd) -> bool {
    suberror(vcpu) == kvm_bindings::KVM_INTERNAL_ERROR_EMULATION
}

fn suberror(vcpu: &mut VcpuFd) -> u32 {
    // SAFETY: called after an exit of this reason, with which KVM fills this member of the union; any bytes are a number.
    unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal.suberror }
}

/// The ring that the processor is in.
pub(super) fn ring(vcpu: &VcpuFd) -> u8 {
    vcpu.get_sregs().map_or(0, |sregs| sregs.cs.dpl & 3)
}

fn unsupported(vcpu: &mut VcpuFd, shared: &Shared) -> String {
    let suberror = suberror(vcpu);
    let Ok(regs) = vcpu.get_regs() else {
        return format!("KVM internal error {suberror}");
    };
    let ring = ring(vcpu);
    let mut text = format!("rip {:#x}, ring {ring}, ", regs.rip);
    match instruction(vcpu, &shared.memory, regs.rip) {
        Some(bytes) => {
            text.push_str("bytes");
            for byte in bytes {
                text.push_str(&format!(" {byte:02x}"));
            }
        }
        None => text.push_str("instruction not readable"),
    }
    if suberror != kvm_bindings::KVM_INTERNAL_ERROR_EMULATION {
        text.push_str(&format!(", KVM internal error {suberror}"));
    }
    if ring == 0 && shared.ring0_is_emulated() {
        text.push_str("; ring 0 is emulated on this host, and not every instruction can be");
    }
    text
}

/// The bytes of the instruction at `rip`, and what follows it.
pub(super) fn instruction(
    vcpu: &VcpuFd,
    memory: &Memory,
    rip: u64,
) -> Option<[u8; INSTRUCTION_MAX]> {
    let place = vcpu
        .translate_gva(rip)
        .ok()
        .filter(|place| place.valid != 0)?;
    let mut bytes = [0; INSTRUCTION_MAX];
    // At the end of memory there may be fewer: what is missing reads as zero.
    memory
        .read(&mut bytes, GuestAddress(place.physical_address))
        .ok()?;
    Some(bytes)
}
