//! What is done inside a Linux guest: programs, files, signals, counters.
//!
//! `exec` and `attach` answer `101 Switching Protocols`; from then on both sides speak frames of the agent's protocol
//! (`abi::agent`), which the daemon checks and passes on. The client sends `Stdin`, `Eof`, `Resize` and `Signal`. The guest's first frame is its
//! `Reply` (`Started`, with the process id, or `Ready`), then come `Stdout`, `Stderr` and `Dropped`, and at last `Exit` (or `Error`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What the `Upgrade` header of `exec` and `attach` says.
pub const UPGRADE: &str = "shoal-agent/1";

/// `POST /v1/vms/{vm}/exec`: run a program beside the main one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program and its arguments; it is searched for in the guest's `PATH`.
    #[schema(min_items = 1)]
    pub command: Vec<String>,
    /// Its environment, over that of the main program.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Who runs it: as the main program where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it runs: as the main program where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Whether it has a terminal, of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<WindowSize>,
    /// The kind of the terminal (`TERM`): `xterm` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// Whether it has an input; else it reads nothing.
    #[serde(default)]
    pub stdin: bool,
    /// Let it outlive the connection: nothing but `Started` comes back.
    #[serde(default)]
    pub detach: bool,
}

/// `POST /v1/vms/{vm}/attach`: hear the main program and speak to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Begin with what it wrote lately.
    #[serde(default)]
    pub backlog: bool,
    /// Whether its input is wanted; the VM must have been created with `stdin_open`.
    #[serde(default)]
    pub stdin: bool,
    /// The client's terminal, where the VM was created with `tty`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<WindowSize>,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Rows of characters.
    pub rows: u16,
    /// Characters in a row.
    pub cols: u16,
}

/// `GET` and `PUT /v1/vms/{vm}/files?path=`
///
/// `GET` answers with a tar archive of what is at the path, by its last name. `PUT` unpacks the tar archive that is its body into the
/// directory at the path.
#[derive(Clone, Debug, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FilesQuery {
    /// An absolute path in the guest.
    pub path: String,
}

/// `GET /v1/vms/{vm}/files/stat?path=&follow=`: what is at a path of the guest.
#[derive(Clone, Debug, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatQuery {
    /// An absolute path in the guest.
    pub path: String,
    /// Where it is a symbolic link, what that leads to is wanted, not the link.
    #[serde(default)]
    pub follow: bool,
}

/// What is at a path of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Its bytes.
    pub size: u64,
    /// Its permissions: the lower twelve bits of a mode.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was last written, in seconds since 1970.
    pub modified: i64,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What a file of a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Bytes.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, a pipe or a socket.
    Other,
}

/// `POST /v1/vms/{vm}/signal`: send a signal to the main program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendSignal {
    /// `HUP`, `SIGHUP` or `1`.
    pub signal: String,
}

/// `GET /v1/vms/{vm}/stats`: what the VM uses now.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Stats {
    /// Nanoseconds that its virtual CPUs have run, in the guest and in the monitor.
    pub cpu_ns: u64,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Bytes of the host's memory that its monitor holds, the guest's included (PSS); absent where the host does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_memory_bytes: Option<u64>,
    /// What was counted by the monitor: device traffic among it.
    pub counters: BTreeMap<String, u64>,
    /// What its agent says, where it has one that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestReport>,
}

/// What an agent says of its guest.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct GuestReport {
    /// Bytes of memory that the guest's kernel has.
    pub memory_total_bytes: u64,
    /// Bytes of it that programs could still get.
    pub memory_available_bytes: u64,
    /// Bytes of it that hold what is on disks as well.
    pub memory_cached_bytes: u64,
    /// Runnable threads, on average over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Threads that run or want to.
    pub runnable: u32,
    /// Threads.
    pub threads: u32,
    /// Milliseconds that its CPUs were busy since it began, over all of them.
    pub cpu_busy_ms: u64,
    /// Milliseconds that they had nothing to do.
    pub cpu_idle_ms: u64,
    /// Its root and its volumes.
    pub disks: Vec<DiskUse>,
    /// The main program's process, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How often the main program was started again.
    pub restarts: u32,
}

/// How full a file system of a guest is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct DiskUse {
    /// Where it is mounted.
    pub path: String,
    /// Its bytes.
    pub total_bytes: u64,
    /// Those that are left.
    pub available_bytes: u64,
}
