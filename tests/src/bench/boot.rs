//! From `exec` of the monitor to the program's first line.
//!
//! Turn by turn in each round: a small VM, a large one, `/bin/true`, and QEMU on the same file. A time begins before the
//! process is asked for and ends when the line is read from the console's pipe.

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vmm::meter::{Phase, Reading};

use super::{Bench, Figure, Samples};
use crate::monitor::Vm;
use crate::{place, qemu};

pub(super) const BENCH: Bench = Bench {
    name: "boot",
    about: "from exec of the monitor to the program's first line, by phase, beside /bin/true and QEMU",
    run,
};

const RUNS: usize = 60;
/// Runs before those that count: caches fill.
const WARM: usize = 3;
/// The first line of `hello`.
const LINE: &str = "Hello from Shoal!\n";

/// A shape of VM that is measured.
struct Shape {
    name: &'static str,
    vcpus: u32,
    memory_mib: u64,
    line: Samples,
    /// Since the phase before it.
    phases: [Samples; Phase::ALL.len()],
}

impl Shape {
    fn new(name: &'static str, vcpus: u32, memory_mib: u64) -> Self {
        Self {
            name,
            vcpus,
            memory_mib,
            line: Samples::default(),
            phases: Default::default(),
        }
    }

    fn measure(&mut self, counts: bool) -> Result<()> {
        let mut vm = Vm::of("hello")
            .vcpus(self.vcpus)
            .memory_mib(self.memory_mib)
            .start()
            .context("a monitor does not start")?;
        let line = vm.console_shows(LINE) - vm.launched();
        let ended = vm.wait();
        ended.exited(0);
        if counts {
            self.line.add_ms(line);
            let reading = ended.reading.as_ref().context("the meter is empty")?;
            self.add_phases(reading);
        }
        Ok(())
    }

    fn add_phases(&mut self, reading: &Reading) {
        let Some(mut before) = reading.phase(Phase::Launched) else {
            return;
        };
        for phase in &Phase::ALL[1..] {
            if let Some(at) = reading.phase(*phase) {
                let took = Duration::from_nanos(at.saturating_sub(before));
                self.phases[*phase as usize].add_ms(took);
                before = at;
            }
        }
    }
}

fn run(runs: Option<usize>, notes: &mut Vec<String>) -> Result<Vec<Figure>> {
    let runs = runs.unwrap_or(RUNS);
    let mut small = Shape::new("64 MiB, 1 vCPU", 1, 64);
    let mut large = Shape::new("4 GiB, 4 vCPUs", 4, 4096);
    let mut truth = Samples::default();
    let mut other = Samples::default();
    let with_qemu = qemu::is_there();
    if !with_qemu {
        notes.push("boot beside QEMU: skipped, qemu-system-x86_64 is missing".to_owned());
    }
    for round in 0..WARM + runs {
        let counts = round >= WARM;
        small.measure(counts)?;
        large.measure(counts)?;
        let took = exec_true()?;
        if counts {
            truth.add_ms(took);
        }
        if with_qemu {
            let took = qemu_line()?;
            if counts {
                other.add_ms(took);
            }
        }
    }
    let mut figures = Vec::new();
    for shape in [&small, &large] {
        let first_line = shape
            .line
            .figure("boot", format!("first line, {}", shape.name), "ms");
        figures.push(if other.is_empty() {
            first_line
        } else {
            first_line.beside("QEMU microvm, 64 MiB", other.median())
        });
        for phase in &Phase::ALL[1..] {
            let samples = &shape.phases[*phase as usize];
            // A VM without a driver, for one, does not reach every phase.
            if !samples.is_empty() && *phase != Phase::Ended {
                let name = format!("  to {}, {}", word(*phase), shape.name);
                figures.push(samples.figure("boot", name, "ms"));
            }
        }
    }
    let more = large.line.median() - small.line.median();
    figures.push(
        Figure::single("boot", "4 GiB, 4 vCPUs over 64 MiB, 1 vCPU", more, "ms").of_runs(runs),
    );
    let over = small
        .line
        .figure("boot", "first line, 64 MiB, 1 vCPU", "ms");
    figures.push(over.beside("exec of /bin/true", truth.median()));
    Ok(figures)
}

fn word(phase: Phase) -> String {
    serde_json::to_value(phase)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn exec_true() -> Result<Duration> {
    let start = Instant::now();
    let status = Command::new("/bin/true").status().context("/bin/true")?;
    anyhow::ensure!(status.success(), "/bin/true failed");
    Ok(start.elapsed())
}

fn qemu_line() -> Result<Duration> {
    let start = Instant::now();
    let mut qemu = qemu::Qemu::start(&place::guest("hello"), "")?;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(LINE.len()).any(|w| w == LINE.as_bytes()) {
        let read = qemu.console().read(&mut buffer)?;
        anyhow::ensure!(
            read > 0,
            "QEMU ended without the first line:\n{}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&buffer[..read]);
    }
    Ok(start.elapsed())
}
