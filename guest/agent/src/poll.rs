//! Waiting for descriptors: epoll, edge-triggered.
//!
//! Each descriptor is added once and never changed: its [`Stream`] remembers what the kernel said. That saves two
//! system calls each time a stream stalls, and system calls are what costs where ring 0 is emulated.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Most events that one wait gives.
const EVENTS: usize = 64;

/// Whose descriptor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) owner: u32,
    pub(crate) role: Role,
}

/// Which of its owner's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Socket,
    Stdin,
    Stdout,
    Stderr,
}

impl Token {
    fn to_bits(self) -> u64 {
        u64::from(self.owner) << 2 | self.role as u64
    }

    fn from_bits(bits: u64) -> Self {
        let role = match bits & 3 {
            0 => Role::Socket,
            1 => Role::Stdin,
            2 => Role::Stdout,
            _ => Role::Stderr,
        };
        // Cut to what `to_bits` put there.
        let owner = (bits >> 2) as u32;
        Self { owner, role }
    }
}

/// What all of the agent waits on.
pub(crate) struct Poll {
    epoll: Epoll,
    events: [EpollEvent; EVENTS],
}

impl Poll {
    pub(crate) fn new() -> nix::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: [EpollEvent::empty(); EVENTS],
        })
    }

    pub(crate) fn add(&self, fd: impl AsFd, owner: u32, role: Role) -> nix::Result<()> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        let token = Token { owner, role };
        self.epoll.add(fd, EpollEvent::new(flags, token.to_bits()))
    }

    /// Before a descriptor goes to somebody else. Closing one takes it out as well.
    pub(crate) fn remove(&self, fd: impl AsFd) -> nix::Result<()> {
        self.epoll.delete(fd)
    }

    /// Waits until something happens, at most for `timeout`.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> impl Iterator<Item = (Token, EpollFlags)> + use<> {
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            // Rounded up: a wait that ends early would only be waited again.
            Some(time) => i32::try_from(time.as_millis().saturating_add(1))
                .ok()
                .filter(|_| !time.is_zero())
                .and_then(|ms| EpollTimeout::try_from(ms).ok())
                .unwrap_or(if time.is_zero() {
                    EpollTimeout::ZERO
                } else {
                    EpollTimeout::MAX
                }),
        };
        // Interrupted is as good as nothing happened.
        let count = self.epoll.wait(&mut self.events, timeout).unwrap_or(0);
        let events = self.events;
        events
            .into_iter()
            .take(count)
            .map(|event| (Token::from_bits(event.data()), event.events()))
    }
}

/// A descriptor that is read or written without ever waiting.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: OwnedFd,
    readable: bool,
    writable: bool,
    /// The other side will write no more.
    hung_up: bool,
    /// Terminals give less than they have.
    terminal: bool,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Bytes(usize),
    Nothing,
    End,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// Less than all of it means: no more for now.
    Bytes(usize),
    /// Nobody reads any more.
    Gone,
}

impl Stream {
    /// `fd` must be non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            readable: true,
            writable: true,
            hung_up: false,
            terminal: false,
        }
    }

    pub(crate) fn terminal(fd: OwnedFd) -> Self {
        Self {
            terminal: true,
            ..Self::new(fd)
        }
    }

    pub(crate) fn note(&mut self, events: EpollFlags) {
        let over = EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLERR;
        self.hung_up |= events.intersects(over);
        self.readable |= events.intersects(EpollFlags::EPOLLIN | over);
        self.writable |= events.intersects(EpollFlags::EPOLLOUT | over);
    }

    /// Something may be there that no event will tell of.
    pub(crate) fn look_again(&mut self) {
        self.readable = true;
    }

    pub(crate) fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Got {
        while self.readable {
            match nix::unistd::read(&self.fd, buffer) {
                Ok(0) => return Got::End,
                Ok(count) => {
                    // Less than there was room for: that was all, and the next bytes make a new event.
                    if count < buffer.len() && !self.hung_up && !self.terminal {
                        self.readable = false;
                    }
                    return Got::Bytes(count);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.readable = false,
                // A terminal says so when its program is gone; a socket that is reset is at its end too.
                Err(_) => return Got::End,
            }
        }
        Got::Nothing
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Put {
        let mut done = 0;
        while self.writable && done < bytes.len() {
            match nix::unistd::write(&self.fd, &bytes[done..]) {
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.writable = false,
                Err(_) => return Put::Gone,
            }
        }
        Put::Bytes(done)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// How much of what is written already may be kept, and how much room for more.
const COMPACT: usize = 64 * 1024;

/// Bytes on their way into a stream: what it does not take at once is kept.
#[derive(Debug)]
pub(crate) struct Sink {
    stream: Stream,
    kept: Vec<u8>,
    written: usize,
    ends: bool,
}

impl Sink {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            kept: Vec::new(),
            written: 0,
            ends: false,
        }
    }

    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// How many bytes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.kept.len() - self.written
    }

    /// What waits.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept[self.written..]
    }

    /// No more will come: when all is written, the stream is closed.
    pub(crate) fn end(&mut self) {
        self.ends = true;
    }

    /// Writes `bytes` behind what waits. `false` when the stream is of no more use.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        if self.ends {
            return true;
        }
        let mut taken = 0;
        if self.waiting() == 0 {
            match self.stream.write(bytes) {
                Put::Bytes(count) => taken = count,
                Put::Gone => return false,
            }
        }
        // A stream that is never quite empty must not keep what it has long written.
        if self.written >= COMPACT {
            self.kept.drain(..self.written);
            self.written = 0;
        }
        self.kept.extend_from_slice(&bytes[taken..]);
        true
    }

    /// Writes what waits. `false` when the stream is of no more use, or at its end.
    pub(crate) fn flush(&mut self) -> bool {
        if self.waiting() > 0 {
            match self.stream.write(&self.kept[self.written..]) {
                Put::Bytes(count) => self.written += count,
                Put::Gone => return false,
            }
        }
        if self.waiting() == 0 {
            self.written = 0;
            // What was large once is not kept for ever.
            if self.kept.capacity() > COMPACT {
                self.kept = Vec::new();
            }
            self.kept.clear();
        }
        !(self.ends && self.waiting() == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_sink_that_is_never_empty_keeps_no_more_than_what_waits() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut sink = Sink::new(Stream::new(ours.into()));
        let piece: Vec<u8> = (0..=250).cycle().take(50_000).collect();
        while sink.waiting() == 0 {
            assert!(sink.push(&piece));
        }
        let mut heard = Vec::new();
        for _ in 0..200 {
            let mut some = vec![0; piece.len()];
            theirs.read_exact(&mut some).unwrap();
            heard.extend(some);
            assert!(sink.push(&piece));
            sink.stream().note(EpollFlags::EPOLLOUT);
            assert!(sink.flush());
            assert!(sink.waiting() > 0, "it is never quite empty");
            let most = sink.waiting() + COMPACT + 2 * piece.len();
            assert!(
                sink.kept.len() <= most,
                "{} bytes are kept",
                sink.kept.len()
            );
        }
        assert!(heard.chunks(piece.len()).all(|chunk| chunk == piece));
    }
}
