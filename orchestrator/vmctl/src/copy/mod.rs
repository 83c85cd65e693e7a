//! Copies between this host and a guest, as tar archives.
//!
//! ```text
//!  host path ── pack (a thread) ──▶ pipe ──▶ PUT /files      into a directory of the guest
//!  GET /files ──▶ pipe ──▶ unpack (a thread) ──▶ host path
//! ```
//!
//! - [`place`]: what a word of the command line means: a path here, a path in a VM, a stream.
//! - [`plan`]: docker's rules for what is copied where.
//! - [`pack`]: from files to an archive.
//! - [`unpack`]: from an archive to files. What a guest sends is hostile: nothing is written outside the target.
//! - [`pipe`]: between threads and streams.

pub(crate) mod pack;
pub(crate) mod pipe;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod unpack;
