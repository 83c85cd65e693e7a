//! What an agent answers.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::message::{Invalid, at_most, text};

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// It is done.
    Done,
    /// Streams follow: after Attach, CopyIn and CopyOut.
    Ready,
    /// The program of an exec runs.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// How far the guest is.
    Status(Status),
    /// How the guest is.
    Report(Report),
    /// What a probe found.
    Health(Healthy),
    /// What is at a path.
    Stat(Found),
}

/// How far a guest is.
///
/// ```text
///  ready ──Start──▶ running ──ends──▶ exited          (and the guest ends)
///            │        │ ▲
///            ▼    ends▼ │time
///         failed    waiting           any of them ──Shutdown──▶ stopping
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// It waits for its Start.
    Ready,
    /// The main program runs.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// The main program ended, and is started again soon.
    Waiting {
        /// How it ended.
        exit: Exit,
        /// In how many milliseconds.
        retry_ms: u32,
    },
    /// The main program ended for good.
    Exited {
        /// How.
        exit: Exit,
    },
    /// What Start asked for could not be done; the guest waits to be looked at, or ended.
    Failed {
        /// Why.
        error: Failure,
    },
    /// It is ending.
    Stopping,
}

/// How far a guest is, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The Start's, where there was one.
    pub generation: Option<String>,
    /// How far.
    pub state: State,
    /// How often the main program was started again.
    pub restarts: u32,
    /// Milliseconds since the guest's kernel began.
    pub uptime_ms: u64,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Exit {
    /// With an exit status.
    Code(u8),
    /// Killed by a signal.
    Signal(u8),
}

impl Exit {
    /// As a shell says it: the status, or 128 and the signal.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// How a guest is. Bytes and counts are the kernel's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Memory, in bytes.
    pub memory: Memory,
    /// Load of the last 1, 5 and 15 minutes, in hundredths.
    pub load: [u32; 3],
    /// How many threads run or want to.
    pub runnable: u32,
    /// How many threads there are.
    pub threads: u32,
    /// Since the kernel began, over all CPUs: milliseconds that programs and kernel ran.
    pub cpu_busy_ms: u64,
    /// And milliseconds in which a CPU had nothing to do.
    pub cpu_idle_ms: u64,
    /// The root and the volumes.
    pub disks: Vec<DiskUse>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// All that the kernel has.
    pub total: u64,
    /// Used for nothing.
    pub free: u64,
    /// Could be had without swapping.
    pub available: u64,
    /// Holds what is on disks as well.
    pub cached: u64,
}

/// How full a disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskUse {
    /// Where it is mounted.
    pub path: String,
    /// Its bytes.
    pub total: u64,
    /// Those that are left for anybody.
    pub available: u64,
    /// Its files, and those that are left.
    pub files: u64,
    /// How many more files it takes.
    pub files_available: u64,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healthy {
    /// The service is well.
    pub healthy: bool,
    /// What was seen, for people: at most 512 bytes.
    pub detail: String,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
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
    /// When it was last written, seconds since 1970.
    pub modified: i64,
    /// Where a symbolic link leads.
    pub target: Option<String>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people: at most 512 bytes.
    pub message: String,
}

/// What kind of failure, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A file, a program, a user or a disk is not there.
    NotFound,
    /// The program is there and cannot be run.
    NotExecutable,
    /// It is not allowed.
    Permission,
    /// It was asked for twice, or at the wrong time.
    Busy,
    /// The request makes no sense.
    Invalid,
    /// The other side speaks another version of the protocol.
    Version,
    /// There is no room: memory, disk, processes, connections.
    NoSpace,
    /// It is not a directory, or is one.
    NotDirectory,
    /// Anything else that the guest's kernel refused.
    Failed,
}

impl Failure {
    /// The most bytes of a message.
    pub const MESSAGE_MAX: usize = 512;

    /// A failure; the message is cut where it is too long.
    #[must_use]
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        let message = cut(alloc::format!("{message}"));
        Self { code, message }
    }
}

impl Healthy {
    /// What a probe found; the detail is cut where it is too long.
    #[must_use]
    pub fn new(healthy: bool, detail: impl fmt::Display) -> Self {
        let detail = cut(alloc::format!("{detail}"));
        Self { healthy, detail }
    }
}

/// `text`, at most [`Failure::MESSAGE_MAX`] bytes of it and no NUL.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(Failure::MESSAGE_MAX));
    if text.contains('\0') {
        text = text.replace('\0', " ");
    }
    text
}

impl Failure {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        text("message", &self.message, Self::MESSAGE_MAX)
    }
}

impl Reply {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Done | Self::Ready | Self::Started { .. } => Ok(()),
            Self::Status(status) => {
                if let Some(generation) = &status.generation {
                    text("generation", generation, 128)?;
                }
                match &status.state {
                    State::Failed { error } => error.check(),
                    _ => Ok(()),
                }
            }
            Self::Report(report) => {
                at_most("disks", report.disks.len(), 32)?;
                for disk in &report.disks {
                    text("path", &disk.path, 4096)?;
                }
                Ok(())
            }
            Self::Health(health) => text("detail", &health.detail, Failure::MESSAGE_MAX),
            Self::Stat(found) => match &found.target {
                Some(target) => text("target", target, 4096),
                None => Ok(()),
            },
        }
    }
}
