//! The host and its daemon.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/version`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Version {
    /// The daemon's version.
    pub version: String,
    /// The version of this interface.
    pub api: String,
    /// The daemon's process.
    pub pid: u32,
}

/// `GET /v1/host`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Host {
    /// Logical CPUs.
    pub cpus: u32,
    /// Memory in all, in mebibytes.
    pub memory_mib: u64,
    /// Memory that is free or can be made so, in mebibytes.
    pub memory_available_mib: u64,
    /// Memory that living VMs may use at most, in mebibytes. It may be more than the host has.
    pub memory_promised_mib: u64,
    /// How many VMs.
    pub vms: VmCounts,
    /// What the monitor found out about this host's KVM (`vmm --probe`); absent where it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub probe: Option<serde_json::Value>,
    /// Why there is no probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_error: Option<String>,
    /// Where the daemon keeps everything.
    pub dir: String,
}

/// How many VMs there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct VmCounts {
    /// All.
    pub total: u32,
    /// Those that live: from creating to stopping.
    pub live: u32,
    /// Those that have ended and were not removed.
    pub ended: u32,
}
