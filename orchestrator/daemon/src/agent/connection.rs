//! From nothing to the answer of a request.

use std::io;
use std::time::Duration;

use abi::agent::PORT;
use abi::agent::message::{Hello, Message};
use abi::agent::reply::Reply;
use abi::agent::request::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::AgentError;
use super::frames::FrameReader;
use crate::folder::VmFolder;

/// Most bytes of the monitor's answer to `CONNECT`: `OK`, a port, a line's end.
const MAX_OK: usize = 32;

/// A connection whose request was answered.
#[derive(Debug)]
pub struct Connection {
    /// What the agent says.
    pub reader: FrameReader<OwnedReadHalf>,
    /// What it is told.
    pub writer: OwnedWriteHalf,
}

/// Asks, and takes the answer; the connection ends with it.
///
/// # Errors
/// [`AgentError`]; after `patience` at the latest.
pub async fn ask(
    folder: &VmFolder,
    request: Request,
    patience: Duration,
) -> Result<Reply, AgentError> {
    open(folder, request, patience)
        .await
        .map(|(_, reply)| reply)
}

/// Asks, takes the answer, and gives the connection on for what follows.
///
/// # Errors
/// [`AgentError`]; after `patience` at the latest.
pub async fn open(
    folder: &VmFolder,
    request: Request,
    patience: Duration,
) -> Result<(Connection, Reply), AgentError> {
    tokio::time::timeout(patience, exchange(folder, request))
        .await
        .unwrap_or(Err(AgentError::Silent(patience)))
}

async fn exchange(folder: &VmFolder, request: Request) -> Result<(Connection, Reply), AgentError> {
    let mut asked = Vec::new();
    let request = Message::Request(Box::new(request));
    for message in [Message::Hello(Hello::OURS), request] {
        message.encode(&mut asked).map_err(AgentError::Request)?;
    }
    let mut stream = dial(folder).await?;
    stream.write_all(&asked).await.map_err(closed_or_broken)?;
    let (reader, writer) = stream.into_split();
    let mut reader = FrameReader::new(reader);
    match reader.next().await? {
        Some(Message::Hello(hello)) if hello == Hello::OURS => {}
        // It says in what follows what it thinks of our version.
        Some(Message::Hello(_)) => {}
        // As a port does that was closed while it was being connected to.
        None => return Err(AgentError::NotListening),
        Some(other) => return Err(odd(&other)),
    }
    let reply = match reader.next().await? {
        Some(Message::Reply(reply)) => reply,
        Some(Message::Error(failure)) => return Err(AgentError::Refused(failure)),
        Some(other) => return Err(odd(&other)),
        None => return Err(AgentError::Ended),
    };
    Ok((Connection { reader, writer }, reply))
}

/// A stream to the agent's port, by way of the monitor.
async fn dial(folder: &VmFolder) -> Result<UnixStream, AgentError> {
    let mut stream = folder.connect_vsock().await.map_err(AgentError::Connect)?;
    let connect = format!("CONNECT {PORT}\n");
    stream
        .write_all(connect.as_bytes())
        .await
        .map_err(closed_or_broken)?;
    let mut said = Vec::with_capacity(MAX_OK);
    // Byte by byte: what comes after the line is the agent's.
    while said.last() != Some(&b'\n') {
        if said.len() == MAX_OK {
            return Err(AgentError::Nonsense("no OK from the monitor".to_owned()));
        }
        match stream.read_u8().await {
            Ok(byte) => said.push(byte),
            Err(e) => return Err(closed_or_broken(e)),
        }
    }
    match said.starts_with(b"OK ") {
        true => Ok(stream),
        false => Err(AgentError::Nonsense("no OK from the monitor".to_owned())),
    }
}

/// A monitor closes what leads to a port that nobody listens on.
fn closed_or_broken(error: io::Error) -> AgentError {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error.kind() {
        UnexpectedEof | ConnectionReset | BrokenPipe => AgentError::NotListening,
        _ => AgentError::Broken(error),
    }
}

/// A message at the wrong time.
pub(super) fn odd(message: &Message<'_>) -> AgentError {
    AgentError::Nonsense(format!(
        "a frame of kind {:?} at the wrong time",
        message.kind()
    ))
}
