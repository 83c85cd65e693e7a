//! The network, by rtnetlink: an image need not have any program for it.
//!
//! All requests go to the kernel in one message, and one read has its answers: `RTM_NEWLINK` brings an interface up,
//! `RTM_NEWADDR` gives it addresses, `RTM_NEWROUTE` says where everything else goes (rtnetlink(7)).

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use abi::agent::network::{Interface, Prefix};
use abi::agent::reply::{Code, Failure};
use nix::errno::Errno;

use super::{failed, failed_io};

/// `RTNH_F_ONLINK` of linux/rtnetlink.h: the gateway is a neighbour, whatever the addresses say.
const ONLINK: u32 = 4;

/// What a request is about, for a message about its failure.
type About = String;

/// Requests for the kernel, in order.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    abouts: Vec<About>,
}

/// Brings loopback and `interfaces` up.
pub(super) fn set_up(interfaces: &[Interface]) -> Result<(), Failure> {
    let mut batch = Batch::default();
    batch.link(1, None, "lo");
    let links = if interfaces.is_empty() {
        Vec::new()
    } else {
        links()?
    };
    for interface in interfaces {
        let mac = interface.mac.to_string();
        let (index, name) = links
            .iter()
            .find(|link| link.mac == mac)
            .map(|link| (link.index, &*link.name))
            .ok_or_else(|| {
                Failure::new(
                    Code::NotFound,
                    format_args!("there is no network interface {mac}"),
                )
            })?;
        batch.link(index, interface.mtu, name);
        for prefix in &interface.addresses {
            batch.address(index, *prefix, name);
        }
        let gateways = [
            interface.gateway_v4.map(IpAddr::V4),
            interface.gateway_v6.map(IpAddr::V6),
        ];
        for gateway in gateways.into_iter().flatten() {
            batch.default_route(index, gateway, name);
        }
    }
    batch.send()
}

/// An interface that the kernel has.
struct Link {
    mac: String,
    index: u32,
    name: String,
}

fn links() -> Result<Vec<Link>, Failure> {
    let mut links = Vec::new();
    for entry in
        fs::read_dir("/sys/class/net").map_err(failed_io("/sys/class/net cannot be read"))?
    {
        let path = entry
            .map_err(failed_io("/sys/class/net cannot be read"))?
            .path();
        let read = |file| fs::read_to_string(path.join(file)).unwrap_or_default();
        if let Ok(index) = read("ifindex").trim().parse() {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            links.push(Link {
                mac: read("address").trim().to_owned(),
                index,
                name,
            });
        }
    }
    Ok(links)
}

impl Batch {
    fn link(&mut self, index: u32, mtu: Option<u16>, name: &str) {
        let up = libc::IFF_UP as u32;
        // struct ifinfomsg: family, padding, type, index, flags, which of them to change.
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(up.to_ne_bytes());
        body.extend(up.to_ne_bytes());
        if let Some(mtu) = mtu {
            attribute(&mut body, libc::IFLA_MTU, &u32::from(mtu).to_ne_bytes());
        }
        self.request(
            libc::RTM_NEWLINK,
            0,
            &body,
            format!("network interface {name} cannot be brought up"),
        );
    }

    fn address(&mut self, index: u32, prefix: Prefix, name: &str) {
        let (family, address) = family(prefix.address);
        // The host gave the address away: there is nobody to ask whether it is in use, which takes a second.
        let flags = if prefix.address.is_ipv6() {
            libc::IFA_F_NODAD as u8
        } else {
            0
        };
        // struct ifaddrmsg: family, length of the prefix, flags, scope, index.
        let mut body = vec![family, prefix.bits, flags, libc::RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, libc::IFA_LOCAL, &address);
        attribute(&mut body, libc::IFA_ADDRESS, &address);
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.request(
            libc::RTM_NEWADDR,
            flags,
            &body,
            format!("network interface {name} cannot have address {prefix}"),
        );
    }

    fn default_route(&mut self, index: u32, gateway: IpAddr, name: &str) {
        let (family, address) = family(gateway);
        // struct rtmsg: family, lengths of destination and source, service, table, protocol, scope, type, flags.
        let mut body = vec![
            family,
            0,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_BOOT,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ];
        body.extend(ONLINK.to_ne_bytes());
        attribute(&mut body, libc::RTA_GATEWAY, &address);
        attribute(&mut body, libc::RTA_OIF, &index.to_ne_bytes());
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.request(
            libc::RTM_NEWROUTE,
            flags,
            &body,
            format!("nothing can be sent by way of {gateway} ({name})"),
        );
    }

    fn request(&mut self, kind: u16, flags: i32, body: &[u8], about: About) {
        // struct nlmsghdr: length, type, flags, number, port. Messages are a few dozen bytes and a few hundred.
        let length = (16 + body.len()) as u32;
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend((self.abouts.len() as u32).to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(body);
        self.abouts.push(about);
    }

    fn send(&self) -> Result<(), Failure> {
        let told = "the network cannot be set up";
        // SAFETY: the socket is new and nobody else's; the calls read and write as many bytes as the slices have.
        let (count, answers) = unsafe {
            let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            let socket = Errno::result(libc::socket(libc::AF_NETLINK, flags, libc::NETLINK_ROUTE))
                .map_err(failed(told))?;
            let socket = OwnedFd::from_raw_fd(socket);
            let bytes = self.bytes.as_ptr().cast();
            Errno::result(libc::send(socket.as_raw_fd(), bytes, self.bytes.len(), 0))
                .map_err(failed(told))?;
            (
                self.abouts.len(),
                Answers {
                    socket,
                    buffer: vec![0; 16 * 1024],
                    read: 0..0,
                },
            )
        };
        self.check(count, answers)
    }

    fn check(&self, count: usize, mut answers: Answers) -> Result<(), Failure> {
        for _ in 0..count {
            let (number, error) = answers.next()?;
            if error != 0 {
                let about = self
                    .abouts
                    .get(number as usize)
                    .map_or("the network", String::as_str);
                return Err(failed(about)(Errno::from_raw(-error)));
            }
        }
        Ok(())
    }
}

/// The kernel's answers.
struct Answers {
    socket: OwnedFd,
    buffer: Vec<u8>,
    read: std::ops::Range<usize>,
}

impl Answers {
    /// The next one: to which request, and zero or a negative error.
    fn next(&mut self) -> Result<(u32, i32), Failure> {
        let told = "the network cannot be set up";
        if self.read.is_empty() {
            // SAFETY: the call writes at most as many bytes as the buffer has.
            let count = unsafe {
                let (at, size) = (self.buffer.as_mut_ptr().cast(), self.buffer.len());
                libc::recv(self.socket.as_raw_fd(), at, size, 0)
            };
            self.read = 0..Errno::result(count).map_err(failed(told))?.cast_unsigned();
        }
        // A header, then struct nlmsgerr: an error and the header it is about.
        let message = &self.buffer[self.read.clone()];
        let word = |at: usize| {
            let bytes = message.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes
                .map(u32::from_ne_bytes)
                .ok_or_else(|| failed(told)(Errno::EBADMSG))
        };
        let (length, number, error) = (word(0)? as usize, word(8)?, word(16)?.cast_signed());
        let padded = length.next_multiple_of(4).max(16);
        self.read.start = (self.read.start + padded).min(self.read.end);
        Ok((number, error))
    }
}

fn family(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

/// Appends a `struct rtattr`. All values here are multiples of four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}
