//! Is ring 0 emulated? Run some of it, and compare with the same work on the host.
//!
//! A guest of 32-bit protected mode counts down in ring 0 and then writes to a port. On hardware that takes as long as on the host, and
//! an exit; where KVM emulates each instruction, hundreds of times as long.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VcpuExit};
use vm_memory::{Bytes, GuestAddress};

use crate::arch::x86_64::regs;
use crate::machine::kick::{self, Kickable};
use crate::machine::memory;
use crate::machine::slots::Slots;
use crate::spec::MemorySize;

/// Turns of the loop, of two instructions each: 23 ms where each takes 0.23 µs, 30 µs on hardware.
const TURNS: u32 = 50_000;
/// How many times as long as on the host is emulation. An exit of a nested VM may take as long as the loop itself.
const RATIO: u32 = 30;
/// Longest wait for the guest; on a busy host it may get no processor for seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the guest's code is.
const CODE: u32 = 0x10_0000;

/// It could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Ring0Error {
    /// KVM refused a call.
    #[error("KVM refused a VM to measure ring 0 with")]
    Kvm(#[from] kvm_ioctls::Error),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] memory::MemoryError),
    /// No thread.
    #[error("no thread to measure ring 0 with")]
    Thread(#[source] std::io::Error),
    /// The guest did something else.
    #[error("the guest that measures ring 0 did not come to its end")]
    Lost,
}

/// Whether KVM emulates ring 0 here.
///
/// # Errors
/// [`Ring0Error`].
pub fn ring0_is_emulated(kvm: &Kvm) -> Result<bool, Ring0Error> {
    // mov ecx, TURNS; 1: dec ecx; jnz 1b; out 0x80, al; jmp to itself
    let [a, b, c, d] = TURNS.to_le_bytes();
    let code = [0xB9, a, b, c, d, 0x49, 0x75, 0xFD, 0xE6, 0x80, 0xEB, 0xFE];

    let vm = kvm.create_vm()?;
    // The least size there is.
    let size = MemorySize::from_mib(MemorySize::MIN_MIB).unwrap_or_else(|_| unreachable!());
    let memory = memory::create(size)?;
    let _slots = Slots::attach(&vm, &memory, 0)?;
    let written = memory.write_slice(&code, GuestAddress(u64::from(CODE)));
    written.map_err(|_| Ring0Error::Lost)?;
    let vcpu = vm.create_vcpu(0)?;
    let start = regs::Start::Pvh {
        entry: CODE,
        info: 0,
    };
    regs::enter(&vcpu, start)?;

    kick::install();
    let (done, result) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .spawn(move || {
            let mut vcpu = Kickable::new(vcpu);
            let start = Instant::now();
            let exit = vcpu.vcpu().run();
            let time = start.elapsed();
            let reached = matches!(exit, Ok(VcpuExit::IoOut(0x80, _)));
            // The other side waits, or has given up.
            let _ = done.send(reached.then_some(time));
        })
        .map_err(Ring0Error::Thread)?;
    let guest = result
        .recv_timeout(PATIENCE)
        .map_err(|_| kick::kick(&thread));
    let _ = thread.join();
    let guest = guest.ok().flatten().ok_or(Ring0Error::Lost)?;
    Ok(guest > RATIO * on_host())
}

fn on_host() -> Duration {
    let start = Instant::now();
    for turn in 0..TURNS {
        std::hint::black_box(turn);
    }
    start.elapsed()
}
