//! Starts workers, watches them, and keeps the input of one that failed.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::engine::{Limit, work};
use super::slot::{self, Slot};
use super::{Target, targets};

/// How long one input may take, of a processor: on a busy host a worker may get none for long.
const HANG: Duration = Duration::from_secs(10);
/// How long one input may take, by the clock: it may also wait for what never comes.
const STUCK: Duration = Duration::from_secs(300);
/// How often workers are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What a run did.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How many inputs ran.
    pub runs: u64,
    /// In how long.
    pub took: Duration,
    /// How many branches the best worker reached; zero where none was counted.
    pub reached: u64,
}

/// A worker, seen from its supervisor. It is gone when this is.
struct Worker {
    child: Child,
    slot: Slot,
    ended: Option<ExitStatus>,
    runs: u64,
    /// When it last began an input: by the clock, and by its own.
    moved: (Instant, Duration),
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fuzzes `target` with a worker a core.
///
/// # Errors
/// Where an input made it fail: the error names the file that holds the input.
pub fn run(target: &Target, limit: Limit) -> Result<Report> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let dir = directory(target)?;
    let start = Instant::now();
    let first = seed()?;
    let mut workers = (0..count)
        .map(|n| {
            Worker::start(
                target,
                limit,
                count as u64,
                first.wrapping_add(n as u64),
                &dir,
            )
        })
        .collect::<Result<Vec<_>>>()?;
    let terminal = std::io::stderr().is_terminal();
    while workers.iter().any(|w| w.ended.is_none()) {
        std::thread::sleep(LOOK);
        for worker in &mut workers {
            if let Some(why) = worker.look()? {
                let kept = keep(&dir, &worker.slot.input())?;
                bail!(
                    "{}: {why}\ninput: {}\nagain: cargo ci fuzz {} --replay {}",
                    target.name,
                    kept.display(),
                    target.name,
                    kept.display()
                );
            }
        }
        if terminal {
            let report = report(&workers, start);
            eprint!(
                "\r{}: {} runs, {} branches ",
                target.name, report.runs, report.reached
            );
            std::io::stderr().flush()?;
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
    Ok(report(&workers, start))
}

fn report(workers: &[Worker], start: Instant) -> Report {
    Report {
        runs: workers.iter().map(|w| w.slot.runs()).sum(),
        took: start.elapsed(),
        reached: workers.iter().map(|w| w.slot.reached()).max().unwrap_or(0),
    }
}

impl Worker {
    fn start(target: &Target, limit: Limit, count: u64, seed: u64, dir: &Path) -> Result<Self> {
        let path = dir.join(format!("slot-{seed:016x}"));
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        file.set_len(slot::SIZE as u64)?;
        let slot = Slot::map(&file)?;
        let (kind, amount) = match limit {
            Limit::Runs(runs) => ("runs", runs.div_ceil(count)),
            Limit::Time(time) => ("seconds", time.as_secs()),
        };
        let child = Command::new(std::env::current_exe()?)
            .args([
                "--worker",
                target.name,
                kind,
                &amount.to_string(),
                &seed.to_string(),
            ])
            .stdin(file)
            .spawn()
            .context("a worker did not start")?;
        // Both sides have it open: nothing is left of it when they are gone.
        fs::remove_file(&path)?;
        Ok(Self {
            child,
            slot,
            ended: None,
            runs: 0,
            moved: (Instant::now(), Duration::ZERO),
        })
    }

    /// How long it has had a processor; its first thread is the one that works.
    fn ran(&self) -> Result<Duration> {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
        let first = text.split(' ').next().unwrap_or_default();
        let nanoseconds = first
            .parse()
            .with_context(|| format!("{path} says {text:?}"))?;
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Says what went wrong with it, if anything did.
    fn look(&mut self) -> Result<Option<String>> {
        if self.ended.is_some() {
            return Ok(None);
        }
        if let Some(status) = self.child.try_wait()? {
            self.ended = Some(status);
            return Ok((!status.success()).then(|| format!("a worker failed: {status}")));
        }
        let runs = self.slot.runs();
        let ran = self.ran()?;
        if runs != self.runs {
            (self.runs, self.moved) = (runs, (Instant::now(), ran));
            return Ok(None);
        }
        let (since, had) = self.moved;
        let why = if ran.saturating_sub(had) > HANG {
            format!("one input ran longer than {HANG:?}")
        } else if since.elapsed() > STUCK {
            format!("one input did not end in {STUCK:?}")
        } else {
            return Ok(None);
        };
        self.child.kill()?;
        self.child.wait()?;
        Ok(Some(why))
    }
}

/// What a worker's process does: `--worker TARGET runs|seconds AMOUNT SEED`, its slot as standard input.
///
/// # Errors
/// Where the arguments make no sense.
pub fn worker(args: &[String]) -> Result<()> {
    let [name, kind, amount, seed] = args else {
        bail!("a worker has four arguments, not {}", args.len());
    };
    let target = targets::named(name)?;
    let amount = amount.parse()?;
    let limit = match kind.as_str() {
        "runs" => Limit::Runs(amount),
        _ => Limit::Time(Duration::from_secs(amount)),
    };
    let file = File::from(rustix::io::dup(rustix::stdio::stdin())?);
    work(&target, seed.parse()?, limit, &Slot::map(&file)?);
    Ok(())
}

/// Runs `target` on the input in `file`, in this process.
///
/// # Errors
/// Where the file cannot be read.
pub fn replay(target: &Target, file: &Path) -> Result<()> {
    let input = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    (target.run)(&input);
    Ok(())
}

/// Where failing inputs are kept.
fn directory(target: &Target) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let dir = program
        .parent()
        .context("a program is in a directory")?
        .join("fuzz-inputs")
        .join(target.name);
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    Ok(dir)
}

fn keep(dir: &Path, input: &[u8]) -> Result<PathBuf> {
    // FNV-1a: the same input has the same name.
    let hash = input.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    });
    let path = dir.join(format!("{hash:016x}"));
    fs::write(&path, input).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

/// Another seed each time.
fn seed() -> Result<u64> {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
