//! Devices of a description.

use std::fmt;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use super::{Descriptors, SpecError, wire};
use wire::IoEngine;

/// A device that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not a device's name.
    #[error("device id {0:?} is not 1 to {max} ASCII letters, digits, '-' and '_'", max = DeviceId::MAX)]
    Id(String),
    /// One name for two devices of a kind.
    #[error("two devices have the id {0}")]
    IdTwice(DeviceId),
    /// Not a hardware address that a device can have.
    #[error("{0:?} is not a hardware address of one device, as 02:00:00:00:00:01 is")]
    Mac(String),
    /// Not a size of packets.
    #[error("an MTU is {MIN_MTU} or more, not {0}")]
    Mtu(u16),
    /// Not a guest's context id.
    #[error("a guest's context id is 3 to 4294967294, not {0}")]
    Cid(u32),
    /// Not the beginning of a file's name.
    #[error("{0:?} cannot begin a socket's name: 1 to {MAX_PREFIX} bytes without '/' or NUL")]
    Prefix(String),
    /// A bucket that holds or gets nothing.
    #[error("a rate limit's size and refill_time are 1 or more, not {size} and {refill_time}")]
    Bucket {
        /// Tokens.
        size: u64,
        /// Milliseconds.
        refill_time: u64,
    },
}

/// Least bytes of a packet (RFC 791).
const MIN_MTU: u16 = 68;
/// Most bytes of a socket's prefix: with the directory's descriptor and a port, it fits the 108 bytes of a socket's address.
const MAX_PREFIX: usize = 72;

/// A device's name: 1 to 64 ASCII letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(String);

impl DeviceId {
    /// Most bytes.
    pub const MAX: usize = 64;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceId {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let valid = (1..=Self::MAX).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(DeviceError::Id(text.chars().take(Self::MAX + 1).collect()))
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    /// Its name, and its serial number as far as that has room.
    pub id: DeviceId,
    /// A regular file, or a block device.
    pub file: OwnedFd,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Limits of its requests.
    pub rate: RateLimit,
    /// How its file is read and written, where that is not left to the monitor.
    pub io_engine: Option<IoEngine>,
}

/// A network device.
#[derive(Debug)]
pub struct Net {
    /// Its name.
    pub id: DeviceId,
    /// A tap.
    pub tap: OwnedFd,
    /// Its hardware address; the driver chooses where there is none.
    pub mac: Option<Mac>,
    /// Most bytes of a packet, where the driver is told.
    pub mtu: Option<u16>,
    /// Limits of what the guest receives.
    pub receive: RateLimit,
    /// Limits of what the guest sends.
    pub transmit: RateLimit,
}

/// A socket device.
#[derive(Debug)]
pub struct Vsock {
    /// The guest's context id.
    pub cid: u32,
    /// A listening unix socket.
    pub listener: OwnedFd,
    /// Where the guest's own connections go; without it they are refused.
    pub out: Option<VsockOut>,
}

/// Where a guest's connections to host ports go: port P to the unix socket `<prefix>_<P>` in a directory.
#[derive(Debug)]
pub struct VsockOut {
    /// The directory.
    pub dir: OwnedFd,
    /// A file name's beginning.
    pub prefix: String,
}

/// A memory balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balloon {
    /// Mebibytes to take from the guest.
    pub target_mib: u64,
    /// Whether the guest may take them back before it would run out of memory.
    pub deflate_on_oom: bool,
    /// Seconds between the guest's statistics; 0 for none.
    pub stats_interval_s: u16,
    /// Whether the guest reports free pages.
    pub free_page_reporting: bool,
}

/// Limits of a device's traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Of bytes.
    pub bandwidth: Option<TokenBucket>,
    /// Of requests or packets.
    pub ops: Option<TokenBucket>,
}

/// A token bucket: `size` tokens come back, evenly, in each `refill_ms` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Tokens that it holds.
    pub size: NonZeroU64,
    /// Tokens that it has once, besides.
    pub one_time_burst: u64,
    /// Milliseconds.
    pub refill_ms: NonZeroU64,
}

/// A hardware address of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Its bytes, in the order of the wire.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let refused = || DeviceError::Mac(text.chars().take(32).collect());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            let digits = part.filter(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(digits.ok_or_else(refused)?, 16).map_err(|_| refused())?;
        }
        let group = bytes[0] & 1 != 0;
        if parts.next().is_some() || group || bytes == [0; 6] {
            return Err(refused());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

pub(super) fn disks(
    wire: Vec<wire::Disk>,
    table: &mut Descriptors,
) -> Result<Vec<Disk>, SpecError> {
    let mut disks: Vec<Disk> = Vec::with_capacity(wire.len());
    for disk in wire {
        let id: DeviceId = disk.id.parse()?;
        if disks.iter().any(|other| other.id == id) {
            return Err(DeviceError::IdTwice(id).into());
        }
        disks.push(Disk {
            id,
            file: table.take("disks.file", disk.file)?,
            read_only: disk.read_only,
            rate: RateLimit::check(disk.rate)?,
            io_engine: disk.io_engine,
        });
    }
    Ok(disks)
}

pub(super) fn nets(wire: Vec<wire::Net>, table: &mut Descriptors) -> Result<Vec<Net>, SpecError> {
    let mut nets: Vec<Net> = Vec::with_capacity(wire.len());
    for net in wire {
        let id: DeviceId = net.id.parse()?;
        if nets.iter().any(|other| other.id == id) {
            return Err(DeviceError::IdTwice(id).into());
        }
        if let Some(mtu) = net.mtu.filter(|mtu| *mtu < MIN_MTU) {
            return Err(DeviceError::Mtu(mtu).into());
        }
        nets.push(Net {
            id,
            tap: table.take("nets.tap", net.tap)?,
            mac: net.mac.map(|mac| mac.parse()).transpose()?,
            mtu: net.mtu,
            receive: RateLimit::check(net.receive)?,
            transmit: RateLimit::check(net.transmit)?,
        });
    }
    Ok(nets)
}

impl Vsock {
    /// Whether a guest can have this context id.
    ///
    /// # Errors
    /// [`DeviceError::Cid`].
    pub fn check_cid(cid: u32) -> Result<(), DeviceError> {
        // 0 to 2 and the last one are not guests' (linux/vm_sockets.h).
        if (3..u32::MAX).contains(&cid) {
            Ok(())
        } else {
            Err(DeviceError::Cid(cid))
        }
    }

    pub(super) fn check(wire: wire::Vsock, table: &mut Descriptors) -> Result<Self, SpecError> {
        Self::check_cid(wire.cid)?;
        Ok(Self {
            cid: wire.cid,
            listener: table.take("vsock.listener", wire.listener)?,
            out: wire
                .out
                .map(|out| VsockOut::check(out, table))
                .transpose()?,
        })
    }
}

impl VsockOut {
    /// Whether sockets' names can begin like this.
    ///
    /// # Errors
    /// [`DeviceError::Prefix`].
    pub fn check_prefix(prefix: &str) -> Result<(), DeviceError> {
        let valid = (1..=MAX_PREFIX).contains(&prefix.len())
            && !prefix.bytes().any(|b| b == b'/' || b == 0);
        if valid {
            Ok(())
        } else {
            let cut = prefix.chars().take(MAX_PREFIX + 1).collect();
            Err(DeviceError::Prefix(cut))
        }
    }

    fn check(wire: wire::VsockOut, table: &mut Descriptors) -> Result<Self, SpecError> {
        Self::check_prefix(&wire.prefix)?;
        Ok(Self {
            dir: table.take("vsock.out.dir", wire.dir)?,
            prefix: wire.prefix,
        })
    }
}

impl From<wire::Balloon> for Balloon {
    fn from(wire: wire::Balloon) -> Self {
        Self {
            target_mib: wire.target_mib,
            deflate_on_oom: wire.deflate_on_oom,
            stats_interval_s: wire.stats_interval_s,
            free_page_reporting: wire.free_page_reporting,
        }
    }
}

impl RateLimit {
    /// What the wire says; nothing there is no limit.
    ///
    /// # Errors
    /// [`DeviceError::Bucket`].
    pub fn check(wire: Option<wire::RateLimit>) -> Result<Self, DeviceError> {
        let wire = wire.unwrap_or_default();
        Ok(Self {
            bandwidth: wire.bandwidth.map(TokenBucket::check).transpose()?,
            ops: wire.ops.map(TokenBucket::check).transpose()?,
        })
    }
}

impl TokenBucket {
    fn check(wire: wire::TokenBucket) -> Result<Self, DeviceError> {
        match (
            NonZeroU64::new(wire.size),
            NonZeroU64::new(wire.refill_time),
        ) {
            (Some(size), Some(refill_ms)) => Ok(Self {
                size,
                one_time_burst: wire.one_time_burst.unwrap_or(0),
                refill_ms,
            }),
            _ => Err(DeviceError::Bucket {
                size: wire.size,
                refill_time: wire.refill_time,
            }),
        }
    }
}
