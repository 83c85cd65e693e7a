//! A tap: the host's end of a guest's network device. Each read and each write is one frame, behind a header of 12 bytes that says
//! what is left to do to it (`struct virtio_net_hdr_v1`, of which the kernel fills the first ten).

use std::ffi::{c_int, c_uint};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Bytes of a frame's header.
pub const HEADER: usize = 12;
/// Frames that are forgotten at once: as many as a tap keeps, and some.
const FORGOTTEN: usize = 4096;

/// What the reader of frames can do himself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums.
    pub checksum: bool,
    /// Cutting large TCP packets of IPv4; needs checksums.
    pub tso4: bool,
    /// The same of IPv6.
    pub tso6: bool,
}

/// Where a guest's frames come from and go to, one with each read and write. Called by its device alone.
pub trait Link: AsFd + Send {
    /// What frames may be like from now on. Where that cannot be, they are like no offloads.
    fn set_offloads(&self, offloads: Offloads);

    /// Forgets frames that wait: they were made for another reader.
    fn forget(&self);

    /// Whether a read may find a frame, or an error.
    fn is_readable(&self) -> bool {
        let fd = self.as_fd();
        let mut poll = [PollFd::new(&fd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut poll, Some(&now)), Ok(1))
    }
}

/// A tap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No network interface of this name.
    #[error("no network interface has the name {0:?}")]
    Missing(String),
    /// Not what an interface can be called.
    #[error("{0:?} is not a network interface's name: 1 to 15 bytes without '/' and spaces")]
    Name(String),
    /// Another process has it.
    #[error("tap {0:?} is in use by another process")]
    Busy(String),
    /// The kernel refused.
    #[error("tap {name:?} cannot be opened")]
    Open {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A descriptor of something else.
    #[error("the descriptor is not a tap with IFF_NO_PI and IFF_VNET_HDR")]
    NotTap,
    /// One that cannot be set up.
    #[error("the tap cannot be set up")]
    SetUp(#[source] io::Error),
}

/// Opens the tap `name`, which is there.
///
/// # Errors
/// [`TapError`].
pub fn open(name: &str) -> Result<OwnedFd, TapError> {
    let valid = (1..libc::IFNAMSIZ).contains(&name.len())
        && !name
            .bytes()
            .any(|b| matches!(b, b'/' | b' ' | b'%') || b == 0);
    if !valid {
        return Err(TapError::Name(name.chars().take(32).collect()));
    }
    let failed = |error: Errno| match error {
        Errno::BUSY => TapError::Busy(name.to_owned()),
        Errno::NODEV => TapError::Missing(name.to_owned()),
        error => TapError::Open {
            name: name.to_owned(),
            source: error.into(),
        },
    };
    let mut request = request(0);
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    // The kernel would make one: who asks for a tap that is not there has mistaken its name.
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )
    .map_err(failed)?;
    call(&socket, libc::SIOCGIFINDEX, (&raw mut request).cast()).map_err(failed)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let tap = rustix::fs::open("/dev/net/tun", flags, Mode::empty()).map_err(failed)?;
    request.ifr_ifru.ifru_flags = FLAGS as libc::c_short;
    call(&tap, libc::TUNSETIFF, (&raw mut request).cast()).map_err(failed)?;
    Ok(tap)
}

const FLAGS: c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// A tap that is set up.
#[derive(Debug)]
pub struct Tap(OwnedFd);

impl Tap {
    /// Takes an open tap.
    ///
    /// # Errors
    /// [`TapError::NotTap`], [`TapError::SetUp`].
    pub fn new(tap: OwnedFd) -> Result<Self, TapError> {
        let mut request = request(0);
        call(&tap, libc::TUNGETIFF, (&raw mut request).cast()).map_err(|_| TapError::NotTap)?;
        // SAFETY: the call filled in the flags.
        let flags = c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & FLAGS != FLAGS {
            return Err(TapError::NotTap);
        }
        let set_up = |e: Errno| TapError::SetUp(e.into());
        let mut size = HEADER as c_int;
        call(&tap, libc::TUNSETVNETHDRSZ, (&raw mut size).cast()).map_err(set_up)?;
        let flags = rustix::fs::fcntl_getfl(&tap).map_err(set_up)?;
        rustix::fs::fcntl_setfl(&tap, flags | OFlags::NONBLOCK).map_err(set_up)?;
        Ok(Self(tap))
    }
}

impl Link for Tap {
    fn set_offloads(&self, offloads: Offloads) {
        let mut flags = 0;
        for (asked, flag) in [
            (offloads.checksum, libc::TUN_F_CSUM),
            (offloads.checksum && offloads.tso4, libc::TUN_F_TSO4),
            (offloads.checksum && offloads.tso6, libc::TUN_F_TSO6),
        ] {
            flags |= if asked { flag } else { 0 };
        }
        let set = |flags: c_uint| {
            let argument = std::ptr::without_provenance_mut(flags as usize);
            call(&self.0, libc::TUNSETOFFLOAD, argument)
        };
        if set(flags).is_err() {
            // One whose interface is gone has no frames either.
            let _ = set(0);
        }
    }

    fn forget(&self) {
        let mut frame = [0; HEADER];
        for _ in 0..FORGOTTEN {
            // Of a longer frame the rest is gone as well.
            if rustix::io::read(&self.0, &mut frame).is_err() {
                return;
            }
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn request(flags: libc::c_short) -> libc::ifreq {
    libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    }
}

/// Calls `ioctl` with an argument that it reads or fills in, or with a number in its place.
fn call(fd: impl AsFd, what: libc::Ioctl, argument: *mut std::ffi::c_void) -> Result<(), Errno> {
    // SAFETY: each caller here gives what `what` expects: a whole `ifreq`, an integer, or a number.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), what, argument) };
    if done < 0 {
        let error = io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_is_refused() {
        for name in ["", "a/b", "a b", "tap%d", "0123456789abcdef"] {
            let error = open(name).unwrap_err();
            assert!(matches!(error, TapError::Name(_)), "{error}");
        }
    }

    #[test]
    fn a_tap_that_is_not_there_is_not_made() {
        let error = open("shoal-nowhere").unwrap_err();
        assert!(
            matches!(&error, TapError::Missing(name) if name == "shoal-nowhere"),
            "{error}"
        );
    }

    #[test]
    fn another_file_is_no_tap() {
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(Tap::new(file.into()), Err(TapError::NotTap)));
    }
}
