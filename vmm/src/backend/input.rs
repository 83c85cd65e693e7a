//! Where a guest's console input comes from: a descriptor, read only while some device has room for it.
//!
//! ```text
//! descriptor --(readable, and room)--> at most PIECE bytes --> the first taker with room
//!                ^                                              |
//!                +---------- Room: a taker announces -----------+
//! ```
//!
//! With no room the descriptor is not watched, and whoever writes to it waits: that is the back-pressure. At its end it is never
//! watched again. A regular file or `/dev/null`, which cannot be watched, always counts as readable.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use event_manager::{EventOps, EventSet, EventSubscriber, Events};
use vmm_sys_util::eventfd::EventFd;

use crate::meter::{Counter, Meter};
use crate::sync::lock;

/// Most bytes that are read at once.
const PIECE: usize = 256;

/// A device that takes console input.
pub trait Taker: Send + Sync {
    /// How many bytes it can take now.
    fn room(&self) -> usize;

    /// Takes bytes, at least as many as it had room for; says how many.
    fn take(&self, bytes: &[u8]) -> usize;
}

/// By which takers announce that they may have room.
#[derive(Clone, Debug)]
pub struct Room(Arc<EventFd>);

impl Room {
    /// One for all takers of an input.
    ///
    /// # Errors
    /// Where there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        Ok(Self(Arc::new(event)))
    }

    /// Announces.
    pub fn announce(&self) {
        // A full counter announces as well as another one.
        let _ = self.0.write(1);
    }
}

/// Console input.
pub struct Input {
    from: OwnedFd,
    takers: Vec<Arc<dyn Taker>>,
    room: Room,
    meter: Arc<Meter>,
    watch: Mutex<Watch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// Nobody has room.
    No,
    /// The event loop watches the descriptor.
    Yes,
    /// It cannot be watched, and counts as readable.
    Always,
    /// It has ended.
    Never,
}

impl Input {
    /// Input from `from` to the first of `takers` that has room.
    #[must_use]
    pub fn new(from: OwnedFd, takers: Vec<Arc<dyn Taker>>, room: Room, meter: Arc<Meter>) -> Self {
        Self {
            from,
            takers,
            room,
            meter,
            watch: Mutex::new(Watch::No),
        }
    }

    fn taker(&self) -> Option<(&dyn Taker, usize)> {
        let with_room = |taker: &Arc<dyn Taker>| taker.room() > 0;
        let taker = self.takers.iter().find(|t| with_room(t))?;
        Some((&**taker, taker.room()))
    }

    /// Reads once, for whoever has room; `false` at the end.
    fn pump(&self) -> bool {
        let Some((taker, room)) = self.taker() else {
            return true;
        };
        let mut bytes = [0; PIECE];
        let wanted = room.min(PIECE);
        match rustix::io::read(&self.from, &mut bytes[..wanted]) {
            Ok(0) => false,
            Ok(n) => {
                let taken = taker.take(&bytes[..n]);
                self.meter.add(Counter::ConsoleIn, taken as u64);
                true
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => true,
            Err(_) => false,
        }
    }

    fn event(&self) -> Events {
        Events::new(&self.from, EventSet::IN)
    }

    /// Watches the descriptor while there is room.
    fn update(&self, watch: &mut Watch, ops: &mut EventOps) {
        let room = self.taker().is_some();
        match (*watch, room) {
            (Watch::No, true) => {
                *watch = match ops.add(self.event()) {
                    Ok(()) => Watch::Yes,
                    Err(_) => Watch::Always,
                }
            }
            (Watch::Yes, false) => {
                // It is watched, so it can be let go.
                let _ = ops.remove(self.event());
                *watch = Watch::No;
            }
            _ => {}
        }
        if *watch == Watch::Always && room {
            if self.pump() {
                self.room.announce();
            } else {
                *watch = Watch::Never;
            }
        }
    }
}

impl EventSubscriber for Input {
    fn process(&self, events: Events, ops: &mut EventOps) {
        let mut watch = lock(&self.watch);
        if events.fd() == self.room.0.as_raw_fd() {
            // An empty counter is no error.
            let _ = self.room.0.read();
        } else if !self.pump() {
            let _ = ops.remove(self.event());
            *watch = Watch::Never;
        }
        self.update(&mut watch, ops);
    }

    fn init(&self, ops: &mut EventOps) {
        // A fresh epoll takes a descriptor that is not yet in it.
        let _ = ops.add(Events::new(&*self.room.0, EventSet::IN));
        self.update(&mut lock(&self.watch), ops);
    }
}
