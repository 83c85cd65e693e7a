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

use vmm::launch;
use vmm::meter::monotonic_ns;
use vmm::spec::wire;

use crate::folder::{CONSOLE_KEEP, Made, VmFolder};
use crate::record::Record;
use crate::spec;

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
    /// Another call of the system failed.
    #[error("cannot {action} for the monitor")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Starts a monitor for the VM. Blocks: some hundred microseconds.
pub(super) fn launch(
    program: &Path,
    kvm: Option<&File>,
    record: &Record,
    folder: &VmFolder,
    image: &File,
) -> Result<Launched, LaunchError> {
    let made = folder.make().map_err(|source| LaunchError::Folder {
        path: folder.path().to_owned(),
        source,
    })?;
    let (mut ours, theirs) = UnixStream::pair().map_err(system("make a socket"))?;
    let launched_at = monotonic_ns();
    let mut child = spawn(program, theirs.into(), &made)?;
    let handed = VmFolder::note_monitor(&made.lease, child.id())
        .map_err(system("note the process"))
        .and_then(|()| {
            let (vm, descriptors) = describe(record, &made, image, kvm, launched_at);
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

fn describe(
    record: &Record,
    made: &Made,
    image: &File,
    kvm: Option<&File>,
    launched_at: u64,
) -> (wire::Vm, Vec<RawFd>) {
    let mut descriptors = Vec::with_capacity(7);
    let mut pass = |fd: RawFd| {
        descriptors.push(fd);
        descriptors.len() - 1
    };
    let vm = wire::Vm {
        version: wire::VERSION,
        id: record.id.clone(),
        vcpus: record.vcpus,
        memory_mib: record.memory_mib,
        boot: wire::Boot {
            kernel: pass(image.as_raw_fd()),
            initrd: None,
            args: spec::command_line_of(record),
        },
        console: Some(wire::Console {
            output: wire::ConsoleOutput::Log {
                file: pass(made.console.as_raw_fd()),
                keep: CONSOLE_KEEP,
            },
            input: Some(pass(made.input.as_raw_fd())),
        }),
        entropy: true,
        disks: vec![],
        nets: vec![],
        vsock: None,
        balloon: None,
        deadline_ms: record.timeout_ms,
        control: Some(pass(made.control.as_raw_fd())),
        meter: Some(pass(made.meter.as_raw_fd())),
        kvm: kvm.map(|kvm| pass(kvm.as_raw_fd())),
        lease: Some(pass(made.lease.as_raw_fd())),
        launched_at_ns: Some(launched_at),
    };
    (vm, descriptors)
}
