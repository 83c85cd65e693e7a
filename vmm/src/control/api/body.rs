//! The bodies of requests and answers, as they go over the wire. A field that this monitor cannot honour is still
//! known here, so that it can be refused by its name.

use std::path::PathBuf;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

pub(super) use super::balloon::{Balloon, BalloonUpdate, StatisticsUpdate, StatisticsView};
pub(super) use super::drive::{Drive, DriveUpdate};
pub(super) use super::interface::{Interface, InterfaceUpdate};
pub(super) use super::vsock::Vsock;
use crate::control::log::Level;

/// `PUT /machine-config`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Machine {
    vcpu_count: u32,
    mem_size_mib: u64,
    #[serde(default)]
    smt: bool,
    cpu_template: Option<String>,
    #[serde(default)]
    track_dirty_pages: bool,
    huge_pages: Option<String>,
}

impl From<Machine> for MachineUpdate {
    fn from(put: Machine) -> Self {
        Self {
            vcpu_count: Some(put.vcpu_count),
            mem_size_mib: Some(put.mem_size_mib),
            smt: Some(put.smt),
            cpu_template: put.cpu_template,
            track_dirty_pages: Some(put.track_dirty_pages),
            huge_pages: put.huge_pages,
        }
    }
}

/// `PATCH /machine-config`: what is left out stays.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct MachineUpdate {
    pub(super) vcpu_count: Option<u32>,
    pub(super) mem_size_mib: Option<u64>,
    pub(super) smt: Option<bool>,
    pub(super) cpu_template: Option<String>,
    pub(super) track_dirty_pages: Option<bool>,
    pub(super) huge_pages: Option<String>,
}

/// `GET /machine-config`.
#[derive(Debug, Serialize)]
pub(super) struct MachineView {
    pub(super) vcpu_count: u8,
    pub(super) mem_size_mib: u64,
    pub(super) smt: bool,
    pub(super) track_dirty_pages: bool,
    pub(super) huge_pages: &'static str,
}

/// `PUT /boot-source`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct BootSource {
    pub(super) kernel_image_path: PathBuf,
    pub(super) initrd_path: Option<PathBuf>,
    pub(super) boot_args: Option<String>,
}

/// `PUT /entropy`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Entropy {
    #[serde(default, skip_serializing)]
    pub(super) rate_limiter: Option<IgnoredAny>,
}

/// `PUT /serial`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Serial {
    pub(super) serial_out_path: Option<PathBuf>,
    #[serde(default, skip_serializing)]
    pub(super) rate_limiter: Option<IgnoredAny>,
}

/// `PUT /logger`: what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Logger {
    /// A file or FIFO for the lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_path: Option<PathBuf>,
    /// What the log takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Whether lines say their level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub show_level: Option<bool>,
    /// Whether lines say where in the source they come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub show_log_origin: Option<bool>,
    /// Firecracker's filter by module: refused, for this log has no modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

/// `PUT /metrics`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Metrics {
    pub(in crate::control) metrics_path: PathBuf,
}

/// `PUT /actions`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Action {
    pub(super) action_type: ActionType,
}

#[derive(Debug, Deserialize)]
pub(super) enum ActionType {
    FlushMetrics,
    InstanceStart,
    SendCtrlAltDel,
}

/// `PATCH /vm`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vm {
    pub(super) state: VmState,
}

#[derive(Debug, Deserialize)]
pub(super) enum VmState {
    Paused,
    Resumed,
}

/// `GET /`.
#[derive(Debug, Serialize)]
pub(super) struct InstanceView<'a> {
    pub(super) id: &'a str,
    pub(super) state: &'static str,
    pub(super) vmm_version: &'static str,
    pub(super) app_name: &'static str,
}

/// `GET /version`.
#[derive(Debug, Serialize)]
pub(super) struct VersionView {
    /// The key that Firecracker's tools look for; the value is this monitor's version.
    pub(super) firecracker_version: &'static str,
}

/// `GET /vm/config`; a configuration file can be made of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ConfigView<'a> {
    pub(super) balloon: Option<Balloon>,
    pub(super) drives: Vec<&'a Drive>,
    pub(super) boot_source: &'a BootSource,
    pub(super) cpu_config: Option<()>,
    pub(super) logger: Option<&'a Logger>,
    pub(super) machine_config: MachineView,
    pub(super) metrics: Option<&'a Metrics>,
    pub(super) mmds_config: Option<()>,
    pub(super) network_interfaces: Vec<&'a Interface>,
    pub(super) vsock: Option<&'a Vsock>,
    pub(super) entropy: Option<Entropy>,
    pub(super) serial: Option<Serial>,
    pub(super) pmem: [(); 0],
    pub(super) memory_hotplug: Option<()>,
}

/// `--config-file`: the sections that this monitor has, and those that it knows of and must find empty.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::control) struct ConfigFile {
    pub(super) boot_source: BootSource,
    pub(super) machine_config: Option<Machine>,
    pub(super) entropy: Option<Entropy>,
    pub(super) serial: Option<Serial>,
    pub(super) logger: Option<Logger>,
    pub(super) metrics: Option<Metrics>,
    pub(super) balloon: Option<Balloon>,
    #[serde(default)]
    cpu_config: Absent,
    #[serde(default)]
    pub(super) drives: Vec<Drive>,
    #[serde(default)]
    memory_hotplug: Absent,
    #[serde(default)]
    mmds_config: Absent,
    #[serde(default)]
    pub(super) network_interfaces: Vec<Interface>,
    #[serde(default)]
    pmem: Absent,
    pub(super) vsock: Option<Vsock>,
}

impl ConfigFile {
    /// The first section that says something and that this monitor does not have.
    pub(super) fn absent(&self) -> Option<&'static str> {
        [
            ("cpu-config", &self.cpu_config),
            ("memory-hotplug", &self.memory_hotplug),
            ("mmds-config", &self.mmds_config),
            ("pmem", &self.pmem),
        ]
        .into_iter()
        .find_map(|(name, section)| section.says_something().then_some(name))
    }
}

/// A section that may be there as long as it says nothing: `null` or `[]`.
#[derive(Debug, Default, Deserialize)]
struct Absent(Option<serde_json::Value>);

impl Absent {
    fn says_something(&self) -> bool {
        match &self.0 {
            None | Some(serde_json::Value::Null) => false,
            Some(serde_json::Value::Array(list)) => !list.is_empty(),
            Some(_) => true,
        }
    }
}
