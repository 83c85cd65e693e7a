//! Messages of a session: what comes from the guest, read and checked; what goes to it.

use std::io;

use abi::agent::frame::{Decoder, FrameError, HEADER, Kind, PAYLOAD_MAX};
use abi::agent::message::{Message, MessageError};
use abi::agent::reply::{Exit, Failure, Reply};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What the guest says in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The program of an exec runs, as this process.
    Started(u32),
    /// The main program is attached to.
    Ready,
    /// Bytes of its output.
    Stdout(Vec<u8>),
    /// Bytes of its error output.
    Stderr(Vec<u8>),
    /// So many bytes of its output went by.
    Dropped(u64),
    /// It ended.
    Exit(Exit),
}

/// A session cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The connection broke.
    #[error("the connection to the daemon broke")]
    Broken(#[source] io::Error),
    /// It ended where the program did not.
    #[error("the daemon ended the connection before the program ended")]
    Cut,
    /// It ended in the middle of a frame.
    #[error("the daemon ended the connection in the middle of a frame")]
    CutFrame,
    /// Bytes that are no frames.
    #[error("what the daemon sends cannot be read")]
    Frame(#[source] FrameError),
    /// Frames that are no messages.
    #[error("what the daemon sends makes no sense")]
    Message(#[source] MessageError),
    /// A message that has no place here.
    #[error("the daemon sent a frame of kind {0:?}, which has no place here")]
    Unexpected(Kind),
    /// The guest would not.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// Our input cannot be read.
    #[error("the standard input cannot be read")]
    Input(#[source] io::Error),
    /// Our output cannot be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
}

impl SessionError {
    /// Whether the connection is gone and the program may not be.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Cut | Self::CutFrame)
    }
}

/// Messages as they come.
#[derive(Debug)]
pub(crate) struct Messages<R> {
    reader: R,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// Where in the buffer what was read and not yet taken lies.
    unread: std::ops::Range<usize>,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            decoder: Decoder::new(),
            buffer: vec![0; HEADER + PAYLOAD_MAX],
            unread: 0..0,
        }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<Heard, SessionError> {
        loop {
            let mut input = &self.buffer[self.unread.clone()];
            let frame = self.decoder.next(&mut input).map_err(SessionError::Frame)?;
            let heard = frame.map(|frame| {
                let message = Message::decode(frame).map_err(SessionError::Message)?;
                hear(message)
            });
            self.unread.start = self.unread.end - input.len();
            if let Some(heard) = heard {
                return heard;
            }
            let read = self.reader.read(&mut self.buffer).await;
            match read.map_err(SessionError::Broken)? {
                0 if self.decoder.is_between_frames() => return Err(SessionError::Cut),
                0 => return Err(SessionError::CutFrame),
                count => self.unread = 0..count,
            }
        }
    }
}

fn hear(message: Message<'_>) -> Result<Heard, SessionError> {
    match message {
        Message::Reply(Reply::Started { pid }) => Ok(Heard::Started(pid)),
        Message::Reply(Reply::Ready) => Ok(Heard::Ready),
        Message::Stdout(bytes) => Ok(Heard::Stdout(bytes.to_owned())),
        Message::Stderr(bytes) => Ok(Heard::Stderr(bytes.to_owned())),
        Message::Dropped(dropped) => Ok(Heard::Dropped(dropped.bytes)),
        Message::Exit(exit) => Ok(Heard::Exit(exit)),
        Message::Error(failure) => Err(SessionError::Refused(failure)),
        other => Err(SessionError::Unexpected(other.kind())),
    }
}

/// Sends a message.
pub(crate) async fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    message: &Message<'_>,
) -> Result<(), SessionError> {
    let mut frame = Vec::new();
    message.encode(&mut frame).map_err(SessionError::Message)?;
    let sent = async {
        writer.write_all(&frame).await?;
        writer.flush().await
    };
    sent.await.map_err(SessionError::Broken)
}
