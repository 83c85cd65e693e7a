//! From `exec` of the monitor to a Linux guest's first program, and to its agent's first answer.
//!
//! Turn by turn in each round: Linux with a program of a few instructions, Linux with the agent, the library OS, QEMU with the same kernel,
//! and a loop of ring 0. Where ring 0 is emulated, the monitor's meter has KVM's own count of the instructions: it tells one kernel
//! from another, whatever else the host does, and a profile shows which functions they are in.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vmm::boot::linux::words;
use vmm::host;
use vmm::meter::Phase;

use super::profile::{Sampler, Symbols};
use super::{Bench, Figure, Samples};
use crate::agent::Agent;
use crate::elf::Elf;
use crate::linux::Init;
use crate::monitor::{Ended, Vm};
use crate::place;
use crate::qemu::{self, Qemu};

pub(super) const BENCH: Bench = Bench {
    name: "linux",
    about: "from exec of the monitor to a Linux guest's first program and to its agent's answer, beside QEMU and a library-OS guest",
    run,
};

const RUNS: usize = 3;
const MEMORY_MIB: u64 = 128;
/// A busy host that emulates ring 0 takes its time.
const DEADLINE: Duration = Duration::from_secs(400);
const LINE: &str = "init is here\n";
/// Turns of the loop, of two instructions each.
const TURNS: u32 = 200_000;
/// Functions of a profile that are shown.
const SHOWN: usize = 15;

/// What is measured, a sample a round.
#[derive(Default)]
struct Measured {
    line: Samples,
    driver: Samples,
    cpu: Samples,
    instructions: Samples,
    agent: Samples,
    agent_instructions: Samples,
    hello: Samples,
    qemu: Samples,
    instruction: Samples,
}

fn run(runs: Option<usize>, notes: &mut Vec<String>) -> Result<Vec<Figure>> {
    let runs = runs.unwrap_or(RUNS);
    let emulated = host::probe()?.ring0_emulated;
    let init = Init::default().say(LINE).exit(0);
    let mut all = Measured::default();
    for round in 0..runs {
        let ended = boot(&init, emulated, &mut all.line)?;
        all.cpu.add_ms(cpu_time(&ended)?);
        all.driver.add_ms(until_driver(&ended)?);
        all.instructions.add(millions(instructions(&ended)?));
        to_agent(emulated, &mut all, (round == 0).then_some(&mut *notes))?;
        all.hello.add_ms(library_os()?);
        if round == 0 || !all.qemu.is_empty() {
            under_qemu(&init, emulated, &mut all.qemu, notes)?;
        }
        let cost = cpu_time(&ring0_loop())?.as_secs_f64() / (2.0 * f64::from(TURNS));
        all.instruction.add(cost * 1e9);
    }
    Ok(all.figures(emulated))
}

impl Measured {
    fn figures(&self, emulated: bool) -> Vec<Figure> {
        let figure = |samples: &Samples, name: &str, unit| samples.figure("linux", name, unit);
        let name = format!("init's first line, {MEMORY_MIB} MiB, 1 vCPU");
        let mut figures = vec![
            figure(&self.line, &name, "ms").beside("library OS, 64 MiB", self.hello.median()),
            figure(&self.driver, "  to the first driver", "ms"),
            figure(&self.cpu, "  processor time of the boot", "ms"),
            figure(&self.agent, "the agent answers", "ms"),
        ];
        if !self.qemu.is_empty() {
            figures[0] = figure(&self.line, &name, "ms").beside("QEMU microvm", self.qemu.median());
        }
        if emulated {
            figures.extend([
                figure(
                    &self.instructions,
                    "emulated instructions to init's first line",
                    "million",
                ),
                figure(
                    &self.agent_instructions,
                    "emulated instructions to the agent's answer",
                    "million",
                ),
                figure(&self.instruction, "an emulated instruction", "ns"),
            ]);
        }
        figures
    }
}

/// Boots to the first program, which ends the VM.
fn boot(init: &[u8], emulated: bool, line: &mut Samples) -> Result<Ended> {
    let mut vm = Vm::of_file(&place::kernel())
        .memory_mib(MEMORY_MIB)
        .cmdline(&words(emulated))
        .initrd(init)
        .deadline(DEADLINE)
        .start()
        .context("a monitor does not start")?;
    line.add_ms(vm.console_shows(LINE.trim_end()) - vm.launched());
    let ended = vm.wait();
    ended.exited(0);
    Ok(ended)
}

/// Boots until the agent answers; the profile of it goes to `notes`.
fn to_agent(emulated: bool, all: &mut Measured, notes: Option<&mut Vec<String>>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("vsock");
    let kernel = place::kernel();
    let vm = Vm::of_file(&kernel)
        .memory_mib(MEMORY_MIB)
        .cmdline(&words(emulated))
        .initrd(&std::fs::read(place::initrd())?)
        .vsock(UnixListener::bind(&socket)?)
        .deadline(DEADLINE)
        .start()
        .context("a monitor does not start")?;
    let until = Instant::now() + DEADLINE;
    while vm
        .reading()
        .and_then(|reading| reading.phase(Phase::Entered))
        .is_none()
    {
        anyhow::ensure!(Instant::now() < until, "the guest was never entered");
        std::thread::sleep(Duration::from_millis(1));
    }
    let sampler = Sampler::start(&vm)?;
    Agent::reach(&socket, DEADLINE)?;
    all.agent.add_ms(vm.launched().elapsed());
    let samples = sampler.stop()?;
    all.agent_instructions.add(millions(samples.total()));
    if let Some(notes) = notes.filter(|_| emulated) {
        let symbols = Symbols::of(&std::fs::read(&kernel)?)?;
        let program = samples.until_program().unwrap_or(samples.total());
        let phases = [
            ("to the agent's first instruction", 0, program),
            ("from there to its first answer", program, samples.total()),
        ];
        for (phase, from, to) in phases {
            let mut note = format!(
                "the kernel {phase}: {:.2} million instructions",
                millions(to - from)
            );
            for (name, part) in samples.top(&symbols, from, to).into_iter().take(SHOWN) {
                note.push_str(&format!("\n    {:5.1} %  {name}", part * 100.0));
            }
            notes.push(note);
        }
    }
    Ok(())
}

/// The same kernel and the same program under QEMU, as far as it gets: hosts that emulate ring 0 may stop it.
fn under_qemu(
    init: &[u8],
    emulated: bool,
    line: &mut Samples,
    notes: &mut Vec<String>,
) -> Result<()> {
    if !qemu::is_there() {
        notes.push("QEMU is not installed: nothing is beside Linux's boot".into());
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let initrd = dir.path().join("initrd");
    std::fs::write(&initrd, init)?;
    // QEMU has no memory mover.
    let words = words(emulated);
    let words: Vec<_> = words
        .split(' ')
        .filter(|word| !word.starts_with("pvmemory="))
        .collect();
    let cmdline = format!("{} console=ttyS0", words.join(" "));
    let began = Instant::now();
    let mut qemu = Qemu::start_linux(&place::kernel(), &initrd, &cmdline, MEMORY_MIB)?;
    match qemu.shows(LINE.trim_end(), DEADLINE)? {
        Ok(()) => line.add_ms(began.elapsed()),
        Err(said) if emulated => notes.push(format!(
            "QEMU does not get to init's first line here: ring 0 is emulated, and not every instruction that QEMU's guest comes upon can be. It said: {said}"
        )),
        Err(said) => notes.push(format!("QEMU does not get to init's first line. It said: {said}")),
    }
    Ok(())
}

/// What KVM emulated of the first virtual CPU.
fn instructions(ended: &Ended) -> Result<u64> {
    let reading = ended.reading.as_ref().context("the meter is empty")?;
    Ok(reading.place.1)
}

fn millions(instructions: u64) -> f64 {
    instructions as f64 / 1e6
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
