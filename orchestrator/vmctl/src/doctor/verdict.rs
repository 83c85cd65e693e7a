//! What a host's facts mean.

use std::fmt::Write;

use comfy_table::Color;
use serde::Serialize;

use super::facts::{Asked, Cgroups, Daemon, Device, Facts};
use super::probe::Probe;
use crate::output::Style;

/// Less free memory than this is told: a small VM and its monitor need about a tenth of it.
const LITTLE_MEMORY_MIB: u64 = 1024;
/// Less than this is too little for any VM.
const NO_MEMORY_MIB: u64 = 64;

/// Whether VMs can run here, and all that was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    /// Whether VMs can run here.
    pub(crate) can_run: bool,
    /// One for each subject.
    pub(crate) findings: Vec<Finding>,
    /// What they follow from.
    pub(crate) facts: Facts,
}

/// One subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The subject.
    pub(crate) about: &'static str,
    /// How it stands.
    pub(crate) level: Level,
    /// In plain words.
    pub(crate) text: String,
    /// How to mend it, or to get more out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mend: Option<String>,
}

/// How a subject stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// Good to know.
    Note,
    /// VMs run, and something is missing.
    Warning,
    /// No VM can run.
    Problem,
}

/// Judges a host.
pub(crate) fn judge(facts: Facts) -> Verdict {
    let mut findings = vec![processor(&facts), kvm(&facts)];
    findings.extend(programs(&facts));
    findings.extend(probed(&facts));
    findings.extend([memory(&facts), cgroups(&facts), tun(&facts)]);
    findings.extend(facts.linux.findings());
    findings.push(daemon(&facts));
    Verdict {
        can_run: findings.iter().all(|f| f.level != Level::Problem),
        findings,
        facts,
    }
}

fn good(about: &'static str, text: impl Into<String>) -> Finding {
    Finding {
        about,
        level: Level::Good,
        text: text.into(),
        mend: None,
    }
}

fn found(
    about: &'static str,
    level: Level,
    text: impl Into<String>,
    mend: impl Into<String>,
) -> Finding {
    Finding {
        about,
        level,
        text: text.into(),
        mend: Some(mend.into()),
    }
}

fn processor(facts: &Facts) -> Finding {
    let about = "processor";
    if facts.architecture != "x86_64" {
        let text = format!("{} cannot run Shoal's guests", facts.architecture);
        return found(about, Level::Problem, text, "use an x86-64 host");
    }
    if facts.hardware_virtualization {
        return good(about, "x86-64 with hardware virtualization");
    }
    let text = "x86-64; neither VT-x nor AMD-V is shown";
    if facts.kvm == Device::Usable {
        return Finding {
            about,
            level: Level::Note,
            text: format!("{text}, so this host's KVM does without"),
            mend: None,
        };
    }
    let mend = "switch virtualization on in the firmware (\"VT-x\", \"SVM\"); in a VM, have its host allow nested \
                virtualization";
    found(about, Level::Warning, text, mend)
}

fn kvm(facts: &Facts) -> Finding {
    let about = "kvm";
    match facts.kvm {
        Device::Usable => good(
            about,
            format!("/dev/kvm can be used (Linux {})", facts.kernel),
        ),
        Device::Forbidden => found(
            about,
            Level::Problem,
            "/dev/kvm is there, and you may not use it",
            "join its group: sudo usermod -aG kvm $USER, then log in anew; or run vmctl as root",
        ),
        Device::Dead => found(
            about,
            Level::Problem,
            "/dev/kvm is there, and no driver is behind it",
            "sudo modprobe kvm_intel (or kvm_amd), and see what `dmesg | grep -i kvm` says",
        ),
        Device::Missing => found(
            about,
            Level::Problem,
            "/dev/kvm is not there",
            "sudo modprobe kvm_intel (or kvm_amd); in a container, pass it in: --device /dev/kvm",
        ),
    }
}

fn programs(facts: &Facts) -> Vec<Finding> {
    let about = "programs";
    let mut missing = Vec::new();
    if facts.vmm.is_none() {
        missing.push("vmm");
    }
    if facts.vmd.is_none() {
        missing.push("vmd");
    }
    match (&facts.vmm, missing.is_empty()) {
        (Some(vmm), true) => {
            let folder = vmm.parent().unwrap_or(vmm).display();
            vec![good(about, format!("vmm and vmd are in {folder}"))]
        }
        _ => vec![found(
            about,
            Level::Problem,
            format!("{} not found beside vmctl", missing.join(" and ")),
            "install all of Shoal's programs in one folder: `cargo ci build` does",
        )],
    }
}

fn probed(facts: &Facts) -> Vec<Finding> {
    let about = "kvm probe";
    // Without the device or the program there is nothing to ask, and that was told.
    if facts.kvm != Device::Usable || facts.vmm.is_none() {
        return Vec::new();
    }
    let mend = "run `vmm --probe` beside vmctl and see what it says";
    match &facts.asked {
        Asked::ProbeError(why) => vec![found(
            about,
            Level::Problem,
            format!("the monitor cannot use this host's KVM: {why}"),
            mend,
        )],
        Asked::Probe(value) => match Probe::read(value) {
            Err(why) => vec![found(
                about,
                Level::Warning,
                format!("vmm is of another version, its probe cannot be read: {why}"),
                "install vmm and vmctl of one version",
            )],
            Ok(probe) => probe.findings(),
        },
    }
}

fn memory(facts: &Facts) -> Finding {
    let about = "memory";
    let mib = facts.memory_available_mib;
    let text = format!("{mib} MiB are free");
    let mend = "stop something, or use a host with more";
    match mib {
        0..NO_MEMORY_MIB => found(about, Level::Problem, text, mend),
        NO_MEMORY_MIB..LITTLE_MEMORY_MIB => found(about, Level::Warning, text, mend),
        _ => good(about, text),
    }
}

fn cgroups(facts: &Facts) -> Finding {
    let about = "cgroups";
    match facts.cgroups {
        Cgroups::V2 => good(about, "version 2"),
        Cgroups::V1 => Finding {
            about,
            level: Level::Note,
            text: "version 1, which works; version 2 limits more exactly".to_owned(),
            mend: None,
        },
        Cgroups::None => found(
            about,
            Level::Warning,
            "no control groups for memory and CPU: VMs run, and nothing on this host keeps their use in bounds",
            "mount version 2: sudo mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

fn tun(facts: &Facts) -> Finding {
    let about = "network";
    let without = "VMs run without a network";
    match facts.tun {
        Device::Usable => good(about, "/dev/net/tun can be used"),
        Device::Forbidden => found(
            about,
            Level::Warning,
            format!("/dev/net/tun is there, and you may not use it: {without}"),
            "sudo chmod 0666 /dev/net/tun, which is its usual mode",
        ),
        Device::Dead | Device::Missing => found(
            about,
            Level::Warning,
            format!("/dev/net/tun is not there: {without}"),
            "sudo modprobe tun; in a container, pass it in: --device /dev/net/tun",
        ),
    }
}

fn daemon(facts: &Facts) -> Finding {
    let about = "daemon";
    match &facts.daemon {
        Daemon::Answers(socket) => good(about, format!("vmd answers on {}", socket.display())),
        Daemon::NotRunning(_) => Finding {
            about,
            level: Level::Note,
            text: "vmd does not run; the next command that needs it starts it".to_owned(),
            mend: None,
        },
        Daemon::Unreachable(why) => found(
            about,
            Level::Problem,
            format!("vmd cannot be reached: {why}"),
            "run vmctl as the user who runs vmd, or give a directory of your own with --dir",
        ),
    }
}

impl Verdict {
    /// As people read it.
    pub(crate) fn page(&self, style: Style) -> String {
        let mut page = String::new();
        for finding in &self.findings {
            let (mark, color) = match finding.level {
                Level::Good => ("ok", Color::Green),
                Level::Note => ("note", Color::Green),
                Level::Warning => ("warning", Color::Yellow),
                Level::Problem => ("problem", Color::Red),
            };
            let mark = style.color(Some(color), &format!("{mark:<8}"));
            let _ = writeln!(page, "{mark} {:<10} {}", finding.about, finding.text);
            if let Some(mend) = &finding.mend {
                let _ = writeln!(page, "{:20}{}", "", style.dim(&format!("to mend: {mend}")));
            }
        }
        page += match self.can_run {
            true => "\nVMs can run here.\n",
            false => "\nVMs cannot run here.\n",
        };
        page
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
