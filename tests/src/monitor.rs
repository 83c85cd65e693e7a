//! One monitor, started as `vmd` starts it: by `--spec-fd`, with descriptors for all that it needs.
//!
//! Every VM has a deadline, and whatever a test does, the monitor is gone when its [`Running`] is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use vmm::launch::{self, Event};
use vmm::meter::{self, MeterReader, Reading};
use vmm::outcome::{Cause, Outcome};
use vmm::spec::wire;

use crate::place;

/// How long a test's VM lives at most, where the test does not say.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long past its VM's deadline a monitor may take to be gone: a busy host is slow.
const GRACE: Duration = Duration::from_secs(20);

/// A VM that a test is about to start.
#[derive(Debug)]
pub struct Vm {
    program: PathBuf,
    kernel: File,
    initrd: Option<File>,
    disks: Vec<File>,
    vsock: Option<UnixListener>,
    taps: Vec<OwnedFd>,
    control: Option<UnixListener>,
    wire: wire::Vm,
}

impl Vm {
    /// One of the repository's guests: 64 MiB, one vCPU, a console, entropy, 20 seconds.
    #[must_use]
    pub fn of(guest: &str) -> Self {
        Self::of_file(&place::guest(guest))
    }

    /// Any file as the guest.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[must_use]
    pub fn of_file(kernel: &Path) -> Self {
        Self::new(File::open(kernel).unwrap_or_else(|e| panic!("{}: {e}", kernel.display())))
    }

    /// Any bytes as the guest.
    ///
    /// # Panics
    /// When there is no memory for them.
    #[must_use]
    pub fn of_bytes(kernel: &[u8]) -> Self {
        Self::new(memory_file(kernel))
    }

    fn new(kernel: File) -> Self {
        let mut wire: wire::Vm = serde_json::from_value(serde_json::json!({
            "version": wire::VERSION,
            "id": "test",
            "vcpus": 1,
            "memory_mib": 64,
            "boot": { "kernel": 0 },
            "entropy": true,
        }))
        .expect("this is a description");
        wire.deadline_ms = Some(DEADLINE.as_millis() as u64);
        Self {
            program: place::program("vmm"),
            kernel,
            initrd: None,
            disks: Vec::new(),
            vsock: None,
            taps: Vec::new(),
            control: None,
            wire,
        }
    }

    /// A first file system, of these bytes.
    ///
    /// # Panics
    /// When there is no memory for them.
    #[must_use]
    pub fn initrd(mut self, bytes: &[u8]) -> Self {
        self.initrd = Some(memory_file(bytes));
        self
    }

    /// A disk on `file`, which nobody else has open afterwards: a lock on it is the monitor's.
    #[must_use]
    pub fn disk(mut self, id: &str, file: File, read_only: bool) -> Self {
        self.wire.disks.push(wire::Disk {
            id: id.to_owned(),
            // Numbered when it is started.
            file: 0,
            read_only,
            rate: None,
            io_engine: None,
        });
        self.disks.push(file);
        self
    }

    /// A network device on a tap.
    #[must_use]
    pub fn net(mut self, tap: OwnedFd) -> Self {
        self.wire.nets.push(wire::Net {
            id: format!("eth{}", self.taps.len()),
            // Numbered when it is started.
            tap: 0,
            mac: None,
            mtu: None,
            receive: None,
            transmit: None,
        });
        self.taps.push(tap);
        self
    }

    /// Sockets to the guest, by way of `listener`.
    #[must_use]
    pub fn vsock(mut self, listener: UnixListener) -> Self {
        self.vsock = Some(listener);
        self
    }

    /// A balloon, and the control API by way of `listener`, to fill it.
    #[must_use]
    pub fn balloon(mut self, balloon: wire::Balloon, listener: UnixListener) -> Self {
        self.wire.balloon = Some(balloon);
        self.control = Some(listener);
        self
    }

    /// The guest's whole command line.
    #[must_use]
    pub fn cmdline(mut self, line: &str) -> Self {
        self.wire.boot.args = line.to_owned();
        self
    }

    /// The program's arguments.
    #[must_use]
    pub fn args(self, args: &[&str]) -> Self {
        let words: Vec<String> = args
            .iter()
            .map(|arg| abi::cmdline::Quoted(arg).to_string())
            .collect();
        self.cmdline(&format!("{} {}", abi::cmdline::ARGUMENTS, words.join(" ")))
    }

    /// How many virtual CPUs.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.wire.vcpus = vcpus;
        self
    }

    /// How much memory.
    #[must_use]
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.wire.memory_mib = mib;
        self
    }

    /// When it is ended, whatever it does.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.wire.deadline_ms = Some(deadline.as_millis() as u64);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// What the system refused; never what the monitor did.
    pub fn start(mut self) -> io::Result<Running> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (input_read, input) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let page = rustix::fs::memfd_create("meter", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&page, meter::PAGE_SIZE as u64)?;
        let (mut ours, theirs) = UnixStream::pair()?;

        let launched = Instant::now();
        self.wire.launched_at_ns = Some(meter::monotonic_ns());
        let kvm = File::options().read(true).write(true).open("/dev/kvm")?;
        let mut table = Table::default();
        self.wire.boot.kernel = table.add(&self.kernel);
        self.wire.boot.initrd = self.initrd.as_ref().map(|file| table.add(file));
        self.wire.console = Some(wire::Console {
            output: wire::ConsoleOutput::Stream(table.add(&write)),
            input: Some(table.add(&input_read)),
        });
        for (disk, file) in self.wire.disks.iter_mut().zip(&self.disks) {
            disk.file = table.add(file);
        }
        for (net, tap) in self.wire.nets.iter_mut().zip(&self.taps) {
            net.tap = table.add(tap);
        }
        self.wire.vsock = self.vsock.as_ref().map(|listener| wire::Vsock {
            cid: 3,
            listener: table.add(listener),
            out: None,
        });
        self.wire.control = self.control.as_ref().map(|listener| table.add(listener));
        self.wire.meter = Some(table.add(&page));
        self.wire.kvm = Some(table.add(&kvm));
        // Before there is anybody to read it: a busy host is in no hurry to come back to us.
        launch::send(&mut ours, &self.wire, &table.0).map_err(io::Error::other)?;
        let child = Command::new(&self.program)
            .args(["--spec-fd", "0"])
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let until = launched + Duration::from_millis(self.wire.deadline_ms.unwrap_or(0)) + GRACE;
        Ok(Running {
            child,
            socket: ours,
            console: read.into(),
            written: Vec::new(),
            input: input.into(),
            page: page.into(),
            launched,
            until,
        })
    }

    /// Starts it and waits for its end.
    #[must_use]
    pub fn run(self) -> Ended {
        self.start().expect("a monitor starts").wait()
    }
}

/// A file in memory.
fn memory_file(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).expect("there is memory");
    let mut file = File::from(file);
    file.write_all(bytes).expect("there is memory");
    file
}

/// Descriptors that go with a description.
#[derive(Default)]
struct Table(Vec<RawFd>);

impl Table {
    fn add(&mut self, fd: &impl AsRawFd) -> usize {
        self.0.push(fd.as_raw_fd());
        self.0.len() - 1
    }
}

/// A monitor at work.
#[derive(Debug)]
pub struct Running {
    child: Child,
    socket: UnixStream,
    console: File,
    written: Vec<u8>,
    input: File,
    page: File,
    launched: Instant,
    until: Instant,
}

impl Running {
    /// The monitor's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was asked for.
    #[must_use]
    pub fn launched(&self) -> Instant {
        self.launched
    }

    /// What its meter says; `None` before the monitor has begun.
    #[must_use]
    pub fn reading(&self) -> Option<Reading> {
        MeterReader::open(&self.page).ok().map(|m| m.read())
    }

    /// Its meter's page, for a reader beside this one.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub fn page(&self) -> io::Result<File> {
        self.page.try_clone()
    }

    /// Waits until the console holds `text`, and gives the moment when it was seen.
    ///
    /// # Panics
    /// When the VM is over first, or is not over in time; the panic shows the console.
    pub fn console_shows(&mut self, text: &str) -> Instant {
        loop {
            if find(&self.written, text.as_bytes()) {
                return Instant::now();
            }
            if !self.read_console() {
                let mut stderr = String::new();
                if let Some(pipe) = &mut self.child.stderr {
                    let _ = pipe.read_to_string(&mut stderr);
                }
                panic!(
                    "the console ended without {text:?}; it shows:\n{}\nmonitor's stderr:\n{stderr}",
                    String::from_utf8_lossy(&self.written)
                );
            }
        }
    }

    /// Types `text` at its console.
    pub fn type_in(&mut self, text: &str) {
        self.input
            .write_all(text.as_bytes())
            .expect("the console takes input");
    }

    /// Kills the monitor at once, as the kernel's out-of-memory killer would.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child can be killed");
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When the monitor outlives its VM's deadline.
    #[must_use]
    pub fn wait(mut self) -> Ended {
        while self.read_console() {}
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            self.ready(pipe.as_fd());
            let _ = pipe.read_to_string(&mut stderr);
        }
        let status = self.child.wait().expect("our own child can be waited for");
        let events: Vec<Event> = BufReader::new(&self.socket)
            .lines()
            .map_while(Result::ok)
            .map(|line| {
                serde_json::from_str(&line).unwrap_or_else(|e| panic!("no event: {line:?}: {e}"))
            })
            .collect();
        let outcome = events.iter().rev().find_map(|event| match event {
            Event::Ended(outcome) => Some(outcome.clone()),
            _ => None,
        });
        Ended {
            outcome,
            events,
            status,
            console: String::from_utf8_lossy(&self.written).into_owned(),
            stderr,
            reading: self.reading(),
            took: self.launched.elapsed(),
        }
    }

    /// Reads what is there, waiting for it; `false` at the end.
    fn read_console(&mut self) -> bool {
        self.ready(self.console.as_fd());
        let mut buffer = [0; 16 << 10];
        let read = self.console.read(&mut buffer).expect("a pipe can be read");
        self.written.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// Waits until `fd` can be read, as long as this VM may last.
    fn ready(&self, fd: BorrowedFd<'_>) {
        let left = self.until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a deadline is no eternity");
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&left)).expect("descriptors can be polled");
        assert!(
            ready > 0,
            "the monitor (pid {}) outlived its VM's deadline; the console shows:\n{}",
            self.pid(),
            String::from_utf8_lossy(&self.written)
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

/// A VM that is over.
#[derive(Debug)]
pub struct Ended {
    /// How, by the monitor's own word; `None` where it had none.
    pub outcome: Option<Outcome>,
    /// All that the monitor said.
    pub events: Vec<Event>,
    /// How the monitor's process ended.
    pub status: ExitStatus,
    /// All that the guest wrote.
    pub console: String,
    /// All that the monitor complained of.
    pub stderr: String,
    /// The last that stood in its meter.
    pub reading: Option<Reading>,
    /// From its launch to its end.
    pub took: Duration,
}

impl Ended {
    /// It ended by `cause`, and the monitor in good order.
    ///
    /// # Panics
    /// When not; the panic shows everything.
    pub fn by(&self, cause: Cause) -> &Self {
        assert_eq!(
            self.outcome.as_ref().map(|o| o.cause),
            Some(cause),
            "wrong end: {self}"
        );
        assert_eq!(self.status.signal(), None, "the monitor was killed: {self}");
        assert_eq!(
            self.reading.as_ref().and_then(|r| r.outcome.clone()),
            self.outcome,
            "meter and event differ: {self}"
        );
        self
    }

    /// The guest exited with `status`.
    ///
    /// # Panics
    /// When not; the panic shows everything.
    pub fn exited(&self, status: u32) -> &Self {
        self.by(Cause::Exit);
        let said = self.outcome.as_ref().map(|o| o.status);
        assert_eq!(said, Some(status), "wrong status: {self}");
        self
    }

    /// The console holds `text`.
    ///
    /// # Panics
    /// When not; the panic shows everything.
    pub fn shows(&self, text: &str) -> &Self {
        assert!(
            self.console.contains(text),
            "{text:?} is not on the console: {self}"
        );
        self
    }

    /// The detail of its end holds `text`.
    ///
    /// # Panics
    /// When not; the panic shows everything.
    pub fn says(&self, text: &str) -> &Self {
        let detail = self.outcome.as_ref().map_or("", |o| o.detail.as_str());
        assert!(detail.contains(text), "{text:?} is not its reason: {self}");
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:?} ({}, {:?})", self.outcome, self.status, self.took)?;
        writeln!(f, "-- console --\n{}", self.console)?;
        writeln!(f, "-- monitor's stderr --\n{}", self.stderr)
    }
}
