//! Time and chance, which a guest that was made a moment ago has no source of.

use std::fs::File;
use std::os::fd::AsRawFd;

use abi::agent::reply::Failure;
use abi::agent::start::Clock;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use super::{failed, failed_io};

/// Sets the clock.
pub(crate) fn set(clock: Clock) -> Result<(), Failure> {
    // Its `check` keeps seconds within a signed number.
    let time = TimeSpec::new(clock.seconds.cast_signed(), clock.nanoseconds.into());
    clock_settime(ClockId::CLOCK_REALTIME, time).map_err(failed("the clock cannot be set"))
}

/// What `RNDADDENTROPY` reads.
#[repr(C)]
struct Pool {
    bits: libc::c_int,
    size: libc::c_int,
    bytes: [u8; 512],
}

/// `_IOW('R', 0x03, int[2])` of linux/random.h.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;

/// Adds to the kernel's entropy, and counts it as such: the host is believed, for it could read the guest's memory as well.
pub(crate) fn add_entropy(bytes: &[u8]) -> Result<(), Failure> {
    let told = "entropy cannot be added";
    let device = File::options()
        .write(true)
        .open("/dev/urandom")
        .map_err(failed_io(told))?;
    let mut pool = Pool {
        bits: 0,
        size: 0,
        bytes: [0; 512],
    };
    let count = bytes.len().min(pool.bytes.len());
    pool.bytes[..count].copy_from_slice(&bytes[..count]);
    // At most 512.
    pool.size = count as libc::c_int;
    pool.bits = pool.size * 8;
    // SAFETY: the call reads a `Pool`, which says rightly how many bytes it has.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), RNDADDENTROPY, &raw const pool) };
    Errno::result(result).map(drop).map_err(failed(told))
}
