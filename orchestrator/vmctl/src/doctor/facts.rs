//! What the host is like.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;

use super::linux::LinuxFacts;
use crate::daemon::{answers, beside};
use crate::place::Place;

/// A probe that takes longer hangs: it measures for some milliseconds.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// What the host is like.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    /// The processor's architecture, as Rust names it.
    pub(crate) architecture: String,
    /// Whether the processor says that it has VT-x or AMD-V.
    pub(crate) hardware_virtualization: bool,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// `/dev/kvm`.
    pub(crate) kvm: Device,
    /// `/dev/net/tun`.
    pub(crate) tun: Device,
    /// What the monitor found out about KVM.
    #[serde(flatten)]
    pub(crate) asked: Asked,
    /// Control groups.
    pub(crate) cgroups: Cgroups,
    /// Mebibytes that are free or can be made so.
    pub(crate) memory_available_mib: u64,
    /// The monitor's program.
    pub(crate) vmm: Option<PathBuf>,
    /// The daemon's program.
    pub(crate) vmd: Option<PathBuf>,
    /// What Linux guests find.
    pub(crate) linux: LinuxFacts,
    /// The daemon.
    pub(crate) daemon: Daemon,
}

/// What came of asking the monitor.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asked {
    /// What `vmm --probe` printed.
    Probe(Value),
    /// Why it printed nothing.
    ProbeError(String),
}

/// A device file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Device {
    /// It can be opened for reading and writing.
    Usable,
    /// It is there and may not be opened.
    Forbidden,
    /// It is there and leads nowhere: its driver is not loaded.
    Dead,
    /// It is not there.
    Missing,
}

/// Which control groups there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cgroups {
    /// Version 2, with the controllers that limit VMs.
    V2,
    /// Version 1 has the controllers.
    V1,
    /// None that could limit a VM.
    None,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Daemon {
    /// It answers.
    Answers(PathBuf),
    /// Nobody listens: the next command starts one.
    NotRunning(PathBuf),
    /// The socket cannot be used.
    Unreachable(String),
}

/// Looks at the host.
pub(crate) async fn gather(place: &Place) -> Facts {
    let vmm = beside("vmm").ok();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Facts {
        architecture: std::env::consts::ARCH.to_owned(),
        hardware_virtualization: cpu
            .lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|f| f == "vmx" || f == "svm")),
        kernel: read_line("/proc/sys/kernel/osrelease"),
        kvm: device("/dev/kvm"),
        tun: device("/dev/net/tun"),
        asked: match &vmm {
            Some(vmm) => probe(vmm)
                .await
                .map_or_else(Asked::ProbeError, Asked::Probe),
            None => Asked::ProbeError("vmm was not found".to_owned()),
        },
        cgroups: cgroups(),
        memory_available_mib: memory_available_mib(),
        vmm,
        vmd: beside("vmd").ok(),
        linux: LinuxFacts::gather(),
        daemon: match answers(&place.socket).await {
            Ok(true) => Daemon::Answers(place.socket.clone()),
            Ok(false) => Daemon::NotRunning(place.socket.clone()),
            Err(error) => Daemon::Unreachable(format!("{:#}", anyhow::Error::from(error))),
        },
    }
}

fn device(path: &str) -> Device {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Device::Usable,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Device::Missing,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Device::Forbidden,
        Err(_) => Device::Dead,
    }
}

async fn probe(vmm: &Path) -> Result<Value, String> {
    let run = Command::new(vmm)
        .arg("--probe")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(PROBE_PATIENCE, run)
        .await
        .map_err(|_| format!("it did not end within {} s", PROBE_PATIENCE.as_secs()))?
        .map_err(|e| format!("{} cannot be run: {e}", vmm.display()))?;
    if ran.status.success() {
        return serde_json::from_slice(&ran.stdout)
            .map_err(|e| format!("what it printed is no JSON: {e}"));
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let said = said.lines().last().unwrap_or_default().trim();
    Err(format!("{} ({})", said, ran.status))
}

fn cgroups() -> Cgroups {
    let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
    let unified = read_line("/sys/fs/cgroup/cgroup.controllers");
    if has(&unified, "memory") && has(&unified, "cpu") {
        return Cgroups::V2;
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let v1 = |name: &str| {
        mounts.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields.get(2) == Some(&"cgroup")
                && fields
                    .get(3)
                    .is_some_and(|o| o.split(',').any(|o| o == name))
        })
    };
    if v1("memory") && v1("cpu") {
        Cgroups::V1
    } else {
        Cgroups::None
    }
}

fn memory_available_mib() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        >> 10
}

fn read_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}
