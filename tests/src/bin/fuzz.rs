//! `cargo ci fuzz`: feeds parsers and devices hostile input.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use lexopt::prelude::*;
use tests::fuzz::{self, Limit, Target, targets};

const HELP: &str = "\
Feeds parsers and devices hostile input

Usage: cargo ci fuzz [TARGET]... [--runs N | --seconds N]
       cargo ci fuzz TARGET --replay FILE

  --runs N       inputs for each target (1000000 where nothing is said)
  --seconds N    time for each target
  --replay FILE  runs one input, as a failure left it
  --list         says which targets there are
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = lexopt::Parser::from_env();
    let mut chosen: Vec<Target> = Vec::new();
    let mut limit = Limit::Runs(1_000_000);
    let mut replay: Option<PathBuf> = None;
    while let Some(arg) = args.next()? {
        match arg {
            Long("runs") => limit = Limit::Runs(args.value()?.parse()?),
            Long("seconds") => limit = Limit::Time(Duration::from_secs(args.value()?.parse()?)),
            Long("replay") => replay = Some(args.value()?.into()),
            Long("list") => {
                for target in targets::ALL {
                    println!("{:<12} {}", target.name, target.about);
                }
                return Ok(());
            }
            Long("worker") => {
                let rest = args.raw_args()?.map(|word| word.string());
                return fuzz::worker(&rest.collect::<Result<Vec<_>, _>>()?);
            }
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(());
            }
            Value(name) => chosen.push(targets::named(&name.string()?)?),
            other => return Err(other.unexpected().into()),
        }
    }
    if let Some(file) = replay {
        let [target] = chosen[..] else {
            bail!("--replay needs one target");
        };
        fuzz::replay(&target, &file)?;
        println!("{} took {}", target.name, file.display());
        return Ok(());
    }
    if chosen.is_empty() {
        chosen.extend(targets::ALL);
    }
    for target in chosen {
        let report = fuzz::run(&target, limit)?;
        let rate = report.runs as f64 / report.took.as_secs_f64();
        println!(
            "{:<12} {:>12} runs in {:>6.1} s ({rate:.0} a second), {} branches reached, no failure",
            target.name,
            report.runs,
            report.took.as_secs_f64(),
            report.reached
        );
    }
    Ok(())
}
