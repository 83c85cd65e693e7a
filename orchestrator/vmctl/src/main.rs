//! `vmctl`: Shoal for people, and for their scripts.
//!
//! A command is one file in [`command`]: its arguments (clap) and what it does with the daemon's answers. What people
//! read is made by pure functions in [`render`] from the API's types; `-o json` prints those types as they are.
//! What is done inside a Linux guest is a session of frames ([`session`]) or a tar archive ([`copy`]).
//! [`daemon`] finds the host's `vmd`, and starts it where there is none.

mod cli;
mod command;
mod console;
mod context;
mod copy;
mod daemon;
mod doctor;
mod ending;
mod guest_status;
mod making;
mod output;
mod place;
mod progress;
mod project;
mod render;
mod session;
mod terminal;
mod units;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let own_failure = cli.command.own_failure();
    let code = match cli.run() {
        Ok(code) => code,
        Err(error) if output::reader_is_gone(&error) => own_failure,
        Err(error) => {
            eprintln!("vmctl: {}", output::one_line(&error));
            own_failure
        }
    };
    // A thread that waits for the terminal's input would hold up an ordinary return.
    std::process::exit(code.into());
}
