//! `vmctl new`.

use anyhow::Result;

use crate::context::Context;

/// Write the beginnings of a program of your own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The project's folder and name
    name: String,
}

/// Writes it.
pub(crate) fn run(_context: &Context, args: &Args) -> Result<u8> {
    anyhow::bail!("cannot write {}", args.name)
}
