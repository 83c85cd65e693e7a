//! `vmctl stats`: what VMs use.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::time::{Duration, Instant};

use anyhow::Result;
use api::{Client, Stats, Vm, VmState};
use futures::StreamExt;

use crate::context::Context;
use crate::output::print;
use crate::render::stats::{Sample, table};

/// Time from one look to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many VMs are asked at a time.
const AT_ONCE: usize = 64;
/// To the beginning of a terminal's page, and all of it away.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Show what VMs use: processor, memory, network, disks. Without VMs: those that run. With -o json: a list a second, on a line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, beginnings of ids, or names
    vms: Vec<String>,

    /// Show it once
    #[arg(long)]
    no_stream: bool,
}

/// Shows it each second, until vmctl is ended.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let mut before = look(&client, &args.vms).await?;
    loop {
        // Rates are over a time: this is what is measured, not a wait for something.
        tokio::time::sleep(INTERVAL).await;
        let now = look(&client, &args.vms).await?;
        let samples: Vec<Sample> = now
            .iter()
            .map(|(id, look)| look.since(before.get(id)))
            .collect();
        let output = &context.output;
        if args.no_stream {
            output.result(&samples, || table(&samples, output.style))?;
            return Ok(0);
        }
        if output.is_json() {
            output.item(&samples, String::new)?;
        } else {
            let clear = if stdout().is_terminal() { CLEAR } else { "" };
            print(&format!("{clear}{}", table(&samples, output.style)))?;
        }
        before = now;
    }
}

/// What a VM said, and when.
struct Look {
    vm: Vm,
    stats: Stats,
    at: Instant,
}

impl Look {
    fn since(&self, before: Option<&Self>) -> Sample {
        let before = before.map(|b| (&b.stats, self.at.duration_since(b.at)));
        Sample::new(&self.vm, &self.stats, before)
    }
}

/// Asks `vms`, or all that run. One that was named and cannot be asked is an error; another one has just ended.
async fn look(client: &Client, vms: &[String]) -> Result<BTreeMap<String, Look>> {
    let mut asked = Vec::new();
    if vms.is_empty() {
        let all = client.list(false).await?;
        asked.extend(all.into_iter().filter(|vm| vm.state == VmState::Running));
    } else {
        for vm in vms {
            asked.push(client.inspect(vm).await?);
        }
    }
    let looks = futures::stream::iter(asked.into_iter().map(async |vm| {
        let stats = client.stats(&vm.id).await;
        (vm, stats, Instant::now())
    }))
    .buffered(AT_ONCE)
    .collect::<Vec<_>>()
    .await;
    let mut found = BTreeMap::new();
    for (vm, stats, at) in looks {
        match stats {
            Ok(stats) => drop(found.insert(vm.name.clone(), Look { vm, stats, at })),
            Err(_) if vms.is_empty() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
