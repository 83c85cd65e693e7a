//! Links, addresses and routes of this host, by rtnetlink.

use std::ffi::CString;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_bindings::rt_addr::{self, Ifaddrmsg};
use netlink_bindings::rt_link::{self, Ifinfomsg};
use netlink_bindings::rt_route::{self, Rtmsg};
use netlink_socket2::{NetlinkSocket, ReplyError};

use crate::book::Routes;
use crate::error::SystemError;
use crate::mac::Mac;

/// The group that all our links are in: with its name this tells a link of ours from one that somebody else called the same.
const GROUP: u32 = 0x5348;
/// `IFF_UP`.
const UP: u32 = 1;
/// `IFA_F_NODAD`: no neighbour can have the gateway's address.
const NO_DAD: u8 = 2;

/// A link of this host.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) bridge: bool,
    /// Whether it is in our group.
    pub(crate) ours: bool,
    /// The bridge it belongs to.
    pub(crate) master: Option<u32>,
    pub(crate) mtu: u32,
    pub(crate) counters: Counters,
}

/// What went through a link, seen from the host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) received: (u64, u64),
    pub(crate) sent: (u64, u64),
}

/// All links.
pub(crate) fn links() -> Result<Vec<Link>, SystemError> {
    let dump = || -> Result<Vec<Link>, ReplyError> {
        let mut socket = NetlinkSocket::new();
        let request = rt_link::Request::new().op_getlink_dump(&Ifinfomsg::default());
        let mut reply = socket.request(&request)?;
        let mut links = Vec::new();
        while let Some((header, attributes)) = reply.recv().transpose()? {
            let kind = attributes.get_linkinfo().and_then(|info| info.get_kind());
            let stats = attributes.get_stats64().unwrap_or_default();
            links.push(Link {
                index: u32::try_from(header.ifi_index).unwrap_or_default(),
                name: attributes.get_ifname()?.to_string_lossy().into_owned(),
                bridge: kind.is_ok_and(|kind| kind == c"bridge"),
                ours: attributes.get_group().is_ok_and(|group| group == GROUP),
                master: attributes.get_master().ok(),
                mtu: attributes.get_mtu().unwrap_or_default(),
                counters: Counters {
                    received: (stats.rx_bytes, stats.rx_packets),
                    sent: (stats.tx_bytes, stats.tx_packets),
                },
            });
        }
        Ok(links)
    };
    dump().map_err(SystemError::of("list the host's links"))
}

/// The link of a name.
pub(crate) fn find(name: &str) -> Result<Option<Link>, SystemError> {
    Ok(links()?.into_iter().find(|link| link.name == name))
}

/// Makes a bridge, down.
pub(crate) fn add_bridge(name: &str, mac: Mac, mtu: u16) -> Result<(), SystemError> {
    let make = || -> Result<(), ReplyError> {
        let request = rt_link::Request::new().set_create().set_excl();
        let mut request = request.op_newlink_do(&Ifinfomsg::default());
        let attributes = request.encode().push_ifname_bytes(name.as_bytes());
        let attributes = attributes
            .push_address(&mac.bytes())
            .push_mtu(mtu.into())
            .push_group(GROUP);
        let bridge = attributes.nested_linkinfo().nested_data_bridge();
        // Without a querier on the network, snooping only ever loses packets.
        bridge.push_mcast_snooping(0).end_nested().end_nested();
        NetlinkSocket::new().request(&request)?.recv_ack()
    };
    make().map_err(SystemError::of(format!("make bridge {name}")))
}

/// Puts a link on a bridge, in our group, with what it is for written beside it.
pub(crate) fn adopt(link: &Link, bridge: &Link, mtu: u16, alias: &str) -> Result<(), SystemError> {
    let adopt = || -> Result<(), ReplyError> {
        let alias = CString::new(alias).unwrap_or_default();
        let mut request = rt_link::Request::new().op_setlink_do(&Ifinfomsg {
            ifi_index: i32::try_from(link.index).unwrap_or_default(),
            ifi_flags: UP,
            ifi_change: UP,
            ..Ifinfomsg::default()
        });
        let attributes = request
            .encode()
            .push_master(bridge.index)
            .push_mtu(mtu.into());
        attributes.push_group(GROUP).push_ifalias(&alias);
        NetlinkSocket::new().request(&request)?.recv_ack()
    };
    adopt().map_err(SystemError::of(format!(
        "put {} on bridge {}",
        link.name, bridge.name
    )))
}

/// Sets a link up, with what it is for written beside it.
pub(crate) fn up(link: &Link, alias: &str) -> Result<(), SystemError> {
    let up = || -> Result<(), ReplyError> {
        let alias = CString::new(alias).unwrap_or_default();
        let mut request = rt_link::Request::new().op_setlink_do(&Ifinfomsg {
            ifi_index: i32::try_from(link.index).unwrap_or_default(),
            ifi_flags: UP,
            ifi_change: UP,
            ..Ifinfomsg::default()
        });
        request.encode().push_ifalias(&alias);
        NetlinkSocket::new().request(&request)?.recv_ack()
    };
    up().map_err(SystemError::of(format!("set {} up", link.name)))
}

/// Removes a link; one that is gone already is as good.
pub(crate) fn remove(link: &Link) -> Result<(), SystemError> {
    let remove = || -> Result<(), ReplyError> {
        let request = rt_link::Request::new().op_dellink_do(&Ifinfomsg {
            ifi_index: i32::try_from(link.index).unwrap_or_default(),
            ..Ifinfomsg::default()
        });
        NetlinkSocket::new().request(&request)?.recv_ack()
    };
    match remove().map_err(SystemError::of(format!("remove link {}", link.name))) {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
        done => done,
    }
}

/// Gives a link an address; one that it has already is as good.
pub(crate) fn add_address(link: &Link, address: IpNet) -> Result<(), SystemError> {
    let add = || -> Result<(), ReplyError> {
        let family = if address.addr().is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let request = rt_addr::Request::new().set_create().set_replace();
        let mut request = request.op_newaddr_do(&Ifaddrmsg {
            ifa_family: u8::try_from(family).unwrap_or_default(),
            ifa_prefixlen: address.prefix_len(),
            ifa_flags: NO_DAD,
            ifa_index: link.index,
            ..Ifaddrmsg::default()
        });
        request
            .encode()
            .push_local(address.addr())
            .push_address(address.addr());
        NetlinkSocket::new().request(&request)?.recv_ack()
    };
    add().map_err(SystemError::of(format!(
        "give {} the address {address}",
        link.name
    )))
}

/// Where the host's routes lead, but for those over the link `except`.
pub(crate) fn routes(except: Option<u32>) -> Result<Routes, SystemError> {
    let mut routes = Routes::default();
    each_route(|net, out, _| {
        if out.is_none() || out != except {
            match net {
                IpNet::V4(net) => routes.ipv4.push(net),
                IpNet::V6(net) => routes.ipv6.push(net),
            }
        }
    })?;
    Ok(routes)
}

/// Bytes of the largest packet that every way out takes, if there is one.
pub(crate) fn mtu_out() -> Result<Option<u16>, SystemError> {
    let links = links()?;
    let out = ways_out()?.into_iter();
    let mtus = out.filter_map(|(index, _)| links.iter().find(|link| link.index == index));
    Ok(mtus
        .map(|link| u16::try_from(link.mtu).unwrap_or(u16::MAX))
        .min())
}

/// Links by which default routes lead, with whether a router advertised the route.
pub(crate) fn ways_out() -> Result<Vec<(u32, bool)>, SystemError> {
    /// `RTPROT_RA`.
    const ADVERTISED: u8 = 9;
    let mut out = Vec::new();
    each_route(|net, link, protocol| {
        if let (0, Some(link)) = (net.prefix_len(), link) {
            out.push((link, protocol == ADVERTISED));
        }
    })?;
    Ok(out)
}

fn each_route(mut see: impl FnMut(IpNet, Option<u32>, u8)) -> Result<(), SystemError> {
    let mut dump = |family: i32| -> Result<(), ReplyError> {
        let mut socket = NetlinkSocket::new();
        let request = rt_route::Request::new().op_getroute_dump(&Rtmsg {
            rtm_family: u8::try_from(family).unwrap_or_default(),
            ..Rtmsg::default()
        });
        let mut reply = socket.request(&request)?;
        while let Some((header, attributes)) = reply.recv().transpose()? {
            /// Broadcast, anycast and multicast: not places.
            const BROADCAST: [u8; 3] = [3, 4, 5];
            if BROADCAST.contains(&header.rtm_type) {
                continue;
            }
            let net = match (family, attributes.get_dst()) {
                (_, Ok(IpAddr::V4(to))) => Ipv4Net::new(to, header.rtm_dst_len).map(IpNet::V4),
                (_, Ok(IpAddr::V6(to))) => Ipv6Net::new(to, header.rtm_dst_len).map(IpNet::V6),
                (libc::AF_INET, Err(_)) => Ok(IpNet::V4(Ipv4Net::default())),
                (_, Err(_)) => Ok(IpNet::V6(Ipv6Net::default())),
            };
            if let Ok(net) = net {
                see(net, attributes.get_oif().ok(), header.rtm_protocol);
            }
        }
        Ok(())
    };
    [libc::AF_INET, libc::AF_INET6]
        .into_iter()
        .try_for_each(&mut dump)
        .map_err(SystemError::of("list the host's routes"))
}
