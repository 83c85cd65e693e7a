//! Those at the other end of a network or socket device: they come, send, receive and leave as the input says, on sockets without files.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, bind, connect, getsockname, listen, send, shutdown, socket_with, socketpair,
};

use crate::backend::tap::{Link, Offloads};
use crate::spec::VsockOut;

/// The guest's context id.
pub(super) const CID: u32 = 7;
/// Bytes of the packet's data.
pub(super) const DATA_BYTES: u64 = 4;
/// A packet of data, in no connection.
pub(super) const DATA: [u8; 48] = {
    let mut packet = [0; 48];
    packet[0] = CID as u8;
    packet[8] = 2;
    packet[24] = DATA_BYTES as u8;
    packet[28] = 1;
    packet[30] = 5;
    packet
};

/// Most connections at a time.
const MOST: usize = 8;
/// Host ports that are listened on: from 0 to this.
const PORTS: u32 = 2;
const NONBLOCK: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// One end of a wire on which each read and write is a frame.
pub(super) struct Wire(OwnedFd);

impl Wire {
    /// A wire, and its other end.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let kind = SocketType::SEQPACKET;
        let (ours, outside) = socketpair(AddressFamily::UNIX, kind, NONBLOCK, None)?;
        Ok((Self(ours), outside))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Link for Wire {
    fn set_offloads(&self, _: Offloads) {}

    fn forget(&self) {
        while rustix::io::read(&self.0, &mut [0; 1]).is_ok_and(|length| length > 0) {}
    }
}

/// Host programs.
pub(super) struct Peers {
    sockets: RefCell<Vec<OwnedFd>>,
    place: Option<Place>,
}

/// Where they meet the socket device: a listener of its own, and those for its guest.
struct Place {
    address: SocketAddrAny,
    dir: PathBuf,
    listeners: Vec<OwnedFd>,
}

impl Peers {
    /// One, at the other end of a wire.
    pub(super) fn outside(wire: OwnedFd) -> Self {
        Self {
            sockets: RefCell::new(vec![wire]),
            place: None,
        }
    }

    /// None yet; the device's listener.
    pub(super) fn at_a_listener() -> io::Result<(OwnedFd, Self)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("shoal-hostile-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir)?;
        let place = |address, listeners| Place {
            address,
            dir: dir.clone(),
            listeners,
        };
        let listeners = (0..PORTS)
            .map(|port| {
                let path = dir.join(format!("v_{port}"));
                listen_at(&SocketAddrUnix::new(path)?)
            })
            .collect::<io::Result<_>>()?;
        // The kernel finds a name for one that asks for none.
        let listener = listen_at(&SocketAddrUnix::new_unnamed())?;
        let peers = Self {
            sockets: RefCell::default(),
            place: Some(place(getsockname(&listener)?, listeners)),
        };
        Ok((listener, peers))
    }

    /// Where a guest's own connections go.
    pub(super) fn out(&self) -> io::Result<VsockOut> {
        let place = self.place.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(VsockOut {
            dir: rustix::fs::open(&place.dir, flags, Mode::empty())?,
            prefix: "v".to_owned(),
        })
    }

    /// Somebody does something. That it fails is his affair.
    pub(super) fn act(&self, what: u8, which: usize, length: usize) {
        let mut sockets = self.sockets.borrow_mut();
        let count = sockets.len().max(1);
        let at = which % count;
        let bytes = vec![which as u8; length];
        let say = |socket: &OwnedFd, bytes: &[u8]| {
            let _ = send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        };
        match (what % 8, sockets.get(at), &self.place) {
            (0, _, Some(place)) if sockets.len() < MOST => {
                if let Ok(socket) =
                    socket_with(AddressFamily::UNIX, SocketType::STREAM, NONBLOCK, None)
                    && connect(&socket, &place.address).is_ok()
                {
                    say(&socket, format!("CONNECT {}\n", which & 15).as_bytes());
                    sockets.push(socket);
                }
            }
            (1, _, Some(place)) if sockets.len() < MOST => {
                let listener = &place.listeners[which % place.listeners.len()];
                sockets.extend(accept_with(listener, NONBLOCK));
            }
            (2 | 3, Some(socket), _) => say(socket, &bytes),
            (4, Some(socket), _) => drop(rustix::io::read(socket, &mut vec![0; length])),
            (5, Some(socket), Some(_)) => drop(shutdown(socket, Shutdown::Write)),
            (6, Some(_), Some(_)) => drop(sockets.swap_remove(at)),
            (7, Some(socket), _) => say(socket, b"CONNECT"),
            _ => {}
        }
    }

    /// Those that can, leave: the next input finds the host as this one did.
    pub(super) fn leave(&self) {
        let mut sockets = self.sockets.borrow_mut();
        match &self.place {
            Some(place) => {
                sockets.clear();
                for listener in &place.listeners {
                    while accept_with(listener, NONBLOCK).is_ok() {}
                }
            }
            None => {
                let mut frame = [0; 1];
                while rustix::io::read(&sockets[0], &mut frame).is_ok_and(|length| length > 0) {}
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left behind is a directory of temporary files.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn listen_at(address: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, NONBLOCK, None)?;
    bind(&socket, address)?;
    listen(&socket, 16)?;
    Ok(socket)
}
