//! Hostile input for everything that reads input.
//!
//! A [`Target`] is a function that must take any bytes: it may refuse them, and must not panic, crash or hang. The
//! [`engine`](self) starts from valid inputs, mutates them, and keeps what reaches new code.
//!
//! ```text
//! supervisor ---starts---> worker, one a core ---runs---> target(input)
//!      \                      |
//!       `--- reads <--- slot: input that runs now, how many ran
//! ```
//!
//! A worker notes each input in its slot, a shared page, before it runs it. So the supervisor knows which input it was
//! however the worker ended: panic, signal, or no progress.

mod cover;
mod engine;
mod mutate;
mod slot;
mod supervisor;
pub mod targets;

pub use engine::{Limit, brief};
pub use mutate::Random;
pub use supervisor::{Report, replay, run, worker};

/// Something that takes hostile bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// Valid inputs to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that its format is made of.
    pub words: &'static [&'static [u8]],
    /// Takes one input.
    pub run: fn(&[u8]),
}
