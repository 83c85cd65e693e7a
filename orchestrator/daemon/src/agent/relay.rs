//! Between a client and a program in the guest: frames, checked, both ways.
//!
//! ```text
//! client --Stdin, Eof, Resize, Signal--> agent
//! client <--Reply, Stdout, Stderr, Dropped, Exit, Error-- agent
//! ```
//! One frame a direction is all that is ever held; who does not read stops who writes, up to the program itself. The end of an input is
//! said by `Eof`: a client that closes its side is gone, and its program's connection goes with it. The relay ends with the agent's last
//! frame.

use std::time::Duration;

use abi::agent::frame::Kind;
use abi::agent::message::Message;
use abi::agent::reply::{Code, Failure, Reply};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::connection::odd;
use super::frames::{self, FrameReader};
use super::{AgentError, Connection};

/// How long a client may take to read the last frame.
const PARTING: Duration = Duration::from_secs(10);

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// The agent said its last word, and the client has it.
    Done,
    /// The client went, or broke the protocol.
    Client,
    /// The agent broke off, or broke the protocol: the client was told.
    Agent(AgentError),
}

/// Relays until one of both is done. `reply` is what the agent answered already; where the program goes on `alone`, that is all.
pub async fn relay<C>(client: C, agent: Connection, reply: Reply, alone: bool) -> End
where
    C: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Connection {
        mut reader,
        mut writer,
    } = agent;
    let (from_client, mut to_client) = tokio::io::split(client);
    let mut from_client = FrameReader::new(from_client);
    if frames::send(&mut to_client, &Message::Reply(reply))
        .await
        .is_err()
    {
        return End::Client;
    }
    let ended = {
        let down = async {
            match alone {
                true => End::Done,
                false => pass_down(&mut reader, &mut to_client).await,
            }
        };
        let up = async {
            loop {
                match from_client.next().await {
                    Ok(Some(message)) if from_clients(message.kind()) => {}
                    _ => return,
                }
                if writer.write_all(from_client.raw()).await.is_err() {
                    // It reads no more; what it says of that comes the other way.
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            // What was said before an end is heard.
            biased;
            ended = down => ended,
            () = up => return End::Client,
        }
    };
    let told = match &ended {
        End::Agent(error) => {
            let failure = Failure::new(Code::Failed, format!("the guest's agent: {error}"));
            tokio::time::timeout(PARTING, async {
                frames::send(&mut to_client, &Message::Error(failure)).await?;
                to_client.shutdown().await.map_err(AgentError::Broken)
            })
            .await
        }
        _ => {
            tokio::time::timeout(PARTING, async {
                to_client.shutdown().await.map_err(AgentError::Broken)
            })
            .await
        }
    };
    match (told, ended) {
        (Ok(Ok(())), ended) | (_, ended @ End::Agent(_)) => ended,
        _ => End::Client,
    }
}

/// Passes on what the agent says, up to its last frame.
async fn pass_down<R, W>(agent: &mut FrameReader<R>, client: &mut W) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let last = match agent.next().await {
            Ok(Some(Message::Stdout(_) | Message::Stderr(_) | Message::Dropped(_))) => false,
            Ok(Some(Message::Exit(_) | Message::Error(_))) => true,
            Ok(Some(other)) => return End::Agent(odd(&other)),
            Ok(None) => return End::Agent(AgentError::Ended),
            Err(error) => return End::Agent(error),
        };
        if client.write_all(agent.raw()).await.is_err() {
            return End::Client;
        }
        if last {
            return match client.flush().await {
                Ok(()) => End::Done,
                Err(_) => End::Client,
            };
        }
    }
}

fn from_clients(kind: Kind) -> bool {
    matches!(kind, Kind::Stdin | Kind::Eof | Kind::Resize | Kind::Signal)
}
