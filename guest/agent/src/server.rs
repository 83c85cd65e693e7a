//! The agent's one loop: who is ready, gets on.
//!
//! A turn: wait, note what the kernel says in each stream, reap children, let each connection that heard something get on
//! as far as it can without waiting, then see to what is due.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use abi::agent::reply::{Exit, Failure, State, Status};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{SockFlag, accept4};
use nix::unistd::Pid;

use crate::conn::{Conn, Task};
use crate::console::Console;
use crate::end::{self, Ending};
use crate::main_program::{Main, Phase, reap};
use crate::poll::{Poll, Role, Stream};
use crate::setup::Guest;

/// Owners of descriptors that are no connection's.
pub(crate) const MAIN: u32 = u32::MAX;
const LISTENER: u32 = u32::MAX - 1;
const SIGNALS: u32 = u32::MAX - 2;
const CONSOLE: u32 = u32::MAX - 3;

/// Most connections at once; further ones are closed at once.
const CONNECTIONS: usize = 1024;
/// The most that one read takes.
pub(crate) const READ: usize = 64 * 1024;

/// All that the agent has.
pub(crate) struct Server {
    pub(crate) poll: Poll,
    listener: OwnedFd,
    signals: SignalFd,
    pub(crate) conns: Vec<Option<Conn>>,
    pub(crate) main: Option<Main>,
    /// Why there will be no main program.
    pub(crate) failed: Option<(String, Failure)>,
    pub(crate) console: Console,
    pub(crate) guest: Guest,
    pub(crate) ending: Ending,
    /// For reads: a frame's header goes before what is read.
    pub(crate) scratch: Vec<u8>,
    /// Connections that have more to do, without any event.
    again: Vec<usize>,
}

impl Server {
    /// A server on `listener`, which must be non-blocking, as process 1 of a `guest` or in its place.
    pub(crate) fn new(listener: OwnedFd, guest: Guest) -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        // SIGINT is what the kernel sends process 1 for Ctrl-Alt-Del.
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGPWR,
        ] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags)?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, Role::Socket)?;
        poll.add(&signals, SIGNALS, Role::Socket)?;
        Ok(Self {
            poll,
            listener,
            signals,
            conns: Vec::new(),
            main: None,
            failed: None,
            console: Console::default(),
            guest,
            ending: Ending::default(),
            scratch: vec![0; READ + abi::agent::frame::HEADER],
            again: Vec::new(),
        })
    }

    /// After a `fork`: an epoll is its maker's, and the connections of others stay with it.
    pub(crate) fn go_on_as_child(&mut self, keep: usize) -> nix::Result<()> {
        self.poll = Poll::new()?;
        self.poll.add(&self.listener, LISTENER, Role::Socket)?;
        self.poll.add(&self.signals, SIGNALS, Role::Socket)?;
        for (index, slot) in self.conns.iter_mut().enumerate() {
            if index != keep {
                *slot = None;
            }
        }
        Ok(())
    }

    /// Serves until the guest is at its end; gives its exit status.
    pub(crate) fn run(&mut self) -> u32 {
        loop {
            let timeout = self.timeout();
            let mut touched = std::mem::take(&mut self.again);
            let mut is_signalled = false;
            let mut is_called = false;
            for (token, events) in self.poll.wait(timeout) {
                match token.owner {
                    LISTENER => is_called = true,
                    SIGNALS => is_signalled = true,
                    CONSOLE => self.console.note(events),
                    MAIN => {
                        if let Some(stream) = self.main.as_mut().and_then(|m| m.stream(token.role))
                        {
                            stream.note(events);
                        }
                    }
                    owner => {
                        let index = owner as usize;
                        let conn = self.conns.get_mut(index).and_then(Option::as_mut);
                        if let Some(stream) = conn.and_then(|conn| conn.stream(token.role)) {
                            stream.note(events);
                            touched.push(index);
                        }
                    }
                }
            }
            if is_signalled {
                self.take_signals(&mut touched);
            }
            if is_called {
                self.accept(&mut touched);
            }
            touched.sort_unstable();
            touched.dedup();
            for index in touched {
                self.get_on(index);
            }
            self.main_gets_on();
            let now = Instant::now();
            self.see_to_what_is_due(now);
            if let Some(status) = self.end(now) {
                return status;
            }
        }
    }

    /// The connections that follow the main program, and the console, when it wrote something.
    fn main_gets_on(&mut self) {
        let Some(main) = &mut self.main else {
            return;
        };
        main.ours.flush();
        let before = main.ring.end();
        let has_more = main.read(&mut self.scratch);
        let has_news = main.ring.end() != before;
        self.console.write(&main.ring, &self.poll, CONSOLE);
        if has_news || matches!(main.phase, Phase::Ended { .. }) {
            for index in 0..self.conns.len() {
                let is_attached = |conn: &Conn| matches!(conn.task, Task::Attached { .. });
                if self.conns[index].as_ref().is_some_and(is_attached) {
                    self.get_on(index);
                }
            }
        }
        if has_more {
            // No connection has this number: it only keeps the next wait from waiting.
            self.again.push(usize::MAX);
        }
    }

    fn get_on(&mut self, index: usize) {
        let Some(conn) = self.conns.get_mut(index).and_then(Option::take) else {
            return;
        };
        let (conn, has_more) = self.pump(conn, index);
        if has_more {
            self.again.push(index);
        }
        self.conns[index] = conn;
    }

    fn accept(&mut self, touched: &mut Vec<usize>) {
        loop {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = match accept4(self.listener.as_raw_fd(), flags) {
                // SAFETY: the descriptor is new and nobody else's.
                Ok(fd) => unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) },
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                // Out of descriptors or memory: the next one that calls makes an event again.
                Err(_) => return,
            };
            let socket: OwnedFd = socket;
            let index = match self.conns.iter().position(Option::is_none) {
                Some(index) => index,
                None if self.conns.len() < CONNECTIONS => {
                    self.conns.push(None);
                    self.conns.len() - 1
                }
                None => continue,
            };
            // At most `CONNECTIONS`.
            if self.poll.add(&socket, index as u32, Role::Socket).is_ok() {
                self.conns[index] = Some(Conn::new(Stream::new(socket)));
                touched.push(index);
            }
        }
    }

    fn take_signals(&mut self, touched: &mut Vec<usize>) {
        let mut is_child = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            // The kernel's numbers of signals are small.
            match i32::try_from(info.ssi_signo) {
                Ok(libc::SIGCHLD) => is_child = true,
                _ => self.shut_down(end::GRACE, false),
            }
        }
        if is_child {
            while let Some((pid, exit)) = reap(libc::WNOHANG) {
                self.reaped(pid, exit, touched);
            }
        }
    }

    /// A child ended: ours, or one that was left to process 1.
    fn reaped(&mut self, pid: Pid, exit: Exit, touched: &mut Vec<usize>) {
        if let Some(main) = self.main.as_mut().filter(|main| main.pid() == Some(pid)) {
            main.ended(exit, self.ending.is_asked(), &mut self.scratch);
            return;
        }
        let conns = self.conns.iter_mut().enumerate();
        for (index, conn) in conns.filter_map(|(index, conn)| Some((index, conn.as_mut()?))) {
            if conn.pid() == Some(pid) {
                conn.ended(exit);
                touched.push(index);
            }
        }
    }

    fn see_to_what_is_due(&mut self, now: Instant) {
        if let Some(main) = &mut self.main {
            main.restart(&self.poll, now);
        }
        for index in 0..self.conns.len() {
            if self.conns[index]
                .as_mut()
                .is_some_and(|conn| conn.expire(now))
            {
                self.get_on(index);
            }
        }
    }

    /// How long nothing is due.
    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let restart = match self.main.as_ref().map(|main| main.phase) {
            Some(Phase::Waiting { until, .. }) => Some(until),
            _ => None,
        };
        let probes = self
            .conns
            .iter()
            .flatten()
            .filter_map(|conn| match conn.task {
                Task::Probe { deadline, .. } => Some(deadline),
                _ => None,
            });
        let next = probes.chain(restart).chain(self.ending.deadline()).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// How far the guest is.
    pub(crate) fn status(&self) -> Status {
        let state = if let Some((_, error)) = &self.failed {
            State::Failed {
                error: error.clone(),
            }
        } else if let Some(main) = &self.main {
            match main.phase {
                Phase::Ended { exit } => State::Exited { exit },
                _ if self.ending.is_asked() => State::Stopping,
                // Process ids are positive.
                Phase::Running { pid, .. } => State::Running {
                    pid: pid.as_raw().unsigned_abs(),
                },
                Phase::Waiting { exit, until } => {
                    let left = until.saturating_duration_since(Instant::now());
                    let retry_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
                    State::Waiting { exit, retry_ms }
                }
            }
        } else if self.ending.is_asked() {
            State::Stopping
        } else {
            State::Ready
        };
        let main = self.main.as_ref();
        let failed = self.failed.as_ref().map(|failed| &failed.0);
        Status {
            generation: main.map(|m| &m.start.generation).or(failed).cloned(),
            state,
            restarts: main.map_or(0, |main| main.backoff.restarts()),
            uptime_ms: uptime(),
        }
    }
}

/// Milliseconds since the kernel began.
fn uptime() -> u64 {
    let clock = nix::time::ClockId::CLOCK_BOOTTIME.now().map(Duration::from);
    u64::try_from(clock.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
