//! Taps: a guest's end of the wire.
//!
//! A tap is not made to last: it is there while somebody holds its descriptor, which is the monitor. So it outlives a killed
//! daemon, and goes with the monitor, whoever is there to see it.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::error::SystemError;

/// Where taps are made.
pub(crate) const DEVICE: &str = "/dev/net/tun";

/// `struct ifreq`, as far as `TUNSETIFF` reads it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// A tap cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// There is a link of that name.
    #[error("link {0} exists already and is in use")]
    Exists(String),
    /// The kernel refused it.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// Makes a tap, down.
pub(crate) fn make(name: &str) -> Result<OwnedFd, TapError> {
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(DEVICE);
    let device = OwnedFd::from(open.map_err(SystemError::of(format!("open {DEVICE}")))?);
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        flags: (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL)
            as libc::c_short,
        rest: [0; 22],
    };
    let room = libc::IFNAMSIZ - 1;
    for (to, from) in request.name[..room].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: `device` is open, and `request` is a whole `struct ifreq` that lives through the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result == 0 {
        return Ok(device);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST | libc::EINVAL) => Err(TapError::Exists(name.to_owned())),
        _ => Err(SystemError::of(format!("make tap {name}"))(error).into()),
    }
}
