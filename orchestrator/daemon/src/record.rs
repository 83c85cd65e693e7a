//! What is written down of a VM.
//!
//! A record says what is *wanted*. It is durable before anything is done for it, so that a daemon that was killed at any
//! line goes on where it was. Of what is *observed* only the end is written, once, and late: until then it stands in the VM's
//! meter file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vmm::outcome::Outcome;

/// A VM, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's digest.
    pub digest: String,
    /// The program's arguments.
    pub args: Vec<String>,
    /// The program's environment.
    pub env: BTreeMap<String, String>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in mebibytes.
    pub memory_mib: u64,
    /// Milliseconds from start to end.
    pub timeout_ms: Option<u64>,
    /// Removed as soon as it has ended.
    pub auto_remove: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The host's boot id then: a VM ends with its host, and is not started a second time after it.
    pub host_boot: String,
    /// What is wanted of it.
    pub desired: Desired,
    /// How it ended, once that is known.
    pub ended: Option<Ended>,
    /// How often it was started again: with its id this names one start of it.
    #[serde(default)]
    pub starts: u32,
    /// What only a Linux guest has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Box<LinuxRecord>>,
}

/// What is written down of a Linux guest, with what its image said worked in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinuxRecord {
    /// What is run.
    pub argv: Vec<String>,
    /// `KEY=value`
    pub env: Vec<String>,
    /// Who runs it; empty is root.
    pub user: String,
    /// Where it runs.
    pub workdir: String,
    /// The guest's name.
    pub hostname: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is kept open.
    pub stdin_open: bool,
    /// Who is the first process.
    pub init: api::Init,
    /// The size of its disk.
    pub disk_mib: u64,
    /// Its volumes.
    pub volumes: Vec<api::VolumeMount>,
    /// Its place in a network, where it is in one.
    pub lease: Option<network::Lease>,
    /// When its program, or the VM, is started again.
    pub restart: api::Restart,
    /// The signal that asks its program to end.
    pub stop_signal: u8,
    /// How long it then has.
    pub stop_timeout_ms: u64,
    /// More words for the kernel.
    pub kernel_args: String,
    /// Limits of each disk.
    pub disk_rate: Option<api::RateLimit>,
    /// Limits of each network device.
    pub net_rate: Option<api::RateLimit>,
    /// How its health is probed.
    pub health: Option<api::HealthProbe>,
}

/// What is wanted of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// That it runs until it ends.
    Run,
    /// That it ends, by force after a moment.
    Stop {
        /// The moment.
        by: Timestamp,
    },
    /// That nothing is left of it.
    Remove,
}

/// How and when a VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// When its first virtual CPU was entered, if ever.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Timestamp,
}
