//! The protocol between a host and the agent in a Linux guest.
//!
//! The agent listens on vsock port [`PORT`]. One connection is one operation:
//!
//! ```text
//!  host                                     agent
//!   │ ── Hello{version} ────────────────────▶ │   both may be in one write: the host need not wait for
//!   │ ── Request ───────────────────────────▶ │   the agent's Hello
//!   │ ◀──────────────────── Hello{version} ── │
//!   │ ◀──────────────── Reply, or Error ───── │   an Error ends the connection
//!   │ ── Stdin, Data, Eof, Resize, Signal ──▶ │   only after Exec, Attach and CopyIn
//!   │ ◀── Stdout, Stderr, Data, Eof, ──────── │   only after Exec, Attach and CopyOut
//!   │ ◀──────── Dropped, Exit, Reply ──────── │
//!   │                  close                  │
//! ```
//!
//! - [`frame`]: what is on the wire, and the decoder that takes it in any pieces.
//! - [`message`]: what a frame says, checked.
//! - [`request`], [`start`]: what a host may ask; [`reply`]: what an agent answers.
//! - [`network`], [`signal`]: addresses and signals.
//!
//! Both sides hold the other for hostile. Whatever comes is at most [`frame::PAYLOAD_MAX`] long, and behind
//! [`message::Message::decode`] only values exist that passed their `check`.

pub mod frame;
pub mod message;
pub mod network;
pub mod reply;
pub mod request;
pub mod signal;
pub mod start;

#[cfg(test)]
mod tests;

/// The vsock port that the agent listens on.
pub const PORT: u32 = 1024;

/// The version of the protocol that this crate speaks. It counts up with every change that the other side would not
/// understand.
pub const VERSION: u32 = 1;
