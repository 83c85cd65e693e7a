//! From a request to what it asks for.

use serde::de::DeserializeOwned;

use super::ApiError;
use super::body;
use crate::control::http::{Method, Request};

/// What a request asks for, its body parsed.
#[derive(Debug)]
pub(super) enum Action {
    Describe,
    Version,
    ReadMachine,
    ReadConfig,
    /// Sets a part of the configuration: before the start alone.
    Configure(Section),
    Start,
    CtrlAltDel,
    FlushMetrics,
    Pause,
    Resume,
    /// Changes a drive, by its name.
    PatchDrive(String, body::DriveUpdate),
    /// Changes a network device, by its name.
    PatchInterface(String, body::InterfaceUpdate),
    ReadBalloon,
    PatchBalloon(body::BalloonUpdate),
    ReadStatistics,
    PatchStatistics(body::StatisticsUpdate),
}

/// A part of the configuration.
#[derive(Debug)]
pub(super) enum Section {
    Machine(body::MachineUpdate),
    BootSource(body::BootSource),
    Entropy(body::Entropy),
    Serial(body::Serial),
    Logger(body::Logger),
    Metrics(body::Metrics),
    /// A drive, with the name in its path.
    Drive(Option<String>, body::Drive),
    Balloon(body::Balloon),
    /// A network device, with the name in its path.
    Interface(Option<String>, body::Interface),
    Vsock(body::Vsock),
}

/// What Firecracker has and this version does not: a path's or a file's first word, and what it stands for.
const ABSENT: [(&str, &str); 7] = [
    ("cpu-config", "CPU templates"),
    ("hotplug", "memory hotplug"),
    ("memory-hotplug", "memory hotplug"),
    ("mmds", "metadata service"),
    ("mmds-config", "metadata service"),
    ("pmem", "pmem devices"),
    ("snapshot", "snapshots"),
];

/// What a first word stands for that this version does not have.
pub(super) fn absent(word: &str) -> Option<&'static str> {
    ABSENT
        .iter()
        .find(|(w, _)| *w == word)
        .map(|(_, what)| *what)
}

impl Action {
    /// Parses path and body. In Firecracker's order: a body is looked at before the state of the VM is.
    pub(super) fn parse(request: &Request) -> Result<Self, ApiError> {
        let path = request.path.trim_matches('/');
        let body = request.body.as_slice();
        let first = path.split('/').next().unwrap_or_default();
        match &request.method {
            Method::Get | Method::Put | Method::Patch => {}
            Method::Other(_) => return Err(unknown(request)),
        }
        if let Some(what) = absent(first) {
            return Err(ApiError::Absent(what));
        }
        match (&request.method, body.is_empty()) {
            (Method::Get, false) => return Err(ApiError::BodyOfGet),
            (Method::Put, true) => return Err(ApiError::EmptyPut),
            (Method::Patch, true) => return Err(ApiError::EmptyPatch),
            _ => {}
        }
        Ok(match (&request.method, path) {
            (Method::Get, "") => Self::Describe,
            (Method::Get, "version") => Self::Version,
            (Method::Get, "machine-config") => Self::ReadMachine,
            (Method::Get, "vm/config") => Self::ReadConfig,
            (Method::Put, "machine-config") => {
                Self::Configure(Section::Machine(json::<body::Machine>(body)?.into()))
            }
            (Method::Patch, "machine-config") => {
                let update: body::MachineUpdate = json(body)?;
                if update == body::MachineUpdate::default() {
                    return Err(ApiError::EmptyPatch);
                }
                Self::Configure(Section::Machine(update))
            }
            (Method::Put, "boot-source") => Self::Configure(Section::BootSource(json(body)?)),
            (Method::Put, "entropy") => Self::Configure(Section::Entropy(json(body)?)),
            (Method::Put, "serial") => Self::Configure(Section::Serial(json(body)?)),
            (Method::Put, "logger") => Self::Configure(Section::Logger(json(body)?)),
            (Method::Put, "metrics") => Self::Configure(Section::Metrics(json(body)?)),
            (Method::Put, "actions") => match json::<body::Action>(body)?.action_type {
                body::ActionType::InstanceStart => Self::Start,
                body::ActionType::SendCtrlAltDel => Self::CtrlAltDel,
                body::ActionType::FlushMetrics => Self::FlushMetrics,
            },
            (Method::Patch, "vm") => match json::<body::Vm>(body)?.state {
                body::VmState::Paused => Self::Pause,
                body::VmState::Resumed => Self::Resume,
            },
            (Method::Get, "balloon") => Self::ReadBalloon,
            (Method::Put, "balloon") => Self::Configure(Section::Balloon(json(body)?)),
            (Method::Patch, "balloon") => Self::PatchBalloon(json(body)?),
            (Method::Get, "balloon/statistics") => Self::ReadStatistics,
            (Method::Patch, "balloon/statistics") => Self::PatchStatistics(json(body)?),
            (Method::Put, "vsock") => Self::Configure(Section::Vsock(json(body)?)),
            (method, path) => match (method, path.split_once('/')) {
                (Method::Put, Some(("drives", id))) => {
                    Self::Configure(Section::Drive(Some(id.to_owned()), json(body)?))
                }
                (Method::Patch, Some(("drives", id))) => {
                    Self::PatchDrive(id.to_owned(), json(body)?)
                }
                (Method::Put, Some(("network-interfaces", id))) => {
                    Self::Configure(Section::Interface(Some(id.to_owned()), json(body)?))
                }
                (Method::Patch, Some(("network-interfaces", id))) => {
                    Self::PatchInterface(id.to_owned(), json(body)?)
                }
                _ => return Err(unknown(request)),
            },
        })
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(ApiError::Json)
}

fn unknown(request: &Request) -> ApiError {
    // The value is a stranger's: show what identifies it and no more.
    ApiError::Unknown {
        method: request.method.as_str().chars().take(32).collect(),
        path: request.path.chars().take(128).collect(),
    }
}
