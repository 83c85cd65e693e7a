//! The metrics that `PUT /metrics` and `--metrics-path` ask for: one JSON object a line.
//!
//! A line is written at `FlushMetrics`, each minute while the VM is there, and at its end. Its figures are totals since the start, where
//! Firecracker's are differences since the line before: a line that is lost loses nothing.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::files::{FileError, Lines};
use crate::meter::{Counter, Phase, Reading, State};
use crate::outcome::Outcome;

/// Nanoseconds between two lines that nobody asked for.
const PERIOD_NS: u64 = 60_000_000_000;

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    utc_timestamp_ms: u64,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a Outcome>,
    /// `CLOCK_MONOTONIC` nanoseconds, zero where not reached.
    phases_ns: Named<'a, Phase>,
    counters: Named<'a, Counter>,
    /// For each virtual CPU, nanoseconds in the guest and in the monitor.
    vcpus_ns: &'a [(u64, u64)],
}

/// Figures by their names.
struct Named<'a, Name>(&'a [Name], &'a [u64]);

impl<Name: Serialize> Serialize for Named<'_, Name> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

/// Where the lines go, and when the next one is due.
#[derive(Debug)]
pub(super) struct Metrics {
    lines: Lines,
    /// `CLOCK_MONOTONIC` nanoseconds; `None` until the VM was started.
    due: Option<u64>,
}

impl Metrics {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        Ok(Self {
            lines: Lines::open(path)?,
            due: None,
        })
    }

    /// The VM was started at `now`: the minutes count from here.
    pub(super) fn start(&mut self, now: u64) {
        self.due = Some(now + PERIOD_NS);
    }

    /// When the next line is due.
    pub(super) fn due(&self) -> Option<u64> {
        self.due
    }

    /// Whether a line is due; then the next is due a minute later.
    pub(super) fn take_due(&mut self, now: u64) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = Some(now + PERIOD_NS);
        }
        is_due
    }

    /// Writes a line.
    pub(super) fn write(&mut self, reading: &Reading) -> io::Result<()> {
        self.lines.write(line(reading)?)
    }
}

fn line(reading: &Reading) -> io::Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let line = Line {
        utc_timestamp_ms: u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
        state: reading.state,
        outcome: reading.outcome.as_ref(),
        phases_ns: Named(&Phase::ALL, &reading.phases),
        counters: Named(&Counter::ALL, &reading.counters),
        vcpus_ns: &reading.vcpus,
    };
    Ok(serde_json::to_vec(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Cause;

    #[test]
    fn a_full_line_fits_a_pipe_whole() {
        let reading = Reading {
            pid: u32::MAX,
            start_time: u64::MAX,
            state: State::Ended,
            outcome: Some(Outcome::new(Cause::Unsupported, "\\".repeat(256))),
            phases: [u64::MAX; Phase::ALL.len()],
            counters: [u64::MAX; Counter::ALL.len()],
            vcpus: vec![(u64::MAX, u64::MAX); 32],
            place: (u64::MAX, u64::MAX),
        };
        let line = line(&reading).unwrap();
        assert!(line.len() < 4096, "{}", line.len());
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["counters"]["exit_pio"], u64::MAX);
        assert_eq!(value["phases_ns"]["entered"], u64::MAX);
        assert_eq!(value["outcome"]["cause"], "unsupported");
    }

    #[test]
    fn minutes_count_from_the_start() {
        let mut metrics = Metrics::open(Path::new("/dev/null")).unwrap();
        assert!(!metrics.take_due(u64::MAX));
        metrics.start(5);
        assert!(!metrics.take_due(PERIOD_NS));
        assert!(metrics.take_due(PERIOD_NS + 5));
        assert_eq!(metrics.due(), Some(2 * PERIOD_NS + 5));
    }
}
