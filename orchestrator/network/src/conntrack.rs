//! Connections that the kernel remembers, and is made to forget.
//!
//! A connection keeps the translation it began with. One to a VM that is gone would go on being sent to its address, which another may have by then;
//! datagrams that came to a port before it was published would never reach the VM that publishes it. So both are forgotten when
//! a VM comes or goes: the next packet begins anew, by the rules of now.
//!
//! Where the host remembers many, the kernel is asked for a VM's alone, by its address: to be told of hundreds of thousands takes seconds. Where
//! it remembers few, going through its table is what costs, so that one question for all is better than two. A kernel that knows no such
//! question (before Linux 5.8) tells of all; what is told is looked at again in any case.

use std::net::IpAddr;

use netlink_bindings::conntrack::{self, IterableTupleAttrs, Nfgenmsg};
use netlink_socket2::{NetlinkSocket, ReplyError};

use crate::error::SystemError;
use crate::net::Lease;
use crate::nft::send;
use crate::port::Protocol;
use crate::sysctl;

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 1 << 8 | 2;
/// Connections forgotten in one write: there must be room for as many answers.
const AT_ONCE: usize = 1000;
/// `NLM_F_REQUEST` and `NLM_F_ACK`.
const FLAGS: u16 = 1 | 4;
/// `CTA_TUPLE_ORIG`, nested.
const TUPLE: u16 = 1 | 1 << 15;

/// `CTA_FILTER_F_CTA_IP_SRC`: of what a filter says, the source counts.
const BY_SOURCE: u32 = 1;

/// One side of a connection.
#[derive(Clone, Copy)]
enum Side {
    /// Who began it.
    Began,
    /// Who answers.
    Answers,
}

/// So many that a family's are listed twice, but in part.
const MANY: usize = 8192;

/// Forgets what a VM that is gone had to do with.
pub(crate) fn forget_vm(lease: &Lease) -> Result<(), SystemError> {
    // One that cannot be read counts as many.
    let count = sysctl::read("netfilter/nf_conntrack_count").ok();
    let many = count
        .and_then(|count| count.trim().parse().ok())
        .is_none_or(|count: usize| count > MANY);
    forget_addresses(lease, many)
}

/// Forgets those of a VM's addresses, where the host remembers `many`.
pub(crate) fn forget_addresses(lease: &Lease, many: bool) -> Result<(), SystemError> {
    for own in [IpAddr::V4(lease.ipv4), IpAddr::V6(lease.ipv6)] {
        let family = match own {
            IpAddr::V4(_) => libc::AF_INET,
            IpAddr::V6(_) => libc::AF_INET6,
        };
        let of_own = |c: &Connection| c.from == own || c.answers == own;
        if many {
            forget(family, Some((Side::Began, own)), of_own)?;
            forget(family, Some((Side::Answers, own)), of_own)?;
        } else {
            forget(family, None, of_own)?;
        }
    }
    Ok(())
}

/// Forgets the datagrams that came to a VM's ports before they were its.
pub(crate) fn forget_ports(lease: &Lease) -> Result<(), SystemError> {
    let udp = lease
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Udp);
    let ports: Vec<u16> = udp.map(|port| port.host.get()).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let udp = Protocol::Udp.number();
    for family in [libc::AF_INET, libc::AF_INET6] {
        forget(family, None, |connection| {
            connection.protocol == udp && ports.contains(&connection.to_port)
        })?;
    }
    Ok(())
}

/// What is looked at of a connection.
struct Connection {
    protocol: u8,
    /// Who began it.
    from: IpAddr,
    /// At which port it was aimed.
    to_port: u16,
    /// Who answers.
    answers: IpAddr,
}

/// Forgets those that are `only` of an address, where one is said, and `which`.
fn forget(
    family: i32,
    only: Option<(Side, IpAddr)>,
    which: impl Fn(&Connection) -> bool,
) -> Result<(), SystemError> {
    let family = u8::try_from(family).unwrap_or_default();
    let found = find(family, only, which);
    let found = found.map_err(SystemError::of("list the connections of this host"))?;
    for part in found.chunks(AT_ONCE) {
        let mut messages = Vec::new();
        for tuple in part {
            message(&mut messages, family, tuple);
        }
        match send::messages(&messages) {
            // One that ended by itself meanwhile is forgotten as well.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            done => done.map_err(SystemError::of("forget connections"))?,
        }
    }
    Ok(())
}

/// The tuples by which they are known.
fn find(
    family: u8,
    only: Option<(Side, IpAddr)>,
    which: impl Fn(&Connection) -> bool,
) -> Result<Vec<Vec<u8>>, ReplyError> {
    let mut socket = NetlinkSocket::new();
    let mut request = conntrack::Request::new().op_get_dump(&Nfgenmsg {
        nfgen_family: family,
        ..Nfgenmsg::default()
    });
    if let Some((side, address)) = only {
        let (tuple, began, answers) = match side {
            Side::Began => (request.encode().nested_tuple_orig(), BY_SOURCE, 0),
            Side::Answers => (request.encode().nested_tuple_reply(), 0, BY_SOURCE),
        };
        let ip = tuple.nested_tuple_ip();
        let ip = match address {
            IpAddr::V4(address) => ip.push_ip_v4_src(address),
            IpAddr::V6(address) => ip.push_ip_v6_src(address),
        };
        let filter = ip.end_nested().end_nested().nested_filter();
        filter.push_orig_flags(began).push_reply_flags(answers);
    }
    let mut reply = socket.request(&request)?;
    let mut found = Vec::new();
    while let Some((_, attributes)) = reply.recv().transpose()? {
        let (orig, answer) = (attributes.get_tuple_orig()?, attributes.get_tuple_reply()?);
        let bytes = orig.get_buf().to_vec();
        if read(&orig, &answer).is_some_and(|connection| which(&connection)) {
            found.push(bytes);
        }
    }
    Ok(found)
}

/// How many connections an address began, and how many it answers: found without a filter, for tests of those with one.
#[cfg(test)]
pub(crate) fn remembered(address: IpAddr) -> (usize, usize) {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let count = |which: fn(&Connection) -> IpAddr| {
        let found = find(family as u8, None, |connection| {
            which(connection) == address
        });
        found.expect("the kernel lists connections").len()
    };
    (
        count(|connection| connection.from),
        count(|connection| connection.answers),
    )
}

fn read(orig: &IterableTupleAttrs<'_>, answer: &IterableTupleAttrs<'_>) -> Option<Connection> {
    let source = |tuple: &IterableTupleAttrs<'_>| {
        let ip = tuple.get_tuple_ip().ok()?;
        let ipv4 = ip.get_ip_v4_src().map(IpAddr::V4);
        ipv4.or_else(|_| ip.get_ip_v6_src().map(IpAddr::V6)).ok()
    };
    let protocol = orig.get_tuple_proto().ok()?;
    Some(Connection {
        protocol: protocol.get_proto_num().ok()?,
        from: source(orig)?,
        // Not all protocols have ports.
        to_port: protocol.get_proto_dst_port().unwrap_or_default(),
        answers: source(answer)?,
    })
}

/// Appends the message that has one connection forgotten.
fn message(to: &mut Vec<u8>, family: u8, tuple: &[u8]) {
    let attribute = tuple.len() + 4;
    let len = 16 + 4 + attribute.next_multiple_of(4);
    to.extend(u32::try_from(len).unwrap_or_default().to_ne_bytes());
    to.extend(DELETE.to_ne_bytes());
    to.extend(FLAGS.to_ne_bytes());
    // Number and sender, of which nobody asks.
    to.extend([0; 8]);
    to.extend([family, 0, 0, 0]);
    to.extend(u16::try_from(attribute).unwrap_or_default().to_ne_bytes());
    to.extend(TUPLE.to_ne_bytes());
    to.extend(tuple);
    to.resize(to.len().next_multiple_of(4), 0);
}
