//! How the guest is: memory, load, processes, disks, as its kernel tells it.

use std::fs;

use abi::agent::reply::{DiskUse, Failure, Memory, Report};
use nix::sys::statvfs::statvfs;

use crate::copy_in::failure;
use crate::setup::Guest;

/// Units of `/proc/stat` in a second: the same on every Linux.
const TICKS_MS: u64 = 10;

/// Looks.
pub(crate) fn report(guest: &Guest) -> Result<Report, Failure> {
    let read = |path| fs::read_to_string(path).map_err(|error| failure(path, &error));
    let mut report = Report {
        memory: memory(&read("/proc/meminfo")?),
        disks: guest.paths().iter().filter_map(|path| disk(path)).collect(),
        ..Report::default()
    };
    load(&read("/proc/loadavg")?, &mut report);
    cpu(&read("/proc/stat")?, &mut report);
    Ok(report)
}

/// `MemTotal:  123 kB`, a line each.
fn memory(meminfo: &str) -> Memory {
    let mut memory = Memory::default();
    for line in meminfo.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(Ok(kib))) = (words.next(), words.next().map(str::parse::<u64>))
        else {
            continue;
        };
        let field = match name {
            "MemTotal:" => &mut memory.total,
            "MemFree:" => &mut memory.free,
            "MemAvailable:" => &mut memory.available,
            "Cached:" => &mut memory.cached,
            _ => continue,
        };
        *field = kib.saturating_mul(1024);
    }
    memory
}

/// `0.12 0.34 0.56 1/234 567`.
fn load(loadavg: &str, report: &mut Report) {
    let mut words = loadavg.split_whitespace();
    for (load, word) in report.load.iter_mut().zip(&mut words) {
        // Two digits behind the point, always.
        *load = word.replace('.', "").parse().unwrap_or(0);
    }
    if let Some((runnable, threads)) = words.next().and_then(|word| word.split_once('/')) {
        report.runnable = runnable.parse().unwrap_or(0);
        report.threads = threads.parse().unwrap_or(0);
    }
}

/// `cpu  user nice system idle iowait irq softirq steal ...`.
fn cpu(stat: &str, report: &mut Report) {
    let Some(line) = stat
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "))
    else {
        return;
    };
    for (at, ticks) in line
        .split_whitespace()
        .map(|word| word.parse::<u64>().unwrap_or(0))
        .take(8)
        .enumerate()
    {
        let ms = ticks.saturating_mul(TICKS_MS);
        match at {
            3 | 4 => report.cpu_idle_ms += ms,
            // What the host took away, the guest neither used nor had.
            7 => {}
            _ => report.cpu_busy_ms += ms,
        }
    }
}

fn disk(path: &str) -> Option<DiskUse> {
    let found = statvfs(path).ok()?;
    Some(DiskUse {
        path: path.to_owned(),
        total: found.blocks().saturating_mul(found.fragment_size()),
        available: found
            .blocks_available()
            .saturating_mul(found.fragment_size()),
        files: found.files(),
        files_available: found.files_available(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        let memory = memory(
            "MemTotal:  1024 kB\nMemFree: 1 kB\nMemAvailable: 2 kB\nOdd\nCached: 3 kB\nSwapCached: 9 kB\n",
        );
        assert_eq!(
            memory,
            Memory {
                total: 1 << 20,
                free: 1024,
                available: 2048,
                cached: 3072
            }
        );
        let mut report = Report::default();
        load("0.12 1.34 10.56 3/234 567\n", &mut report);
        cpu("cpu  1 2 3 40 5 6 7 8 9\ncpu0 1 1 1 1\n", &mut report);
        assert_eq!(report.load, [12, 134, 1056]);
        assert_eq!((report.runnable, report.threads), (3, 234));
        assert_eq!((report.cpu_busy_ms, report.cpu_idle_ms), (190, 450));
    }

    #[test]
    fn nonsense_is_zero() {
        let mut report = Report::default();
        load("", &mut report);
        cpu("no", &mut report);
        assert_eq!((report, memory("")), (Report::default(), Memory::default()));
    }
}
