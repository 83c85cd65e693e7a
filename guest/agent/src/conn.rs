//! One connection: one operation of a host.
//!
//! ```text
//!            Hello           Request
//!  greeting ───────▶ asking ─────────▶ job, attached, probe, held ──▶ ending ──peer closes──▶ gone
//!      └───────────────┴── what makes no sense ────────────────────────▲
//! ```
//! A copy leaves this picture: its connection goes to a thread of its own.

use std::time::Instant;

use abi::agent::frame::Decoder;
use abi::agent::message::Message;
use abi::agent::reply::{Code, Exit, Failure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::poll::{Role, Sink, Stream};
use crate::stdio::Ours;

/// How many bytes may wait for a program that does not read its standard input, before its client is not read either.
pub(crate) const STDIN_MAX: usize = 256 * 1024;

/// A connection to a host.
pub(crate) struct Conn {
    pub(crate) socket: Sink,
    pub(crate) decoder: Decoder,
    pub(crate) task: Task,
}

/// What a connection is at.
pub(crate) enum Task {
    /// Waits for the peer's Hello.
    Greeting,
    /// Waits for its request.
    Asking,
    /// Runs a program for the peer.
    Job(Job),
    /// Follows the main program.
    Attached {
        /// Where in the ring.
        position: u64,
        /// Writes to its standard input.
        stdin: bool,
    },
    /// Waits for a program that says whether the guest is well.
    Probe { pid: Pid, deadline: Instant },
    /// Lasts as long as the guest.
    Held,
    /// All is said: what is left goes out, and the peer closes.
    Ending { is_shut: bool },
}

/// A program that runs for a peer.
pub(crate) struct Job {
    pub(crate) pid: Pid,
    pub(crate) ours: Ours,
    /// It ended; what it wrote before still goes out.
    pub(crate) exit: Option<Exit>,
}

impl Drop for Job {
    /// Whoever asked for it is gone, and so is it.
    fn drop(&mut self) {
        if self.exit.is_none() {
            // It may have ended in this moment.
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }
}

impl Conn {
    pub(crate) fn new(socket: Stream) -> Self {
        Self {
            socket: Sink::new(socket),
            decoder: Decoder::new(),
            task: Task::Greeting,
        }
    }

    /// Puts a message on its way.
    pub(crate) fn send(&mut self, message: &Message<'_>) {
        let mut frame = Vec::new();
        let encoded = message.encode(&mut frame).or_else(|error| {
            // Something of the guest's own that is too long to be told, such as a link's target.
            Message::Error(Failure::new(Code::Failed, error)).encode(&mut frame)
        });
        debug_assert!(encoded.is_ok(), "a failure can always be told");
        // Whether the peer is still there, the next flush finds out.
        self.socket.push(&frame);
    }

    /// The last message.
    pub(crate) fn finish(&mut self, message: &Message<'_>) {
        self.send(message);
        self.task = Task::Ending { is_shut: false };
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        self.finish(&Message::Error(failure));
    }

    /// The stream of one of the connection's descriptors.
    pub(crate) fn stream(&mut self, role: Role) -> Option<&mut Stream> {
        if role == Role::Socket {
            return Some(self.socket.stream());
        }
        let Task::Job(job) = &mut self.task else {
            return None;
        };
        job.ours.stream(role)
    }

    /// The program that the connection waits for.
    pub(crate) fn pid(&self) -> Option<Pid> {
        match &self.task {
            Task::Job(job) if job.exit.is_none() => Some(job.pid),
            Task::Probe { pid, .. } => Some(*pid),
            _ => None,
        }
    }
}

impl Ours {
    /// The stream in that role.
    pub(crate) fn stream(&mut self, role: Role) -> Option<&mut Stream> {
        match role {
            Role::Socket => None,
            Role::Stdin => self.stdin.as_mut().map(Sink::stream),
            Role::Stdout => self.stdout.as_mut(),
            Role::Stderr => self.stderr.as_mut(),
        }
    }

    /// The program ended: what it left unread has made its last event already.
    pub(crate) fn look_again(&mut self) {
        for stream in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            stream.look_again();
        }
    }

    /// Writes to the program. Where it has closed its standard input, so do we.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if self.stdin.as_mut().is_some_and(|stdin| !stdin.push(bytes)) {
            self.stdin = None;
        }
    }

    /// No more input. A terminal has none of its own to end: that is a character.
    pub(crate) fn end_input(&mut self) {
        if let Some(stdin) = self.stdin.as_mut().filter(|_| !self.is_terminal) {
            stdin.end();
        }
        self.flush();
    }

    /// Writes on what the program did not take before.
    pub(crate) fn flush(&mut self) {
        if self.stdin.as_mut().is_some_and(|stdin| !stdin.flush()) {
            self.stdin = None;
        }
    }

    /// Whether the program takes so little that its peer should wait.
    pub(crate) fn is_full(&self) -> bool {
        self.stdin
            .as_ref()
            .is_some_and(|stdin| stdin.waiting() >= STDIN_MAX)
    }
}
