//! Kills monitors in the middle of a guest's writes: what the guest had synced must be there.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::{Bench, Figure, Samples};
use crate::disk::{Disk, Found, ROUNDS};
use crate::fuzz::Random;

pub(super) const BENCH: Bench = Bench {
    name: "disk",
    about: "kills of a monitor in the middle of a Linux guest's writes: records that were synced, and lost",
    run,
};

const RUNS: usize = 10;
/// Disks that are under test at a time.
const AT_ONCE: usize = 2;
/// A kill comes at most so long after a record that was synced: the next ones are on their way then.
const PAUSE: Duration = Duration::from_millis(100);

fn run(runs: Option<usize>, _: &mut Vec<String>) -> Result<Vec<Figure>> {
    let runs = runs.unwrap_or(RUNS);
    let lanes = AT_ONCE.min(runs);
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes)
            .map(|lane| scope.spawn(move || kills(lane, (runs + lane) / lanes)))
            .collect();
        let done = threads.into_iter().map(|thread| {
            let done = thread.join().map_err(|_| anyhow!("a guest did not write"));
            done.flatten()
        });
        done.collect::<Result<Vec<_>>>()
    })?;
    let (mut each, mut synced, mut unsaid) = (Samples::default(), 0, 0);
    for (found, took) in done.into_iter().flatten() {
        synced += found.synced;
        unsaid += found.unsaid;
        each.add(took.as_secs_f64());
    }
    let figure =
        |what: &str, value: u64| Figure::single("disk", what, value as f64, "").of_runs(runs);
    Ok(vec![
        figure("records synced before the kills", synced),
        // A lost one, or a word of e2fsck's, ends the bench with an error.
        figure("  of these lost", 0),
        figure("  file systems that e2fsck complains of", 0),
        figure("records there that were not yet told", unsaid),
        each.figure("disk", "a boot, its writes, the kill and the check", "s"),
    ])
}

/// Kills `count` monitors of one disk, one after the other; gives what each left, and how long it took.
fn kills(lane: usize, count: usize) -> Result<Vec<(Found, Duration)>> {
    let mut disk = Disk::new()?;
    let mut random = Random::new(u64::from(std::process::id()) << 8 | lane as u64);
    let mut done = Vec::new();
    for kill in 1..=count {
        let began = Instant::now();
        let record = random.below(ROUNDS as usize / 2) as u64;
        let pause = PAUSE.mul_f64(random.below(1000) as f64 / 1000.0);
        let synced = disk.write_and_kill(record, pause)?;
        let found = Found {
            synced,
            ..disk.check()?
        };
        eprintln!(
            "disk {lane}, kill {kill}: {synced} synced and there, {} more, {:.1} s",
            found.unsaid,
            began.elapsed().as_secs_f64()
        );
        done.push((found, began.elapsed()));
    }
    Ok(done)
}
