//! `vmctl logs`.

use anyhow::Result;
use api::LogsQuery;
use serde::Serialize;

use crate::context::Context;
use crate::output::print_bytes;

/// Show what a VM's console has written. With -o json: an object {"line": ...} a line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id, the beginning of its id, or its name
    vm: String,

    /// Go on with what comes, until the VM has ended
    #[arg(short, long)]
    follow: bool,

    /// Only so many of the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u64>,
}

/// A line of a console.
#[derive(Serialize)]
struct Line<'a> {
    line: &'a str,
}

/// Shows it.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let query = LogsQuery {
        follow: args.follow,
        tail: args.tail,
    };
    let mut console = context.client().await?.logs(&args.vm, query).await?;
    let mut rest = Vec::new();
    while let Some(bytes) = console.next().await? {
        if !context.output.is_json() {
            print_bytes(&bytes)?;
            continue;
        }
        rest.extend_from_slice(&bytes);
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            print_line(context, &line[..end])?;
        }
    }
    if !rest.is_empty() {
        print_line(context, &rest)?;
    }
    Ok(0)
}

fn print_line(context: &Context, line: &[u8]) -> Result<()> {
    let line = String::from_utf8_lossy(line);
    let line = line.strip_suffix('\r').unwrap_or(&line);
    context.output.item(&Line { line }, String::new)
}
