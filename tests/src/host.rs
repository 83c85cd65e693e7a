//! What stands on the host: processes, descriptors, files, sockets, cgroups, memory.
//!
//! Everything is counted for one daemon's directory: whatever a monitor is, it has files of that directory open.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Processes with a file below `dir` open, `but` one.
#[must_use]
pub fn users_of(dir: &Path, but: u32) -> BTreeSet<u32> {
    let mut users = BTreeSet::new();
    for pid in processes() {
        let uses = || {
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            fds.flatten()
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(dir)))
                .then_some(())
        };
        if pid != but && pid != std::process::id() && uses().is_some() {
            users.insert(pid);
        }
    }
    users
}

/// Processes whose parent is `pid`, the dead that nobody waited for among them.
#[must_use]
pub fn children_of(pid: u32) -> BTreeSet<u32> {
    let parent = |child: &u32| stat_field(*child, 4) == Some(u64::from(pid));
    processes().filter(parent).collect()
}

/// Whether the process lives: one that is dead and not yet waited for does not.
#[must_use]
pub fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(
        |stat| !matches!(stat.rsplit(") ").next(), Some(rest) if rest.starts_with(['Z', 'X'])),
    )
}

/// How many descriptors a process has open.
#[must_use]
pub fn descriptors_of(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Processor time that a process and those it waited for have used, in clock ticks (hundredths of a second).
#[must_use]
pub fn cpu_ticks(pid: u32) -> u64 {
    (14..=17).filter_map(|field| stat_field(pid, field)).sum()
}

/// Every file and folder below `dir`, but what is named in `but`.
#[must_use]
pub fn files_in(dir: &Path, but: &[&str]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if but.iter().any(|b| name == *b) {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

/// Unix sockets bound below `dir`.
#[must_use]
pub fn sockets_in(dir: &Path) -> usize {
    let dir = dir.to_string_lossy();
    fs::read_to_string("/proc/net/unix").map_or(0, |table| {
        table.lines().filter(|line| line.contains(&*dir)).count()
    })
}

/// How many cgroups there are on the host.
#[must_use]
pub fn cgroups() -> usize {
    fs::read_to_string("/proc/cgroups").map_or(0, |table| {
        table
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_whitespace().nth(2)?.parse::<usize>().ok())
            .sum()
    })
}

/// A line of `/proc/PID/status` in KiB, `VmRSS` for one.
#[must_use]
pub fn status_kib(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| {
        line.strip_prefix(key)
            .is_some_and(|rest| rest.starts_with(':'))
    })?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A process's proportional memory in KiB, less the mappings whose name holds `but`.
#[must_use]
pub fn pss_kib(pid: u32, but: &str) -> Option<u64> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    let mut counts = true;
    let mut sum = 0;
    for line in smaps.lines() {
        // A mapping begins with its range of addresses; what it is follows, a line each, as `Key: value`.
        if let Some(value) = line.strip_prefix("Pss:") {
            if counts {
                sum += value.split_whitespace().next()?.parse::<u64>().ok()?;
            }
        } else if line.split_whitespace().next()?.contains('-') {
            counts = !line.contains(but);
        }
    }
    Some(sum)
}

/// What the host holds of a monitor's guest's memory, in KiB: pages that nobody has touched, and holes, are not held.
#[must_use]
pub fn guest_kib(monitor: u32) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let fds = fs::read_dir(format!("/proc/{monitor}/fd")).ok()?;
    let mut paths = fds.flatten().map(|fd| fd.path());
    let file = paths.find(|fd| {
        fs::read_link(fd).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:guest "))
    })?;
    // Of 512 bytes.
    Some(fs::metadata(file).ok()?.blocks() / 2)
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Field `n` of `/proc/PID/stat`, counted from one as the manual does.
fn stat_field(pid: u32, n: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A program's name may hold spaces and brackets; it is field 2.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(n - 3)?.trim().parse().ok()
}

/// What a daemon and its VMs hold at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Monitors.
    pub processes: BTreeSet<u32>,
    /// The daemon's children, dead ones among them.
    pub children: BTreeSet<u32>,
    /// Descriptors of the daemon.
    pub descriptors: usize,
    /// Files and folders in its directory.
    pub files: BTreeSet<PathBuf>,
    /// Unix sockets in its directory.
    pub sockets: usize,
    /// Cgroups of the whole host.
    pub cgroups: usize,
}

impl Footprint {
    /// What the daemon `vmd` and its VMs hold now, for `dir`.
    #[must_use]
    pub fn of(dir: &Path, vmd: u32) -> Self {
        Self {
            processes: users_of(dir, vmd),
            children: children_of(vmd),
            descriptors: descriptors_of(vmd),
            files: files_in(dir, &[]),
            sockets: sockets_in(dir),
            cgroups: cgroups(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_as_it_is() {
        let me = std::process::id();
        assert!(lives(me));
        assert!(descriptors_of(me) > 0);
        assert!(status_kib(me, "VmRSS").unwrap() > 0);
        assert!(pss_kib(me, "no such mapping").unwrap() > 0);
        assert!(stat_field(me, 4).unwrap() > 0);
    }

    #[test]
    fn who_has_a_file_open_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("a file")).unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(file)
            .spawn()
            .unwrap();
        assert_eq!(users_of(dir.path(), 0), BTreeSet::from([child.id()]));
        assert!(children_of(std::process::id()).contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(users_of(dir.path(), 0).is_empty());
        assert!(!lives(child.id()));
    }
}
