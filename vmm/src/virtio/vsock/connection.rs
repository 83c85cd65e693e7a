//! One stream between a guest's program and a host's.
//!
//! ```text
//!  host connects:   asked --response--> open                 guest connects:  open
//!                     | reset                                                  | shutdown of both directions, reset, or nonsense
//!                     v                                                        v
//!                    gone                                                     gone, once what it sent is with the host's program
//! ```
//!
//! What is owed to the guest is remembered as flags, never as packets: a connection is of one size, however slow its guest is.
//! A direction that the host's program ended is shut down for the guest after the last byte; once both are, the socket is
//! closed, and the entry waits for the guest's reset.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::credit::Credit;
use super::outflow::Outflow;
use super::packet::{BOTH, HOST, Header, Operation, SENDS_NO_MORE, STREAM, TAKES_NO_MORE};
use crate::backend::unix::Edges;
use crate::backend::vector::Vector;

/// Which connection: its port on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) host_port: u32,
    pub(super) guest_port: u32,
}

/// What becomes of a connection after a packet of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Stays,
    /// Both have said all: the guest is to hear a reset, the host's program gets the rest.
    Finished,
    /// The guest reset it; the host's program gets the rest.
    Left,
    /// The packet made no sense: a reset, and nothing more.
    Nonsense,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: Key,
    /// It stands in the list of those that have something for the guest.
    pub(super) queued: bool,
    cid: u64,
    /// `None` once the host's program and the guest have nothing more to say to each other.
    socket: Option<OwnedFd>,
    stage: Stage,
    credit: Credit,
    outflow: Outflow,
    /// There may be something to read.
    readable: bool,
    /// Nothing more goes to the guest: the host's program said all, or the guest wants no more.
    ended: bool,
    /// What the guest said that it does no more.
    guest_done: u32,
    /// What the guest was told that we do no more.
    told: u32,
    owes_credit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The guest is to be asked.
    ToAsk,
    /// It was asked.
    Asked,
    /// The guest asked, and is to be told that it may.
    ToAnswer,
    Open,
}

impl Connection {
    /// Of a host's program that wants the guest's port.
    pub(super) fn to_guest(key: Key, cid: u64, socket: OwnedFd, window: u32) -> Self {
        Self {
            key,
            queued: false,
            cid,
            socket: Some(socket),
            stage: Stage::ToAsk,
            credit: Credit::new(window),
            outflow: Outflow::default(),
            // What it said before it was watched is no edge.
            readable: true,
            ended: false,
            guest_done: 0,
            told: 0,
            owes_credit: false,
        }
    }

    /// Of a guest, by its request, to the host's program behind `socket`.
    pub(super) fn of_guest(key: Key, socket: OwnedFd, window: u32, request: &Header) -> Self {
        let mut connection = Self::to_guest(key, request.src_cid, socket, window);
        connection.stage = Stage::ToAnswer;
        connection.credit.hear(request.buf_alloc, request.fwd_cnt);
        connection
    }

    /// Its socket, until it is closed.
    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Whether it only waits for the guest's reset.
    pub(super) fn is_over(&self) -> bool {
        self.socket.is_none()
    }

    /// Whether the guest has taken it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::ToAnswer | Stage::Open)
    }

    /// What the guest is to hear where the host's program is gone before the guest has taken it.
    pub(super) fn withdrawal(&mut self) -> Option<Header> {
        (self.stage == Stage::Asked).then(|| self.header(Operation::Reset))
    }

    /// What remains for the host's program, where it is something.
    pub(super) fn into_rest(self) -> Option<(OwnedFd, Outflow)> {
        let socket = self.socket?;
        let mut outflow = self.outflow;
        (!outflow.is_empty()).then(|| {
            outflow.end(&socket);
            (socket, outflow)
        })
    }

    /// Whether there is something for the guest.
    pub(super) fn has_packet(&self) -> bool {
        match self.stage {
            Stage::ToAsk | Stage::ToAnswer => true,
            Stage::Asked => false,
            Stage::Open => {
                self.can_read() || self.done() != self.told || self.owes_credit || self.is_due()
            }
        }
    }

    /// The next packet for the guest; its data are read into `data`. `None` where there is nothing after all.
    pub(super) fn packet(&mut self, data: &mut Vector<'_>) -> Option<Header> {
        match self.stage {
            Stage::ToAsk => {
                self.stage = Stage::Asked;
                return Some(self.header(Operation::Request));
            }
            Stage::ToAnswer => {
                self.stage = Stage::Open;
                return Some(self.header(Operation::Response));
            }
            Stage::Asked => return None,
            Stage::Open => {}
        }
        if let Some(length) = self.read(data) {
            let header = self.header(Operation::Data);
            return Some(Header { length, ..header });
        }
        if self.done() != self.told {
            self.told = self.done();
            let header = self.header(Operation::Shutdown);
            if self.told == BOTH {
                self.socket = None;
            }
            return Some(Header {
                flags: self.told,
                ..header
            });
        }
        (self.owes_credit || self.is_due()).then(|| self.header(Operation::CreditUpdate))
    }

    /// Something changed for the socket.
    pub(super) fn follow(&mut self, edges: Edges) {
        self.readable |= edges.readable;
        let Some(socket) = &self.socket else { return };
        let mut forwarded = 0;
        if edges.writable {
            forwarded += self.outflow.flush(socket);
        }
        if edges.closed {
            forwarded += self.outflow.close();
        }
        self.credit.forward(forwarded as u32);
    }

    /// Takes a packet of the guest. Data beyond the header's length are not in `data`.
    pub(super) fn hear(&mut self, header: &Header, data: &mut Vector<'_>) -> Verdict {
        self.credit.hear(header.buf_alloc, header.fwd_cnt);
        match (self.stage, Operation::of(header.operation)) {
            (_, Some(Operation::Reset)) => Verdict::Left,
            (Stage::Asked, Some(Operation::Response)) => self.open(),
            (Stage::Open, Some(Operation::Data)) => self.receive(data),
            (Stage::Open, Some(Operation::Shutdown)) => self.shut(header.flags),
            (Stage::Open, Some(Operation::CreditUpdate)) => Verdict::Stays,
            (Stage::Open, Some(Operation::CreditRequest)) => {
                self.owes_credit = true;
                Verdict::Stays
            }
            _ => Verdict::Nonsense,
        }
    }

    fn open(&mut self) -> Verdict {
        self.stage = Stage::Open;
        let text = format!("OK {}\n", self.key.host_port);
        // The first words on a fresh socket: there is room for them. One that is gone already is noticed by its end.
        if let Some(socket) = &self.socket {
            let _ = send(
                socket,
                text.as_bytes(),
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            );
        }
        Verdict::Stays
    }

    fn receive(&mut self, data: &mut Vector<'_>) -> Verdict {
        let length = data.len();
        let fits = u32::try_from(length).is_ok_and(|n| self.credit.receive(n).is_ok());
        if !fits || self.guest_done & SENDS_NO_MORE != 0 {
            return Verdict::Nonsense;
        }
        let forwarded = match &self.socket {
            Some(socket) => self.outflow.push(socket, data),
            None => length,
        };
        self.credit.forward(forwarded as u32);
        Verdict::Stays
    }

    fn shut(&mut self, flags: u32) -> Verdict {
        let new = flags & BOTH & !self.guest_done;
        self.guest_done |= new;
        if self.guest_done == BOTH {
            return Verdict::Finished;
        }
        if let Some(socket) = &self.socket {
            if new & SENDS_NO_MORE != 0 {
                self.outflow.end(socket);
            }
            if new & TAKES_NO_MORE != 0 {
                // Whoever writes to it hears so; what they wrote before is lost.
                self.ended = true;
                let _ = shutdown(socket, Shutdown::Read);
            }
        }
        Verdict::Stays
    }

    /// Reads what the guest has room for; says how much that was, if anything.
    fn read(&mut self, data: &mut Vector<'_>) -> Option<u32> {
        if !self.can_read() {
            return None;
        }
        data.truncate(self.credit.room() as usize);
        match data.read(self.socket.as_ref()?) {
            Ok(0) => self.ended = true,
            Ok(count) => {
                // No more than the guest has room for.
                self.credit.send(count as u32);
                return Some(count as u32);
            }
            Err(Errno::AGAIN) => self.readable = false,
            Err(_) => {
                // It was closed with something left unread.
                self.ended = true;
                let forgotten = self.outflow.close();
                self.credit.forward(forgotten as u32);
            }
        }
        None
    }

    fn can_read(&self) -> bool {
        self.socket.is_some() && self.readable && !self.ended && self.credit.room() > 0
    }

    /// What is done no more on this side.
    fn done(&self) -> u32 {
        let sends = if self.ended { SENDS_NO_MORE } else { 0 };
        let takes = if self.outflow.is_closed() {
            TAKES_NO_MORE
        } else {
            0
        };
        sends | takes | self.told
    }

    /// Whether the guest should hear now of the credit that it got back. One that sends no more need not.
    fn is_due(&self) -> bool {
        self.guest_done & SENDS_NO_MORE == 0 && self.credit.is_worth_telling()
    }

    fn header(&mut self, operation: Operation) -> Header {
        let (buf_alloc, fwd_cnt) = self.credit.tell();
        self.owes_credit = false;
        Header {
            src_cid: HOST,
            dst_cid: self.cid,
            src_port: self.key.host_port,
            dst_port: self.key.guest_port,
            kind: STREAM,
            operation: operation as u16,
            buf_alloc,
            fwd_cnt,
            ..Header::default()
        }
    }
}
