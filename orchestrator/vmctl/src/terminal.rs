//! The user's terminal: raw mode, its size.
//!
//! In raw mode every key is the guest's, Ctrl-C too. [`Raw`] gives the terminal back as it was when it goes: at an ordinary
//! end, an error and a panic. Signals that would end vmctl are heard by who holds it ([`crate::session`]), so that it goes then too.

use std::io::{self, IsTerminal};

use api::WindowSize;
use rustix::termios::{self, OptionalActions, Termios};

/// The size of a terminal that does not say how large it is.
const USUAL: WindowSize = WindowSize { rows: 24, cols: 80 };
/// The largest that an agent takes.
const LARGEST: u16 = 4096;

/// The standard input in raw mode, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes the standard input raw.
    ///
    /// # Errors
    /// What the terminal said; one that is none, for example.
    pub(crate) fn new() -> io::Result<Self> {
        let input = rustix::stdio::stdin();
        let before = termios::tcgetattr(input)?;
        let mut raw = before.clone();
        raw.make_raw();
        // What was typed already is meant for the guest: nothing is thrown away. Nor waited for: nobody may read what we wrote.
        termios::tcsetattr(input, OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone has no mode.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Whether keys come from a terminal.
pub(crate) fn is_typed() -> bool {
    io::stdin().is_terminal()
}

/// The size of the user's terminal; a usual one where there is none.
pub(crate) fn size() -> WindowSize {
    [
        termios::tcgetwinsize(rustix::stdio::stdin()),
        termios::tcgetwinsize(rustix::stdio::stdout()),
    ]
    .into_iter()
    .flatten()
    .find(|size| size.ws_row != 0 && size.ws_col != 0)
    .map_or(USUAL, |size| WindowSize {
        rows: size.ws_row.min(LARGEST),
        cols: size.ws_col.min(LARGEST),
    })
}

/// Its kind, where it has one that can be told.
pub(crate) fn kind() -> Option<String> {
    let term = std::env::var("TERM").ok()?;
    let fits = (1..=64).contains(&term.len()) && term.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(term)
}
