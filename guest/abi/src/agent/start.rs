//! What a guest is to become: its root, its name, its network, its main program.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::message::{Invalid, absolute, at_most, hostname, name};
use super::network::Network;
use super::request::{Program, entropy, signal_number};
use super::signal;

/// Makes the guest what it is to be. Sent once; a host that sends it again with the same generation is answered with the
/// status, with another one with an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Tells one start from another: the host's choice.
    pub generation: String,
    /// Where the root file system is; without one the program runs in the initial RAM disk.
    #[serde(default)]
    pub root: Option<Root>,
    /// Disks that are mounted into the root.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// The guest's name; `localhost` without.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The guest's network.
    #[serde(default)]
    pub network: Network,
    /// What time it is, where the guest cannot know.
    #[serde(default)]
    pub clock: Option<Clock>,
    /// Bytes that nobody else knows, for the guest's random numbers.
    #[serde(default)]
    pub entropy: Vec<u8>,
    /// The main program.
    pub program: Program,
    /// Who is process 1.
    #[serde(default)]
    pub mode: Mode,
    /// What happens when the main program ends.
    #[serde(default)]
    pub restart: Restart,
    /// The signal that asks the main program to end.
    #[serde(default = "term")]
    pub stop_signal: u8,
}

/// Who is process 1 once the root is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The agent; the main program is its child.
    #[default]
    Agent,
    /// The main program: an init of the image's own. The agent goes on as its child, the guest ends when init ends, and
    /// `restart`, `tty` and `stdin` mean nothing.
    Init,
}

/// A root file system. Disks are named by their serials: the ids in the VM's description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The disk's serial.
    pub disk: String,
    /// What is on it.
    pub filesystem: Filesystem,
    /// Where writes go.
    pub writes: Writes,
}

/// A file system that a root can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filesystem {
    /// Read-only, shared between VMs.
    Erofs,
    /// A disk of the VM's own.
    Ext4,
}

/// Where writes to the root go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Writes {
    /// Nowhere: they are refused.
    Refused,
    /// To the root's own disk.
    Root,
    /// Into memory, and away with the VM.
    Memory,
    /// To an ext4 disk, as an overlay over the root.
    Disk {
        /// The disk's serial.
        disk: String,
    },
}

/// An ext4 disk that is mounted into the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The disk's serial.
    pub disk: String,
    /// Where it is mounted: absolute. It is made where it is missing.
    pub path: String,
    /// Writes are refused.
    #[serde(default)]
    pub read_only: bool,
    /// The first time, when the volume is empty, it gets what the image has at `path`, as images' authors expect.
    #[serde(default)]
    pub populate: bool,
}

/// A moment: since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Whole seconds.
    pub seconds: u64,
    /// And nanoseconds, below 10⁹.
    pub nanoseconds: u32,
}

/// Whether the main program is started again when it ends, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// After which ends.
    pub when: When,
    /// Milliseconds before the first restart. Each further one waits twice as long, until the program once ran for ten
    /// seconds.
    pub first_ms: u32,
    /// The longest wait.
    pub limit_ms: u32,
}

/// After which ends the main program is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum When {
    /// None: the guest ends with its program.
    #[default]
    Never,
    /// Other than status 0.
    OnFailure {
        /// How many times in all; without end where it is missing.
        #[serde(default)]
        max: Option<u32>,
    },
    /// Every one.
    Always,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            when: When::Never,
            first_ms: 100,
            limit_ms: 60_000,
        }
    }
}

fn term() -> u8 {
    signal::TERM
}

impl Start {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        name("generation", &self.generation, 128)?;
        if let Some(root) = &self.root {
            serial(&root.disk)?;
            if let Writes::Disk { disk } = &root.writes {
                serial(disk)?;
            }
            if root.filesystem == Filesystem::Erofs && root.writes == Writes::Root {
                return Err(Invalid::new("erofs cannot be written to"));
            }
        }
        at_most("volumes", self.volumes.len(), 16)?;
        for volume in &self.volumes {
            serial(&volume.disk)?;
            absolute("volume's path", &volume.path)?;
        }
        if let Some(name) = &self.hostname {
            hostname(name)?;
        }
        self.network.check()?;
        if let Some(clock) = &self.clock {
            clock.check()?;
        }
        entropy(&self.entropy)?;
        self.program.check()?;
        signal_number(self.stop_signal)
    }
}

impl Clock {
    pub(super) fn check(self) -> Result<(), Invalid> {
        // What `clock_settime` takes: a signed 64-bit number of seconds.
        if self.nanoseconds >= 1_000_000_000 || i64::try_from(self.seconds).is_err() {
            return Err(Invalid::new("no moment"));
        }
        Ok(())
    }
}

/// virtio-blk's serials have at most 20 bytes.
fn serial(serial: &str) -> Result<(), Invalid> {
    name("disk's serial", serial, 20)?;
    if serial.contains('/') {
        return Err(Invalid::new("a disk's serial with a slash"));
    }
    Ok(())
}
