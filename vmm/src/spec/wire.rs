//! The JSON form of a description. Descriptors are indices into those that come beside it.

use serde::{Deserialize, Serialize};

/// The version that this monitor speaks.
pub const VERSION: u32 = 1;

/// A VM.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// [`VERSION`].
    pub version: u32,
    /// 1 to 64 letters, digits and hyphens.
    pub id: String,
    /// 1 to 32.
    pub vcpus: u32,
    /// Mebibytes.
    pub memory_mib: u64,
    /// What it boots.
    pub boot: Boot,
    /// Its console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<Console>,
    /// Whether it has an entropy device.
    #[serde(default)]
    pub entropy: bool,
    /// Milliseconds from its start to its end, whatever it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Descriptor: a listening unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<usize>,
    /// Descriptor: a file of one page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<usize>,
    /// Descriptor: `/dev/kvm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kvm: Option<usize>,
    /// Descriptor: anything; held open until the monitor's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<usize>,
    /// `CLOCK_MONOTONIC` nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_at_ns: Option<u64>,
}

/// What a VM boots.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Descriptor: an ELF file with a PVH note.
    pub kernel: usize,
    /// The guest's command line.
    #[serde(default)]
    pub args: String,
}

/// A console.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Where output goes.
    pub output: ConsoleOutput,
    /// Descriptor: where input comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<usize>,
}

/// Where output goes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum ConsoleOutput {
    /// A bounded log file.
    Log {
        /// Descriptor: a regular file.
        file: usize,
        /// Bytes to keep.
        keep: u64,
    },
    /// Descriptor: a pipe, terminal or socket.
    Stream(usize),
}
