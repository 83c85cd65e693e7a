//! A terminal: a program runs on it as it would for a person, who types and reads.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How long a person waits for words.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal with a program on it, which is killed with this.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    /// What was shown since the last look.
    shown: String,
}

impl Terminal {
    /// Runs `command` on a new terminal of this size, as the leader of its session.
    ///
    /// # Errors
    /// Where there are no terminals, or the program cannot be started.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&outer)?;
        unlockpt(&outer)?;
        let name = ptsname(&outer, Vec::new())?;
        let inner = File::options()
            .read(true)
            .write(true)
            .open(name.to_str()?)
            .context("the terminal cannot be opened")?;
        size(&outer, rows, columns)?;
        // util-linux has a program for what only a new process may do: become a session's leader and take a terminal.
        let mut leader = Command::new("setsid");
        leader
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        let child = leader
            .stdin(Stdio::from(inner.try_clone()?))
            .stdout(Stdio::from(inner.try_clone()?))
            .stderr(Stdio::from(inner))
            .spawn()
            .context("setsid cannot be run")?;
        let keys = File::from(outer);
        let mut from = keys.try_clone()?;
        let (send, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with an error once no program has the terminal any more.
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            keys,
            screen,
            shown: String::new(),
        })
    }

    /// Types.
    ///
    /// # Errors
    /// Where nobody has the terminal any more.
    pub fn type_in(&mut self, keys: &str) -> io::Result<()> {
        self.keys.write_all(keys.as_bytes())
    }

    /// Makes the window another size.
    ///
    /// # Errors
    /// Where the system refuses it.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        size(&self.keys, rows, columns)
    }

    /// Waits until `words` are shown, and forgets what was shown up to their end.
    ///
    /// # Errors
    /// Where they are not, in time or before the program's end; the error has what was shown instead.
    pub fn wait_for(&mut self, words: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown.find(words) {
                self.shown.drain(..at + words.len());
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => bail!("{words:?} was not shown ({why}), but {:?}", self.shown),
            }
        }
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn end(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

fn size(terminal: impl AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
