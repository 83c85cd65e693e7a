//! What a guest's agent is told: its record, in the agent's words.

use abi::agent::message::Size;
use abi::agent::request::{Health, Probe, Program, Request, Tty};
use abi::agent::start::{Clock, Filesystem, Mode, Restart, Root, Start, Volume, When, Writes};
use api::{HealthProbe, Init, RestartPolicy};
use jiff::Timestamp;

pub use abi::agent::network::Network;

use crate::record::LinuxRecord;

/// The root's id among the VM's disks, and its serial number in the guest.
pub const ROOT: &str = "root";
/// The own disk's.
pub const DISK: &str = "disk";
/// A terminal's size until somebody attaches one.
const SIZE: Size = Size { rows: 24, cols: 80 };

/// A volume's id among the VM's disks.
#[must_use]
pub fn volume_disk(index: usize) -> String {
    format!("vol-{index}")
}

/// What the guest is to become. `entropy` is nobody else's.
#[must_use]
pub fn start(record: &LinuxRecord, generation: &str, network: Network, entropy: Vec<u8>) -> Start {
    let now = Timestamp::now();
    let volumes = record.volumes.iter().enumerate();
    Start {
        generation: generation.to_owned(),
        root: Some(Root {
            disk: ROOT.to_owned(),
            filesystem: Filesystem::Erofs,
            writes: Writes::Disk {
                disk: DISK.to_owned(),
            },
        }),
        volumes: volumes
            .map(|(index, mount)| Volume {
                disk: volume_disk(index),
                path: mount.path.clone(),
                read_only: mount.read_only,
                populate: !mount.read_only,
            })
            .collect(),
        hostname: Some(record.hostname.clone()),
        network,
        clock: Some(Clock {
            seconds: u64::try_from(now.as_second()).unwrap_or_default(),
            nanoseconds: u32::try_from(now.subsec_nanosecond()).unwrap_or_default(),
        }),
        entropy,
        program: Program {
            argv: record.argv.clone(),
            env: record.env.clone(),
            cwd: Some(record.workdir.clone()),
            user: Some(record.user.clone()).filter(|user| !user.is_empty()),
            groups: vec![],
            tty: record.tty.then_some(Tty {
                size: SIZE,
                term: None,
            }),
            stdin: record.stdin_open,
        },
        mode: match record.init {
            Init::Agent => Mode::Agent,
            Init::Image => Mode::Init,
        },
        restart: Restart {
            when: match record.restart.policy {
                RestartPolicy::No => When::Never,
                RestartPolicy::OnFailure => When::OnFailure {
                    max: record.restart.max,
                },
                RestartPolicy::Always => When::Always,
            },
            ..Restart::default()
        },
        stop_signal: record.stop_signal,
    }
}

/// One probe of the guest's health.
#[must_use]
pub fn health(probe: &HealthProbe) -> Request {
    Request::Health(Health {
        probe: match &probe.probe {
            api::Probe::Exec { command } => Probe::Exec {
                program: program(command.clone()),
            },
            api::Probe::Tcp { port } => Probe::Tcp { port: *port },
            api::Probe::Http { port, path } => Probe::Http {
                port: *port,
                path: path.clone(),
            },
        },
        timeout_ms: u32::try_from(probe.timeout_ms).unwrap_or(u32::MAX),
    })
}

/// A program beside the main one, with nothing said but what it is.
#[must_use]
pub fn program(argv: Vec<String>) -> Program {
    Program {
        argv,
        env: vec![],
        cwd: None,
        user: None,
        groups: vec![],
        tty: None,
        stdin: false,
    }
}
