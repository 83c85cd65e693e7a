//! From `exec` of the monitor to the first line of a Linux guest's /init.
//!
//! Turn by turn in each round: Linux, the library OS, and a loop of ring 0. Where ring 0 is emulated the boot is in proportion to what an
//! instruction costs there, which drifts with the host's load: its processor time in instructions tells one kernel from
//! another, whatever else the host does.

use std::time::Duration;

use anyhow::{Context, Result};
use vmm::boot::linux::words;
use vmm::host;
use vmm::meter::Phase;

use super::{Bench, Figure, Samples};
use crate::elf::Elf;
use crate::linux::Init;
use crate::monitor::{Ended, Vm};
use crate::place;

pub(super) const BENCH: Bench = Bench {
    name: "linux",
    about: "from exec of the monitor to the first line of a Linux guest's init, beside a library-OS guest",
    run,
};

const RUNS: usize = 3;
const MEMORY_MIB: u64 = 128;
/// A busy host that emulates ring 0 takes its time.
const DEADLINE: Duration = Duration::from_secs(400);
const LINE: &str = "init is here\n";
/// Turns of the loop, of two instructions each.
const TURNS: u32 = 200_000;

fn run(runs: Option<usize>, _notes: &mut Vec<String>) -> Result<Vec<Figure>> {
    let runs = runs.unwrap_or(RUNS);
    let emulated = host::probe()?.ring0_emulated;
    let init = Init::default().say(LINE).exit(0);
    let (mut line, mut cpu, mut driver) = <(Samples, Samples, Samples)>::default();
    let (mut hello, mut instruction) = <(Samples, Samples)>::default();
    for _ in 0..runs {
        let mut vm = Vm::of_file(&place::kernel())
            .memory_mib(MEMORY_MIB)
            .cmdline(&words(emulated))
            .initrd(&init)
            .deadline(DEADLINE)
            .start()
            .context("a monitor does not start")?;
        line.add_ms(vm.console_shows(LINE.trim_end()) - vm.launched());
        let ended = vm.wait();
        ended.exited(0);
        cpu.add_ms(cpu_time(&ended)?);
        driver.add_ms(until_driver(&ended)?);
        hello.add_ms(library_os()?);
        let cost = cpu_time(&ring0_loop())?.as_secs_f64() / (2.0 * f64::from(TURNS));
        instruction.add(cost * 1e9);
    }
    let million = cpu.median() * 1e6 / instruction.median() / 1e6;
    let name = format!("init's first line, {MEMORY_MIB} MiB, 1 vCPU");
    let mut figures = vec![
        line.figure("linux", name, "ms")
            .beside("library OS, 64 MiB", hello.median()),
        driver.figure("linux", "  to the first driver", "ms"),
        cpu.figure("linux", "  processor time of the boot", "ms"),
    ];
    if emulated {
        figures.push(instruction.figure("linux", "an emulated instruction", "ns"));
        let boot = Figure::single(
            "linux",
            "  the boot in such instructions",
            million,
            "million",
        );
        figures.push(boot.of_runs(runs));
    }
    Ok(figures)
}

/// What the first virtual CPU used.
fn cpu_time(ended: &Ended) -> Result<Duration> {
    let reading = ended.reading.as_ref().context("the meter is empty")?;
    let (guest, _) = reading.vcpus.first().context("the meter has no vCPU")?;
    Ok(Duration::from_nanos(*guest))
}

fn until_driver(ended: &Ended) -> Result<Duration> {
    let reading = ended.reading.as_ref().context("the meter is empty")?;
    let launched = reading.phase(Phase::Launched).context("never launched")?;
    let driver = reading.phase(Phase::Driver).context("no driver came")?;
    Ok(Duration::from_nanos(driver.saturating_sub(launched)))
}

fn library_os() -> Result<Duration> {
    let mut vm = Vm::of("hello")
        .start()
        .context("a monitor does not start")?;
    let line = vm.console_shows("Hello from Shoal!\n") - vm.launched();
    vm.wait().exited(0);
    Ok(line)
}

/// A guest that counts down in ring 0.
fn ring0_loop() -> Ended {
    let [a, b, c, d] = TURNS.to_le_bytes();
    // mov ecx, TURNS; 1: dec ecx; jnz 1b; xor eax, eax; out EXIT, eax; jmp to itself
    let port = abi::port::EXIT as u8;
    let code = [
        0xB9, a, b, c, d, 0x49, 0x75, 0xFD, 0x31, 0xC0, 0xE7, port, 0xEB, 0xFE,
    ];
    let ended = Vm::of_bytes(&Elf::of_code(&code).bytes()).run();
    ended.exited(0);
    ended
}
