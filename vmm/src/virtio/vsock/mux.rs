//! All connections of one guest.
//!
//! ```text
//!              accept            its line came             response
//!  listener ----------> greeting -------------> connection ---------> ...          (connection.rs)
//!                                                   ^      |
//!  the guest's request, the host's listener took it-+      | gone, but not all is with the host's program
//!                                                          v
//!                                                       draining
//! ```
//!
//! Whatever somebody does, there are no more than [`MAX`] of all of them, each of bounded size. Those that have something for the guest stand
//! in a line: each in its turn fills one buffer. What needs no connection, a reset, goes first.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use super::connection::{Connection, Key, Verdict};
use super::outflow::Outflow;
use super::packet::{self, HOST, Header, Operation, STREAM};
use crate::backend::unix::{Edges, Event, Greeting, Sockets, hear};
use crate::backend::vector::Vector;
use crate::meter::{Counter, Meter};
use crate::virtio::ring::{BadChain, Broken, Chain, Ring};

/// Most connections, greetings and rests together.
const MAX: usize = 1024;
/// Most that have connected and not said what they want.
const GREETINGS: usize = 64;
/// Most that are accepted in one turn.
const ACCEPTS: usize = 16;
/// Most resets that wait for the guest: one that sends nonsense and takes no answers gets no more of them.
const RESETS: usize = 256;
/// Bytes that a guest may have under way in one connection, while there are few of them.
const WINDOW: u32 = 256 << 10;
/// The same, where there are many.
const SMALL_WINDOW: u32 = 32 << 10;
/// How many are few.
const FEW: usize = 64;
/// Host ports from here on are for connections to the guest: as in Firecracker, none that listeners have.
const FIRST_PORT: u32 = 1 << 30;
/// Rounds of events in one turn: each may bring news of many sockets.
const ROUNDS: usize = 4;

/// The table of connections.
#[derive(Debug)]
pub(super) struct Mux {
    cid: u64,
    sockets: Sockets,
    slots: Vec<Slot>,
    free: Vec<usize>,
    by_key: HashMap<Key, usize>,
    /// Slots whose connection has something for the guest, each once.
    line: VecDeque<usize>,
    resets: VecDeque<Header>,
    /// Greetings, the oldest first.
    greetings: VecDeque<usize>,
    next_port: u32,
    max: usize,
    meter: Arc<Meter>,
}

#[derive(Debug)]
enum Slot {
    Free,
    Greeting(OwnedFd),
    Connection(Connection),
    Draining(OwnedFd, Outflow),
}

/// What one buffer of the guest was filled with.
enum Filled {
    Packet(u32),
    Nothing,
}

impl Mux {
    pub(super) fn new(cid: u32, sockets: Sockets, meter: Arc<Meter>) -> Self {
        // Half of the descriptors at most: the monitor needs some itself.
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let half = usize::try_from(descriptors / 2).unwrap_or(MAX);
        Self {
            cid: u64::from(cid),
            sockets,
            slots: vec![],
            free: vec![],
            by_key: HashMap::new(),
            line: VecDeque::new(),
            resets: VecDeque::new(),
            greetings: VecDeque::new(),
            next_port: FIRST_PORT,
            max: half.min(MAX),
            meter,
        }
    }

    /// Readable when there is something to do that [`Self::fill`] does.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.sockets.as_fd()
    }

    /// The guest's driver is gone, and with it all connections; only rests still go to the host.
    pub(super) fn reset(&mut self) {
        for at in 0..self.slots.len() {
            if !matches!(self.slots[at], Slot::Free | Slot::Draining(..)) {
                self.release(at);
            }
        }
        self.resets.clear();
        self.next_port = FIRST_PORT;
        // Who comes now waits in the listener's backlog.
        self.sockets.listen(false);
    }

    /// Whether [`Self::fill`] has something for the guest.
    pub(super) fn has_packets(&self) -> bool {
        !self.resets.is_empty() || !self.line.is_empty()
    }

    /// Takes what came from the host, and fills the guest's buffers.
    pub(super) fn fill(&mut self, ring: &mut Ring<'_>) -> Result<(), Broken> {
        if self.follow_events() {
            ring.ask_again();
        }
        self.listen();
        while self.has_packets()
            && let Some(chain) = ring.next_chain()?
        {
            match self.fill_chain(&chain) {
                Ok(Filled::Packet(length)) => ring.done(&chain, length)?,
                Ok(Filled::Nothing) => ring.put_back([chain]),
                Err(BadChain) => {
                    ring.note_bad_chain();
                    ring.done(&chain, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the guest's packets.
    pub(super) fn take(&mut self, ring: &mut Ring<'_>) -> Result<(), Broken> {
        while let Some(chain) = ring.next_chain()? {
            if self.take_chain(&chain).is_err() {
                ring.note_bad_chain();
            }
            ring.done(&chain, 0)?;
        }
        // Some may have made room for others.
        self.listen();
        Ok(())
    }

    fn fill_chain(&mut self, chain: &Chain<'_>) -> Result<Filled, BadChain> {
        let mut data = chain.vector(true)?;
        // A buffer without room for data would hold up those who have some.
        if data.len() <= packet::SIZE {
            return Err(BadChain);
        }
        let front = data.take_front(packet::SIZE);
        let header = match self.resets.pop_front() {
            Some(reset) => Some(reset),
            None => self.next_packet(&mut data),
        };
        let Some(header) = header else {
            return Ok(Filled::Nothing);
        };
        front.copy_from(&header.bytes());
        self.meter
            .add(Counter::VsockReceived, u64::from(header.length));
        Ok(Filled::Packet(packet::SIZE as u32 + header.length))
    }

    /// A packet of the first in line, who then goes to its end.
    fn next_packet(&mut self, data: &mut Vector<'_>) -> Option<Header> {
        let at = self.line.pop_front()?;
        let Slot::Connection(connection) = &mut self.slots[at] else {
            return None;
        };
        connection.queued = false;
        let header = connection.packet(data);
        self.queue(at);
        header
    }

    /// Puts the connection into the line, where it has something for the guest and does not stand there.
    fn queue(&mut self, at: usize) {
        if let Slot::Connection(connection) = &mut self.slots[at]
            && !connection.queued
            && connection.has_packet()
        {
            connection.queued = true;
            self.line.push_back(at);
        }
    }

    fn take_chain(&mut self, chain: &Chain<'_>) -> Result<(), BadChain> {
        let mut data = chain.vector(false)?;
        let mut bytes = [0; packet::SIZE];
        let front = data.take_front(packet::SIZE);
        if front.copy_to(&mut bytes) < packet::SIZE {
            return Err(BadChain);
        }
        let header = Header::parse(&bytes);
        if header.src_cid != self.cid {
            // Whoever that is cannot be answered.
            return Err(BadChain);
        }
        if header.dst_cid != HOST || header.kind != STREAM {
            self.refuse(&header);
            return Ok(());
        }
        let whole = data.len() >= header.length as usize;
        data.truncate(header.length as usize);
        self.meter.add(Counter::VsockSent, data.len() as u64);
        self.hear(&header, &mut data, whole);
        if whole { Ok(()) } else { Err(BadChain) }
    }

    fn hear(&mut self, header: &Header, data: &mut Vector<'_>, whole: bool) {
        let key = Key {
            host_port: header.dst_port,
            guest_port: header.src_port,
        };
        let is_request = header.operation == Operation::Request as u16;
        let at = self.by_key.get(&key).copied();
        let connection = at.map(|at| (at, &mut self.slots[at]));
        let (at, verdict) = match connection {
            // The guest has forgotten the one that waits for its reset.
            Some((at, Slot::Connection(c))) if is_request && c.is_over() => {
                self.release(at);
                return self.open(key, header);
            }
            Some((at, Slot::Connection(connection))) => {
                let verdict = if whole {
                    connection.hear(header, data)
                } else {
                    Verdict::Nonsense
                };
                (at, verdict)
            }
            _ if is_request => return self.open(key, header),
            _ => return self.refuse(header),
        };
        match verdict {
            Verdict::Stays => self.queue(at),
            Verdict::Finished => {
                self.refuse(header);
                self.drain(at);
            }
            Verdict::Left => self.drain(at),
            Verdict::Nonsense => {
                self.refuse(header);
                self.release(at);
            }
        }
    }

    /// A guest's own connection.
    fn open(&mut self, key: Key, request: &Header) {
        let room = self.has_room() || self.evict();
        let socket = if room {
            self.sockets.connect(key.host_port).ok()
        } else {
            None
        };
        let Some(socket) = socket else {
            return self.refuse(request);
        };
        let window = self.window();
        let connection = Connection::of_guest(key, socket, window, request);
        match self.insert(Slot::Connection(connection)) {
            Some(at) => self.begin(key, at),
            None => self.refuse(request),
        }
    }

    /// A connection stands at `at`, and has something to say.
    fn begin(&mut self, key: Key, at: usize) {
        self.by_key.insert(key, at);
        self.meter.add(Counter::VsockConnections, 1);
        self.queue(at);
    }

    /// Answers with a reset, unless it was one.
    fn refuse(&mut self, header: &Header) {
        if header.operation != Operation::Reset as u16 && self.resets.len() < RESETS {
            self.resets.push_back(header.refusal());
        }
    }

    /// The guest is done with a connection; what it sent still goes to the host's program.
    fn drain(&mut self, at: usize) {
        if let Slot::Connection(connection) = self.take_slot(at) {
            match connection.into_rest() {
                Some((socket, outflow)) => self.slots[at] = Slot::Draining(socket, outflow),
                None => self.free.push(at),
            }
        }
    }

    /// Takes note of what sockets said; says whether there may be more.
    fn follow_events(&mut self) -> bool {
        for _ in 0..ROUNDS {
            let events = self.sockets.events();
            if events.is_empty() {
                return false;
            }
            let mut knocks = false;
            for event in events {
                match event {
                    Event::Knock => knocks = true,
                    // Who knocks is heard below.
                    Event::Rested => {}
                    Event::Socket(at, edges) => self.follow(at, edges),
                }
            }
            if knocks {
                // Last: a slot that was freed above is not taken again while there may be an event for it.
                self.accept();
            }
        }
        true
    }

    fn follow(&mut self, at: usize, edges: Edges) {
        match self.slots.get_mut(at) {
            Some(Slot::Greeting(_)) => self.greet(at),
            Some(Slot::Connection(connection)) if edges.closed && !connection.is_open() => {
                self.resets.extend(connection.withdrawal());
                self.release(at);
            }
            Some(Slot::Connection(connection)) => {
                connection.follow(edges);
                self.queue(at);
            }
            Some(Slot::Draining(socket, outflow)) => {
                if edges.writable {
                    outflow.flush(socket);
                }
                if outflow.is_empty() || edges.closed {
                    self.release(at);
                }
            }
            Some(Slot::Free) | None => {}
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            if !self.has_room() {
                return;
            }
            let Some(socket) = self.sockets.accept() else {
                return;
            };
            if self.greetings.len() >= GREETINGS
                && let Some(oldest) = self.greetings.front().copied()
            {
                self.release(oldest);
            }
            if let Some(at) = self.insert(Slot::Greeting(socket)) {
                self.greetings.push_back(at);
                // Its line is often there already.
                self.greet(at);
            }
        }
    }

    /// Hears what somebody wants who has connected.
    fn greet(&mut self, at: usize) {
        let Slot::Greeting(socket) = &self.slots[at] else {
            return;
        };
        match hear(socket) {
            Greeting::Unfinished => {}
            Greeting::Nonsense => self.release(at),
            Greeting::Port(guest_port) => {
                let host_port = self.free_port(guest_port);
                let window = self.window();
                let Slot::Greeting(socket) = self.take_slot(at) else {
                    return;
                };
                let key = Key {
                    host_port,
                    guest_port,
                };
                let connection = Connection::to_guest(key, self.cid, socket, window);
                self.slots[at] = Slot::Connection(connection);
                self.begin(key, at);
            }
        }
    }

    /// A host port that no connection with `guest_port` has.
    fn free_port(&mut self, guest_port: u32) -> u32 {
        loop {
            let host_port = self.next_port;
            self.next_port = FIRST_PORT | ((host_port + 1) % FIRST_PORT);
            let key = Key {
                host_port,
                guest_port,
            };
            // There are fewer connections than ports.
            if !self.by_key.contains_key(&key) {
                return host_port;
            }
        }
    }

    /// Hears who knocks if, and only if, there is room for them.
    fn listen(&mut self) {
        let room = self.has_room() || self.evict();
        self.sockets.listen(room);
    }

    fn has_room(&self) -> bool {
        self.slots.len() - self.free.len() < self.max
    }

    /// Forgets a connection that only waits for the guest's reset; `false` where there is none.
    fn evict(&mut self) -> bool {
        let is_over = |slot: &Slot| matches!(slot, Slot::Connection(c) if c.is_over());
        let over = self.slots.iter().position(is_over);
        if let Some(at) = over {
            self.release(at);
        }
        over.is_some()
    }

    fn window(&self) -> u32 {
        if self.by_key.len() < FEW {
            WINDOW
        } else {
            SMALL_WINDOW
        }
    }

    /// Puts it into a free slot and watches its socket; `None` where that cannot be.
    fn insert(&mut self, slot: Slot) -> Option<usize> {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        });
        let socket = match &slot {
            Slot::Greeting(socket) | Slot::Draining(socket, _) => Some(socket),
            Slot::Connection(connection) => connection.socket(),
            Slot::Free => None,
        };
        if socket.is_none_or(|socket| self.sockets.watch(socket, at).is_err()) {
            self.free.push(at);
            return None;
        }
        self.slots[at] = slot;
        Some(at)
    }

    /// Empties a slot, whose socket is closed with it.
    fn release(&mut self, at: usize) {
        if !matches!(self.take_slot(at), Slot::Free) {
            self.free.push(at);
        }
    }

    /// Takes what is in a slot out of every list, and leaves the slot to the caller.
    fn take_slot(&mut self, at: usize) -> Slot {
        let slot = std::mem::replace(&mut self.slots[at], Slot::Free);
        match &slot {
            Slot::Greeting(_) => self.greetings.retain(|other| *other != at),
            Slot::Connection(connection) => {
                self.by_key.remove(&connection.key);
                if connection.queued {
                    self.line.retain(|other| *other != at);
                }
            }
            Slot::Draining(..) | Slot::Free => {}
        }
        slot
    }
}

#[cfg(test)]
#[path = "mux_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "model_tests.rs"]
mod model;
