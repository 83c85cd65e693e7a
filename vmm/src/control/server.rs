//! The server: a listening socket, a few clients, and a clock, in one descriptor.
//!
//! The control thread waits for [`Control`]'s descriptor (an epoll set, by [`AsFd`]) beside its own, and calls [`Control::handle`] when it
//! is readable. `handle` does what can be done at once and returns: clients that are slow to send or to take are waited for in the epoll set,
//! each with a deadline, and the deadlines are a timer in the same set.
//!
//! At most [`Limits::connections`] clients are served at a time. One more takes the place of the client that was idle longest;
//! where all are at work it waits in the socket's backlog.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::api::{Api, ConfigFileError, ConfigureError};
use super::connection::Connection;
use super::log::Level;
use super::socket::Socket;
use super::{Instance, Monitor};
use crate::meter::monotonic_ns;
use crate::spec;

const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// How long no client is accepted after the process ran out of descriptors, nanoseconds.
const RETRY_NS: u64 = 1_000_000_000;

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients at a time.
    pub connections: usize,
    /// From a request's first byte to its last, and from an answer's first byte to its last.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8,
            patience: Duration::from_secs(5),
        }
    }
}

/// The control API cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The log or the metrics' file was refused.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// The kernel refused what the server needs.
    #[error("control API cannot wait for its clients: {0}")]
    Wait(io::Error),
}

/// The control API of one monitor.
#[derive(Debug)]
pub struct Control {
    api: Api,
    limits: Limits,
    socket: Option<Socket>,
    /// Whether the socket is in the epoll set: it is not while no client could be taken.
    listening: bool,
    /// No client is accepted before this, `CLOCK_MONOTONIC` nanoseconds.
    retry_at: u64,
    /// By their place in the epoll set.
    connections: Vec<Option<Connection>>,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer rings.
    armed: Option<u64>,
}

impl Control {
    /// For a VM that is yet to be configured, by clients of `socket` or by [`Control::start_from`].
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn new(instance: Instance, socket: Option<Socket>) -> Result<Self, ControlError> {
        Self::serve(Api::new(instance)?, socket)
    }

    /// For a VM that was described whole: call it before `vm` is given to the machine.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn of(vm: &spec::Vm, socket: Socket) -> Result<Self, ControlError> {
        Self::serve(Api::of(vm), Some(socket))
    }

    fn serve(api: Api, socket: Option<Socket>) -> Result<Self, ControlError> {
        let wait = |e: Errno| ControlError::Wait(e.into());
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(wait)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(wait)?;
        let mut control = Self {
            api,
            limits: Limits::default(),
            socket,
            listening: false,
            retry_at: 0,
            connections: Vec::new(),
            epoll,
            timer,
            armed: None,
        };
        control.watch(&control.timer, TIMER).map_err(wait)?;
        if let Some(socket) = &control.socket {
            control.watch(socket, LISTENER).map_err(wait)?;
            control.listening = true;
        }
        Ok(control)
    }

    /// Serves within other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Configures and starts the VM that a file describes: `--config-file`.
    ///
    /// # Errors
    /// [`ConfigFileError`]; the VM is then not started.
    pub fn start_from(
        &mut self,
        path: &Path,
        monitor: &mut dyn Monitor,
    ) -> Result<(), ConfigFileError> {
        let started = self.api.start_from(path, monitor);
        self.arm(monotonic_ns());
        started
    }

    /// Writes a line to the log that the client asked for, if it did.
    #[track_caller]
    pub fn log(&mut self, level: Level, text: &str) {
        self.api.log.write(level, text);
    }

    /// Does what can be done without waiting; call it when the descriptor is readable.
    pub fn handle(&mut self, monitor: &mut dyn Monitor) {
        let mut space = [MaybeUninit::uninit(); 16];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // What does not fit, or a failure, comes up again at the next call.
        let (events, _) =
            epoll::wait(&self.epoll, &mut space, Some(&at_once)).unwrap_or((&mut [], &mut []));
        let mut knocks = false;
        let now = monotonic_ns();
        for event in events.iter() {
            match event.data.u64() {
                LISTENER => knocks = true,
                TIMER => {
                    let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                    self.armed = None;
                }
                place => self.run(place, now, monitor),
            }
        }
        self.api.tick(now, monitor);
        self.expire(now);
        if knocks {
            // Last: a place that was freed above is not taken again while an event for it may be in `events`.
            self.accept(now, monitor);
        }
        self.listen(now);
        self.arm(now);
    }

    /// Ends the API: the last metrics are written, clients are gone, and so is the socket's file.
    pub fn finish(mut self, monitor: &dyn Monitor) {
        self.api.end(monitor);
    }

    /// Lets the client at `place` go on.
    fn run(&mut self, place: u64, now: u64, monitor: &mut dyn Monitor) {
        let place = place as usize;
        let Some(Some(connection)) = self.connections.get_mut(place) else {
            return;
        };
        let before = connection.interest();
        connection.run(now, &mut |request| self.api.answer(request, monitor));
        self.follow(place, before);
    }

    fn expire(&mut self, now: u64) {
        for place in 0..self.connections.len() {
            if let Some(connection) = &mut self.connections[place] {
                let before = connection.interest();
                connection.expire(now);
                self.follow(place, before);
            }
        }
    }

    /// Brings the epoll set in line with what a client waits for now, where that was `before`.
    fn follow(&mut self, place: usize, before: epoll::EventFlags) {
        let Some(connection) = &self.connections[place] else {
            return;
        };
        let interest = connection.interest();
        let kept = !connection.is_closed()
            && (interest == before
                || epoll::modify(
                    &self.epoll,
                    connection,
                    epoll::EventData::new_u64(place as u64),
                    interest,
                )
                .is_ok());
        if !kept {
            // Its descriptor is nowhere else, so closing it takes it from the epoll set.
            self.connections[place] = None;
        }
    }

    /// Takes clients that wait, as many as there is room for.
    fn accept(&mut self, now: u64, monitor: &mut dyn Monitor) {
        for _ in 0..self.limits.connections {
            let Some(socket) = &self.socket else { return };
            if self.room_at().is_none_or(|at| at > now) {
                return;
            }
            match accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(client) => {
                    let Some(place) = self.room(now) else { return };
                    let patience = u64::try_from(self.limits.patience.as_nanos());
                    let connection = Connection::new(client, now, patience.unwrap_or(u64::MAX / 2));
                    if self.watch(&connection, place as u64).is_ok() {
                        self.connections[place] = Some(connection);
                        // Its request is often there already.
                        self.run(place as u64, now, monitor);
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    // Descriptors ran out: the socket stays readable, and asking again at once is a loop.
                    self.retry_at = now + RETRY_NS;
                    self.log(Level::Error, &format!("no client can be accepted: {error}"));
                    return;
                }
            }
        }
    }

    /// A free place, made by closing the client that was idle longest where there is none.
    fn room(&mut self, now: u64) -> Option<usize> {
        if let Some(free) = self.connections.iter().position(Option::is_none) {
            return Some(free);
        }
        if self.connections.len() < self.limits.connections {
            self.connections.push(None);
            return Some(self.connections.len() - 1);
        }
        let (place, at) = self.next_to_yield()?;
        (at <= now).then(|| {
            self.connections[place] = None;
            place
        })
    }

    /// The client that yields first, and when.
    fn next_to_yield(&self) -> Option<(usize, u64)> {
        let yields =
            |(place, c): (usize, &Option<Connection>)| Some((place, c.as_ref()?.yields_at()?));
        let all = self.connections.iter().enumerate().filter_map(yields);
        all.min_by_key(|(_, at)| *at)
    }

    /// When a client could be taken: zero for now, `None` where that depends on those that are at work.
    fn room_at(&self) -> Option<u64> {
        let free = self.connections.len() < self.limits.connections
            || self.connections.iter().any(Option::is_none);
        let at = if free { 0 } else { self.next_to_yield()?.1 };
        Some(at.max(self.retry_at))
    }

    /// Hears those that knock if, and only if, one could be taken.
    fn listen(&mut self, now: u64) {
        let Some(socket) = &self.socket else { return };
        let wanted = self.room_at().is_some_and(|at| at <= now);
        if wanted == self.listening {
            return;
        }
        let done = if wanted {
            self.watch(socket, LISTENER)
        } else {
            epoll::delete(&self.epoll, socket)
        };
        if done.is_ok() {
            self.listening = wanted;
        }
    }

    /// Sets the timer to what is due next.
    fn arm(&mut self, now: u64) {
        let clients = self.connections.iter().flatten();
        let deadlines = clients.filter_map(Connection::deadline);
        let room = if self.socket.is_some() && !self.listening {
            self.room_at()
        } else {
            None
        };
        let due = deadlines.chain(self.api.due()).chain(room).min();
        if due == self.armed {
            return;
        }
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Zero would disarm; a moment that is past rings at once.
        let value = due.map_or(zero, |at| {
            let at = at.max(1);
            Timespec {
                tv_sec: (at / 1_000_000_000).cast_signed(),
                tv_nsec: (at % 1_000_000_000).cast_signed(),
            }
        });
        let spec = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        match timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec) {
            Ok(_) => self.armed = due,
            Err(error) => {
                let text = format!("timer cannot be set at {now}: {error}");
                self.log(Level::Error, &text);
            }
        }
    }

    fn watch(&self, fd: &impl AsFd, token: u64) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests;
