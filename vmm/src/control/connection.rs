//! One client of the API.
//!
//! ```text
//!           a request is whole; its answer is sent
//!         +----------------------------------------+
//!         v                                        |
//!   idle ----> request (its bytes come in) ----> answer (it goes out)
//!                 |  refused, or too late          |  the last one
//!                 +-------------+------------------+
//!                               v
//!                            draining ----> closed
//! ```
//!
//! All but idle last for a bounded time. Draining takes what the client still sends and forgets it, so that a client that is
//! refused in the midst of its body reads why instead of an error of its socket. While an answer goes out no more is read: who
//! does not take answers gets no further questions answered.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::http::{Parser, Request, Response};

/// Bytes read at once.
const READ: usize = 8 << 10;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The first byte of a request.
    Idle,
    /// The rest of a request.
    Request,
    /// That the client takes its answer.
    Answer,
    /// That the client hangs up.
    Drain,
    /// Nothing: it is over.
    Closed,
}

/// One client.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    parser: Parser,
    out: Vec<u8>,
    sent: usize,
    wait: Wait,
    /// Nothing more is answered: after what is in `out` the connection closes.
    last: bool,
    /// The client has sent all it will.
    finished: bool,
    served: bool,
    /// Since when it waits for that, `CLOCK_MONOTONIC` nanoseconds.
    since: u64,
    /// How long it may, nanoseconds.
    patience: u64,
}

impl Connection {
    /// Takes a non-blocking socket.
    pub(super) fn new(socket: OwnedFd, now: u64, patience: u64) -> Self {
        Self {
            socket,
            parser: Parser::new(),
            out: Vec::new(),
            sent: 0,
            wait: Wait::Idle,
            last: false,
            finished: false,
            served: false,
            since: now,
            patience,
        }
    }

    /// Does what can be done without waiting: reads once, answers each request that is whole, sends.
    pub(super) fn run(&mut self, now: u64, answer: &mut dyn FnMut(&Request) -> Response) {
        if self.wait != Wait::Answer {
            self.read();
        }
        let served = self.answer(answer);
        self.served |= served;
        let wait = self.waits_for();
        // A new request has its own time, though the connection waited for one before.
        if wait != self.wait || served {
            self.since = now;
        }
        self.wait = wait;
    }

    /// When [`Connection::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<u64> {
        match self.wait {
            Wait::Request | Wait::Answer | Wait::Drain => Some(self.since + self.patience),
            Wait::Idle | Wait::Closed => None,
        }
    }

    /// Gives up on a client whose time is over.
    pub(super) fn expire(&mut self, now: u64) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.wait != Wait::Request {
            self.wait = Wait::Closed;
            return;
        }
        let seconds = self.patience as f64 / 1e9;
        let fault = format!("the request was not complete within {seconds} s of its first byte");
        Response::fault(408, &fault).write(&mut self.out, false);
        self.last = true;
        self.flush();
        self.wait = self.waits_for();
        self.since = now;
    }

    /// From when on it may be closed in favour of another client; `None` where it is at work.
    ///
    /// One that has not yet spoken has the time that a request has, so that a crowd that arrives at once is served in turn.
    pub(super) fn yields_at(&self) -> Option<u64> {
        match self.wait {
            Wait::Idle if !self.served => Some(self.since + self.patience),
            Wait::Idle | Wait::Drain | Wait::Closed => Some(self.since),
            Wait::Request | Wait::Answer => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.wait == Wait::Closed
    }

    /// What it waits for, in epoll's words.
    pub(super) fn interest(&self) -> EventFlags {
        match self.wait {
            Wait::Idle | Wait::Request | Wait::Drain => EventFlags::IN,
            Wait::Answer => EventFlags::OUT,
            Wait::Closed => EventFlags::empty(),
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; READ];
        let room = match self.wait {
            Wait::Drain => READ,
            _ => self.parser.room().min(READ),
        };
        match recv(&self.socket, &mut buffer[..room], RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.finished = true,
            Ok((count, _)) if self.wait != Wait::Drain => {
                self.parser.feed(&buffer[..count]);
            }
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.hang_up(),
        }
    }

    /// Answers until bytes are missing or the client does not take the answers; says whether there was a request.
    fn answer(&mut self, answer: &mut dyn FnMut(&Request) -> Response) -> bool {
        let mut served = false;
        self.flush();
        while self.out.is_empty() && !self.last {
            match self.parser.next_request() {
                Ok(Some(request)) => {
                    served = true;
                    self.last = !request.keep_alive;
                    answer(&request).write(&mut self.out, request.keep_alive);
                }
                Ok(None) => {
                    if self.parser.take_continue() {
                        self.out.extend_from_slice(Response::CONTINUE);
                        self.flush();
                    }
                    break;
                }
                Err(error) => {
                    self.last = true;
                    Response::fault(error.status(), &error.to_string()).write(&mut self.out, false);
                }
            }
            self.flush();
        }
        served
    }

    /// Sends what the client takes now.
    fn flush(&mut self) {
        while self.sent < self.out.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.socket, &self.out[self.sent..], flags) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.hang_up(),
            }
        }
        self.out.clear();
        self.sent = 0;
    }

    /// The client is gone: nothing can be said to it.
    fn hang_up(&mut self) {
        self.out.clear();
        self.sent = 0;
        self.last = true;
        self.finished = true;
    }

    fn waits_for(&self) -> Wait {
        if !self.out.is_empty() {
            Wait::Answer
        } else if self.finished {
            Wait::Closed
        } else if self.last {
            if self.wait != Wait::Drain {
                let _ = shutdown(&self.socket, Shutdown::Write);
            }
            Wait::Drain
        } else if self.parser.mid_request() {
            Wait::Request
        } else {
            Wait::Idle
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
