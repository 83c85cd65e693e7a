//! Speaking to the agent in a Linux guest: over the monitor's vsock socket, one connection an operation.
//!
//! ```text
//! dial: CONNECT 1024 -> OK ... -> Hello both ways -> Request -> Reply
//!       |                                                        |
//!       a port that nobody listens on is closed                  then streams, for some
//! ```
//! The agent is as hostile as any guest: whatever it says is bounded in size ([`frames`]), has to come in time ([`PATIENCE`]) and
//! is checked before anything else sees it. What breaks a rule costs the agent the connection and nobody else anything.
//!
//! - [`frames`]: messages on a stream, either way.
//! - [`connection`]: from nothing to the answer of a request.
//! - [`relay`]: between a client and a program in the guest.
//! - [`copy`]: tar streams in and out.
//! - [`health`]: from single probes to a VM's health.

pub mod connection;
pub mod copy;
pub mod frames;
pub mod health;
pub mod relay;

use std::io;
use std::time::Duration;

use abi::agent::message::MessageError;
use abi::agent::reply::Failure;
use api::{AgentState, HealthState};

pub use connection::{Connection, ask, open};

/// How long an agent may take to answer what costs it little.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is known of a VM's agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    /// How far it is.
    pub state: AgentState,
    /// What there is to say besides.
    pub message: Option<String>,
    /// The VM's health, where it is probed.
    pub health: Option<HealthState>,
    /// How often it started the main program again.
    pub restarts: u32,
    /// When it answered first, by the monotonic clock; not known where that was to an earlier daemon.
    pub answered_ns: Option<u64>,
}

impl Default for AgentStatus {
    fn default() -> Self {
        Self {
            state: AgentState::Connecting,
            message: None,
            health: None,
            restarts: 0,
            answered_ns: None,
        }
    }
}

/// The agent did not do it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no socket, or nobody accepts.
    #[error("its monitor cannot be reached")]
    Connect(#[source] io::Error),
    /// The guest has nobody at the port.
    #[error("it does not listen yet")]
    NotListening,
    /// The connection broke.
    #[error("the connection to it broke")]
    Broken(#[source] io::Error),
    /// The connection ended where something was still to come.
    #[error("it ended the connection too early")]
    Ended,
    /// Nothing came.
    #[error("it did not answer within {0:?}")]
    Silent(Duration),
    /// What came breaks the protocol.
    #[error("it answered nonsense: {0}")]
    Nonsense(String),
    /// It will not do it.
    #[error("{0}")]
    Refused(Failure),
    /// The request itself breaks the protocol: it is too long, for one.
    #[error("it cannot be asked that: {0}")]
    Request(MessageError),
}

impl AgentError {
    /// Whether this is no more than a guest that is not that far yet.
    #[must_use]
    pub fn is_early(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::NotListening)
    }
}
