//! VMs: what is asked for, and what is told of them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::create::{HealthProbe, Init, Publish, Restart, VolumeMount};
use crate::network::Address;

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
    /// What kind of guest it is.
    #[serde(default)]
    pub kind: GuestKind,
    /// The program's arguments, as they were asked for.
    pub args: Vec<String>,
    /// The program's environment, as it was asked for.
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
    /// What only a Linux guest has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<LinuxVm>,
}

/// What kind of guest a VM or an image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuestKind {
    /// A program on the library OS.
    #[default]
    Libos,
    /// A Linux system with a root file system, a disk and an agent.
    Linux,
}

impl fmt::Display for GuestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Libos => "libos",
            Self::Linux => "linux",
        })
    }
}

/// What a Linux guest has beside what every VM has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct LinuxVm {
    /// All that is run: entrypoint and arguments, as they came out of the request and the image.
    pub command: Vec<String>,
    /// The user it runs as; empty is root.
    pub user: String,
    /// The directory it runs in.
    pub workdir: String,
    /// Its host name.
    pub hostname: String,
    /// Whether the program has a terminal.
    pub tty: bool,
    /// Whether the program's input can be attached to.
    pub stdin_open: bool,
    /// Who is the first process of its user space.
    pub init: Init,
    /// The size of its disk in mebibytes.
    pub disk_mib: u64,
    /// Its addresses, one a network.
    pub addresses: Vec<Address>,
    /// Its published ports.
    pub ports: Vec<Publish>,
    /// Its volumes.
    pub volumes: Vec<VolumeMount>,
    /// When its program, or the VM, is started again by itself.
    pub restart: Restart,
    /// How often its program was started again since the VM started, as its agent says, and the VM since it was made.
    pub restarts: u32,
    /// The signal that asks its program to end.
    pub stop_signal: String,
    /// Milliseconds that its program has to end after that signal.
    pub stop_timeout_ms: u64,
    /// Its agent, while it lives.
    pub agent: AgentState,
    /// What the agent's state comes from, where there is more to say than the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_message: Option<String>,
    /// How its health is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_probe: Option<HealthProbe>,
    /// Its health, where it is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthState>,
}

/// What is known of a Linux guest's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// The VM boots: its agent does not answer yet.
    Connecting,
    /// It answered and was told what to run.
    Configured,
    /// The program runs.
    Running,
    /// It did not answer in time, or answered nonsense. The VM may be well all the same.
    Unresponsive,
    /// The VM has ended.
    Gone,
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Configured => "configured",
            Self::Running => "running",
            Self::Unresponsive => "unresponsive",
            Self::Gone => "gone",
        })
    }
}

/// What a VM's health probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// No probe has succeeded yet, and not too many have failed.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// As many probes failed, one after the other, as are allowed.
    Unhealthy,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
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
    /// `launched`, `main`, `described`, `created`, `loaded`, `ready`, `entered`, `driver`, `console`, `agent` or `ended`;
    /// `agent` is when a Linux guest's agent first answered.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopVm {
    /// Milliseconds that the guest has to end by itself; then it is killed. What the VM was created with where it is absent, or
    /// else ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl StopVm {
    /// How long a guest has where nobody says.
    pub const DEFAULT_TIMEOUT_MS: u64 = 10_000;
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
    /// Its program runs: for a Linux guest its agent says so, for others it is as `running`. Or it has ended without.
    Ready,
    /// Its health probe succeeds, where it has one, else as `ready`. Or it has ended without.
    Healthy,
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
