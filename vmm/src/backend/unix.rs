//! Host programs on unix sockets: those that come to talk to a guest, and those that a guest wants to talk to.
//!
//! ```text
//! who connects to the listener      "CONNECT 1024\n" -->   the guest's port 1024
//!                                   <-- "OK 1073741824\n"  the guest took it
//! a guest that wants host port 52   ----------------->     <dir>/<prefix>_52
//! ```
//!
//! Every socket is non-blocking, and watched in one epoll set by its edges: it is registered once, and whoever owns it remembers what
//! it said. The listener alone is watched by level, and only while somebody may come.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect, recv,
    socket_with, sockopt::socket_acceptconn,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::spec::VsockOut;

/// Most bytes of a greeting's line.
const LINE: usize = 32;
/// Events that are taken at once.
const BATCH: usize = 64;
/// The listener's token.
const LISTENER: u64 = u64::MAX;
/// The timer's.
const TIMER: u64 = u64::MAX - 1;
/// How long nobody is accepted after the process ran out of descriptors.
const RETRY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
const ZERO: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The host's side of a guest's sockets.
#[derive(Debug)]
pub struct Sockets {
    epoll: OwnedFd,
    listener: OwnedFd,
    listening: bool,
    /// Rings when accepting may be tried again, while it could not be done.
    timer: OwnedFd,
    starved: bool,
    out: Option<VsockOut>,
}

/// What a socket, or the listener, said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody may be accepted.
    Knock,
    /// Somebody may be heard again.
    Rested,
    /// Something about the socket with this token.
    Socket(usize, Edges),
}

/// What changed for a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// There is something to read, or the end.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The other side is closed, and takes nothing more.
    pub closed: bool,
}

/// What somebody who connected has said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The port they want.
    Port(u32),
    /// Not a whole line yet.
    Unfinished,
    /// Nothing that makes sense, or they are gone.
    Nonsense,
}

impl Sockets {
    /// Takes a listening socket.
    ///
    /// # Errors
    /// Where it is not one, or there is no descriptor left.
    pub fn new(listener: OwnedFd, out: Option<VsockOut>) -> io::Result<Self> {
        if !socket_acceptconn(&listener)? {
            return Err(io::Error::other("the descriptor is not a listening socket"));
        }
        let flags = rustix::fs::fcntl_getfl(&listener)?;
        rustix::fs::fcntl_setfl(&listener, flags | OFlags::NONBLOCK)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let token = epoll::EventData::new_u64(TIMER);
        let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &timer, token, edges)?;
        Ok(Self {
            epoll,
            listener,
            listening: false,
            timer,
            starved: false,
            out,
        })
    }

    /// Says by `wanted` whether those that knock are to be heard.
    pub fn listen(&mut self, wanted: bool) {
        let wanted = wanted && !self.starved;
        if wanted == self.listening {
            return;
        }
        let done = if wanted {
            let token = epoll::EventData::new_u64(LISTENER);
            epoll::add(&self.epoll, &self.listener, token, epoll::EventFlags::IN)
        } else {
            epoll::delete(&self.epoll, &self.listener)
        };
        if done.is_ok() {
            self.listening = wanted;
        }
    }

    /// Takes one of those that knock; `None` where there is nobody any more, or no descriptor left: then nobody is heard for a while.
    pub fn accept(&mut self) -> Option<OwnedFd> {
        loop {
            match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => return Some(socket),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => {
                    // It stays readable: to be told again at once would be a loop.
                    let once = Itimerspec {
                        it_interval: ZERO,
                        it_value: RETRY,
                    };
                    let flags = TimerfdTimerFlags::empty();
                    self.starved = timerfd_settime(&self.timer, flags, &once).is_ok();
                    self.listen(false);
                    return None;
                }
            }
        }
    }

    /// Connects to what listens for a guest's connections to `port`. It waits for nobody: a listener whose backlog is full refuses.
    ///
    /// # Errors
    /// The kernel's; also where no place for such connections was given.
    pub fn connect(&self, port: u32) -> io::Result<OwnedFd> {
        let out = self.out.as_ref().ok_or(Errno::CONNREFUSED)?;
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        let path = format!(
            "/proc/self/fd/{}/{}_{port}",
            out.dir.as_raw_fd(),
            out.prefix
        );
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket)
    }

    /// Watches `socket` until it is closed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn watch(&self, socket: &OwnedFd, token: usize) -> io::Result<()> {
        let edges = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let token = epoll::EventData::new_u64(token as u64);
        Ok(epoll::add(&self.epoll, socket, token, edges)?)
    }

    /// What happened, up to a bound: what is left over keeps the set readable.
    #[must_use]
    pub fn events(&mut self) -> Vec<Event> {
        let mut space = [MaybeUninit::uninit(); BATCH];
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut space, Some(&ZERO)) else {
            return vec![];
        };
        let starved = &mut self.starved;
        let event = |event: &epoll::Event| match event.data.u64() {
            LISTENER => Event::Knock,
            TIMER => {
                *starved = false;
                Event::Rested
            }
            token => {
                let all = event.flags;
                let has = |flags| all.intersects(flags);
                let closed = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
                let edges = Edges {
                    readable: has(closed | epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
                    writable: has(closed | epoll::EventFlags::OUT),
                    closed: has(closed),
                };
                Event::Socket(token as usize, edges)
            }
        };
        events.iter().map(event).collect()
    }
}

impl AsFd for Sockets {
    /// The epoll set: readable while there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Hears which port somebody wants. Not a byte after the line is taken.
#[must_use]
pub fn hear(socket: &OwnedFd) -> Greeting {
    let mut line = [0; LINE];
    let peeked = match recv(socket, &mut line[..], RecvFlags::PEEK) {
        Ok((count, _)) => &line[..count],
        Err(Errno::AGAIN | Errno::INTR) => return Greeting::Unfinished,
        Err(_) => return Greeting::Nonsense,
    };
    let Some(end) = peeked.iter().position(|b| *b == b'\n') else {
        // A line that has begun and goes on for ever is no line; its end by a close comes up as no byte.
        let whole = peeked.is_empty() || peeked.len() == LINE;
        return if whole {
            Greeting::Nonsense
        } else {
            Greeting::Unfinished
        };
    };
    let port = parse(&peeked[..end]);
    let taken = recv(socket, &mut line[..=end], RecvFlags::empty());
    match (port, taken) {
        (Some(port), Ok((count, _))) if count == end + 1 => Greeting::Port(port),
        _ => Greeting::Nonsense,
    }
}

/// `CONNECT <port>`; as in Firecracker, the word in any case.
fn parse(line: &[u8]) -> Option<u32> {
    let line = str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let word = words.next()?;
    let port = words.next()?;
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let valid = word.eq_ignore_ascii_case("connect") && words.next().is_none() && digits;
    valid.then(|| port.parse().ok()).flatten()
}

#[cfg(test)]
#[path = "unix_tests.rs"]
mod tests;
