//! The other ends of a program's standard input, output and error.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use abi::agent::message::Size;
use abi::agent::reply::{Code, Failure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{grantpt, posix_openpt, unlockpt};
use nix::unistd::pipe2;

use crate::poll::{Poll, Role, Sink, Stream};

/// What the agent keeps.
#[derive(Debug, Default)]
pub(crate) struct Ours {
    pub(crate) stdin: Option<Sink>,
    pub(crate) stdout: Option<Stream>,
    pub(crate) stderr: Option<Stream>,
    /// Standard input and output are a terminal's.
    pub(crate) is_terminal: bool,
}

/// What the program gets.
pub(crate) struct Theirs {
    stdin: OwnedFd,
    stdout: OwnedFd,
    /// The same as `stdout` on a terminal.
    stderr: Option<OwnedFd>,
}

impl Theirs {
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 3] {
        let stderr = self.stderr.as_ref().unwrap_or(&self.stdout);
        [self.stdin.as_fd(), self.stdout.as_fd(), stderr.as_fd()]
    }
}

/// What a program's streams are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Pipes; without somebody to write to it, standard input is empty.
    Pipes { stdin: bool },
    /// A terminal of that size.
    Terminal(Size),
    /// Nothing, either way.
    Null,
}

/// Makes both ends and lets `poll` watch ours.
pub(crate) fn open(kind: Kind, poll: &Poll, owner: u32) -> Result<(Ours, Theirs), Failure> {
    make(kind, poll, owner).map_err(|errno| {
        let code = match errno {
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOSPC => Code::NoSpace,
            _ => Code::Failed,
        };
        Failure::new(
            code,
            format_args!("cannot make the program's streams: {}", errno.desc()),
        )
    })
}

fn make(kind: Kind, poll: &Poll, owner: u32) -> nix::Result<(Ours, Theirs)> {
    let (ours, theirs) = match kind {
        Kind::Pipes { stdin } => pipes(stdin)?,
        Kind::Terminal(size) => terminal(size)?,
        Kind::Null => {
            let null = null()?;
            let stdout = null.try_clone().map_err(io)?;
            let stderr = None;
            return Ok((
                Ours::default(),
                Theirs {
                    stdin: null,
                    stdout,
                    stderr,
                },
            ));
        }
    };
    if let Some(sink) = &ours.stdin {
        poll.add(sink, owner, Role::Stdin)?;
    }
    if let Some(stream) = &ours.stdout {
        poll.add(stream, owner, Role::Stdout)?;
    }
    if let Some(stream) = &ours.stderr {
        poll.add(stream, owner, Role::Stderr)?;
    }
    Ok((ours, theirs))
}

fn pipes(stdin: bool) -> nix::Result<(Ours, Theirs)> {
    let (out, their_out) = pipe2(OFlag::O_CLOEXEC)?;
    let (err, their_err) = pipe2(OFlag::O_CLOEXEC)?;
    let (stdin, their_in) = if stdin {
        let (their_in, input) = pipe2(OFlag::O_CLOEXEC)?;
        (Some(Sink::new(stream(input)?)), their_in)
    } else {
        (None, null()?)
    };
    let ours = Ours {
        stdin,
        stdout: Some(stream(out)?),
        stderr: Some(stream(err)?),
        is_terminal: false,
    };
    let theirs = Theirs {
        stdin: their_in,
        stdout: their_out,
        stderr: Some(their_err),
    };
    Ok((ours, theirs))
}

fn terminal(size: Size) -> nix::Result<(Ours, Theirs)> {
    let master =
        posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    // SAFETY: `TIOCGPTPEER` takes flags and gives a new descriptor of the other side, without a path.
    let slave = unsafe {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        OwnedFd::from_raw_fd(Errno::result(libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCGPTPEER,
            flags,
        ))?)
    };
    let master = OwnedFd::from(master);
    resize(&master, size)?;
    let input = master.try_clone().map_err(io)?;
    let ours = Ours {
        stdin: Some(Sink::new(Stream::new(input))),
        stdout: Some(Stream::terminal(master)),
        stderr: None,
        is_terminal: true,
    };
    let stdin = slave.try_clone().map_err(io)?;
    let theirs = Theirs {
        stdin,
        stdout: slave,
        stderr: None,
    };
    Ok((ours, theirs))
}

/// Tells a terminal, and by a signal the program on it, how large it is.
pub(crate) fn resize(master: impl AsFd, size: Size) -> nix::Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the call reads a `winsize`, which lives.
    Errno::result(unsafe {
        libc::ioctl(
            master.as_fd().as_raw_fd(),
            libc::TIOCSWINSZ,
            &raw const size,
        )
    })
    .map(drop)
}

fn stream(fd: OwnedFd) -> nix::Result<Stream> {
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(Stream::new(fd))
}

fn null() -> nix::Result<OwnedFd> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map(OwnedFd::from)
        .map_err(io)
}

fn io(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
