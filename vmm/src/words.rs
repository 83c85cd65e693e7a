//! Errors in words.

use std::error::Error;

/// An error and its sources, one after the other.
pub(crate) fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
