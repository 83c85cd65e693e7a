//! Processes by descriptor: never by a number alone.
//!
//! A pid names whatever process has it now. A pidfd names one process for ever; [`Process::find`] is how a number that was
//! noted becomes one, and what must hold for it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process that somebody waits for.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// A child of this process that was not yet waited for: its number cannot be another's.
    ///
    /// # Errors
    /// The operating system's, where it gives no descriptor.
    pub fn of_child(child: &Child) -> io::Result<Self> {
        Self::open(child.id())
    }

    /// The process that had number `pid`, if `still` holds once its descriptor is open.
    ///
    /// `still` says that the process that was meant is there, for example by a lock that only it holds: then it was there too
    /// when the descriptor was opened, so the number was not another's.
    ///
    /// # Errors
    /// The operating system's.
    pub fn find(pid: u32, still: impl FnOnce() -> io::Result<bool>) -> io::Result<Option<Self>> {
        let found = match Self::open(pid) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                return Ok(None);
            }
            other => other?,
        };
        Ok(still()?.then_some(found))
    }

    fn open(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other(format!("{pid} is no process number")))?;
        let fd = rustix::process::pidfd_open(raw, PidfdFlags::NONBLOCK)?;
        // SAFETY: an `OwnedFd` stays open and is the same descriptor until the drop.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { pid, fd })
    }

    /// Its number, for people.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it; one that is gone is no error.
    ///
    /// # Errors
    /// The operating system's: no permission, for one.
    pub fn kill(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.fd.get_ref().as_fd(), Signal::KILL) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits until it is gone. A child is then to be waited for: [`reap`].
    pub async fn gone(&self) {
        // An error here can only be one of registration, and that was done.
        let _ = self.fd.readable().await;
    }
}

/// The status of a child that is gone; without this it would stay as a zombie.
pub fn reap(child: &mut Child) -> Option<ExitStatus> {
    match child.try_wait() {
        Ok(status) => status,
        Err(error) => {
            tracing::warn!(pid = child.id(), %error, "cannot wait for a child");
            None
        }
    }
}

/// When a process started, in clock ticks since boot (`/proc/PID/stat`, field 22).
///
/// # Errors
/// The operating system's, where it is gone.
pub fn start_time(pid: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name, in parentheses, and may hold anything.
    let (_, rest) = stat
        .rsplit_once(')')
        .ok_or_else(|| io::Error::other("no program name in its stat"))?;
    rest.split_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other("no start time in its stat"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sleeper() -> Child {
        Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
    }

    #[tokio::test]
    async fn a_child_is_killed_noticed_and_reaped() {
        let mut child = sleeper();
        let process = Process::of_child(&child).unwrap();
        assert!(start_time(process.pid()).unwrap() > 0);
        assert!(reap(&mut child).is_none());
        process.kill().unwrap();
        process.gone().await;
        assert!(reap(&mut child).is_some());
        process.kill().unwrap();
    }

    #[tokio::test]
    async fn a_number_alone_is_not_enough() {
        let mut child = sleeper();
        assert!(Process::find(child.id(), || Ok(false)).unwrap().is_none());
        let process = Process::find(child.id(), || Ok(true)).unwrap().unwrap();
        process.kill().unwrap();
        process.gone().await;
        reap(&mut child).unwrap();
        assert!(Process::find(process.pid(), || Ok(true)).unwrap().is_none());
    }
}
