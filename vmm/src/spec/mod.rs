//! What a VM is.
//!
//! [`wire::Vm`] is the JSON that a launcher sends; [`Vm::validate`] turns it and the descriptors that came
//! with it into a [`Vm`], once. Behind that border only valid values exist: a [`VcpuCount`] is 1 to 32, a
//! [`CommandLine`] fits and holds no NUL, a descriptor has one owner and one use.
//!
//! The JSON names no path. A descriptor is an index into those that were passed beside it.

mod device;
mod values;
pub mod wire;

use std::os::fd::OwnedFd;
use std::time::Duration;

pub use device::{
    Balloon, DeviceError, DeviceId, Disk, Mac, Net, RateLimit, TokenBucket, Vsock, VsockOut,
};
pub use values::{CommandLine, MemorySize, ValueError, VcpuCount, VmId};
pub use wire::IoEngine;

/// A description that was checked, with the descriptors that it needs.
#[derive(Debug)]
pub struct Vm {
    /// The name that the launcher knows it by.
    pub id: VmId,
    /// How many virtual CPUs.
    pub vcpus: VcpuCount,
    /// How much memory.
    pub memory: MemorySize,
    /// What it boots.
    pub boot: Boot,
    /// Where its console goes; without one it has no console device, and its serial port leads nowhere.
    pub console: Option<Console>,
    /// Whether it has an entropy device.
    pub entropy: bool,
    /// Its disks, in the order in which the guest finds them.
    pub disks: Vec<Disk>,
    /// Its network devices, in the order in which the guest finds them.
    pub nets: Vec<Net>,
    /// Its socket device.
    pub vsock: Option<Vsock>,
    /// Its memory balloon.
    pub balloon: Option<Balloon>,
    /// When it is ended, counted from its start, whatever it does.
    pub deadline: Option<Duration>,
    /// A listening unix socket for the control API.
    pub control: Option<OwnedFd>,
    /// A file of [`crate::meter::PAGE_SIZE`] bytes for the meter; without one the page is the monitor's own.
    pub meter: Option<OwnedFd>,
    /// An open `/dev/kvm`; without one the monitor opens it itself, before anything else.
    pub kvm: Option<OwnedFd>,
    /// A descriptor that the monitor only keeps open until its end: a launcher that locked the file behind it
    /// (`flock`) sees by the lock whether the monitor lives, also when it is another launcher by then.
    pub lease: Option<OwnedFd>,
    /// `CLOCK_MONOTONIC` nanoseconds when the launcher asked for the process: phase zero of the boot.
    pub launched_at: Option<u64>,
}

/// What a VM boots.
#[derive(Debug)]
pub struct Boot {
    /// An ELF file with a PVH note or a Linux kernel's entry, or a Linux bzImage. Nobody may write to it while the VM runs.
    pub kernel: OwnedFd,
    /// A Linux kernel's first file system.
    pub initrd: Option<OwnedFd>,
    /// What the guest reads as its command line, before the monitor adds its devices.
    pub args: CommandLine,
}

/// Where a guest's console and serial port lead.
#[derive(Debug)]
pub struct Console {
    /// Takes what the guest writes.
    pub output: ConsoleOutput,
    /// Gives what the guest reads: a pipe, FIFO or terminal.
    pub input: Option<OwnedFd>,
}

/// The two kinds of console output.
#[derive(Debug)]
pub enum ConsoleOutput {
    /// A file that is appended to, in which the oldest output becomes a hole once more than `keep` bytes
    /// were written: offsets count from the VM's first byte, and disk use stays bounded.
    Log {
        /// A regular file.
        file: OwnedFd,
        /// Bytes to keep, at least.
        keep: u64,
    },
    /// A pipe, terminal or socket, written to without blocking: what it does not take at once is dropped
    /// and counted.
    Stream(OwnedFd),
}

/// Why a description was refused.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Not JSON, or not of this shape.
    #[error("description is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Of a version that this monitor does not speak.
    #[error("description has version {0}, this monitor speaks version {current}", current = wire::VERSION)]
    Version(u32),
    /// A value out of its bounds.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A device that cannot be.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An index past the descriptors that came.
    #[error("`{field}` names descriptor {index}, but {count} came with the description")]
    NoDescriptor {
        /// The field.
        field: &'static str,
        /// Its value.
        index: usize,
        /// How many descriptors came.
        count: usize,
    },
    /// One descriptor named twice.
    #[error("`{field}` names descriptor {index}, which another field already has")]
    DescriptorTwice {
        /// The second field.
        field: &'static str,
        /// Its value.
        index: usize,
    },
    /// Descriptors that no field names.
    #[error("{0} descriptors came that the description does not name")]
    DescriptorsLeft(usize),
    /// A deadline of zero.
    #[error("`deadline_ms` is 0: leave it out for a VM without a deadline")]
    NoTime,
}

impl Vm {
    /// Checks a description and gives each descriptor to the field that names it.
    ///
    /// # Errors
    /// [`SpecError`], the first that is found. Every descriptor is then closed.
    pub fn validate(json: &[u8], descriptors: Vec<OwnedFd>) -> Result<Self, SpecError> {
        let wire: wire::Vm = serde_json::from_slice(json)?;
        if wire.version != wire::VERSION {
            return Err(SpecError::Version(wire.version));
        }
        let mut table = Descriptors::new(descriptors);
        let vm = Self {
            id: wire.id.parse()?,
            vcpus: wire.vcpus.try_into()?,
            memory: MemorySize::from_mib(wire.memory_mib)?,
            boot: Boot {
                kernel: table.take("boot.kernel", wire.boot.kernel)?,
                initrd: table.optional("boot.initrd", wire.boot.initrd)?,
                args: wire.boot.args.parse()?,
            },
            console: wire.console.map(|c| table.console(c)).transpose()?,
            entropy: wire.entropy,
            disks: device::disks(wire.disks, &mut table)?,
            nets: device::nets(wire.nets, &mut table)?,
            vsock: wire
                .vsock
                .map(|v| Vsock::check(v, &mut table))
                .transpose()?,
            balloon: wire.balloon.map(Balloon::from),
            deadline: match wire.deadline_ms {
                Some(0) => return Err(SpecError::NoTime),
                other => other.map(Duration::from_millis),
            },
            control: table.optional("control", wire.control)?,
            meter: table.optional("meter", wire.meter)?,
            kvm: table.optional("kvm", wire.kvm)?,
            lease: table.optional("lease", wire.lease)?,
            launched_at: wire.launched_at_ns,
        };
        table.finish()?;
        Ok(vm)
    }
}

/// Descriptors that wait for their field.
struct Descriptors(Vec<Option<OwnedFd>>);

impl Descriptors {
    fn new(list: Vec<OwnedFd>) -> Self {
        Self(list.into_iter().map(Some).collect())
    }

    fn take(&mut self, field: &'static str, index: usize) -> Result<OwnedFd, SpecError> {
        let count = self.0.len();
        self.0
            .get_mut(index)
            .ok_or(SpecError::NoDescriptor {
                field,
                index,
                count,
            })?
            .take()
            .ok_or(SpecError::DescriptorTwice { field, index })
    }

    fn optional(
        &mut self,
        field: &'static str,
        index: Option<usize>,
    ) -> Result<Option<OwnedFd>, SpecError> {
        index.map(|index| self.take(field, index)).transpose()
    }

    fn console(&mut self, wire: wire::Console) -> Result<Console, SpecError> {
        Ok(Console {
            output: match wire.output {
                wire::ConsoleOutput::Log { file, keep } => ConsoleOutput::Log {
                    file: self.take("console.output.log.file", file)?,
                    keep,
                },
                wire::ConsoleOutput::Stream(fd) => {
                    ConsoleOutput::Stream(self.take("console.output.stream", fd)?)
                }
            },
            input: self.optional("console.input", wire.input)?,
        })
    }

    fn finish(self) -> Result<(), SpecError> {
        match self.0.iter().flatten().count() {
            0 => Ok(()),
            left => Err(SpecError::DescriptorsLeft(left)),
        }
    }
}

#[cfg(test)]
mod tests;
