//! The main program: what the guest is for.
//!
//! ```text
//!  none ──start──▶ running ──ends──▶ waiting ──time──▶ running
//!                     │ └── for good, or stopped ──▶ ended
//! ```
//! What it writes goes into a ring, from which the console and those attached read: none of them can hold it up.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use abi::agent::reply::{Exit, Failure};
use abi::agent::start::Start;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::poll::{Got, Poll, Role};
use crate::restart::Backoff;
use crate::ring::{Output, Ring};
use crate::server::MAIN;
use crate::spawn::Command;
use crate::stdio::{self, Kind, Ours};

/// Bytes that are read at once before readers get their turn: less than the ring holds.
const TURN: usize = 2 * 64 * 1024;

/// The main program, once there is one.
pub(crate) struct Main {
    pub(crate) start: Start,
    command: Command,
    pub(crate) ours: Ours,
    pub(crate) phase: Phase,
    pub(crate) backoff: Backoff,
    pub(crate) ring: Ring,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    Running { pid: Pid, since: Instant },
    Waiting { exit: Exit, until: Instant },
    Ended { exit: Exit },
}

impl Main {
    /// Starts it for the first time.
    pub(crate) fn start(start: Start, poll: &Poll) -> Result<Self, Failure> {
        let command = Command::new(&start.program, &[])?;
        let (ours, pid) = spawn(&start, &command, poll)?;
        let backoff = Backoff::new(start.restart);
        Ok(Self {
            command,
            ours,
            phase: Phase::Running {
                pid,
                since: Instant::now(),
            },
            backoff,
            ring: Ring::default(),
            start,
        })
    }

    /// The image's own init, which is process 1 and nobody's child.
    pub(crate) fn beside_init(start: Start) -> Result<Self, Failure> {
        let command = Command::new(&start.program, &[])?;
        let backoff = Backoff::new(start.restart);
        Ok(Self {
            command,
            ours: Ours::default(),
            phase: Phase::Running {
                pid: Pid::from_raw(1),
                since: Instant::now(),
            },
            backoff,
            ring: Ring::default(),
            start,
        })
    }

    /// Becomes the main program; returns why it did not.
    pub(crate) fn become_init(&self, stdio: [BorrowedFd<'_>; 3]) -> Failure {
        self.command.become_it(stdio)
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        match self.phase {
            Phase::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// It ended: waits to be started again, unless that is not wanted or it was stopped.
    pub(crate) fn ended(&mut self, exit: Exit, is_stopping: bool, scratch: &mut [u8]) {
        let Phase::Running { since, .. } = self.phase else {
            return;
        };
        self.ours.look_again();
        while self.read(scratch) {}
        self.ours = Ours::default();
        let now = Instant::now();
        let wait = (!is_stopping)
            .then(|| self.backoff.next(exit, now - since))
            .flatten();
        self.phase = match wait {
            Some(wait) => Phase::Waiting {
                exit,
                until: now + wait,
            },
            None => Phase::Ended { exit },
        };
    }

    /// It is not to be started again.
    pub(crate) fn give_up(&mut self) {
        if let Phase::Waiting { exit, .. } = self.phase {
            self.phase = Phase::Ended { exit };
        }
    }

    /// Starts it again when it is time.
    pub(crate) fn restart(&mut self, poll: &Poll, now: Instant) {
        let Phase::Waiting { until, .. } = self.phase else {
            return;
        };
        if now < until {
            return;
        }
        match spawn(&self.start, &self.command, poll) {
            Ok((ours, pid)) => {
                self.ours = ours;
                self.phase = Phase::Running { pid, since: now };
            }
            Err(failure) => {
                let told = format!("agent: the main program was not started again: {failure}\n");
                self.ring.push(Output::Stderr, told.as_bytes());
                let exit = Exit::Code(127);
                self.phase = match self.backoff.next(exit, Duration::ZERO) {
                    Some(wait) => Phase::Waiting {
                        exit,
                        until: now + wait,
                    },
                    None => Phase::Ended { exit },
                };
            }
        }
    }

    /// Reads what it wrote; `true` when there may be more.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> bool {
        let mut taken = 0;
        for output in [Output::Stdout, Output::Stderr] {
            let stream = match output {
                Output::Stdout => &mut self.ours.stdout,
                Output::Stderr => &mut self.ours.stderr,
            };
            while taken < TURN {
                match stream.as_mut().map_or(Got::Nothing, |s| s.read(scratch)) {
                    Got::Bytes(count) => {
                        self.ring.push(output, &scratch[..count]);
                        taken += count;
                    }
                    Got::Nothing => break,
                    Got::End => *stream = None,
                }
            }
        }
        taken >= TURN
    }

    pub(crate) fn stream(&mut self, role: Role) -> Option<&mut crate::poll::Stream> {
        self.ours.stream(role)
    }

    /// Sends it a signal, which is well where it has just ended.
    pub(crate) fn signal(&self, signal: u8) {
        if let Some(pid) = self.pid() {
            send(pid, signal);
        }
    }
}

fn spawn(start: &Start, command: &Command, poll: &Poll) -> Result<(Ours, Pid), Failure> {
    let kind = match &start.program.tty {
        Some(tty) => Kind::Terminal(tty.size),
        None => Kind::Pipes {
            stdin: start.program.stdin,
        },
    };
    let (ours, theirs) = stdio::open(kind, poll, MAIN)?;
    let pid = command.spawn(theirs.fds())?;
    Ok((ours, pid))
}

/// Sends `signal` to `pid`, or to a group where it is negative: any of 1 to 64, the real-time ones too.
pub(crate) fn send(pid: Pid, signal: u8) {
    // SAFETY: `kill` takes any numbers.
    unsafe { libc::kill(pid.as_raw(), signal.into()) };
}

/// Takes a child that ended. With `WNOHANG` none is none; without, it waits while there are any.
pub(crate) fn reap(flags: i32) -> Option<(Pid, Exit)> {
    let mut status = 0;
    loop {
        // SAFETY: the status is ours to write to.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
        if pid > 0 {
            return Some((Pid::from_raw(pid), exit_of(status)));
        }
        if pid == 0 || Errno::last() != Errno::EINTR {
            return None;
        }
    }
}

/// The exit that a wait status says. (`nix` knows no real-time signals.)
fn exit_of(status: i32) -> Exit {
    // The kernel keeps eight bits of a status, and seven of a signal.
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status) as u8)
    } else {
        Exit::Code(libc::WEXITSTATUS(status) as u8)
    }
}
