//! The guest's end.
//!
//! ```text
//!  main program ended for good ──────────────────────┐
//!  asked to ─▶ stop signal ─▶ it ends, or time is up ┴▶ output goes out ─▶ all is killed ─▶ disks ─▶ exit port
//! ```

use std::time::{Duration, Instant};

use abi::agent::reply::Exit;
use abi::agent::signal::{KILL, TERM};
use nix::unistd::Pid;

use crate::conn::Task;
use crate::main_program::send;
use crate::server::Server;

/// What a main program has from Ctrl-Alt-Del to its end.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// What readers have to take the last output.
const FLUSH: Duration = Duration::from_secs(2);

/// The image's own init, where it has one.
const INIT: Pid = Pid::from_raw(1);

/// How far the end is.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// When the main program is killed.
    kill_at: Option<Instant>,
    is_asked: bool,
    /// It was told to go at once and did not: an init, which this process cannot wait for.
    is_killed: bool,
    /// When nobody is waited for any more.
    flush_until: Option<Instant>,
}

impl Ending {
    /// Somebody asked for the end.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.flush_until.into_iter().chain(self.kill_at).min()
    }
}

impl Server {
    /// Begins the end: the main program has `timeout` after its stop signal, or nothing where `force`. Asked again, the
    /// earlier time counts.
    pub(crate) fn shut_down(&mut self, timeout: Duration, force: bool) {
        let timeout = if force { Duration::ZERO } else { timeout };
        let at = Instant::now() + timeout;
        self.ending.kill_at = Some(self.ending.kill_at.map_or(at, |before| before.min(at)));
        let is_first = !std::mem::replace(&mut self.ending.is_asked, true);
        if let Some(main) = &mut self.main {
            main.give_up();
            if is_first && !force {
                main.signal(main.start.stop_signal);
            }
        }
    }

    /// Gets on with the end; the guest's exit status when all is done.
    pub(crate) fn end(&mut self, now: Instant) -> Option<u32> {
        let running = self.main.as_ref().and_then(|main| main.pid());
        if let Some(pid) = running
            && self.ending.kill_at.is_some_and(|at| at <= now)
        {
            self.ending.kill_at = None;
            self.ending.is_killed = true;
            // Process 1 is not ours to kill, and all else goes when the guest does.
            if pid != INIT {
                send(Pid::from_raw(-pid.as_raw()), KILL);
            }
        }
        let is_init_left = self.ending.is_killed && running == Some(INIT);
        let status = match (&self.main, self.final_exit()) {
            (_, Some(exit)) => exit.status(),
            _ if is_init_left => Exit::Signal(KILL).status(),
            (None, None) if self.ending.is_asked => Exit::Signal(TERM).status(),
            _ => return None,
        };
        let until = *self.ending.flush_until.get_or_insert(now + FLUSH);
        self.ending.kill_at = None;
        let is_heard = self
            .main
            .as_ref()
            .is_none_or(|main| self.console.is_done(&main.ring));
        let is_told = !self.conns.iter_mut().flatten().any(|conn| match conn.task {
            Task::Attached { .. } | Task::Ending { is_shut: false } => true,
            Task::Held => conn.socket.waiting() > 0,
            _ => false,
        });
        if (is_heard && is_told) || now >= until {
            return Some(status.into());
        }
        None
    }
}
