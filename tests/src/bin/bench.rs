//! `cargo ci bench`: measures.

use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;
use tests::bench::{self, Bench};

const HELP: &str = "\
Measures Shoal

Usage: cargo ci bench [NAME]... [--runs N] [-o text|json]

  --runs N   how often, where a bench leaves a choice
  -o json    a line of JSON a figure, instead of a table
  --list     says which benches there are
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = lexopt::Parser::from_env();
    let mut chosen: Vec<Bench> = Vec::new();
    let (mut json, mut runs) = (false, None);
    while let Some(arg) = args.next()? {
        match arg {
            Short('o') | Long("output") => {
                json = match args.value()?.string()?.as_str() {
                    "json" => true,
                    "text" => false,
                    other => bail!("output is `text` or `json`, not `{other}`"),
                }
            }
            Long("runs") => runs = Some(args.value()?.parse()?),
            Long("list") => {
                for bench in bench::ALL {
                    println!("{:<10} {}", bench.name, bench.about);
                }
                return Ok(());
            }
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(());
            }
            Value(name) => chosen.push(bench::named(&name.string()?)?),
            other => return Err(other.unexpected().into()),
        }
    }
    if runs == Some(0) {
        bail!("0 runs measure nothing");
    }
    if chosen.is_empty() {
        chosen.extend(bench::ALL);
    }
    let mut notes = Vec::new();
    for bench in chosen {
        eprintln!("{}: {}", bench.name, bench.about);
        let figures = (bench.run)(runs, &mut notes)?;
        if json {
            for figure in &figures {
                println!("{}", figure.json());
            }
        } else {
            println!("{}", bench::table(&figures));
        }
    }
    for note in notes {
        eprintln!("note: {note}");
    }
    Ok(())
}
