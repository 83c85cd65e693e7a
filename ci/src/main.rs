//! `cargo ci`: one command for everything that is done to this repository.
//!
//! - [`install`]: builds guests and host programs and lays them out as users have them.
//! - [`check`], [`test`]: what must hold before a change lands.
//! - [`demo`]: a first look at Shoal.
//! - [`program`]: benches and fuzz loops, which are programs of the `tests` crate.
//! - [`docs`]: writes the documents that the code gives.
//! - [`kernel`]: builds the Linux guest's kernel, once; [`initrd`] packs its first file system.
//!
//! Beneath them: [`tree`] knows where things are, [`cmd`] runs programs, [`packages`] installs Debian's.

mod check;
mod cmd;
mod demo;
mod docs;
mod initrd;
mod install;
mod kernel;
mod packages;
mod program;
mod style;
mod test;
mod tree;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use crate::tree::Tree;

const HELP: &str = "\
Shoal's own commands

Usage: cargo ci COMMAND

  demo              builds Shoal, boots a guest of the library OS and shows it
  test              everything that must hold: format, lints, unit tests, whole-system tests on KVM
  check             the quick part of it: format, lints, unit tests
  build             builds and lays out Shoal in target/shoal
  bench [NAME]...   measures; --list says what, -o json prints a line a figure
  fuzz [TARGET]...  feeds parsers and devices hostile input; --list says which
  recipes           builds each recipe's image, runs it in a VM and uses its program; takes some half an hour
  docs              writes what docs/ takes from the code: the REST interface, the table of states
  kernel            builds the Linux guest's kernel in target/kernel, once
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error:#}", style::red("cargo ci:"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = lexopt::Parser::from_env();
    let command = match args.next()? {
        Some(Value(command)) => command.string()?,
        Some(Long("help") | Short('h')) | None => {
            print!("{HELP}");
            return Ok(());
        }
        Some(other) => return Err(other.unexpected().into()),
    };
    // Benches and fuzz loops read their own arguments.
    let rest: Vec<OsString> = args.raw_args()?.collect();
    let tree = Tree::find()?;
    match command.as_str() {
        "bench" => return program::bench(&tree, &rest),
        "fuzz" => return program::fuzz(&tree, &rest),
        _ => {}
    }
    match rest.first().map(|word| word.to_string_lossy()) {
        Some(word) if word == "--help" || word == "-h" => {
            print!("{HELP}");
            return Ok(());
        }
        Some(word) => bail!("`{command}` takes no arguments, but there is `{word}`"),
        None => {}
    }
    match command.as_str() {
        "build" => install::install(&tree),
        "check" => check::check(&tree),
        "test" => test::test(&tree),
        "demo" => demo::demo(&tree),
        "recipes" => test::recipes(&tree),
        "docs" => docs::write(&tree),
        "kernel" => kernel::kernel(&tree).map(|at| println!("{}", at.display())),
        "help" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("there is no command `{other}`\n\n{HELP}"),
    }
}
