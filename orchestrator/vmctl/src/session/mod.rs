//! A session: the user's streams on one side, a program in a Linux guest on the other.
//!
//! ```text
//!  keys, standard input ──▶ Watch ──▶ Stdin, Eof ──┐
//!  SIGWINCH ─────────────────────────▶ Resize ─────┼──▶ vmd ──▶ agent ──▶ program
//!  other signals, where not raw ─────▶ Signal ─────┘
//!  standard output, error ◀── Stdout, Stderr, Dropped, Exit ◀── vmd ◀─────┘
//! ```
//!
//! - [`relay`]: moves both directions until the program ends or the user leaves.
//! - [`messages`]: frames, checked: the daemon passes on what a guest says.
//! - [`keys`]: the keys by which a user leaves.
//! - [`local`]: what happens on the user's side beside input: signals, another size.

pub(crate) mod keys;
pub(crate) mod local;
pub(crate) mod messages;
pub(crate) mod relay;

#[cfg(test)]
mod tests;

use anyhow::Error;

pub(crate) use keys::Keys;
pub(crate) use local::Local;
pub(crate) use messages::{Heard, Messages, SessionError};
pub(crate) use relay::{End, Manner, relay};

/// An error of a session as the commands have it: a reader of ours that is gone is no news.
pub(crate) fn told(error: SessionError) -> Error {
    match error {
        SessionError::Output(source) => source.into(),
        other => other.into(),
    }
}
