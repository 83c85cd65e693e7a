//! Messages: what frames say, read once and checked.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::frame::{Frame, FrameError, Kind};
use super::reply::{Exit, Failure, Reply};
use super::request::{Request, signal_number};

/// One message, either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Opens a connection.
    Hello(Hello),
    /// What the host wants.
    Request(Box<Request>),
    /// What the agent answers.
    Reply(Reply),
    /// Why the agent does not.
    Error(Failure),
    /// Bytes for a program.
    Stdin(&'a [u8]),
    /// Bytes from a program, or from its terminal.
    Stdout(&'a [u8]),
    /// Bytes from a program's standard error.
    Stderr(&'a [u8]),
    /// Bytes of a tar stream.
    Data(&'a [u8]),
    /// The sender's stream ends.
    Eof,
    /// The host's terminal has another size.
    Resize(Size),
    /// A signal for the connection's program and its process group.
    Signal(Signal),
    /// The connection's program ended.
    Exit(Exit),
    /// Output went past a slow reader.
    Dropped(Dropped),
}

/// Opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
// Fields that are not known yet are for a later version to add: who is answered with `Code::Version` should be able to
// read why.
pub struct Hello {
    /// The sender's version of the protocol.
    pub version: u32,
}

impl Hello {
    /// What this crate says.
    pub const OURS: Self = Self {
        version: super::VERSION,
    };
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub cols: u16,
}

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Its number, 1 to 64; [`super::signal::parse`] knows names.
    pub signal: u8,
}

/// Output went past a slow reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// How many bytes, since the last such message.
    pub bytes: u64,
}

/// Why a frame is no message.
#[derive(Debug, Error)]
pub enum MessageError {
    /// Not the JSON that its kind wants.
    #[error("a frame of kind {0:?} is malformed: {1}")]
    Json(Kind, serde_json::Error),
    /// Read, and not allowed.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// An Eof with a payload.
    #[error("an end of stream that carries {0} bytes")]
    Payload(usize),
    /// Longer than a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
}

/// A value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} is not valid{}", Detail(*most))]
pub struct Invalid {
    what: &'static str,
    most: Option<usize>,
}

struct Detail(Option<usize>);

impl core::fmt::Display for Detail {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(most) => write!(f, ": at most {most}"),
            None => Ok(()),
        }
    }
}

impl<'a> Message<'a> {
    /// What `frame` says.
    ///
    /// # Errors
    /// Where it says nothing that is allowed.
    pub fn decode(frame: Frame<'a>) -> Result<Self, MessageError> {
        let Frame { kind, payload } = frame;
        let message = match kind {
            Kind::Hello => Self::Hello(read(kind, payload)?),
            Kind::Request => Self::Request(read(kind, payload)?),
            Kind::Reply => Self::Reply(read(kind, payload)?),
            Kind::Error => Self::Error(read(kind, payload)?),
            Kind::Stdin => Self::Stdin(payload),
            Kind::Stdout => Self::Stdout(payload),
            Kind::Stderr => Self::Stderr(payload),
            Kind::Data => Self::Data(payload),
            Kind::Eof if payload.is_empty() => Self::Eof,
            Kind::Eof => return Err(MessageError::Payload(payload.len())),
            Kind::Resize => Self::Resize(read(kind, payload)?),
            Kind::Signal => Self::Signal(read(kind, payload)?),
            Kind::Exit => Self::Exit(read(kind, payload)?),
            Kind::Dropped => Self::Dropped(read(kind, payload)?),
        };
        message.check()?;
        Ok(message)
    }

    /// Appends the message to `out` as one frame.
    ///
    /// # Errors
    /// Where the other side would refuse it; `out` is then as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), MessageError> {
        self.check()?;
        let kind = self.kind();
        match self {
            Self::Hello(value) => write(kind, value, out),
            Self::Request(value) => write(kind, value, out),
            Self::Reply(value) => write(kind, value, out),
            Self::Error(value) => write(kind, value, out),
            Self::Resize(value) => write(kind, value, out),
            Self::Signal(value) => write(kind, value, out),
            Self::Exit(value) => write(kind, value, out),
            Self::Dropped(value) => write(kind, value, out),
            Self::Stdin(payload)
            | Self::Stdout(payload)
            | Self::Stderr(payload)
            | Self::Data(payload) => Ok(Frame { kind, payload }.encode(out)?),
            Self::Eof => Ok(Frame { kind, payload: &[] }.encode(out)?),
        }
    }

    /// Which frame carries it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Request(_) => Kind::Request,
            Self::Reply(_) => Kind::Reply,
            Self::Error(_) => Kind::Error,
            Self::Stdin(_) => Kind::Stdin,
            Self::Stdout(_) => Kind::Stdout,
            Self::Stderr(_) => Kind::Stderr,
            Self::Data(_) => Kind::Data,
            Self::Eof => Kind::Eof,
            Self::Resize(_) => Kind::Resize,
            Self::Signal(_) => Kind::Signal,
            Self::Exit(_) => Kind::Exit,
            Self::Dropped(_) => Kind::Dropped,
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Request(request) => request.check(),
            Self::Reply(reply) => reply.check(),
            Self::Error(failure) => failure.check(),
            Self::Resize(size) => size.check(),
            Self::Signal(signal) => signal_number(signal.signal),
            Self::Exit(Exit::Signal(signal)) => signal_number(*signal),
            _ => Ok(()),
        }
    }
}

fn read<T: DeserializeOwned>(kind: Kind, payload: &[u8]) -> Result<T, MessageError> {
    serde_json::from_slice(payload).map_err(|error| MessageError::Json(kind, error))
}

fn write<T: Serialize>(kind: Kind, value: &T, out: &mut Vec<u8>) -> Result<(), MessageError> {
    let payload = serde_json::to_vec(value).map_err(|error| MessageError::Json(kind, error))?;
    Ok(Frame {
        kind,
        payload: &payload,
    }
    .encode(out)?)
}

impl Invalid {
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, most: None }
    }
}

impl Size {
    /// Larger ones make programs allocate what nobody looks at.
    pub(super) fn check(self) -> Result<(), Invalid> {
        at_most("lines of a terminal", self.rows.into(), 4096)?;
        at_most("columns of a terminal", self.cols.into(), 4096)
    }
}

pub(super) fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), Invalid> {
    if count > most {
        let most = Some(most);
        return Err(Invalid { what, most });
    }
    Ok(())
}

/// Text that a C program can be handed.
pub(super) fn text(what: &'static str, value: &str, most: usize) -> Result<(), Invalid> {
    at_most(what, value.len(), most)?;
    if value.contains('\0') {
        return Err(Invalid::new(what));
    }
    Ok(())
}

/// The same, and not empty.
pub(super) fn name(what: &'static str, value: &str, most: usize) -> Result<(), Invalid> {
    if value.is_empty() {
        return Err(Invalid::new(what));
    }
    text(what, value, most)
}

pub(super) fn absolute(what: &'static str, value: &str) -> Result<(), Invalid> {
    // Linux's own limit for a path, with its end.
    text(what, value, 4095)?;
    if !value.starts_with('/') {
        return Err(Invalid::new(what));
    }
    Ok(())
}

/// A name as the kernel and `/etc/hosts` take it.
pub(super) fn hostname(value: &str) -> Result<(), Invalid> {
    name("hostname", value, 64)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !value.bytes().all(good) || value.starts_with(['-', '.']) {
        return Err(Invalid::new("hostname"));
    }
    Ok(())
}
