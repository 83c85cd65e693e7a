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
    /// Its disks, in the order in which the guest finds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Its network devices, in the order in which the guest finds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<Net>,
    /// Its socket device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<Vsock>,
    /// Its memory balloon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balloon: Option<Balloon>,
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
    /// Descriptor: an ELF file with a PVH note or a Linux kernel's entry, or a Linux bzImage.
    pub kernel: usize,
    /// Descriptor: a Linux kernel's first file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<usize>,
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

/// A disk.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// What the control API calls it: 1 to 64 letters, digits, `-` and `_`; also its serial number, cut to 20 bytes.
    pub id: String,
    /// Descriptor: a regular file of whole sectors (512 bytes), or a block device.
    pub file: usize,
    /// Whether writes are refused.
    #[serde(default)]
    pub read_only: bool,
    /// Limits of its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// How its file is read and written: the best way that the host allows, where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_engine: Option<IoEngine>,
}

/// How a disk's file is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum IoEngine {
    /// One request after the other.
    Sync,
    /// Many at a time, by io_uring: refused where the host does not allow that.
    Async,
}

/// A network device.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    /// What the control API calls it: 1 to 64 letters, digits, `-` and `_`.
    pub id: String,
    /// Descriptor: a tap, opened with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`.
    pub tap: usize,
    /// `02:00:00:00:00:01`; the driver chooses where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// 68 to 65535; not offered to the driver where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Limits of what the guest receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive: Option<RateLimit>,
    /// Limits of what the guest sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmit: Option<RateLimit>,
}

/// A socket device.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// The guest's context id: 3 or more.
    pub cid: u32,
    /// Descriptor: a listening unix socket. Who connects says `CONNECT <port>\n` and hears `OK <port>\n`.
    pub listener: usize,
    /// Where the guest's own connections go; without it they are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<VsockOut>,
}

/// Where a guest's connections to host ports go: port P to the unix socket `<prefix>_<P>` in a directory.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VsockOut {
    /// Descriptor: the directory.
    pub dir: usize,
    /// A file name's beginning, without `/`.
    pub prefix: String,
}

/// A memory balloon.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Balloon {
    /// Mebibytes to take from the guest.
    #[serde(default)]
    pub target_mib: u64,
    /// Whether the guest may take them back before it would run out of memory.
    #[serde(default)]
    pub deflate_on_oom: bool,
    /// Seconds between the guest's statistics; 0 for none.
    #[serde(default)]
    pub stats_interval_s: u16,
    /// Whether the guest reports free pages, which go back to the host.
    #[serde(default)]
    pub free_page_reporting: bool,
}

/// Limits of a device's traffic.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<TokenBucket>,
    /// Of requests or packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops: Option<TokenBucket>,
}

/// A token bucket, as Firecracker's: `size` tokens come back, evenly, in each `refill_time` milliseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBucket {
    /// Tokens that it holds, at least 1.
    pub size: u64,
    /// Tokens that it has once, besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time_burst: Option<u64>,
    /// Milliseconds, at least 1.
    pub refill_time: u64,
}
