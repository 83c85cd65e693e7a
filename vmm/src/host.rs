//! What this host's KVM offers, and whether it emulates ring 0: measured, never guessed from a name.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;

use kvm_ioctls::{Cap, Kvm};
use serde::{Deserialize, Serialize};

mod ring0;

pub use ring0::{Ring0Error, ring0_is_emulated};

/// Where KVM is.
pub const DEVICE: &str = "/dev/kvm";
/// The one version of KVM's interface there is.
const API_VERSION: i32 = 12;

/// What a host offers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Host {
    /// Version of KVM's interface.
    pub api_version: i32,
    /// An interrupt controller in the kernel.
    pub irqchip: bool,
    /// One whose I/O part is the monitor's.
    pub split_irqchip: bool,
    /// Interrupts raised by an event descriptor.
    pub irqfd: bool,
    /// Guest writes that signal an event descriptor.
    pub ioeventfd: bool,
    /// Virtual CPUs can be brought out of the guest without a race.
    pub immediate_exit: bool,
    /// Memory that the guest can only read.
    pub readonly_memory: bool,
    /// Most virtual CPUs of one VM.
    pub max_vcpus: usize,
    /// Most memory slots of one VM.
    pub memory_slots: usize,
    /// APIC ids beyond eight bits.
    pub x2apic: bool,
    /// A timer that counts by the processor's clock.
    pub tsc_deadline: bool,
    /// Ring 0 is emulated: what a guest does there costs a thousand times what it does in ring 3.
    pub ring0_emulated: bool,
}

/// A host that cannot run VMs.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no KVM.
    #[error(
        "{DEVICE} is not there: KVM is not in this kernel, or virtualization is off in the firmware"
    )]
    NoKvm,
    /// This user may not.
    #[error("{DEVICE} may not be opened by this user: join the group that owns it, usually kvm")]
    NoPermission,
    /// Something else.
    #[error("{DEVICE} cannot be opened")]
    Open(#[source] io::Error),
    /// Of an interface that nobody has seen.
    #[error("KVM has interface version {0}, {API_VERSION} is needed")]
    ApiVersion(i32),
    /// Something that the monitor cannot do without.
    #[error("KVM does not offer {0}")]
    Missing(&'static str),
    /// How fast ring 0 is could not be measured.
    #[error(transparent)]
    Ring0(#[from] Ring0Error),
}

/// Opens KVM.
///
/// # Errors
/// [`HostError`], in words that say what to do.
pub fn open() -> Result<Kvm, HostError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(DEVICE)
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => HostError::NoKvm,
            io::ErrorKind::PermissionDenied => HostError::NoPermission,
            _ if e.raw_os_error() == Some(libc::ENXIO) => HostError::NoKvm,
            _ => HostError::Open(e),
        })?;
    // SAFETY: the descriptor was opened just now and is given away here.
    let kvm = unsafe { Kvm::from_raw_fd(file.into_raw_fd()) };
    match kvm.get_api_version() {
        API_VERSION => Ok(kvm),
        other => Err(HostError::ApiVersion(other)),
    }
}

/// Asks KVM what it offers, and measures ring 0: some tens of milliseconds.
///
/// # Errors
/// [`HostError`].
pub fn probe() -> Result<Host, HostError> {
    let kvm = open()?;
    Ok(Host {
        api_version: kvm.get_api_version(),
        irqchip: kvm.check_extension(Cap::Irqchip),
        split_irqchip: kvm.check_extension(Cap::SplitIrqchip),
        irqfd: kvm.check_extension(Cap::Irqfd),
        ioeventfd: kvm.check_extension(Cap::Ioeventfd),
        immediate_exit: kvm.check_extension(Cap::ImmediateExit),
        readonly_memory: kvm.check_extension(Cap::ReadonlyMem),
        max_vcpus: kvm.get_max_vcpus(),
        memory_slots: kvm.get_nr_memslots(),
        x2apic: kvm.check_extension(Cap::X2ApicApi),
        tsc_deadline: kvm.check_extension(Cap::TscDeadlineTimer),
        ring0_emulated: ring0_is_emulated(&kvm)?,
    })
}

impl Host {
    /// What the monitor cannot do without and this host lacks.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let needs = [
            (self.irqchip, "an interrupt controller in the kernel"),
            (self.irqfd, "irqfd"),
            (self.ioeventfd, "ioeventfd"),
            (self.immediate_exit, "immediate exit"),
            (self.readonly_memory, "read-only memory"),
        ];
        needs
            .into_iter()
            .filter(|(there, _)| !there)
            .map(|(_, what)| what)
            .collect()
    }
}
