//! The guest's console: the main program's output goes there, and from there to the VM's log.
//!
//! It is a reader of the ring like any other: where the host does not take its bytes, they are forgotten, and what is missing is said.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::epoll::EpollFlags;
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};

use crate::poll::{Poll, Put, Role, Sink, Stream};
use crate::ring::{Found, Ring};

/// The console, once it is open.
#[derive(Debug, Default)]
pub(crate) struct Console {
    sink: Option<Sink>,
    is_watched: bool,
    position: u64,
}

impl Console {
    /// Opens the console at `path`.
    pub(crate) fn open(&mut self, path: &Path) {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        // A guest without a console runs all the same; its output goes to those attached.
        if let Ok(file) = File::options().write(true).custom_flags(flags).open(path) {
            // Line ends stay as the program wrote them, and the kernel does not look at each byte.
            if let Ok(mut modes) = tcgetattr(&file) {
                modes.output_flags.remove(OutputFlags::OPOST);
                let _ = tcsetattr(&file, SetArg::TCSANOW, &modes);
            }
            self.sink = Some(Sink::new(Stream::new(OwnedFd::from(file))));
        }
    }

    pub(crate) fn note(&mut self, events: EpollFlags) {
        if let Some(sink) = &mut self.sink {
            sink.stream().note(events);
        }
    }

    /// Says something of the agent's own.
    pub(crate) fn say(&mut self, text: &str) {
        if self
            .sink
            .as_mut()
            .is_some_and(|sink| !sink.push(text.as_bytes()))
        {
            self.sink = None;
        }
    }

    /// Writes on from the ring, as far as the console takes it.
    pub(crate) fn write(&mut self, ring: &Ring, poll: &Poll, owner: u32) {
        while let Some(sink) = &mut self.sink {
            if !sink.flush() {
                self.sink = None;
                return;
            }
            if sink.waiting() > 0 {
                break;
            }
            match ring.read(self.position) {
                Found::Nothing => return,
                Found::Missed(count) => {
                    self.position += count;
                    self.say(&format!(
                        "\nagent: the console was too slow for {count} bytes\n"
                    ));
                }
                Found::Bytes(_, bytes) => match sink.stream().write(bytes) {
                    Put::Bytes(count) => {
                        self.position += count as u64;
                        if count < bytes.len() {
                            break;
                        }
                    }
                    Put::Gone => self.sink = None,
                },
            }
        }
        // Only a console that stalled once is worth an event.
        if let Some(sink) = self.sink.as_ref().filter(|_| !self.is_watched) {
            self.is_watched = poll.add(sink, owner, Role::Stdout).is_ok();
        }
    }

    /// Whether all of `ring` is written.
    pub(crate) fn is_done(&self, ring: &Ring) -> bool {
        self.sink
            .as_ref()
            .is_none_or(|sink| sink.waiting() == 0 && self.position >= ring.end())
    }
}
