//! What the system refused.

use std::io;

/// The kernel refused something.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub struct SystemError {
    /// What was tried.
    pub what: String,
    /// What it said.
    pub source: io::Error,
}

impl SystemError {
    /// For `map_err`: says what was tried.
    pub(crate) fn of<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self {
            what,
            source: source.into(),
        }
    }

    /// The error's number.
    pub(crate) fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}
