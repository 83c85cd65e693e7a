//! A virtual CPU: a thread of its own that enters the guest and serves its exits until told otherwise.
//!
//! ```text
//!   made --> set up --> [gate] --> in the guest --> exit --> served --+
//!                         ^                                           |
//!                         +-------------------------------------------+
//! ```
//!
//! The thread makes its virtual CPU itself, while others make theirs and the machine its devices; the machine then
//! hands it what it needs, and opens the gate when all are set up. A processor other than the first waits in `KVM_RUN` for the guest's INIT and SIPI.

use std::cell::OnceCell;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};

use super::MachineError;
use super::emulated::Emulated;
use super::end::End;
use super::exits;
use super::finish;
use super::gate::Gate;
use super::kick::{self, Kickable};
use super::memory::Memory;
use super::mover;
use super::slots::Rest;
use crate::arch::x86_64::regs::RFLAGS_IF;
use crate::arch::x86_64::{cpuid, msrs, regs};
use crate::bus::Bus;
use crate::host;
use crate::meter::{Counter, Meter, Phase, monotonic_ns};

/// Bytes of a virtual CPU's stack: what a device needs to serve an access.
const STACK: usize = 128 << 10;

/// What a virtual CPU says of itself while it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stance {
    /// It could go on, or an interrupt could wake it.
    Alive,
    /// It waits for a SIPI that only another processor can send.
    NeverStarted,
    /// It halted with interrupts off.
    Halted {
        /// Where.
        rip: u64,
    },
}

/// What all virtual CPUs of a machine share.
pub(super) struct Shared {
    pub(super) gate: Gate<Stance>,
    pub(super) end: Arc<End>,
    pub(super) meter: Arc<Meter>,
    pub(super) ports: Bus,
    pub(super) mmio: Bus,
    pub(super) memory: Memory,
    pub(super) rest: Arc<Rest>,
    /// To measure this host with, should an instruction fail.
    pub(super) kvm: Kvm,
    /// What was measured.
    pub(super) ring0: OnceLock<bool>,
}

impl Shared {
    /// Whether ring 0 is emulated here: measured when it is first asked for, which takes some tens of milliseconds.
    pub(super) fn ring0_is_emulated(&self) -> bool {
        *self
            .ring0
            .get_or_init(|| host::ring0_is_emulated(&self.kvm).is_ok_and(|emulated| emulated))
    }
}

/// What a virtual CPU is set up with.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) cpuid: Arc<cpuid::Template>,
    pub(super) start: regs::Start,
    pub(super) shared: Arc<Shared>,
}

/// A virtual CPU's thread; joined on drop, for which the gate must say leave if it was set up.
pub(super) struct Vcpu {
    /// Until it is set up; a thread whose sender is gone ends.
    setup: Option<Sender<Setup>>,
    thread: Option<JoinHandle<()>>,
}

impl Vcpu {
    /// Starts the thread, which makes the virtual CPU and says by `ready` when it is set up.
    pub(super) fn spawn(
        index: u8,
        vm: Arc<VmFd>,
        ready: Sender<Result<(), MachineError>>,
    ) -> io::Result<Self> {
        let (setup, handed) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{index}"))
            .stack_size(STACK)
            .spawn(move || live(index, &vm, &handed, ready))?;
        Ok(Self {
            setup: Some(setup),
            thread: Some(thread),
        })
    }

    /// Hands it what it needs.
    pub(super) fn set_up(&mut self, setup: Setup) {
        if let Some(sender) = self.setup.take() {
            // A thread that is gone has said why by `ready`.
            let _ = sender.send(setup);
        }
    }

    /// Brings it out of the guest.
    pub(super) fn kick(&self) {
        if let Some(thread) = &self.thread {
            kick::kick(thread);
        }
    }

    /// The processor time that its thread has used, in the guest and here.
    pub(super) fn cpu_time(&self) -> Duration {
        self.thread.as_ref().map_or(Duration::ZERO, thread_time)
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.setup = None;
        self.kick();
        if let Some(thread) = self.thread.take() {
            // It panics in tests only, which then see that.
            let _ = thread.join();
        }
    }
}

fn thread_time(thread: &JoinHandle<()>) -> Duration {
    use std::os::unix::thread::JoinHandleExt;
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the handle is not joined, so the thread's id is its own; both results have their types.
    let failed = unsafe {
        libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed {
        return Duration::ZERO;
    }
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

/// The thread's life.
fn live(index: u8, vm: &VmFd, handed: &Receiver<Setup>, ready: Sender<Result<(), MachineError>>) {
    let failed = |source| MachineError::Vcpu { index, source };
    let made = vm.create_vcpu(u64::from(index)).map(Kickable::new);
    let Ok(setup) = handed.recv() else {
        return;
    };
    let shared = setup.shared;
    let vcpu = made.and_then(|mut vcpu| {
        set_up(index, vcpu.vcpu(), &setup.cpuid, setup.start)?;
        Ok(vcpu)
    });
    match vcpu {
        Ok(vcpu) => {
            let _ = ready.send(Ok(()));
            // The machine waits until nobody can send any more.
            drop(ready);
            Runner {
                emulated: OnceCell::new(),
                index,
                vcpu,
                shared: &shared,
            }
            .run();
        }
        Err(source) => {
            let _ = ready.send(Err(failed(source)));
        }
    }
    shared.gate.leave(usize::from(index));
}

fn set_up(
    index: u8,
    vcpu: &VcpuFd,
    cpuid: &cpuid::Template,
    start: regs::Start,
) -> Result<(), kvm_ioctls::Error> {
    vcpu.set_cpuid2(&cpuid.of_vcpu(index))?;
    msrs::set(vcpu)?;
    if index == 0 {
        regs::enter(vcpu, start)?;
    }
    Ok(())
}

/// The thread's own side.
struct Runner<'a> {
    index: u8,
    vcpu: Kickable,
    /// Opened when it is first asked: no boot waits for that.
    emulated: OnceCell<Option<Emulated>>,
    shared: &'a Shared,
}

impl Runner<'_> {
    fn run(mut self) {
        let shared = self.shared;
        let index = usize::from(self.index);
        let mut left_guest = None;
        loop {
            if shared.end.is_over() {
                self.note_place();
                shared.gate.wait_to_leave(index, Stance::Alive);
                return;
            }
            let may_pass = shared.gate.pass(index, || {
                // Time before the gate is nobody's.
                left_guest = None;
                stance(self.vcpu.vcpu())
            });
            if !may_pass {
                return;
            }
            let entering = monotonic_ns();
            if let Some(left) = left_guest {
                shared.meter.add_monitor_time(self.index, entering - left);
            } else if self.index == 0 {
                shared.meter.reach_at(Phase::Entered, entering);
            }
            let all_ram = shared.rest.is_known();
            let exit = self.vcpu.vcpu().run();
            left_guest = Some(monotonic_ns());
            let outcome = match exit {
                Ok(VcpuExit::IoOut(abi::port::MOVER, data)) => {
                    shared.meter.add(Counter::ExitPio, 1);
                    let word = data.try_into().ok().map(u32::from_le_bytes);
                    if let Some(word) = word {
                        mover::asked(self.vcpu.vcpu(), &shared.memory, word);
                    }
                    None
                }
                Ok(VcpuExit::IoOut(port, data)) => {
                    shared.meter.add(Counter::ExitPio, 1);
                    claimed(shared, shared.ports.write(u64::from(port), data));
                    None
                }
                Ok(VcpuExit::IoIn(port, data)) => {
                    shared.meter.add(Counter::ExitPio, 1);
                    claimed(shared, shared.ports.read(u64::from(port), data));
                    None
                }
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    shared.meter.add(Counter::ExitMmio, 1);
                    claimed(shared, write_memory(shared, address, data));
                    None
                }
                Ok(VcpuExit::MmioRead(address, data)) => {
                    shared.meter.add(Counter::ExitMmio, 1);
                    claimed(shared, read_memory(shared, address, data));
                    None
                }
                Ok(VcpuExit::Hlt) => {
                    shared.meter.add(Counter::ExitHalt, 1);
                    None
                }
                Err(error) if error.errno() == libc::EINTR => {
                    shared.meter.add(Counter::ExitKick, 1);
                    self.note_place();
                    self.vcpu.vcpu().set_kvm_immediate_exit(0);
                    None
                }
                // A processor that was just started by its SIPI.
                Err(error) if error.errno() == libc::EAGAIN => None,
                // An access to RAM that KVM did not know yet, perhaps: once it does, the same instruction says.
                Ok(VcpuExit::InternalError) if !all_ram => {
                    shared.rest.wait();
                    None
                }
                other => {
                    shared.meter.add(Counter::ExitOther, 1);
                    let last = exits::Last::of(other);
                    let vcpu = self.vcpu.vcpu();
                    match last {
                        exits::Last::InternalError if finish::finish(vcpu, shared) => None,
                        last => Some(exits::outcome(last, vcpu, shared)),
                    }
                }
            };
            if let Some(outcome) = outcome {
                shared.end.report(outcome);
            }
        }
    }

    /// Notes where the guest is, and how much of it was emulated. Where it stands, for it does not while it runs.
    fn note_place(&mut self) {
        let vcpu = self.vcpu.vcpu();
        let rip = vcpu.get_regs().map_or(0, |regs| regs.rip);
        let emulated = self.emulated.get_or_init(|| Emulated::of(vcpu));
        let emulated = emulated.as_ref().map_or(0, Emulated::count);
        self.shared.meter.set_place(self.index, rip, emulated);
    }
}

fn claimed(shared: &Shared, claimed: bool) {
    if !claimed {
        shared.meter.add(Counter::Unclaimed, 1);
    }
}

/// Reads where KVM knows no RAM: from a device, or from RAM that it did not know yet.
fn read_memory(shared: &Shared, address: u64, data: &mut [u8]) -> bool {
    shared.mmio.read(address, data) || {
        let early = shared
            .memory
            .read_slice(data, GuestAddress(address))
            .is_ok();
        if early {
            shared.rest.wait();
        } else {
            // A part of it may have been read.
            data.fill(0xFF);
        }
        early
    }
}

/// Writes where KVM knows no RAM: to a device, or to RAM that it did not know yet.
fn write_memory(shared: &Shared, address: u64, data: &[u8]) -> bool {
    shared.mmio.write(address, data) || {
        let early = shared
            .memory
            .write_slice(data, GuestAddress(address))
            .is_ok();
        if early {
            shared.rest.wait();
        }
        early
    }
}

/// What can wake this virtual CPU. KVM takes a pending INIT or SIPI into account when it is asked for the state.
fn stance(vcpu: &VcpuFd) -> Stance {
    let Ok(state) = vcpu.get_mp_state() else {
        return Stance::Alive;
    };
    match state.mp_state {
        kvm_bindings::KVM_MP_STATE_UNINITIALIZED | kvm_bindings::KVM_MP_STATE_INIT_RECEIVED => {
            Stance::NeverStarted
        }
        kvm_bindings::KVM_MP_STATE_HALTED => match vcpu.get_regs() {
            Ok(regs) if regs.rflags & RFLAGS_IF == 0 => Stance::Halted { rip: regs.rip },
            _ => Stance::Alive,
        },
        _ => Stance::Alive,
    }
}
