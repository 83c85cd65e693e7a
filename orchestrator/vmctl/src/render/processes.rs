//! A guest's processes, as its `/proc` tells them.

use std::collections::BTreeMap;

use comfy_table::{Cell, Row};
use serde::Serialize;

use crate::output::{Style, printable};
use crate::units::bytes;

/// Prints three files of each process in the guest, each under its name: by programs that nearly every image has.
pub(crate) const SCRIPT: &str =
    "exec head -v -c 4096 /proc/[0-9]*/stat /proc/[0-9]*/status /proc/[0-9]*/cmdline";

/// Clock ticks of a second, as Linux tells them to programs.
const TICKS: u64 = 100;

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// Its parent's.
    pub(crate) ppid: u32,
    /// Its user's number.
    pub(crate) uid: u32,
    /// `R`, `S`, `D`, `Z` and so on.
    pub(crate) state: String,
    /// Threads.
    pub(crate) threads: u32,
    /// Bytes of memory that it has.
    pub(crate) memory_bytes: u64,
    /// Milliseconds of processor time that it took.
    pub(crate) cpu_ms: u64,
    /// Its program and arguments.
    pub(crate) command: String,
}

/// Processes out of what [`SCRIPT`] prints.
pub(crate) fn parse(text: &[u8]) -> Vec<Process> {
    let text = String::from_utf8_lossy(text);
    let mut processes: BTreeMap<u32, Process> = BTreeMap::new();
    for part in text.split("==> /proc/").skip(1) {
        let Some((path, content)) = part.split_once(" <==\n") else {
            continue;
        };
        let Some((Ok(pid), file)) = path.split_once('/').map(|(p, f)| (p.parse::<u32>(), f)) else {
            continue;
        };
        let process = processes.entry(pid).or_default();
        process.pid = pid;
        match file {
            "stat" => stat(content, process),
            "status" => status(content, process),
            "cmdline" => {
                let words: Vec<&str> = content.trim_end_matches('\n').split('\0').collect();
                let command = printable(words.join(" ").trim_end());
                // A kernel thread has none, and keeps its name.
                if !command.is_empty() {
                    process.command = command;
                }
            }
            _ => {}
        }
    }
    // What ended between two files is half told.
    processes
        .into_values()
        .filter(|p| !p.state.is_empty())
        .collect()
}

/// proc_pid_stat(5): the name is in brackets and may have any characters, brackets too.
fn stat(content: &str, process: &mut Process) {
    let Some((_, fields)) = content.rsplit_once(") ") else {
        return;
    };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok());
    process.state = printable(fields.first().unwrap_or(&""));
    let ticks = number(11)
        .unwrap_or(0)
        .saturating_add(number(12).unwrap_or(0));
    process.cpu_ms = ticks.saturating_mul(1000 / TICKS);
}

fn status(content: &str, process: &mut Process) {
    for line in content.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let first = value.split_whitespace().next().unwrap_or("");
        match key {
            "Name" if process.command.is_empty() => {
                process.command = format!("[{}]", printable(first));
            }
            "PPid" => process.ppid = first.parse().unwrap_or(0),
            "Uid" => process.uid = first.parse().unwrap_or(0),
            "Threads" => process.threads = first.parse().unwrap_or(0),
            "VmRSS" => {
                process.memory_bytes = first.parse::<u64>().unwrap_or(0).saturating_mul(1024);
            }
            _ => {}
        }
    }
}

/// A line a process.
pub(crate) fn table(processes: &[Process], style: Style) -> String {
    let header = [
        "PID", "PPID", "UID", "STATE", "THREADS", "MEMORY", "CPU", "COMMAND",
    ];
    let rows = processes.iter().map(|p| {
        Row::from(vec![
            Cell::new(p.pid),
            Cell::new(p.ppid),
            Cell::new(p.uid),
            Cell::new(&p.state),
            Cell::new(p.threads),
            Cell::new(bytes(p.memory_bytes)),
            Cell::new(format!("{}.{:02}s", p.cpu_ms / 1000, p.cpu_ms % 1000 / 10)),
            Cell::new(&p.command),
        ])
    });
    style.table(&header, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAID: &str = "==> /proc/1/stat <==\n1 (a) b) S 0 1 1 0 -1 4 0 0 0 0 250 7 0 0 20 0 3 0 5 1 2\n\n\
        ==> /proc/2/stat <==\n2 (kthreadd) S 0 0 0 0 -1 0 0 0 0 0 0 0 0\n\n\
        ==> /proc/1/status <==\nName:\ta) b\nPPid:\t0\nUid:\t33\t33\t33\t33\nVmRSS:\t  2048 kB\nThreads:\t3\n\n\
        ==> /proc/2/status <==\nName:\tkthreadd\nPPid:\t0\nUid:\t0\t0\t0\t0\n\n\
        ==> /proc/3/cmdline <==\ngone\0\n\
        ==> /proc/1/cmdline <==\n/usr/sbin/apache2\0-k\0\x1b[2J\0\n==> /proc/2/cmdline <==\n";

    #[test]
    fn processes_are_read_from_what_proc_says() {
        let processes = parse(SAID.as_bytes());
        let apache = Process {
            pid: 1,
            ppid: 0,
            uid: 33,
            state: "S".into(),
            threads: 3,
            memory_bytes: 2 << 20,
            cpu_ms: 2570,
            command: "/usr/sbin/apache2 -k \u{FFFD}[2J".into(),
        };
        assert_eq!(
            processes.len(),
            2,
            "one that ended is left out: {processes:?}"
        );
        assert_eq!(processes[0], apache);
        assert_eq!(processes[1].command, "[kthreadd]");
        let table = table(&processes, Style(false));
        assert!(
            table.contains("2.57s") && table.contains("2.0 MiB"),
            "{table}"
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..400), tail in ".{0,60}") {
            let _ = parse(&bytes);
            let _ = parse(format!("==> /proc/7/stat <==\n{tail}").as_bytes());
            let _ = parse(format!("==> /proc/7/status <==\n{tail}").as_bytes());
        }
    }
}
