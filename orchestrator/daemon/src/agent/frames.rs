//! Messages on a stream: read within bounds and checked.

use std::io;

use abi::agent::frame::{Decoder, Frame, HEADER, Kind};
use abi::agent::message::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::AgentError;

/// Bytes that are read ahead at most: headers and small frames; a large payload goes past this.
const AHEAD: usize = 8 << 10;

/// Takes messages from a stream. It never holds more than one frame.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: BufReader<R>,
    /// The last frame, header and all.
    frame: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader of `stream`.
    pub fn new(stream: R) -> Self {
        Self {
            stream: BufReader::with_capacity(AHEAD, stream),
            frame: Vec::new(),
        }
    }

    /// The next message; `None` where the stream ends between two. Dropped half-way, the stream is of no more use.
    ///
    /// # Errors
    /// [`AgentError`] where the stream breaks, ends within a frame, or what comes is no message.
    pub async fn next(&mut self) -> Result<Option<Message<'_>>, AgentError> {
        self.frame.resize(HEADER, 0);
        let begun = self.stream.read(&mut self.frame).await;
        let begun = begun.map_err(AgentError::Broken)?;
        if begun == 0 {
            return Ok(None);
        }
        self.fill(begun).await?;
        // Of a header alone it says what is wrong with it, if anything.
        Decoder::new()
            .next(&mut &self.frame[..])
            .map_err(|e| AgentError::Nonsense(e.to_string()))?;
        let [_, _, _, _, a, b, c, d] = self.frame[..] else {
            unreachable!("a header has {HEADER} bytes");
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        self.frame.resize(HEADER + length, 0);
        self.fill(HEADER).await?;
        let Some(kind) = Kind::from_byte(self.frame[0]) else {
            unreachable!("the decoder knew it");
        };
        let payload = &self.frame[HEADER..];
        Message::decode(Frame { kind, payload })
            .map(Some)
            .map_err(|e| AgentError::Nonsense(e.to_string()))
    }

    /// The last message as it came.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.frame
    }

    async fn fill(&mut self, from: usize) -> Result<(), AgentError> {
        match self.stream.read_exact(&mut self.frame[from..]).await {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(AgentError::Ended),
            Err(e) => Err(AgentError::Broken(e)),
        }
    }
}

/// Writes a message.
///
/// # Errors
/// [`AgentError::Request`] where it is none that may be sent, [`AgentError::Broken`].
pub async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &Message<'_>,
) -> Result<(), AgentError> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).map_err(AgentError::Request)?;
    stream.write_all(&bytes).await.map_err(AgentError::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::agent::frame::PAYLOAD_MAX;
    use abi::agent::message::Hello;
    use proptest::prelude::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn messages_come_as_they_were_sent_and_the_end_between_them_is_one() {
        run(async {
            let mut bytes = Vec::new();
            let large = vec![7; PAYLOAD_MAX];
            let messages = [
                Message::Hello(Hello::OURS),
                Message::Stdout(&large),
                Message::Eof,
            ];
            for message in &messages {
                send(&mut bytes, message).await.unwrap();
            }
            let mut reader = FrameReader::new(&bytes[..]);
            for message in &messages {
                assert_eq!(reader.next().await.unwrap().as_ref(), Some(message));
            }
            assert_eq!(reader.next().await.unwrap(), None);
            let mut cut = FrameReader::new(&bytes[..5]);
            assert!(matches!(cut.next().await, Err(AgentError::Ended)));
        });
    }

    #[test]
    fn a_length_beyond_what_is_allowed_takes_no_memory() {
        run(async {
            let header = [Kind::Stdout as u8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
            let mut reader = FrameReader::new(&header[..]);
            assert!(matches!(reader.next().await, Err(AgentError::Nonsense(_))));
            assert!(reader.frame.capacity() < 100);
        });
    }

    proptest! {
        #[test]
        fn any_bytes_are_messages_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            run(async {
                let mut reader = FrameReader::new(&bytes[..]);
                while let Ok(Some(_)) = reader.next().await {}
            });
        }
    }
}
