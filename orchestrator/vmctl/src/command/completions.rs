//! `vmctl completions`.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output::print_bytes;

/// Print completions for a shell, for example `vmctl completions bash > /etc/bash_completion.d/vmctl`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints them.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vmctl", &mut script);
    print_bytes(&script)?;
    Ok(0)
}
