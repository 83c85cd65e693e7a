//! Small guests of raw machine code, and monitors to run them.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod elf;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};

use vmm::launch::{self, Event};
use vmm::meter::{MeterReader, PAGE_SIZE, Reading};
use vmm::outcome::Outcome;
use vmm::spec::wire;

/// How long any VM here lives at most, unless its test says otherwise.
const DEADLINE_MS: u64 = 20_000;

/// A VM to be launched.
pub(crate) struct Vm {
    pub(crate) wire: wire::Vm,
    kernel: File,
    log: File,
    meter: File,
    input: Option<OwnedFd>,
    control: Option<OwnedFd>,
}

impl Vm {
    /// One that runs `code` at 1 MiB, in 32-bit protected mode without paging.
    pub(crate) fn code(code: &[u8]) -> Self {
        Self::image(&elf::Elf::of_code(code).bytes())
    }

    /// One that boots this file.
    pub(crate) fn image(image: &[u8]) -> Self {
        let mut kernel = tempfile::tempfile().unwrap();
        kernel.write_all(image).unwrap();
        let meter = tempfile::tempfile().unwrap();
        meter.set_len(PAGE_SIZE as u64).unwrap();
        let json = r#"{"version":1,"id":"t","vcpus":1,"memory_mib":64,"boot":{"kernel":0}}"#;
        let mut wire: wire::Vm = serde_json::from_str(json).unwrap();
        wire.deadline_ms = Some(DEADLINE_MS);
        Self {
            wire,
            kernel,
            log: tempfile::tempfile().unwrap(),
            meter,
            input: None,
            control: None,
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut wire::Vm)) -> Self {
        change(&mut self.wire);
        self
    }

    pub(crate) fn input(mut self, from: impl Into<OwnedFd>) -> Self {
        self.input = Some(from.into());
        self
    }

    pub(crate) fn control(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.control = Some(socket.into());
        self
    }

    /// Starts a monitor with it.
    pub(crate) fn launch(mut self) -> Running {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut table: Vec<RawFd> = vec![];
        let mut add = |fd: RawFd| {
            table.push(fd);
            table.len() - 1
        };
        self.wire.boot.kernel = add(self.kernel.as_raw_fd());
        self.wire.meter = Some(add(self.meter.as_raw_fd()));
        self.wire.console = Some(wire::Console {
            output: wire::ConsoleOutput::Log {
                file: add(self.log.as_raw_fd()),
                keep: 1 << 20,
            },
            input: self.input.as_ref().map(|fd| add(fd.as_raw_fd())),
        });
        self.wire.control = self.control.as_ref().map(|fd| add(fd.as_raw_fd()));
        let child = Command::new(env!("CARGO_BIN_EXE_vmm"))
            .args(["--spec-fd", "0"])
            .stdin(OwnedFd::from(theirs))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        launch::send(&mut ours, &self.wire, &table).unwrap();
        Running {
            child,
            socket: BufReader::new(ours),
            log: self.log,
            meter: self.meter,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ended {
        self.launch().wait()
    }
}

/// A monitor that runs. It is gone when this is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) socket: BufReader<UnixStream>,
    log: File,
    meter: File,
}

/// One that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) events: Vec<Event>,
    pub(crate) outcome: Outcome,
    pub(crate) status: ExitStatus,
    pub(crate) reading: Reading,
    pub(crate) log: Vec<u8>,
}

impl Running {
    /// Waits for the next thing that it says.
    pub(crate) fn event(&mut self) -> Option<Event> {
        let mut line = String::new();
        self.socket.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Waits until its output has `bytes` bytes.
    pub(crate) fn wait_for_output(&self, bytes: u64) {
        while self.log.metadata().unwrap().len() < bytes {
            std::thread::yield_now();
        }
    }

    pub(crate) fn output_size(&self) -> u64 {
        self.log.metadata().unwrap().len()
    }

    pub(crate) fn read(&self) -> Reading {
        MeterReader::open(&self.meter).unwrap().read()
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the child is not reaped, so its id is its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let mut events = vec![];
        while let Some(event) = self.event() {
            events.push(event);
        }
        let status = self.child.wait().unwrap();
        let mut log = vec![];
        self.log.rewind().unwrap();
        self.log.read_to_end(&mut log).unwrap();
        let outcome = match events.last() {
            Some(Event::Ended(outcome)) => outcome.clone(),
            other => panic!("the monitor's last word is {other:?}"),
        };
        let reading = self.read();
        assert_eq!(reading.outcome.as_ref(), Some(&outcome));
        Ended {
            events,
            outcome,
            status,
            reading,
            log,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
