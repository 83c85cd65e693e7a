//! Where a guest's console output goes: a log that forgets its oldest, or a stream that takes what it can.
//!
//! ```text
//! log:    |<---- hole ---->|<---- keep .. keep + STEP ---->|end     offsets count from the VM's first byte
//! stream: written without waiting; what is not taken at once is gone
//! ```
//!
//! Neither ever makes a guest wait. What nobody took is counted.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::meter::{Counter, Meter, Phase};
use crate::spec::ConsoleOutput;
use crate::sync::lock;

/// Bytes of a log that are given back to the file system at a time.
const STEP: u64 = 64 << 10;
/// Most bytes that are handed to a stream at once: a pipe that says it can be written to takes as many.
const PIECE: usize = 4096;

/// Takes console output. Shared by the devices of one console; each call is one piece of it, whole.
#[derive(Debug)]
pub struct Output {
    sink: Mutex<Sink>,
    meter: Arc<Meter>,
}

#[derive(Debug)]
enum Sink {
    Log(Log),
    /// A socket.
    Socket(OwnedFd),
    /// A pipe or terminal.
    Stream(OwnedFd),
    /// No console was asked for.
    Nowhere,
}

#[derive(Debug)]
struct Log {
    file: File,
    keep: u64,
    /// Where the next byte goes.
    end: u64,
    /// Everything before this is a hole; a multiple of [`STEP`].
    hole: u64,
    /// The file system makes no holes: the log is full once it has `keep` bytes.
    full: bool,
}

impl Output {
    /// Output to where a description says; to nowhere without one.
    ///
    /// # Errors
    /// Where a log is no file.
    pub fn new(output: Option<ConsoleOutput>, meter: Arc<Meter>) -> io::Result<Self> {
        let sink = match output {
            None => Sink::Nowhere,
            Some(ConsoleOutput::Stream(fd)) if is_socket(&fd) => Sink::Socket(fd),
            Some(ConsoleOutput::Stream(fd)) => Sink::Stream(fd),
            Some(ConsoleOutput::Log { file, keep }) => Sink::Log(Log::new(file.into(), keep)?),
        };
        Ok(Self {
            sink: Mutex::new(sink),
            meter,
        })
    }

    /// Takes `bytes`, or as many of them as can be had without waiting.
    pub fn write(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.meter.reach(Phase::Console);
        self.meter.add(Counter::ConsoleOut, bytes.len() as u64);
        let taken = match &mut *lock(&self.sink) {
            Sink::Log(log) => log.write(bytes),
            Sink::Socket(fd) => send(fd, bytes),
            Sink::Stream(fd) => write_ready(fd, bytes),
            // Nobody asked for it: nothing is lost.
            Sink::Nowhere => bytes.len(),
        };
        self.drop_bytes((bytes.len() - taken) as u64);
    }

    /// Counts output that is dropped before it gets here.
    pub fn drop_bytes(&self, count: u64) {
        if count > 0 {
            self.meter.add(Counter::ConsoleDropped, count);
        }
    }
}

impl Log {
    fn new(file: File, keep: u64) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self {
            file,
            keep,
            end,
            hole: 0,
            full: false,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        if self.full {
            return 0;
        }
        let mut taken = 0;
        while taken < bytes.len() {
            match self.file.write_at(&bytes[taken..], self.end) {
                Ok(0) => break,
                Ok(n) => {
                    taken += n;
                    self.end += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // No room: later output may find some.
                Err(_) => break,
            }
        }
        self.forget();
        taken
    }

    fn forget(&mut self) {
        let oldest = self.end.saturating_sub(self.keep) / STEP * STEP;
        if oldest <= self.hole {
            return;
        }
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let length = oldest - self.hole;
        match rustix::fs::fallocate(&self.file, mode, self.hole, length) {
            Ok(()) => self.hole = oldest,
            Err(Errno::INTR) => {}
            Err(_) => self.full = true,
        }
    }
}

fn is_socket(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket
    })
}

fn send(fd: &OwnedFd, bytes: &[u8]) -> usize {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut taken = 0;
    while taken < bytes.len() {
        match rustix::net::send(fd, &bytes[taken..], flags) {
            Ok(0) => break,
            Ok(n) => taken += n,
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    taken
}

/// Writes while the kernel says that a write will not wait. `O_NONBLOCK` would do the same, but it belongs to the open file, which
/// others share: a launcher's terminal, for one.
fn write_ready(fd: &OwnedFd, bytes: &[u8]) -> usize {
    let mut taken = 0;
    while taken < bytes.len() && is_ready(fd) {
        let piece = &bytes[taken..bytes.len().min(taken + PIECE)];
        match rustix::io::write(fd, piece) {
            Ok(0) => break,
            Ok(n) => taken += n,
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    taken
}

fn is_ready(fd: &OwnedFd) -> bool {
    let mut poll = [PollFd::new(fd, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = matches!(rustix::event::poll(&mut poll, Some(&now)), Ok(1));
    ready && poll[0].revents().contains(PollFlags::OUT)
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
