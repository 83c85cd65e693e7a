//! A machine: one VM of KVM with its memory, virtual CPUs, devices and event loop.
//!
//! ```text
//!            Machine::new              start            pause
//!   spec::Vm --------------> built ----------> running -------> paused
//!                                                 ^    resume     |
//!                                                 +---------------+
//!                                  halt, or drop, from any: over
//! ```
//!
//! Threads: one a virtual CPU ([`vcpu`]), one for devices ([`crate::event_loop`]); the caller's is the control thread. Each is a
//! named value that stops its thread when it is dropped. What ends a VM reports to its [`end::End`], on which the
//! control thread waits: it then halts the machine.
//!
//! Set-up is in the order that KVM is fast in: memory slots, then interrupt controller, then virtual CPUs and
//! doorbells (each slot costs milliseconds once there is one of the others).
//!
//! - [`memory`]: guest memory and the boot module. [`slots`]: what KVM is told of it, and when.
//! - [`vcpu`], [`exits`], [`kick`], [`gate`]: virtual CPUs, and how they are told what to do. [`finish`]: what KVM could not emulate. [`emulated`]: what it did.
//! - [`mover`]: copies and clears memory for a kernel that is emulated.
//! - [`devices`]: which devices a description asks for, and where they are.
//! - [`watch`]: notices a VM that nothing can wake.
//! - [`end`]: how a VM comes to its end.

mod devices;
mod emulated;
pub mod end;
mod exits;
mod finish;
pub(crate) mod gate;
pub(crate) mod kick;
pub mod memory;
pub mod mover;
pub(crate) mod slots;
mod vcpu;
mod watch;

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, OnceLock, mpsc};

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Kvm, VmFd};

use crate::arch::x86_64::cpuid;
use crate::arch::x86_64::regs::Start;
use crate::boot::cmdline;
use crate::boot::elf::{Bounds, Entry};
use crate::boot::kernel::{Kernel, KernelError};
use crate::boot::load::{self, Handover, LoadError};
use crate::device::i8042::KeysError;
use crate::event_loop::EventLoop;
use crate::host::{self, HostError};
use crate::meter::{Meter, Phase};
use crate::spec;
use crate::virtio::balloon::Balloon;
use crate::virtio::block::Block;
use crate::virtio::mmio::Transport;
use crate::virtio::net::Net;
use devices::{Devices, DevicesError, Wanted};
use end::End;
use gate::{Gate, Order};
use memory::{BootModule, MemoryError};
use slots::Slots;
use vcpu::{Setup, Shared, Stance, Vcpu};
use watch::Watch;

/// A machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The host does not offer what a VM needs.
    #[error(transparent)]
    Host(#[from] HostError),
    /// KVM refused a call.
    #[error("KVM refused to {doing}")]
    Kvm {
        /// What was asked.
        doing: &'static str,
        /// Why not.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// No virtual CPU.
    #[error("virtual CPU {index} cannot be made")]
    Vcpu {
        /// Which.
        index: u8,
        /// Why not.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Nothing that can be booted.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// It could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No devices.
    #[error(transparent)]
    Devices(#[from] DevicesError),
    /// No thread, or no descriptor.
    #[error("{0} cannot be made")]
    System(&'static str, #[source] io::Error),
}

/// A machine. Dropping it ends it.
pub struct Machine {
    // In the order of their end: virtual CPUs, event loop, devices, VM, memory.
    vcpus: Vec<Vcpu>,
    events: EventLoop,
    devices: Devices,
    shared: Arc<Shared>,
    watch: Watch,
    halted: bool,
    slots: Slots,
    _module: Option<BootModule>,
    vm: Arc<VmFd>,
}

impl Machine {
    /// Builds what `vm` describes. The first virtual CPU stands before the guest's first instruction.
    ///
    /// `vm.control`, `vm.meter` and `vm.deadline` are the caller's business.
    ///
    /// # Errors
    /// [`MachineError`]; nothing is left then.
    pub fn new(vm: spec::Vm, meter: Arc<Meter>, end: Arc<End>) -> Result<Self, MachineError> {
        kick::install();
        let refused = |doing| move |source| MachineError::Kvm { doing, source };
        let vcpu_count = vm.vcpus.get();
        let kvm = match vm.kvm {
            Some(fd) => from_descriptor(fd),
            None => host::open()?,
        };
        let fd = Arc::new(kvm.create_vm().map_err(refused("create a VM"))?);
        meter.reach(Phase::Created);

        let memory = memory::create(vm.memory)?;
        let file = File::from(vm.boot.kernel);
        let bounds = Bounds::of_memory(vm.memory.bytes());
        let kernel = Kernel::parse(&file, &bounds)?;
        let slots = Slots::attach(&fd, &memory, kernel.end())?;
        let module = match kernel.library_os {
            true => BootModule::attach(&fd, slots.next(), &file, kernel.file_size)?,
            false => None,
        };
        load::image(&memory, &file, &kernel.segments)?;
        let initrd = vm.boot.initrd.map(File::from);
        let initrd = initrd
            .map(|initrd| load::initrd(&memory, &initrd, kernel.end(), &bounds))
            .transpose()?;
        meter.reach(Phase::Loaded);

        fd.create_irq_chip()
            .map_err(refused("create an interrupt controller"))?;
        if !kernel.library_os {
            // Kernels without the KVM clock measure time by it, and Linux checks its interrupt's wiring with it.
            let timer = kvm_pit_config {
                flags: KVM_PIT_SPEAKER_DUMMY,
                ..kvm_pit_config::default()
            };
            fd.create_pit2(timer).map_err(refused("create a timer"))?;
        }
        let (ready, results) = mpsc::channel();
        let mut vcpus = Vec::with_capacity(usize::from(vcpu_count));
        for index in 0..vcpu_count {
            let vcpu = Vcpu::spawn(index, Arc::clone(&fd), ready.clone());
            vcpus.push(vcpu.map_err(|e| MachineError::System("a virtual CPU's thread", e))?);
        }
        drop(ready);
        let cpuid = cpuid::Template::new(&kvm, vcpu_count).map_err(refused("tell its CPUID"))?;
        let wanted = Wanted {
            console: vm.console,
            entropy: vm.entropy,
            disks: vm.disks,
            nets: vm.nets,
            vsock: vm.vsock,
            balloon: vm.balloon,
        };
        let (devices, ports, mmio) = Devices::new(&fd, &memory, wanted, &meter, &end)?;
        let line = cmdline::with_devices(vm.boot.args.as_str(), devices.words());
        let handover = Handover {
            cmdline: &line,
            module: module.as_ref().map(|_| kernel.file_size),
            initrd,
            vcpus: vcpu_count,
        };
        let told = load::hand_over(&memory, &kernel, handover)?;

        let shared = Arc::new(Shared {
            gate: Gate::new(usize::from(vcpu_count)),
            end,
            meter,
            ports,
            mmio,
            memory,
            rest: slots.rest(),
            kvm,
            ring0: OnceLock::new(),
        });
        let events = EventLoop::new(devices.subscribers())
            .map_err(|e| MachineError::System("the event loop", e))?;
        // From here on there is a machine, whose drop opens the gate for the threads to leave.
        let mut machine = Self {
            vcpus,
            events,
            devices,
            shared: Arc::clone(&shared),
            watch: Watch::default(),
            halted: false,
            slots,
            _module: module,
            vm: fd,
        };
        let setup = Setup {
            cpuid: Arc::new(cpuid),
            start: match kernel.entry {
                Entry::Pvh(entry) => Start::Pvh { entry, info: told },
                Entry::Linux(entry) => Start::Linux {
                    entry,
                    zero_page: told,
                },
            },
            shared,
        };
        for vcpu in &mut machine.vcpus {
            vcpu.set_up(setup.clone());
        }
        drop(setup);
        for result in results {
            result?;
        }
        machine.shared.meter.reach(Phase::Ready);
        Ok(machine)
    }

    /// Lets it run for the first time. From built.
    pub fn start(&mut self) {
        self.devices.each(|device| device.start());
        self.go();
        // Only now: the guest needs the processor more than its slots need it.
        self.slots.tell_rest(&self.vm, &self.shared.end);
    }

    /// Stops virtual CPUs and devices; when this returns they stand. From running.
    pub fn pause(&mut self) {
        self.stand();
        self.events.pause();
        self.devices.each(|device| device.pause());
    }

    /// Goes on. From paused.
    pub fn resume(&mut self) {
        self.devices.each(|device| device.resume());
        self.go();
    }

    /// The disk with this name.
    #[must_use]
    pub fn disk(&self, id: &str) -> Option<&Transport<Block>> {
        self.devices.disk(id)
    }

    /// The network device with this name.
    #[must_use]
    pub fn net(&self, id: &str) -> Option<&Transport<Net>> {
        self.devices.net(id)
    }

    /// The memory balloon.
    #[must_use]
    pub fn balloon(&self) -> Option<&Transport<Balloon>> {
        self.devices.balloon()
    }

    /// Sends Ctrl-Alt-Del.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn ctrl_alt_del(&self) -> Result<(), KeysError> {
        self.devices.keyboard().ctrl_alt_del()
    }

    /// To be called about once a second while it runs: accounts for its processor time, and looks whether it is
    /// stuck for ever, which it then reports as its end.
    pub fn tick(&mut self) {
        let times = self.account();
        if !self.watch.wants_a_look(&times) {
            return;
        }
        let stances = self.stand();
        if let Some(outcome) = watch::stuck(&stances) {
            self.shared.end.report(outcome);
        }
        self.order_vcpus(Order::Go);
    }

    /// Ends it: virtual CPUs first, then the event loop, then devices, which carry out what they still owe.
    pub fn halt(&mut self) {
        if self.halted {
            return;
        }
        self.halted = true;
        self.account();
        self.order_vcpus(Order::Leave);
        self.vcpus.iter().for_each(Vcpu::kick);
        self.vcpus.clear();
        self.events.stop();
        self.devices.each(|device| device.halt());
    }

    /// Writes each virtual CPU's processor time into the meter, and returns their sum of it.
    pub fn account(&self) -> Vec<std::time::Duration> {
        let times: Vec<_> = self.vcpus.iter().map(Vcpu::cpu_time).collect();
        for (index, time) in (0..).zip(&times) {
            self.shared
                .meter
                .set_cpu_time(index, time.as_nanos() as u64);
        }
        times
    }

    fn go(&mut self) {
        self.events.resume();
        self.order_vcpus(Order::Go);
    }

    fn stand(&mut self) -> Vec<Stance> {
        self.order_vcpus(Order::Stand);
        self.vcpus.iter().for_each(Vcpu::kick);
        self.shared.gate.wait_standing()
    }

    fn order_vcpus(&self, order: Order) {
        self.shared.gate.order(order);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.halt();
    }
}

fn from_descriptor(fd: OwnedFd) -> Kvm {
    // SAFETY: the descriptor is owned and given away here. Should it be another file than `/dev/kvm`, its calls fail.
    unsafe { Kvm::from_raw_fd(fd.into_raw_fd()) }
}
