//! What this host has, and what its KVM can do.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::process::{self, Process};

/// How long a probe may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most bytes that a probe may say.
const MAX_PROBE: u64 = 1 << 20;

/// What does not change while the host is up.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Logical CPUs.
    pub cpus: u32,
    /// Memory in all, in mebibytes.
    pub memory_mib: u64,
    /// Names this life of the host, from its boot to its end.
    pub boot_id: String,
}

impl HostFacts {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The operating system's.
    pub fn read() -> io::Result<Self> {
        let cpus = std::thread::available_parallelism()?.get();
        Ok(Self {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory_mib: memory("MemTotal:")?,
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?
                .trim_end()
                .to_owned(),
        })
    }
}

/// Mebibytes of memory that can be used now.
///
/// # Errors
/// The operating system's.
pub fn memory_available_mib() -> io::Result<u64> {
    memory("MemAvailable:")
}

fn memory(field: &str) -> io::Result<u64> {
    fs::read_to_string("/proc/meminfo")?
        .lines()
        .find_map(|line| {
            line.strip_prefix(field)?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map(|kib| kib >> 10)
        .ok_or_else(|| io::Error::other(format!("/proc/meminfo has no {field}")))
}

/// The host could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The monitor could not be run.
    #[error("cannot run {program} --probe: {source}")]
    Run {
        /// The monitor.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It did not end.
    #[error("{program} --probe did not end within {PATIENCE:?}")]
    Hangs {
        /// The monitor.
        program: String,
    },
    /// It said something else.
    #[error("{program} --probe gave no JSON: {source}")]
    Answer {
        /// The monitor.
        program: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What the monitor finds out about this host's KVM.
///
/// # Errors
/// [`ProbeError`].
pub async fn probe(vmm: &Path) -> Result<serde_json::Value, ProbeError> {
    let program = || vmm.display().to_string();
    let run = |source| ProbeError::Run {
        program: program(),
        source,
    };
    let mut child = Command::new(vmm)
        .arg("--probe")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(run)?;
    let stdout = child.stdout.take();
    let reading = spawn_blocking(move || {
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_PROBE).read_to_end(&mut said)?;
        }
        Ok(said)
    });
    let process = Process::of_child(&child).map_err(run)?;
    let in_time = tokio::time::timeout(PATIENCE, process.gone()).await.is_ok();
    if !in_time {
        process.kill().map_err(run)?;
        process.gone().await;
    }
    process::reap(&mut child);
    if !in_time {
        return Err(ProbeError::Hangs { program: program() });
    }
    let said = reading
        .await
        .unwrap_or_else(|e| Err(e.into()))
        .map_err(run)?;
    serde_json::from_slice(&said).map_err(|source| ProbeError::Answer {
        program: program(),
        source,
    })
}
