//! Frames: eight bytes of header, then the payload.
//!
//! ```text
//!  0        1                      4                                8
//!  ┌────────┬──────────────────────┬────────────────────────────────┬──────────────┐
//!  │ kind   │ reserved: 0, 0, 0    │ length of the payload, LE      │ payload ...  │
//!  └────────┴──────────────────────┴────────────────────────────────┴──────────────┘
//! ```
//!
//! [`Decoder`] does no input of its own. It is given bytes as they come and never holds more than one frame.

use alloc::vec::Vec;

use thiserror::Error;

/// Bytes of a frame's header.
pub const HEADER: usize = 8;
/// The most bytes that a frame's payload may have.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Opens a connection, each way: JSON of [`super::message::Hello`].
    Hello = 1,
    /// From the host: JSON of [`super::request::Request`].
    Request = 2,
    /// From the agent: JSON of [`super::reply::Reply`].
    Reply = 3,
    /// From the agent, the last frame: JSON of [`super::reply::Failure`].
    Error = 4,
    /// From the host: bytes of a program's standard input.
    Stdin = 16,
    /// From the agent: bytes of a program's standard output, or of its terminal.
    Stdout = 17,
    /// From the agent: bytes of a program's standard error.
    Stderr = 18,
    /// Bytes of a tar stream, either way.
    Data = 19,
    /// Nothing more of the sender's stream follows: Stdin or Data. Empty.
    Eof = 20,
    /// From the host: JSON of [`super::message::Size`].
    Resize = 21,
    /// From the host: JSON of [`super::message::Signal`].
    Signal = 22,
    /// From the agent: JSON of [`super::reply::Exit`].
    Exit = 23,
    /// From the agent: the reader was too slow and missed output: JSON of [`super::message::Dropped`].
    Dropped = 24,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Hello,
        Self::Request,
        Self::Reply,
        Self::Error,
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Data,
        Self::Eof,
        Self::Resize,
        Self::Signal,
        Self::Exit,
        Self::Dropped,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One frame, still unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why bytes are not a frame. The connection is of no more use: where the next frame begins is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A number that is no kind.
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    /// Reserved bytes are set.
    #[error("reserved bytes of a frame's header are not zero")]
    Reserved,
    /// The payload is longer than [`PAYLOAD_MAX`].
    #[error("a frame of {0} bytes, more than {PAYLOAD_MAX}")]
    Length(usize),
}

/// The header of a frame.
///
/// # Errors
/// Where the payload is too long.
pub fn header(kind: Kind, length: usize) -> Result<[u8; HEADER], FrameError> {
    if length > PAYLOAD_MAX {
        return Err(FrameError::Length(length));
    }
    // `PAYLOAD_MAX` fits in 32 bits.
    let [a, b, c, d] = (length as u32).to_le_bytes();
    Ok([kind as u8, 0, 0, 0, a, b, c, d])
}

impl Frame<'_> {
    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// Where the payload is too long; `out` is then as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let header = header(self.kind, self.payload.len())?;
        out.reserve(HEADER + self.payload.len());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.payload);
        Ok(())
    }
}

/// Takes frames out of bytes that come in any pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The part of a frame that came before the rest of it: header and payload.
    partial: Vec<u8>,
    /// The last frame given out was in `partial`.
    given: bool,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder at the beginning of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            partial: Vec::new(),
            given: false,
            failed: None,
        }
    }

    /// The next frame, from what was kept and from the front of `input`, which moves past what was taken. `None` when
    /// `input` is used up.
    ///
    /// A frame that is whole in `input` is not copied.
    ///
    /// # Errors
    /// At the first bytes that begin no frame, and ever after.
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'s>>, FrameError> {
        if core::mem::take(&mut self.given) {
            self.partial.clear();
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.partial.is_empty() {
            match self.parse(input)? {
                Some((kind, length)) if input.len() - HEADER >= length => {
                    let (frame, rest) = input.split_at(HEADER + length);
                    *input = rest;
                    let payload = &frame[HEADER..];
                    return Ok(Some(Frame { kind, payload }));
                }
                _ => {}
            }
        }
        self.take(input, HEADER);
        let partial = core::mem::take(&mut self.partial);
        let parsed = self.parse(&partial);
        self.partial = partial;
        let Some((kind, length)) = parsed? else {
            return Ok(None);
        };
        self.take(input, HEADER + length);
        if self.partial.len() < HEADER + length {
            return Ok(None);
        }
        self.given = true;
        let payload = &self.partial[HEADER..];
        Ok(Some(Frame { kind, payload }))
    }

    /// Whether the peer may end here: nothing of a frame was begun.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.given || self.partial.is_empty()
    }

    /// Moves bytes from `input` until `wanted` are kept.
    fn take(&mut self, input: &mut &[u8], wanted: usize) {
        let missing = wanted.saturating_sub(self.partial.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        // Once it is known how long the frame is, room is made for it at once.
        self.partial.reserve_exact(missing);
        self.partial.extend_from_slice(taken);
        *input = rest;
    }

    /// Kind and length of the frame that `bytes` begin with, when its header is there.
    fn parse(&mut self, bytes: &[u8]) -> Result<Option<(Kind, usize)>, FrameError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, a, b, c, length @ ..] = *header;
        let length = u32::from_le_bytes(length) as usize;
        let error = match Kind::from_byte(kind) {
            None => FrameError::Kind(kind),
            Some(_) if [a, b, c] != [0; 3] => FrameError::Reserved,
            Some(_) if length > PAYLOAD_MAX => FrameError::Length(length),
            Some(kind) => return Ok(Some((kind, length))),
        };
        self.failed = Some(error);
        Err(error)
    }
}
