//! Tar streams in and out of a guest.

use abi::agent::frame::PAYLOAD_MAX;
use abi::agent::message::Message;
use abi::agent::reply::Reply;
use abi::agent::request::{CopyIn, CopyOut, Request};
use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::connection::odd;
use super::{AgentError, Connection, PATIENCE, frames, open};
use crate::folder::VmFolder;

/// A copy into a guest went wrong.
#[derive(Debug, thiserror::Error)]
pub enum CopyError<E> {
    /// In the guest.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Where the archive comes from.
    #[error("the archive did not arrive whole")]
    Source(E),
}

/// Unpacks an archive into a directory of the guest, at the speed at which that goes.
///
/// # Errors
/// [`CopyError`]; some of it may be there then.
pub async fn copy_in<S, E>(folder: &VmFolder, path: String, archive: S) -> Result<(), CopyError<E>>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let (connection, reply) = open(folder, Request::CopyIn(CopyIn { path }), PATIENCE).await?;
    expect(&reply, &Reply::Ready)?;
    let Connection {
        mut reader,
        mut writer,
    } = connection;
    let sending = async {
        let mut archive = std::pin::pin!(archive);
        while let Some(bytes) = archive.next().await {
            let bytes = bytes.map_err(CopyError::Source)?;
            for part in bytes.chunks(PAYLOAD_MAX) {
                frames::send(&mut writer, &Message::Data(part)).await?;
            }
        }
        frames::send(&mut writer, &Message::Eof).await?;
        Ok(())
    };
    let answer = reader.next();
    tokio::pin!(sending, answer);
    let answer = tokio::select! {
        // Why it stopped reading says more than that it did.
        biased;
        answer = &mut answer => answer?,
        sent = &mut sending => match sent {
            Ok(()) | Err(CopyError::Agent(AgentError::Broken(_))) => answer.await?,
            Err(error) => return Err(error),
        },
    };
    match answer {
        Some(Message::Reply(Reply::Done)) => Ok(()),
        Some(Message::Error(failure)) => Err(AgentError::Refused(failure).into()),
        Some(other) => Err(odd(&other).into()),
        None => Err(AgentError::Ended.into()),
    }
}

/// An archive of a path in the guest, from its beginning.
///
/// # Errors
/// [`AgentError`]: there is no such path, for one.
pub async fn copy_out(folder: &VmFolder, path: String) -> Result<Archive, AgentError> {
    let (connection, reply) = open(folder, Request::CopyOut(CopyOut { path }), PATIENCE).await?;
    expect(&reply, &Reply::Ready)?;
    Ok(Archive(connection))
}

/// An archive on its way out of a guest.
#[derive(Debug)]
pub struct Archive(Connection);

impl Archive {
    /// The next bytes; `None` where it is whole.
    ///
    /// # Errors
    /// [`AgentError`]: what came so far is not all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AgentError> {
        match self.0.reader.next().await? {
            Some(Message::Data(bytes)) => Ok(Some(Bytes::copy_from_slice(bytes))),
            Some(Message::Eof) => Ok(None),
            Some(Message::Error(failure)) => Err(AgentError::Refused(failure)),
            Some(other) => Err(odd(&other)),
            None => Err(AgentError::Ended),
        }
    }
}

fn expect(reply: &Reply, wanted: &Reply) -> Result<(), AgentError> {
    match reply == wanted {
        true => Ok(()),
        false => Err(AgentError::Nonsense(
            "another answer than that asked for".to_owned(),
        )),
    }
}
