//! Where a guest's kernel spends its emulated instructions: by sampling, function by function.
//!
//! ```text
//! sampler -- a kick --> vCPU's thread -- leaves the guest, notes its place in the meter --> sampler
//! ```
//! A sample is worth the instructions since the one before it, so a profile does not depend on what else the host does.
//! The names are those of the kernel's own symbol table.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol, SymbolKind};
use vmm::meter::MeterReader;

use crate::monitor::Running;

/// Between two samples.
const EVERY: Duration = Duration::from_micros(500);
/// The first address of a kernel's half.
const KERNEL: u64 = 1 << 63;

/// A thread that samples a VM's first virtual CPU until it is told to stop.
#[derive(Debug)]
pub(super) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Samples>>,
}

/// What was seen: where the guest was, and how many of its instructions had been emulated.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<(u64, u64)>);

impl Sampler {
    /// Samples `vm`, which has run for a moment.
    pub(super) fn start(vm: &Running) -> Result<Self> {
        let (pid, page) = (vm.pid(), vm.page()?);
        let thread = first_vcpu(pid)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let meter = MeterReader::open(&page)?;
            let mut samples = Samples::default();
            while !told.load(Ordering::Relaxed) {
                // SAFETY: a call with numbers alone; a thread that is gone makes it fail.
                let sent =
                    unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, libc::SIGRTMIN()) };
                if sent != 0 {
                    break;
                }
                std::thread::sleep(EVERY);
                samples.add(meter.read().place);
            }
            Ok(samples)
        });
        Ok(Self { stop, thread })
    }

    /// Stops it.
    pub(super) fn stop(self) -> Result<Samples> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(samples) => samples,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The thread of a monitor's first virtual CPU.
fn first_vcpu(pid: u32) -> Result<i32> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        if fs::read_to_string(task.path().join("comm"))?.trim_end() == "vcpu0" {
            return Ok(task.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("the monitor has no virtual CPU")
}

impl Samples {
    fn add(&mut self, sample: (u64, u64)) {
        if self.0.last().is_none_or(|last| sample.1 > last.1) {
            self.0.push(sample);
        }
    }

    /// How many instructions in all.
    pub(super) fn total(&self) -> u64 {
        self.0.last().map_or(0, |sample| sample.1)
    }

    /// The first sample in ring 3: how many instructions the kernel took until its first program ran.
    pub(super) fn until_program(&self) -> Option<u64> {
        let first = self.0.iter().find(|sample| sample.0 < KERNEL)?;
        Some(first.1)
    }

    /// The functions with most instructions between `from` and `to` of them, with their parts of all of those.
    pub(super) fn top(&self, symbols: &Symbols, from: u64, to: u64) -> Vec<(String, f64)> {
        let mut parts: HashMap<&str, u64> = HashMap::new();
        let mut last = 0;
        for &(rip, emulated) in &self.0 {
            if rip >= KERNEL && emulated > from && emulated <= to {
                *parts.entry(symbols.name(rip)).or_default() += emulated - last.max(from);
            }
            last = emulated;
        }
        let all: u64 = parts.values().sum();
        let mut parts: Vec<_> = parts
            .into_iter()
            .map(|(name, part)| (name.to_owned(), part as f64 / all as f64))
            .collect();
        parts.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        parts
    }
}

/// A kernel's functions, by address.
#[derive(Debug)]
pub(super) struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Those of an ELF file, as `vmlinux` is.
    pub(super) fn of(file: &[u8]) -> Result<Self> {
        let elf = ElfFile64::<Endianness>::parse(file).context("the kernel is no ELF file")?;
        let mut symbols: Vec<_> = elf
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text)
            .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?.to_owned())))
            .collect();
        anyhow::ensure!(!symbols.is_empty(), "the kernel has no table of symbols");
        symbols.sort();
        Ok(Self(symbols))
    }

    fn name(&self, address: u64) -> &str {
        let after = self.0.partition_point(|symbol| symbol.0 <= address);
        match after.checked_sub(1) {
            Some(index) => &self.0[index].1,
            None => "?",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_what_was_emulated_up_to_its_samples() {
        let symbols = Symbols(vec![
            (KERNEL, "first".into()),
            (KERNEL + 16, "second".into()),
        ]);
        let mut samples = Samples::default();
        for sample in [
            (KERNEL + 15, 10),
            (KERNEL + 16, 40),
            (KERNEL + 16, 40),
            (7, 41),
            (KERNEL, 71),
        ] {
            samples.add(sample);
        }
        assert_eq!((samples.total(), samples.until_program()), (71, Some(41)));
        let boot = samples.top(&symbols, 0, 41);
        assert_eq!(boot, [("second".into(), 0.75), ("first".into(), 0.25)]);
        assert_eq!(samples.top(&symbols, 41, 71), [("first".into(), 1.0)]);
    }

    #[test]
    fn what_is_no_elf_file_has_no_symbols() {
        assert!(Symbols::of(b"").is_err());
        assert!(Symbols::of(&[0xFF; 100]).is_err());
        assert!(Symbols::of(&crate::elf::Elf::of_code(&[0x90]).bytes()).is_err());
    }
}
