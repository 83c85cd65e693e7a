//! A terminal for vmctl, and its user.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use super::daemon::{Daemon, PATIENCE};

/// vmctl at a terminal of its own.
pub(crate) struct Terminal {
    user: File,
    /// Held, so that the terminal lives until its modes were looked at.
    _side: OwnedFd,
    before: Modes,
    child: Child,
    said: String,
}

/// What raw mode changes.
type Modes = [usize; 4];

fn modes(terminal: &Termios) -> Modes {
    [
        terminal.input_modes.bits() as usize,
        terminal.output_modes.bits() as usize,
        terminal.control_modes.bits() as usize,
        terminal.local_modes.bits() as usize,
    ]
}

fn size(rows: u16, cols: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Terminal {
    /// Starts `vmctl` there, with 33 lines of 101 characters.
    pub(crate) fn start(daemon: &Daemon, args: &[&str]) -> Self {
        let (mut user, mut side) = (-1, -1);
        let null = std::ptr::null_mut();
        // SAFETY: two places for descriptors; the rest may be null.
        let made = unsafe { libc::openpty(&mut user, &mut side, null, null.cast(), null.cast()) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: `openpty` gave us both, and nobody else has them.
        let (user, side) = unsafe { (File::from_raw_fd(user), OwnedFd::from_raw_fd(side)) };
        tcsetwinsize(&user, size(33, 101)).unwrap();
        let before = modes(&tcgetattr(&side).unwrap());
        let stdio = || side.try_clone().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmctl"));
        command
            .arg("--dir")
            .arg(daemon.dir())
            .args(args)
            .env("TERM", "xterm-256color")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio());
        let raw = user.as_raw_fd();
        // SAFETY: between fork and exec, only system calls that take no lock and allocate nothing.
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                // Its own terminal: whose size it hears of.
                if libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 || libc::close(raw) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        Self {
            user,
            _side: side,
            before,
            child,
            said: String::new(),
        }
    }

    pub(crate) fn types(&mut self, keys: &[u8]) {
        self.user.write_all(keys).unwrap();
    }

    pub(crate) fn resize(&self, rows: u16, cols: u16) {
        tcsetwinsize(&self.user, size(rows, cols)).unwrap();
    }

    /// Reads until `text` is on the terminal.
    pub(crate) fn shows(&mut self, text: &str) {
        while !self.said.contains(text) {
            let mut ready = [PollFd::from_borrowed_fd(self.user.as_fd(), PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).unwrap();
            let count = poll(&mut ready, Some(&patience)).unwrap();
            assert_ne!(count, 0, "{text:?} is not in {:?}", self.said);
            let mut chunk = [0; 4096];
            let count = self.user.read(&mut chunk).unwrap();
            self.said
                .push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    }

    pub(crate) fn assert_raw(&self) {
        let now = tcgetattr(&self.user).unwrap().local_modes;
        let cooked = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        assert!(!now.intersects(cooked), "{now:?}");
    }

    pub(crate) fn signal(&self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // SAFETY: a signal to our own child, which was not waited for yet.
        let sent = unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
        assert_eq!(sent, 0);
    }

    /// Waits for vmctl's end; the terminal has to be as it was.
    pub(crate) fn ends(mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        let after = modes(&tcgetattr(&self.user).unwrap());
        assert_eq!(after, self.before, "the terminal was not given back");
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
