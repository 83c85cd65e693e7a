//! Moves bytes, sizes and signals between the user and a program until one of both has had enough.

use std::io;

use abi::agent::frame::PAYLOAD_MAX;
use abi::agent::message::{Message, Signal, Size};
use abi::agent::reply::Exit;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::keys::Watch;
use super::local::is_ending;
use super::messages::send;
use super::{Heard, Keys, Local, Messages, SessionError};
use crate::terminal;

/// After so many signals that ask for the end, vmctl itself ends: the guest may hear none of them.
const ENOUGH: u32 = 3;

/// How a session is held.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// The program has a terminal: it hears of another size.
    pub(crate) tty: bool,
    /// The user's terminal is raw: keys are the program's, and signals come from elsewhere and mean vmctl.
    pub(crate) raw: bool,
    /// What the user leaves by, where the terminal is raw.
    pub(crate) keys: Keys,
}

/// The user's streams.
#[derive(Debug)]
pub(crate) struct Streams<I, O, E> {
    /// The program's input, where it gets one.
    pub(crate) input: Option<I>,
    pub(crate) output: O,
    pub(crate) errors: E,
}

impl Streams<tokio::io::Stdin, tokio::io::Stdout, tokio::io::Stderr> {
    /// vmctl's own.
    pub(crate) fn ours(input: bool) -> Self {
        Self {
            input: input.then(tokio::io::stdin),
            output: tokio::io::stdout(),
            errors: tokio::io::stderr(),
        }
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The program ended.
    Exit(Exit),
    /// The user left by the detach keys.
    Detached,
    /// vmctl is to end by this signal.
    Signal(u8),
}

/// Relays. `started` hears that the program runs, or is attached to.
///
/// # Errors
/// [`SessionError`]; what came before it was written.
pub(crate) async fn relay<S, I, O, E>(
    session: S,
    streams: Streams<I, O, E>,
    local: &mut UnboundedReceiver<Local>,
    manner: Manner,
    mut started: impl FnMut(),
) -> Result<End, SessionError>
where
    S: AsyncRead + AsyncWrite,
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    let (reader, mut writer) = tokio::io::split(session);
    let Streams {
        mut input,
        mut output,
        mut errors,
    } = streams;
    let mut messages = Messages::new(reader);
    let down = async {
        loop {
            match messages.next().await? {
                Heard::Started(_) | Heard::Ready => started(),
                Heard::Stdout(bytes) => write(&mut output, &bytes).await?,
                Heard::Stderr(bytes) => write(&mut errors, &bytes).await?,
                Heard::Dropped(count) => {
                    let note = format!("vmctl: {count} bytes of output went by unread\n");
                    write(&mut errors, note.as_bytes()).await?;
                }
                Heard::Exit(exit) => return Ok(End::Exit(exit)),
            }
        }
    };
    let (passed_on, mut to_pass_on) = unbounded_channel();
    let raw = manner.raw;
    let mut watch = Watch::new(if raw { manner.keys } else { Keys::NONE });
    let up = async {
        let mut buffer = vec![0; PAYLOAD_MAX];
        loop {
            tokio::select! {
                Some(local) = to_pass_on.recv() => {
                    let message = match local {
                        Local::Resized => Message::Resize(size()),
                        Local::Signal(signal) => Message::Signal(Signal { signal }),
                    };
                    send(&mut writer, &message).await?;
                }
                read = read(&mut input, &mut buffer) => match read.map_err(SessionError::Input)? {
                    0 => {
                        input = None;
                        let rest = watch.rest();
                        if !rest.is_empty() {
                            send(&mut writer, &Message::Stdin(rest)).await?;
                        }
                        send(&mut writer, &Message::Eof).await?;
                    }
                    count => {
                        let mut typed = Vec::with_capacity(count);
                        let left = watch.typed(&buffer[..count], &mut typed);
                        // One key may be held back before these.
                        for part in typed.chunks(PAYLOAD_MAX) {
                            send(&mut writer, &Message::Stdin(part)).await?;
                        }
                        if left {
                            return Ok(End::Detached);
                        }
                    }
                },
            }
        }
    };
    let beside = async {
        let mut ending = 0;
        while let Some(heard) = local.recv().await {
            match heard {
                Local::Resized if !manner.tty => continue,
                Local::Signal(signal) if raw => return Ok(End::Signal(signal)),
                Local::Signal(signal) if is_ending(signal) => {
                    ending += 1;
                    if ending >= ENOUGH {
                        return Ok(End::Signal(signal));
                    }
                }
                _ => {}
            }
            // Not here: a guest that does not read would keep the next signal from being heard.
            let _ = passed_on.send(heard);
        }
        std::future::pending().await
    };
    tokio::select! {
        // What the program said comes before everything else.
        biased;
        end = down => end,
        end = beside => end,
        end = up => end,
    }
}

fn size() -> Size {
    let size = terminal::size();
    Size {
        rows: size.rows,
        cols: size.cols,
    }
}

async fn write<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> Result<(), SessionError> {
    let written = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    written.await.map_err(SessionError::Output)
}

/// Reads from an input, for ever where there is none.
async fn read<R: AsyncRead + Unpin>(from: &mut Option<R>, buffer: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(from) => from.read(buffer).await,
        None => std::future::pending().await,
    }
}
