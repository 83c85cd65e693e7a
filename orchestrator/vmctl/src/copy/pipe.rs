//! Bytes between a thread that reads or writes files and a stream of the network's.
//!
//! A few chunks lie between the two at most: who is slow holds up the other.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::Stream;
use tokio::sync::mpsc::{Receiver, Sender};

/// Bytes that are passed on at a time.
const CHUNK: usize = 256 << 10;
/// Chunks that lie between the two.
pub(crate) const CHUNKS: usize = 4;

/// What is received, as a stream. It ends with the sender; an error makes who reads it break off.
pub(crate) fn stream(receiver: Receiver<io::Result<Bytes>>) -> Received {
    Received(receiver)
}

/// A stream of what is received.
#[derive(Debug)]
pub(crate) struct Received(Receiver<io::Result<Bytes>>);

impl Stream for Received {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        self.0.poll_recv(context)
    }
}

/// Sends what is written to it. For threads: it blocks.
#[derive(Debug)]
pub(crate) struct Feeder {
    to: Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Feeder {
    pub(crate) fn new(to: Sender<io::Result<Bytes>>) -> Self {
        Self {
            to,
            chunk: Vec::new(),
        }
    }

    /// Ends with an error: who receives knows that what came is not all.
    pub(crate) fn fail(self, error: io::Error) {
        // A receiver that is gone knows that too.
        let _ = self.to.blocking_send(Err(error));
    }
}

impl Write for Feeder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        let sent = self.to.blocking_send(Ok(chunk.into()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Reads what is received. For threads: it blocks.
#[derive(Debug)]
pub(crate) struct Drain {
    from: Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Drain {
    pub(crate) fn new(from: Receiver<io::Result<Bytes>>) -> Self {
        Self {
            from,
            chunk: Bytes::new(),
        }
    }
}

impl Read for Drain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.from.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
