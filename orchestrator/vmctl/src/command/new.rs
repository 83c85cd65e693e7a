//! `vmctl new`.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::context::Context;
use crate::project;

/// Write the beginnings of a program of your own: a guest on the library OS, which stock stable Rust builds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program's name, or a path that ends in it: a folder that is not there yet, or is empty
    name: PathBuf,
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Written {
    /// The program's name.
    name: String,
    /// Its folder.
    path: PathBuf,
    /// What to type next.
    next: Vec<String>,
}

/// Writes it.
pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let name = project::write(&args.name)?;
    let next = vec![
        format!("cd {}", args.name.display()),
        "cargo build --release".to_owned(),
        format!("vmctl image add target/release/{name}"),
        format!("vmctl run --rm {name}"),
    ];
    let written = Written {
        name,
        path: args.name.clone(),
        next,
    };
    context.output.result(&written, || {
        if context.output.quiet {
            return String::new();
        }
        let next: String = written.next.iter().map(|c| format!("  {c}\n")).collect();
        format!(
            "{} is a guest of your own now. Next:\n\n{next}",
            written.name
        )
    })?;
    Ok(0)
}
