//! The configuration of a VM: what was `PUT` so far, each value checked and each file open, and the [`spec::Vm`] that comes of it.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, fstat};

use super::drive::Drives;
use super::interface::Interfaces;
use super::{body, vsock};
use crate::backend::file::BackingError;
use crate::backend::tap::TapError;
use crate::control::SocketError;
use crate::control::files::{self, FileError};
use crate::spec::{self, CommandLine, DeviceError, MemorySize, ValueError, VcpuCount, VmId};

/// Firecracker's own.
const DEFAULT_MEMORY_MIB: u64 = 128;

/// A part of the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// A value out of its bounds.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A file that cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something that Firecracker can and this version cannot.
    #[error("{0} is not supported by this version of Shoal")]
    NotSupported(String),
    /// A device that cannot be.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A drive's file that cannot be one.
    #[error("the file {path:?} cannot be a drive: {error}")]
    Drive {
        /// Its name.
        path: PathBuf,
        /// Why.
        error: BackingError,
    },
    /// Two names for one drive.
    #[error("The id from the path [{path}] does not match the id from the body [{body}]!")]
    OtherId {
        /// The path's.
        path: String,
        /// The body's.
        body: String,
    },
    /// A second root.
    #[error("A root block device already exists!")]
    RootTwice,
    /// Not a partition's name.
    #[error("partuuid {0:?} is not hexadecimal digits and '-'")]
    PartUuid(String),
    /// No tap.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// One tap for two devices.
    #[error("tap {0:?} is another interface's already")]
    TapTwice(String),
    /// One address for two devices.
    #[error("The MAC address is already in use: {0}")]
    MacTwice(String),
    /// No socket to listen at.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Descriptors ran out.
    #[error("a descriptor cannot be copied: {0}")]
    Copy(io::Error),
    /// Metrics, a second time.
    #[error("the metrics have a file already")]
    MetricsTwice,
}

/// A configuration does not become a VM.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// Descriptors ran out.
    #[error("a descriptor cannot be copied: {0}")]
    Copy(#[from] io::Error),
    /// With what is said of its root, the command line is too long.
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// The configuration so far.
#[derive(Debug)]
pub(super) struct Draft {
    vcpus: VcpuCount,
    memory: MemorySize,
    boot: Option<Boot>,
    /// What `GET /vm/config` says of the boot source.
    boot_view: body::BootSource,
    serial: Option<(PathBuf, OwnedFd)>,
    entropy: bool,
    pub(super) drives: Drives,
    pub(super) interfaces: Interfaces,
    vsock: Option<vsock::Entry>,
    balloon: Option<spec::Balloon>,
    pub(super) logger: Option<body::Logger>,
    pub(super) metrics: Option<body::Metrics>,
}

#[derive(Debug)]
struct Boot {
    kernel: OwnedFd,
    initrd: Option<OwnedFd>,
    args: CommandLine,
}

impl Draft {
    /// What a VM is of which nothing was said: one vCPU, 128 MiB, nothing to boot.
    pub(super) fn new() -> Result<Self, ValueError> {
        Ok(Self {
            vcpus: VcpuCount::try_from(1)?,
            memory: MemorySize::from_mib(DEFAULT_MEMORY_MIB)?,
            boot: None,
            boot_view: body::BootSource::default(),
            serial: None,
            entropy: false,
            drives: Drives::default(),
            interfaces: Interfaces::default(),
            vsock: None,
            balloon: None,
            logger: None,
            metrics: None,
        })
    }

    /// What can be said of a VM that was described by descriptors: its files have no names here.
    pub(super) fn of(vm: &spec::Vm) -> Self {
        Self {
            vcpus: vm.vcpus,
            memory: vm.memory,
            boot: None,
            boot_view: body::BootSource {
                boot_args: Some(vm.boot.args.as_str().to_owned()),
                ..body::BootSource::default()
            },
            serial: None,
            entropy: vm.entropy,
            drives: Drives::default(),
            interfaces: Interfaces::default(),
            vsock: None,
            balloon: vm.balloon,
            logger: None,
            metrics: None,
        }
    }

    /// Changes the machine: all that `update` names, or nothing.
    pub(super) fn machine(&mut self, update: &body::MachineUpdate) -> Result<(), ConfigureError> {
        let cannot = |what: &str| Err(ConfigureError::NotSupported(what.to_owned()));
        if update.smt == Some(true) {
            return cannot("smt");
        }
        if update.track_dirty_pages == Some(true) {
            return cannot("track_dirty_pages");
        }
        for (field, value) in [
            ("cpu_template", &update.cpu_template),
            ("huge_pages", &update.huge_pages),
        ] {
            if let Some(value) = value.as_deref().filter(|v| *v != "None") {
                return cannot(&format!("{field} {value:?}"));
            }
        }
        let vcpus = update.vcpu_count.map(VcpuCount::try_from).transpose()?;
        let memory = update.mem_size_mib.map(MemorySize::from_mib).transpose()?;
        self.vcpus = vcpus.unwrap_or(self.vcpus);
        self.memory = memory.unwrap_or(self.memory);
        Ok(())
    }

    pub(super) fn boot_source(&mut self, put: body::BootSource) -> Result<(), ConfigureError> {
        let args = put.boot_args.as_deref().unwrap_or_default().parse()?;
        let kernel = files::input(&put.kernel_image_path)?;
        let initrd = put.initrd_path.as_deref().map(files::input).transpose()?;
        self.boot = Some(Boot {
            kernel,
            initrd,
            args,
        });
        self.boot_view = put;
        Ok(())
    }

    pub(super) fn entropy(&mut self, put: &body::Entropy) -> Result<(), ConfigureError> {
        no_rate_limiter(put.rate_limiter.is_some())?;
        self.entropy = true;
        Ok(())
    }

    pub(super) fn put_balloon(&mut self, put: body::Balloon) -> Result<(), ConfigureError> {
        if put.wants_hinting() {
            return Err(ConfigureError::NotSupported("free_page_hinting".to_owned()));
        }
        self.balloon = Some(put.into());
        Ok(())
    }

    pub(super) fn put_vsock(&mut self, put: body::Vsock) -> Result<(), ConfigureError> {
        // Its own socket is in nobody's way.
        if self
            .vsock
            .as_ref()
            .is_some_and(|old| old.path() == put.path())
        {
            self.vsock = None;
        }
        self.vsock = Some(vsock::Entry::new(put)?);
        Ok(())
    }

    pub(super) fn balloon(&self) -> Option<spec::Balloon> {
        self.balloon
    }

    pub(super) fn serial(&mut self, put: body::Serial) -> Result<(), ConfigureError> {
        no_rate_limiter(put.rate_limiter.is_some())?;
        self.serial = match put.serial_out_path {
            None => None,
            Some(path) => {
                let file = files::output(&path)?;
                Some((path, file))
            }
        };
        Ok(())
    }

    /// The VM, if it is known what it boots. The descriptors are copies: a start that fails may be tried again.
    pub(super) fn vm(
        &self,
        id: &VmId,
        launched_at: Option<u64>,
    ) -> Option<Result<spec::Vm, DraftError>> {
        self.boot
            .as_ref()
            .map(|boot| self.vm_of(boot, id, launched_at))
    }

    fn vm_of(
        &self,
        boot: &Boot,
        id: &VmId,
        launched_at: Option<u64>,
    ) -> Result<spec::Vm, DraftError> {
        let output = match &self.serial {
            Some((_, file)) => file.try_clone()?,
            None => io::stdout().as_fd().try_clone_to_owned()?,
        };
        let stdin = io::stdin();
        let input = pollable(stdin.as_fd())
            .then(|| stdin.as_fd().try_clone_to_owned())
            .transpose()?;
        Ok(spec::Vm {
            id: id.clone(),
            vcpus: self.vcpus,
            memory: self.memory,
            boot: spec::Boot {
                kernel: boot.kernel.try_clone()?,
                initrd: boot.initrd.as_ref().map(OwnedFd::try_clone).transpose()?,
                args: format!("{}{}", boot.args.as_str(), self.drives.root_words()).parse()?,
            },
            console: Some(spec::Console {
                output: spec::ConsoleOutput::Stream(output),
                input,
            }),
            entropy: self.entropy,
            disks: self.drives.disks()?,
            nets: self.interfaces.nets()?,
            vsock: self.vsock.as_ref().map(vsock::Entry::vsock).transpose()?,
            balloon: self.balloon,
            deadline: None,
            control: None,
            meter: None,
            kvm: None,
            lease: None,
            launched_at,
        })
    }

    pub(super) fn machine_view(&self) -> body::MachineView {
        body::MachineView {
            vcpu_count: self.vcpus.get(),
            mem_size_mib: self.memory.mib(),
            smt: false,
            track_dirty_pages: false,
            huge_pages: "None",
        }
    }

    pub(super) fn view(&self) -> body::ConfigView<'_> {
        body::ConfigView {
            balloon: self.balloon.map(body::Balloon::from),
            drives: self.drives.bodies(),
            boot_source: &self.boot_view,
            cpu_config: None,
            logger: self.logger.as_ref(),
            machine_config: self.machine_view(),
            metrics: self.metrics.as_ref(),
            mmds_config: None,
            network_interfaces: self.interfaces.bodies(),
            vsock: self.vsock.as_ref().map(vsock::Entry::body),
            entropy: self.entropy.then_some(body::Entropy { rate_limiter: None }),
            serial: self.serial.as_ref().map(|(path, _)| body::Serial {
                serial_out_path: Some(path.clone()),
                rate_limiter: None,
            }),
            pmem: [],
            memory_hotplug: None,
        }
    }
}

fn no_rate_limiter(given: bool) -> Result<(), ConfigureError> {
    if given {
        return Err(ConfigureError::NotSupported("rate_limiter".to_owned()));
    }
    Ok(())
}

/// Whether input can come of it and epoll takes it: a pipe, socket or terminal; not a file, not `/dev/null`.
fn pollable(input: BorrowedFd<'_>) -> bool {
    input.is_terminal()
        || fstat(input).is_ok_and(|stat| {
            let kind = FileType::from_raw_mode(stat.st_mode);
            matches!(kind, FileType::Fifo | FileType::Socket)
        })
}
