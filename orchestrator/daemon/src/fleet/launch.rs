//! How a monitor is started and handed its VM.
//!
//! The order matters, because the daemon may be killed between any two lines:
//! lock and folder, process, its pid beside the lock, then the description. A monitor runs nothing before it has the description, and
//! the description carries the lock: so no guest runs without the lock being held and the pid being noted.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use images::Opened;
use network::Attachment;
use vmm::launch;
use vmm::meter::monotonic_ns;
use vmm::spec::wire;

use super::Fleet;
use crate::folder::{CONSOLE_KEEP, Made, VmFolder};
use crate::linux::boot::{self, Boot, BootError};
use crate::linux::describe;
use crate::plug::PlugError;
use crate::record::Record;
use crate::spec;
use crate::vm::Vm;

/// A guest's number among guests. Each has a host of its own to talk to, so all have the same.
const GUEST_CID: u32 = 3;
/// Every Linux guest has a balloon: pages that it frees go back to the host, and an operator can take more.
const BALLOON: wire::Balloon = wire::Balloon {
    target_mib: 0,
    deflate_on_oom: true,
    stats_interval_s: 0,
    free_page_reporting: true,
};

/// A monitor that has its description.
#[derive(Debug)]
pub(super) struct Launched {
    /// Its process.
    pub(super) child: Child,
    /// What it says of its VM.
    pub(super) socket: UnixStream,
}

/// No monitor was started; nothing of it is left but the folder.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The folder could not be made.
    #[error("cannot make the VM's folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program could not be started.
    #[error("cannot start the monitor {}: is it there? vmd --vmm names it", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not take its description.
    #[error("the monitor did not take its description")]
    Describe(#[from] launch::LaunchError),
    /// The image is not of the kind that it was when the VM was made.
    #[error("the image is of another kind than the VM")]
    Kind,
    /// What a Linux guest boots is not there.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// It gets no network.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// Another call of the system failed.
    #[error("cannot {action} for the monitor")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What a monitor is to boot.
enum Guest {
    /// A program on the library OS.
    LibOs(File),
    /// A Linux system, the socket to its ports, its network, and the words for its kernel.
    Linux(Box<Boot>, OwnedFd, Option<Attachment>, String),
}

impl Fleet {
    /// Starts a monitor for the VM. Blocks: some hundred microseconds, and milliseconds where a disk is to be made.
    pub(super) fn launch(
        &self,
        vm: &Vm,
        image: Opened,
        ring0_emulated: bool,
    ) -> Result<Launched, LaunchError> {
        let folder = vm.folder();
        let cannot_make = |source| LaunchError::Folder {
            path: folder.path().to_owned(),
            source,
        };
        let made = folder.make().map_err(cannot_make)?;
        let guest = match (image, vm.linux()) {
            (Opened::LibOs { file, .. }, None) => Guest::LibOs(file),
            (Opened::Linux { root, .. }, Some(linux)) => {
                let (programs, disks, volumes) = (&self.programs, &self.disks, &self.volumes);
                let boot = boot::open(programs, disks, volumes, linux, folder, root)?;
                let vsock = folder.make_vsock().map_err(cannot_make)?;
                let mut words = vmm::boot::linux::words(ring0_emulated);
                if !linux.kernel_args.is_empty() {
                    words.push(' ');
                    words.push_str(&linux.kernel_args);
                }
                let plug = match linux.lease {
                    Some(_) => Some(self.plugs.attach(vm.id())?),
                    None => None,
                };
                Guest::Linux(Box::new(boot), vsock, plug, words)
            }
            _ => return Err(LaunchError::Kind),
        };
        let launched = launch(&self.vmm, self.kvm.as_ref(), vm.base(), &made, &guest);
        if launched.is_err() && vm.linux().is_some() {
            self.plugs.detach(vm.id());
        }
        launched
    }
}

fn launch(
    program: &Path,
    kvm: Option<&File>,
    record: &Record,
    made: &Made,
    guest: &Guest,
) -> Result<Launched, LaunchError> {
    let (mut ours, theirs) = UnixStream::pair().map_err(system("make a socket"))?;
    let launched_at = monotonic_ns();
    let mut child = spawn(program, theirs.into(), made)?;
    let handed = VmFolder::note_monitor(&made.lease, child.id())
        .map_err(system("note the process"))
        .and_then(|()| {
            let (vm, descriptors) = description(record, made, guest, kvm, launched_at);
            launch::send(&mut ours, &vm, &descriptors)?;
            ours.set_nonblocking(true)
                .map_err(system("set up a socket"))
        });
    match handed {
        Ok(()) => Ok(Launched {
            child,
            socket: ours,
        }),
        Err(error) => {
            // It has run nothing: it ends at once.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::System { action, source }
}

fn spawn(program: &Path, socket: OwnedFd, made: &Made) -> Result<Child, LaunchError> {
    let log = made.log.try_clone().map_err(system("share its log"))?;
    // Nothing here that would make the library fork: it spawns without copying page tables.
    Command::new(program)
        .args(["--spec-fd", "0"])
        .env_clear()
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()
        .map_err(|source| LaunchError::Program {
            path: program.to_owned(),
            source,
        })
}

fn description(
    record: &Record,
    made: &Made,
    guest: &Guest,
    kvm: Option<&File>,
    launched_at: u64,
) -> (wire::Vm, Vec<RawFd>) {
    let mut descriptors = Vec::with_capacity(16);
    let mut pass = |fd: RawFd| {
        descriptors.push(fd);
        descriptors.len() - 1
    };
    let (boot, disks, nets, vsock, balloon) = match guest {
        Guest::LibOs(image) => {
            let boot = wire::Boot {
                kernel: pass(image.as_raw_fd()),
                initrd: None,
                args: spec::command_line_of(record),
            };
            (boot, vec![], vec![], None, None)
        }
        Guest::Linux(boot, listener, plug, words) => {
            let disks = disks_of(record, boot, &mut pass);
            let net_rate = record.linux.as_ref().and_then(|linux| linux.net_rate);
            let nets = plug.iter().map(|plug| wire::Net {
                id: "net-0".to_owned(),
                tap: pass(plug.tap.as_raw_fd()),
                mac: Some(plug.mac.to_string()),
                mtu: Some(plug.mtu),
                receive: net_rate.map(rate),
                transmit: net_rate.map(rate),
            });
            let nets = nets.collect();
            let vsock = wire::Vsock {
                cid: GUEST_CID,
                listener: pass(listener.as_raw_fd()),
                out: None,
            };
            let boot = wire::Boot {
                kernel: pass(boot.kernel.as_raw_fd()),
                initrd: Some(pass(boot.initrd.as_raw_fd())),
                args: words.clone(),
            };
            (boot, disks, nets, Some(vsock), Some(BALLOON))
        }
    };
    let vm = wire::Vm {
        version: wire::VERSION,
        id: record.id.clone(),
        vcpus: record.vcpus,
        memory_mib: record.memory_mib,
        boot,
        console: Some(wire::Console {
            output: wire::ConsoleOutput::Log {
                file: pass(made.console.as_raw_fd()),
                keep: CONSOLE_KEEP,
            },
            input: Some(pass(made.input.as_raw_fd())),
        }),
        entropy: true,
        disks,
        nets,
        vsock,
        balloon,
        deadline_ms: record.timeout_ms,
        control: Some(pass(made.control.as_raw_fd())),
        meter: Some(pass(made.meter.as_raw_fd())),
        kvm: kvm.map(|kvm| pass(kvm.as_raw_fd())),
        lease: Some(pass(made.lease.as_raw_fd())),
        launched_at_ns: Some(launched_at),
    };
    (vm, descriptors)
}

/// The disks of a Linux guest, in the order in which it finds them.
fn disks_of(record: &Record, boot: &Boot, mut pass: impl FnMut(RawFd) -> usize) -> Vec<wire::Disk> {
    let linux = record.linux.as_deref();
    let rate = linux.and_then(|linux| linux.disk_rate).map(rate);
    let mut disk = |id: String, file: &File, read_only| wire::Disk {
        id,
        file: pass(file.as_raw_fd()),
        read_only,
        rate,
        io_engine: None,
    };
    let mut disks = vec![
        disk(describe::ROOT.to_owned(), &boot.root, true),
        disk(describe::DISK.to_owned(), &boot.disk, false),
    ];
    let mounts = linux.map_or(&[][..], |linux| &linux.volumes);
    let volumes = boot.volumes.iter().zip(mounts).enumerate();
    disks.extend(
        volumes.map(|(index, (file, mount))| {
            disk(describe::volume_disk(index), file, mount.read_only)
        }),
    );
    disks
}

/// So much a second, and a second's worth at once.
fn rate(limit: api::RateLimit) -> wire::RateLimit {
    let bucket = |size| wire::TokenBucket {
        size,
        one_time_burst: None,
        refill_time: 1000,
    };
    wire::RateLimit {
        bandwidth: limit.bytes_per_second.map(bucket),
        ops: limit.ops_per_second.map(bucket),
    }
}
