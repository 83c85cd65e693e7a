//! Ports of the host that are kept for VMs, and from everybody else.
//!
//! Packets for a published port never reach a socket: the packet filter sends them on. But a program could take the port as well, and
//! wonder why nobody calls. So the daemon binds each published port for as long as it is published, and never listens: who tries to take it
//! hears that it is taken, and what the filter does not redirect (`::1`) is refused at once, so that clients try the next address.
//! While the daemon is away nothing holds the port; the filter goes on redirecting all the same.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, socket_with, sockopt,
};

use crate::holder;
use crate::port::{PortSpec, Protocol, Published};

/// Tries to find a port that is free in both families.
const TRIES: usize = 32;

/// A port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Another VM publishes it.
    #[error("port {port}/{protocol} of the host is taken by VM {vm}")]
    Vm {
        /// The port.
        port: NonZeroU16,
        /// Of which kind.
        protocol: Protocol,
        /// The name of who has it.
        vm: String,
    },
    /// Asked for twice at once.
    #[error("port {port}/{protocol} of the host is to be published twice")]
    Twice {
        /// The port.
        port: NonZeroU16,
        /// Of which kind.
        protocol: Protocol,
    },
    /// A program of the host has it.
    #[error("port {port}/{protocol} of the host is taken by {holder}")]
    Taken {
        /// The port.
        port: NonZeroU16,
        /// Of which kind.
        protocol: Protocol,
        /// Who has it.
        holder: String,
    },
    /// No port is free.
    #[error("no {0} port of the host is free")]
    NoneFree(Protocol),
    /// Not one of the host's addresses.
    #[error("{0} is no address of this host")]
    NotHere(IpAddr),
    /// The system refused.
    #[error("cannot bind {address}: {source}")]
    System {
        /// What was to be bound.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
}

/// A port that is kept; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) port: Published,
    _sockets: Vec<OwnedFd>,
}

/// Keeps a port, a free one where none is named.
pub(crate) fn reserve(spec: &PortSpec) -> Result<Reservation, ReserveError> {
    let Some(port) = spec.host else {
        return (0..TRIES)
            .find_map(|_| any(spec).transpose())
            .unwrap_or(Err(ReserveError::NoneFree(spec.protocol)));
    };
    keep(&spec.published(port))
}

/// Keeps a port that was chosen before.
pub(crate) fn keep(port: &Published) -> Result<Reservation, ReserveError> {
    let taken = || ReserveError::Taken {
        port: port.host,
        protocol: port.protocol,
        holder: holder::of(port),
    };
    let sockets = addresses(port.address)
        .filter_map(|address| {
            take(
                address,
                port.host.get(),
                port.protocol,
                port.address.is_none(),
            )
            .transpose()
        })
        .collect::<Result<Vec<_>, _>>();
    match sockets {
        Ok(sockets) => Ok(Reservation {
            port: *port,
            _sockets: sockets,
        }),
        Err(ReserveError::System { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {
            Err(taken())
        }
        Err(error) => Err(error),
    }
}

/// A port that the kernel chooses; none where it is free in one family only.
fn any(spec: &PortSpec) -> Result<Option<Reservation>, ReserveError> {
    let first = addresses(spec.address)
        .next()
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let Some(socket) = take(first, 0, spec.protocol, false)? else {
        return Ok(None);
    };
    let chosen = getsockname(&socket)
        .ok()
        .and_then(|address| SocketAddr::try_from(address).ok());
    let Some(port) = chosen.and_then(|address| NonZeroU16::new(address.port())) else {
        return Ok(None);
    };
    drop(socket);
    match keep(&spec.published(port)) {
        Ok(kept) => Ok(Some(kept)),
        Err(ReserveError::Taken { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The addresses to bind.
fn addresses(address: Option<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let all = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let named = address.into_iter();
    named.chain(all.into_iter().filter(move |_| address.is_none()))
}

/// Binds; nothing where the host has no such family and need not have it.
fn take(
    address: IpAddr,
    port: u16,
    protocol: Protocol,
    optional: bool,
) -> Result<Option<OwnedFd>, ReserveError> {
    let address = SocketAddr::new(address, port);
    let bound = || -> rustix::io::Result<OwnedFd> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let (kind, number) = match protocol {
            Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
            Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if protocol == Protocol::Udp {
            // Nobody reads what comes here.
            sockopt::set_socket_recv_buffer_size(&socket, 0)?;
        }
        bind(&socket, &address)?;
        Ok(socket)
    };
    match bound() {
        Ok(socket) => Ok(Some(socket)),
        Err(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL)
            if optional && address.is_ipv6() =>
        {
            Ok(None)
        }
        Err(rustix::io::Errno::ADDRNOTAVAIL) => Err(ReserveError::NotHere(address.ip())),
        Err(source) => Err(ReserveError::System {
            address,
            source: source.into(),
        }),
    }
}
