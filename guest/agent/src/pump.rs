//! How a connection gets on: bytes from its program to the peer, messages from the peer to whom they are for.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Instant;

use abi::agent::frame::{Decoder, HEADER, Kind, header};
use abi::agent::message::{Dropped, Hello, Message};
use abi::agent::reply::{Code, Exit, Failure, Healthy, Reply};

use crate::conn::{Conn, Job, Task};
use crate::handler::Next;
use crate::main_program::{self, Phase};
use crate::poll::{Got, Stream};
use crate::ring::{Found, Output};
use crate::server::{READ, Server};
use crate::worker::Worker;

/// Steps of one connection before others get their turn.
const STEPS: usize = 16;

/// What a step came to.
#[derive(PartialEq, Eq)]
enum Step {
    /// Something moved: there may be more.
    Moved,
    /// Nothing can, for now.
    Still,
    /// The peer is gone.
    Gone,
    /// The rest is a worker's.
    Left,
}

impl Server {
    /// Lets a connection get on. Gives it back unless it is over, and whether it could go on at once.
    pub(crate) fn pump(&mut self, mut conn: Conn, index: usize) -> (Option<Conn>, bool) {
        for _ in 0..STEPS {
            let mut moved = false;
            // A client that is gone takes its program with it, and its part in the main one.
            if matches!(conn.task, Task::Job(_) | Task::Attached { .. })
                && conn.socket.stream().has_hung_up()
            {
                return (None, false);
            }
            if !conn.socket.flush() {
                return (None, false);
            }
            if conn.socket.waiting() == 0 {
                match self.produce(&mut conn) {
                    Step::Gone => return (None, false),
                    step => moved |= step == Step::Moved,
                }
            }
            match self.consume(&mut conn, index) {
                Step::Gone | Step::Left => return (None, false),
                step => moved |= step == Step::Moved,
            }
            if let Task::Job(job) = &mut conn.task {
                job.ours.flush();
            }
            if !moved {
                return (Some(conn), false);
            }
        }
        (Some(conn), true)
    }

    /// Sends the peer what is there for it.
    fn produce(&mut self, conn: &mut Conn) -> Step {
        match &mut conn.task {
            Task::Job(job) => {
                let (mut moved, mut gone) = (false, false);
                for (kind, stream) in [
                    (Kind::Stdout, &mut job.ours.stdout),
                    (Kind::Stderr, &mut job.ours.stderr),
                ] {
                    if conn.socket.waiting() > 0 {
                        return Step::Moved;
                    }
                    if let Some(count) = read_frame(kind, stream, &mut self.scratch) {
                        moved = true;
                        gone |= !conn.socket.push(&self.scratch[..HEADER + count]);
                    }
                }
                if gone {
                    return Step::Gone;
                }
                match job.exit {
                    // Both streams have nothing more, and nobody is left to write to them.
                    Some(exit) if !moved => {
                        conn.finish(&Message::Exit(exit));
                        Step::Moved
                    }
                    _ if moved => Step::Moved,
                    _ => Step::Still,
                }
            }
            Task::Attached { position, .. } => {
                let Some(main) = &self.main else {
                    return Step::Still;
                };
                match main.ring.read(*position) {
                    Found::Missed(bytes) => {
                        *position += bytes;
                        conn.send(&Message::Dropped(Dropped { bytes }));
                    }
                    Found::Bytes(output, bytes) => {
                        let bytes = &bytes[..bytes.len().min(READ)];
                        *position += bytes.len() as u64;
                        let kind = match output {
                            Output::Stdout => Kind::Stdout,
                            Output::Stderr => Kind::Stderr,
                        };
                        self.scratch[HEADER..HEADER + bytes.len()].copy_from_slice(bytes);
                        let length = bytes.len();
                        put_header(kind, length, &mut self.scratch);
                        if !conn.socket.push(&self.scratch[..HEADER + length]) {
                            return Step::Gone;
                        }
                    }
                    Found::Nothing => match main.phase {
                        Phase::Ended { exit } => conn.finish(&Message::Exit(exit)),
                        _ => return Step::Still,
                    },
                }
                Step::Moved
            }
            Task::Ending { is_shut } if !*is_shut => {
                *is_shut = true;
                match shut(conn.socket.stream()) {
                    Ok(()) => Step::Moved,
                    Err(_) => Step::Gone,
                }
            }
            _ => Step::Still,
        }
    }

    /// Reads what the peer says, unless that should wait.
    fn consume(&mut self, conn: &mut Conn, index: usize) -> Step {
        let must_wait = match &conn.task {
            Task::Job(job) => job.ours.is_full(),
            Task::Attached { stdin: true, .. } => {
                self.main.as_ref().is_some_and(|main| main.ours.is_full())
            }
            _ => false,
        };
        if must_wait {
            return Step::Still;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let step = match conn.socket.stream().read(&mut scratch) {
            Got::Nothing => Step::Still,
            Got::End => Step::Gone,
            Got::Bytes(count) => self.take(conn, index, &scratch[..count]),
        };
        self.scratch = scratch;
        step
    }

    fn take(&mut self, conn: &mut Conn, index: usize, mut input: &[u8]) -> Step {
        let mut decoder = std::mem::take(&mut conn.decoder);
        loop {
            if matches!(conn.task, Task::Ending { .. }) {
                // Whatever more it says, it has had its answer.
                return Step::Moved;
            }
            let message = match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(frame)) => Message::decode(frame).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match message {
                Ok(message) => {
                    if let Next::Leave(worker) = self.hear(conn, index, message) {
                        self.leave(conn, *worker, decoder, input);
                        return Step::Left;
                    }
                }
                Err(error) => conn.fail(Failure::new(Code::Invalid, error)),
            }
        }
        conn.decoder = decoder;
        Step::Moved
    }

    /// Gives the connection to a worker, with what came for it already.
    fn leave(&mut self, conn: &mut Conn, worker: Worker, decoder: Decoder, input: &[u8]) {
        let failed = self
            .poll
            .remove(conn.socket.stream())
            .map_err(io::Error::from)
            .and_then(|()| worker.start(conn, decoder, input.to_vec()));
        if let Err(error) = failed {
            // The connection closes: its peer sees that nothing began.
            self.console
                .say(&format!("agent: no worker for a connection: {error}\n"));
        }
    }

    /// What a message means to a connection.
    fn hear(&mut self, conn: &mut Conn, index: usize, message: Message<'_>) -> Next {
        match (&mut conn.task, message) {
            (Task::Greeting, Message::Hello(hello)) => {
                conn.send(&Message::Hello(Hello::OURS));
                if hello.version == abi::agent::VERSION {
                    conn.task = Task::Asking;
                } else {
                    let why = format_args!(
                        "the agent speaks version {} of the protocol, not {}",
                        abi::agent::VERSION,
                        hello.version
                    );
                    conn.fail(Failure::new(Code::Version, why));
                }
            }
            (Task::Asking, Message::Request(request)) => return self.handle(conn, index, *request),
            (Task::Job(job), Message::Stdin(bytes)) => job.ours.write(bytes),
            (Task::Job(job), Message::Eof) => job.ours.end_input(),
            (Task::Job(job), Message::Resize(size)) => resize(&job.ours.stdout, size),
            (Task::Job(job), Message::Signal(signal)) => job.signal(signal.signal),
            (Task::Attached { stdin, .. }, message) => {
                let takes_input = *stdin;
                if let Some(main) = &mut self.main {
                    match message {
                        Message::Stdin(bytes) if takes_input => main.ours.write(bytes),
                        Message::Eof if takes_input => main.ours.end_input(),
                        Message::Resize(size) => resize(&main.ours.stdout, size),
                        Message::Signal(signal) => main.signal(signal.signal),
                        message => refuse(conn, message.kind()),
                    }
                }
            }
            (_, message) => refuse(conn, message.kind()),
        }
        Next::Stay
    }
}

fn refuse(conn: &mut Conn, kind: Kind) {
    conn.fail(Failure::new(
        Code::Invalid,
        format_args!("a frame of kind {kind:?} means nothing here"),
    ));
}

/// Tells a terminal its size. A program without one does not care.
pub(crate) fn resize(terminal: &Option<Stream>, size: abi::agent::message::Size) {
    if let Some(stream) = terminal {
        // On a pipe this fails, as it should.
        let _ = crate::stdio::resize(stream, size);
    }
}

/// Reads from a program's output behind room for a header, which is then there. `None` where nothing came.
fn read_frame(kind: Kind, stream: &mut Option<Stream>, scratch: &mut [u8]) -> Option<usize> {
    match stream.as_mut()?.read(&mut scratch[HEADER..HEADER + READ]) {
        Got::Bytes(count) => {
            put_header(kind, count, scratch);
            Some(count)
        }
        Got::Nothing => None,
        Got::End => {
            *stream = None;
            None
        }
    }
}

fn put_header(kind: Kind, length: usize, scratch: &mut [u8]) {
    if let Ok(header) = header(kind, length) {
        scratch[..HEADER].copy_from_slice(&header);
    }
}

fn shut(socket: &Stream) -> nix::Result<()> {
    use std::os::fd::AsFd;
    nix::sys::socket::shutdown(
        socket.as_fd().as_raw_fd(),
        nix::sys::socket::Shutdown::Write,
    )
}

impl Job {
    fn signal(&self, signal: u8) {
        if self.exit.is_none() {
            main_program::send(nix::unistd::Pid::from_raw(-self.pid.as_raw()), signal);
        }
    }
}

impl Conn {
    /// The program that the connection waits for ended.
    pub(crate) fn ended(&mut self, exit: Exit) {
        match &mut self.task {
            Task::Job(job) => {
                job.exit = Some(exit);
                job.ours.look_again();
            }
            Task::Probe { .. } => {
                let healthy = match exit {
                    Exit::Code(code) => Healthy::new(code == 0, format_args!("exit status {code}")),
                    Exit::Signal(signal) => {
                        Healthy::new(false, format_args!("killed by signal {signal}"))
                    }
                };
                self.finish(&Message::Reply(Reply::Health(healthy)));
            }
            _ => {}
        }
    }

    /// A probe's time is over: the answer is no.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let Task::Probe { pid, deadline } = self.task else {
            return false;
        };
        if now < deadline {
            return false;
        }
        main_program::send(
            nix::unistd::Pid::from_raw(-pid.as_raw()),
            libc::SIGKILL as u8,
        );
        let healthy = Healthy::new(false, "no answer in time");
        self.finish(&Message::Reply(Reply::Health(healthy)));
        true
    }
}
