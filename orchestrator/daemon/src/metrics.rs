//! What a monitor's meter says, for the API.

use std::fs::File;

use api::{BootPhase, Cause, Metrics, Outcome, VcpuTime};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use vmm::meter::{Counter, MeterReader, Phase, Reading, monotonic_ns};

use crate::folder::VmFolder;

/// What stands in a VM's meter; `None` where its monitor has not begun.
#[must_use]
pub fn read(folder: &VmFolder) -> Option<Reading> {
    let file = File::open(folder.meter()).ok()?;
    MeterReader::open(file).ok().map(|meter| meter.read())
}

/// A reading for the API, and when the guest's agent first answered, by the monotonic clock.
#[must_use]
pub fn metrics(reading: &Reading, agent_ns: Option<u64>) -> Metrics {
    let launched = reading.phase(Phase::Launched).unwrap_or_default();
    let counters = Counter::ALL
        .iter()
        .map(|counter| (word(counter), reading.counter(*counter)));
    let since = |ns: u64| ns.saturating_sub(launched) / 1000;
    let mut boot: Vec<BootPhase> = Phase::ALL
        .iter()
        .filter_map(|phase| {
            Some(BootPhase {
                phase: word(phase),
                at_us: since(reading.phase(*phase)?),
            })
        })
        .collect();
    boot.extend(agent_ns.map(|ns| BootPhase {
        phase: "agent".to_owned(),
        at_us: since(ns),
    }));
    // The agent answers before the end.
    boot.sort_by_key(|phase| phase.at_us);
    Metrics {
        boot,
        counters: counters.collect(),
        vcpus: reading
            .vcpus
            .iter()
            .map(|&(guest_ns, monitor_ns)| VcpuTime {
                guest_ns,
                monitor_ns,
            })
            .collect(),
        console_bytes: reading.counter(Counter::ConsoleOut),
    }
}

/// When a phase was reached, by the wall's clock. Only for a reading of this boot of the host.
#[must_use]
pub fn reached_at(reading: &Reading, phase: Phase) -> Option<Timestamp> {
    let ago = monotonic_ns().saturating_sub(reading.phase(phase)?);
    let ago = SignedDuration::from_nanos(i64::try_from(ago).ok()?);
    Timestamp::now().checked_sub(ago).ok()
}

/// An outcome for the API.
#[must_use]
pub fn outcome(outcome: &vmm::outcome::Outcome) -> Outcome {
    use vmm::outcome::Cause as From;
    Outcome {
        cause: match outcome.cause {
            From::Exit => Cause::Exit,
            From::Reset => Cause::Reset,
            From::TripleFault => Cause::TripleFault,
            From::Halted => Cause::Halted,
            From::Unsupported => Cause::Unsupported,
            From::Deadline => Cause::Deadline,
            From::Stopped => Cause::Stopped,
            From::Failed => Cause::Failed,
        },
        status: outcome.status,
        detail: outcome.detail.clone(),
        message: outcome.to_string(),
    }
}

/// A unit variant's word on the wire.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("a unit variant is a string, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm::meter::{Meter, PAGE_SIZE};

    #[test]
    fn phases_count_from_the_launch() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE_SIZE as u64).unwrap();
        let meter = Meter::create(Some(&file)).unwrap();
        meter.reach_at(Phase::Launched, 1_000_000);
        meter.reach_at(Phase::Entered, 3_500_000);
        meter.add(Counter::ConsoleOut, 7);
        let metrics = metrics(&meter.read(), Some(2_000_000));
        let phases: Vec<_> = metrics
            .boot
            .iter()
            .map(|p| (p.phase.as_str(), p.at_us))
            .collect();
        assert_eq!(
            phases,
            [("launched", 0), ("agent", 1000), ("entered", 2500)]
        );
        assert_eq!(metrics.console_bytes, 7);
        assert_eq!(metrics.counters["console_out"], 7);
    }
}
