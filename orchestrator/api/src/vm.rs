//! VMs: what is asked for, and what is told of them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// `POST /v1/vms`: create a VM and start it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVm {
    /// `[a-z0-9][a-z0-9-]{0,62}`, not in use; two words are chosen where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    pub name: Option<String>,
    /// An image's name, digest, or a prefix that only one digest has.
    pub image: String,
    /// The program's arguments, its own name not among them.
    #[serde(default)]
    pub args: Vec<String>,
    /// The program's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Virtual CPUs.
    #[serde(default = "CreateVm::default_vcpus")]
    #[schema(minimum = 1, maximum = 32)]
    pub vcpus: u32,
    /// Memory in mebibytes.
    #[serde(default = "CreateVm::default_memory_mib")]
    #[schema(minimum = 2)]
    pub memory_mib: u64,
    /// Milliseconds from its start after which it is ended, whatever it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Remove it, console and all, as soon as it has ended.
    #[serde(default)]
    pub auto_remove: bool,
}

impl CreateVm {
    /// A VM of `image` with every default.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            name: None,
            image: image.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            vcpus: Self::default_vcpus(),
            memory_mib: Self::default_memory_mib(),
            timeout_ms: None,
            auto_remove: false,
        }
    }

    /// How many virtual CPUs where nobody says.
    #[must_use]
    pub fn default_vcpus() -> u32 {
        1
    }

    /// How much memory where nobody says.
    #[must_use]
    pub fn default_memory_mib() -> u64 {
        64
    }
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Vm {
    /// Twelve hexadecimal digits, never used again.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: VmState,
    /// How it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
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
    /// Milliseconds from its start after which it is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether it is removed as soon as it has ended.
    pub auto_remove: bool,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its first virtual CPU was entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Its monitor's process, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor_pid: Option<u32>,
    /// What its monitor has counted; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
}

/// What a VM is doing. `docs/vm-life.md` has the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// It is written down that it is wanted.
    Creating,
    /// Its monitor was started and boots it.
    Starting,
    /// Its virtual CPUs run.
    Running,
    /// Its virtual CPUs and devices stand still.
    Paused,
    /// It was asked to end.
    Stopping,
    /// The guest ended it, or its owner did.
    Exited,
    /// Something else ended it: see its outcome.
    Failed,
    /// What it left is being cleared away.
    Removing,
    /// Nothing of it is left.
    Gone,
}

impl VmState {
    /// Whether it is over.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(
            self,
            Self::Exited | Self::Failed | Self::Removing | Self::Gone
        )
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Removing => "removing",
            Self::Gone => "gone",
        })
    }
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Outcome {
    /// What ended it.
    pub cause: Cause,
    /// The guest's exit status, where the cause is [`Cause::Exit`]; else zero.
    pub status: u32,
    /// What more is known.
    pub detail: String,
    /// All of it, in words.
    pub message: String,
}

/// What ended a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The guest exited, with a status.
    Exit,
    /// The guest asked for a reset.
    Reset,
    /// The guest's processor triple-faulted.
    TripleFault,
    /// Every virtual CPU halted with interrupts off.
    Halted,
    /// An instruction that this host's KVM cannot carry out.
    Unsupported,
    /// Its time was over.
    Deadline,
    /// Its owner ended it.
    Stopped,
    /// Its monitor could not start or carry on.
    Failed,
}

/// What a monitor has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Metrics {
    /// The phases of its boot that were reached, in order.
    pub boot: Vec<BootPhase>,
    /// What was counted, by name: exits by kind, console bytes, and more.
    pub counters: BTreeMap<String, u64>,
    /// Each virtual CPU's times.
    pub vcpus: Vec<VcpuTime>,
    /// Bytes that its console has written, those included that are no longer kept.
    pub console_bytes: u64,
}

/// When a phase of the boot was reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct BootPhase {
    /// `launched`, `main`, `described`, `created`, `loaded`, `ready`, `entered`, `driver`, `console` or `ended`.
    pub phase: String,
    /// Microseconds since the daemon asked for the process.
    pub at_us: u64,
}

/// Where a virtual CPU's time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct VcpuTime {
    /// Nanoseconds in the guest.
    pub guest_ns: u64,
    /// Nanoseconds in the monitor.
    pub monitor_ns: u64,
}

/// `POST /v1/vms/{vm}/stop`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopVm {
    /// Milliseconds that the guest has to end by itself; then it is killed.
    #[serde(default = "StopVm::default_timeout_ms")]
    pub timeout_ms: u64,
}

impl StopVm {
    /// How long a guest has where nobody says.
    #[must_use]
    pub fn default_timeout_ms() -> u64 {
        10_000
    }
}

impl Default for StopVm {
    fn default() -> Self {
        Self {
            timeout_ms: Self::default_timeout_ms(),
        }
    }
}

/// `GET /v1/vms?all=`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Those too that have ended.
    #[serde(default)]
    pub all: bool,
}

/// `DELETE /v1/vms/{vm}?force=`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveQuery {
    /// Kill it first where it runs.
    #[serde(default)]
    pub force: bool,
}

/// `GET /v1/vms/{vm}/wait?until=`
#[derive(Clone, Copy, Debug, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// What to wait for.
    pub until: Until,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Its virtual CPUs run, or it has ended without.
    Running,
    /// It has ended.
    Ended,
}

/// `GET /v1/vms/{vm}/logs?follow=&tail=`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// Go on with what comes, until the VM has ended.
    #[serde(default)]
    pub follow: bool,
    /// Only the last lines, so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u64>,
}
