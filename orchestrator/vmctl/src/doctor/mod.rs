//! What this host can do, what is missing and how to mend it.
//!
//! [`facts::gather`] looks and decides nothing; [`verdict::judge`] decides and looks at nothing.

pub(crate) mod facts;
mod linux;
mod probe;
pub(crate) mod verdict;
