//! What would hold up the loop: a thread each, with the connection to itself.
//!
//! Copies wait for disks and probes for other programs, and both are written as if they had all the time. There are few at
//! once, and a peer that does not get on is given up.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use abi::agent::frame::{Decoder, HEADER, Kind, PAYLOAD_MAX, header};
use abi::agent::message::Message;
use abi::agent::reply::{Code, Failure, Reply};
use abi::agent::request::Probe;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use nix::sys::time::TimeVal;

use crate::conn::Conn;
use crate::{copy_in, copy_out, probe};

/// Most workers at once.
const WORKERS: usize = 32;
/// What they need: buffers are on the heap.
const STACK: usize = 256 * 1024;
/// A peer that takes or gives nothing for so long is given up.
const PATIENCE_S: i64 = 60;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What a worker does.
#[derive(Debug)]
pub(crate) enum Worker {
    /// Unpacks into a directory.
    CopyIn(String),
    /// Packs a path.
    CopyOut(String),
    /// Looks whether a service answers in that time.
    Probe(Probe, Duration),
}

/// Counts a worker while it lives.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let more = |count| (count < WORKERS).then_some(count + 1);
        COUNT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// Goes to work on what was `conn`'s, which is no longer in the poll.
    pub(crate) fn start(self, conn: &mut Conn, decoder: Decoder, rest: Vec<u8>) -> io::Result<()> {
        let socket = conn.socket.as_fd().try_clone_to_owned()?;
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::empty()))?;
        let patience = TimeVal::new(PATIENCE_S, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        let mut channel = Channel {
            socket,
            decoder,
            rest,
            taken: 0,
            frame: Vec::new(),
        };
        channel.write_all(conn.socket.kept())?;
        let Some(place) = Place::take() else {
            channel.tell(&Message::Error(Failure::new(
                Code::Busy,
                "too many copies and probes at once",
            )));
            return Ok(());
        };
        thread::Builder::new().stack_size(STACK).spawn(move || {
            self.work(&mut channel);
            channel.end();
            drop(place);
        })?;
        Ok(())
    }

    fn work(self, channel: &mut Channel) {
        let done = match self {
            Self::CopyIn(path) => copy_in::copy_in(channel, &path).map(|()| Some(Reply::Done)),
            // Its stream has an end of its own.
            Self::CopyOut(path) => copy_out::copy_out(channel, &path).map(|()| None),
            Self::Probe(probe, timeout) => Ok(Some(Reply::Health(probe::probe(&probe, timeout)))),
        };
        match done {
            Ok(Some(reply)) => channel.tell(&Message::Reply(reply)),
            Ok(None) => {}
            Err(failure) => channel.tell(&Message::Error(failure)),
        }
    }
}

/// A connection as a worker has it: reads and writes wait.
pub(crate) struct Channel {
    socket: OwnedFd,
    decoder: Decoder,
    /// What was read and not yet looked at, from `taken` on.
    rest: Vec<u8>,
    taken: usize,
    /// A frame of data in the making.
    frame: Vec<u8>,
}

impl Channel {
    /// Sends a message. Whether the peer still hears it does not matter: it is the last, or another follows.
    pub(crate) fn tell(&mut self, message: &Message<'_>) {
        let mut frame = Vec::new();
        if message.encode(&mut frame).is_ok() {
            let _ = self.write_all(&frame);
        }
    }

    /// Appends bytes of a stream to `out`; `false` at the stream's end.
    pub(crate) fn next_data(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let mut input = &self.rest[self.taken..];
            let before = input.len();
            let bad = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
            let frame = self.decoder.next(&mut input).map_err(|error| bad(&error))?;
            let message = frame
                .map(Message::decode)
                .transpose()
                .map_err(|error| bad(&error))?;
            let end = match message {
                Some(Message::Data(bytes)) => {
                    out.extend_from_slice(bytes);
                    Some(true)
                }
                Some(Message::Eof) => Some(false),
                Some(other) => {
                    return Err(bad(&format_args!(
                        "a frame of kind {:?} means nothing here",
                        other.kind()
                    )));
                }
                None => None,
            };
            self.taken += before - input.len();
            if let Some(more) = end {
                return Ok(more);
            }
            self.rest.resize(PAYLOAD_MAX, 0);
            self.taken = 0;
            let count = loop {
                match nix::unistd::read(&self.socket, &mut self.rest) {
                    Err(Errno::EINTR) => {}
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    other => break other?,
                }
            };
            self.rest.truncate(count);
        }
    }

    /// Nothing more is said: waits until the peer has heard all and closes.
    fn end(&mut self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        self.rest.resize(PAYLOAD_MAX, 0);
        while nix::unistd::read(&self.socket, &mut self.rest).is_ok_and(|count| count > 0) {}
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match nix::unistd::write(&self.socket, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// Bytes of a tar stream, to the peer.
impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.frame.is_empty() {
            self.frame.reserve_exact(HEADER + PAYLOAD_MAX);
            self.frame.extend_from_slice(&[0; HEADER]);
        }
        let room = HEADER + PAYLOAD_MAX - self.frame.len();
        let count = bytes.len().min(room);
        self.frame.extend_from_slice(&bytes[..count]);
        if count == room {
            self.flush()?;
        }
        Ok(count)
    }

    /// Sends what there is as one frame.
    fn flush(&mut self) -> io::Result<()> {
        let mut frame = std::mem::take(&mut self.frame);
        if frame.len() > HEADER {
            let header = header(Kind::Data, frame.len() - HEADER)
                .map_err(|error| io::Error::other(error.to_string()))?;
            frame[..HEADER].copy_from_slice(&header);
            self.write_all(&frame)?;
        }
        frame.clear();
        self.frame = frame;
        Ok(())
    }
}

/// Bytes of a tar stream, from the peer.
pub(crate) struct Incoming<'a> {
    channel: &'a mut Channel,
    data: Vec<u8>,
    taken: usize,
    is_over: bool,
}

impl<'a> Incoming<'a> {
    pub(crate) fn new(channel: &'a mut Channel) -> Self {
        Self {
            channel,
            data: Vec::new(),
            taken: 0,
            is_over: false,
        }
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.data.len() && !self.is_over {
            self.data.clear();
            self.taken = 0;
            self.is_over = !self.channel.next_data(&mut self.data)?;
        }
        let count = buffer.len().min(self.data.len() - self.taken);
        buffer[..count].copy_from_slice(&self.data[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}
