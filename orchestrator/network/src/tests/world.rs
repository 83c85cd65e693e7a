//! Guests, the world outside, and what a host has that a test must leave as it was.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use netlink_bindings::rt_link::{self, Ifinfomsg};
use netlink_bindings::rt_route::{self, Rtmsg};
use netlink_socket2::NetlinkSocket;

use super::place::{Place, Wire};
use crate::name::Instance;
use crate::net::{Attachment, Lease, LeaseRequest, NetworkSpec};
use crate::networks::{Config, Networks};
use crate::{Mac, link, nft, sysctl, tap};

/// How long something may take that happens.
pub(super) const SOON: Duration = Duration::from_secs(20);
/// How long to look for something that must not happen.
pub(super) const NEVER: Duration = Duration::from_millis(400);

/// Networks of an instance that is named.
pub(super) fn open(name: &str) -> Networks {
    open_with(name, Path::new("/nonexistent"))
}

pub(super) fn open_with(name: &str, resolv_conf: &Path) -> Networks {
    let config = Config {
        resolv_conf: resolv_conf.to_owned(),
        ..Config::default()
    };
    Networks::open(instance(name), config).expect("networks")
}

pub(super) fn instance(name: &str) -> Instance {
    Instance::of(&PathBuf::from("/test").join(name))
}

/// Gives a VM a place, with ports.
pub(super) fn lease(networks: &Networks, vm: &str, network: &str, ports: &[&str]) -> Lease {
    networks
        .lease(&request(vm, network, ports))
        .expect("a lease")
}

pub(super) fn request(vm: &str, network: &str, ports: &[&str]) -> LeaseRequest {
    LeaseRequest {
        vm: vm.to_owned(),
        name: vm.to_owned(),
        network: network.to_owned(),
        ipv4: None,
        ports: ports
            .iter()
            .map(|port| port.parse().expect("a port"))
            .collect(),
    }
}

pub(super) fn create(networks: &Networks, names: &[&str]) {
    for name in names {
        networks
            .create(name, &NetworkSpec::default())
            .expect("a network");
    }
}

/// A guest: a place of its own behind a VM's tap.
pub(super) struct Guest {
    pub(super) place: Place,
    pub(super) ipv4: Ipv4Addr,
    pub(super) ipv6: Ipv6Addr,
    _wire: Wire,
}

/// Leases, attaches, and sets up a guest that answers on TCP port 80 and UDP port 53 with its VM's name and who asked.
pub(super) fn guest(networks: &Networks, vm: &str, network: &str, ports: &[&str]) -> Guest {
    lease(networks, vm, network, ports);
    let guest = Guest::behind(networks.attach(vm).expect("an attachment"));
    guest.serve(vm);
    guest
}

impl Guest {
    pub(super) fn behind(attachment: Attachment) -> Self {
        let place = Place::new();
        let Attachment {
            tap,
            mac,
            ipv4,
            ipv6,
            mtu,
            gateway4,
            gateway6,
            ..
        } = attachment;
        let own = place.run(move || {
            let own = tap::make("eth0").expect("a guest's tap");
            let addresses = [IpNet::V4(ipv4), IpNet::V6(ipv6)];
            set_up(
                "eth0",
                Some((mac, mtu)),
                &addresses,
                &[gateway4.into(), gateway6.into()],
            );
            own
        });
        Self {
            place,
            ipv4: ipv4.addr(),
            ipv6: ipv6.addr(),
            _wire: Wire::between(tap, own),
        }
    }

    fn serve(&self, name: &str) {
        let name = name.to_owned();
        let (tcp, udp) = self.place.run(|| {
            let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).expect("port 80");
            (
                tcp,
                UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)).expect("port 53"),
            )
        });
        let greeting = name.clone();
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let Ok(mut stream) = stream else { return };
                let from = stream.peer_addr().map(|from| from.ip().to_canonical());
                let _ = write!(
                    stream,
                    "{greeting} {}",
                    from.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
                );
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(name.as_bytes(), from);
            }
        });
    }

    /// What answers this guest on TCP.
    pub(super) fn call(&self, to: impl Into<IpAddr>, port: u16) -> Option<String> {
        let to = SocketAddr::new(to.into(), port);
        self.place.run(move || call(to, SOON))
    }

    /// That nothing answers it.
    pub(super) fn call_in_vain(&self, to: impl Into<IpAddr>, port: u16) -> bool {
        let to = SocketAddr::new(to.into(), port);
        self.place.run(move || call(to, NEVER)).is_none()
    }
}

/// What answers on TCP.
pub(super) fn call(to: SocketAddr, patience: Duration) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Who said it, and whom it saw asking.
pub(super) fn words(answer: Option<String>) -> (String, IpAddr) {
    let text = answer.expect("an answer");
    let (who, from) = text.split_once(' ').expect("two words");
    (who.to_owned(), from.parse().expect("an address"))
}

/// The world outside, and the host's way to it.
pub(super) struct World {
    pub(super) place: Place,
    _wire: Wire,
}

/// The host's and the world's addresses on the wire between them.
pub(super) const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const WORLD4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
pub(super) const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(super) const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99);

/// Joins this place to a world that answers on TCP port 80 with "world" and who asked.
pub(super) fn world() -> World {
    let net = |ip: IpAddr| IpNet::new(ip, if ip.is_ipv4() { 24 } else { 64 }).expect("a net");
    let near = tap::make("up0").expect("an uplink");
    set_up(
        "up0",
        None,
        &[net(HOST4.into()), net(HOST6.into())],
        &[WORLD4.into(), WORLD6.into()],
    );
    let place = Place::new();
    let far = place.run(move || {
        let far = tap::make("eth0").expect("the world's end");
        set_up("eth0", None, &[net(WORLD4.into()), net(WORLD6.into())], &[]);
        far
    });
    let listener = place.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).expect("port 80"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let from = stream.peer_addr().map(|from| from.ip().to_canonical());
            let _ = write!(
                stream,
                "world {}",
                from.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
            );
        }
    });
    World {
        place,
        _wire: Wire::between(near, far),
    }
}

fn set_up(name: &str, hardware: Option<(Mac, u16)>, addresses: &[IpNet], gateways: &[IpAddr]) {
    let link = link::find(name).expect("links").expect("the link");
    if let Some((mac, mtu)) = hardware {
        let mut request = rt_link::Request::new().op_setlink_do(&Ifinfomsg {
            ifi_index: link.index as i32,
            ..Ifinfomsg::default()
        });
        request
            .encode()
            .push_address(&mac.bytes())
            .push_mtu(mtu.into());
        NetlinkSocket::new()
            .request(&request)
            .expect("send")
            .recv_ack()
            .expect("hardware address");
    }
    sysctl::write(&format!("ipv6/conf/{name}/accept_dad"), "0").expect("no duplicate detection");
    link::up(&link, "").expect("up");
    for &address in addresses {
        link::add_address(&link, address).expect("address");
    }
    for &gateway in gateways {
        route(
            IpNet::new(any(gateway), 0).expect("all"),
            Some(gateway),
            link.index,
        );
    }
}

fn any(like: IpAddr) -> IpAddr {
    if like.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

/// Adds a route.
pub(super) fn route(to: IpNet, via: Option<IpAddr>, link: u32) {
    let family = if to.addr().is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let request = rt_route::Request::new().set_create();
    let mut request = request.op_newroute_do(&Rtmsg {
        rtm_family: family as u8,
        rtm_dst_len: to.prefix_len(),
        rtm_table: libc::RT_TABLE_MAIN,
        rtm_protocol: libc::RTPROT_STATIC,
        rtm_type: libc::RTN_UNICAST,
        ..Rtmsg::default()
    });
    let mut attributes = request.encode().push_oif(link);
    if to.prefix_len() > 0 {
        attributes = attributes.push_dst(to.addr());
    }
    match via {
        Some(via) => attributes.push_gateway(via),
        None => attributes,
    };
    NetlinkSocket::new()
        .request(&request)
        .expect("send")
        .recv_ack()
        .expect("route");
}

/// All that networks may change on a host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Traces {
    links: Vec<String>,
    tables: Vec<nft::Table>,
    routes: String,
    settings: [String; 3],
}

/// What is there.
pub(super) fn traces() -> Traces {
    let mut links: Vec<_> = link::links()
        .expect("links")
        .into_iter()
        .map(|link| link.name)
        .collect();
    links.sort();
    // The world's end of its wire comes up when it likes.
    let uplink = link::find("up0").expect("links").map(|link| link.index);
    let mut routes = link::routes(uplink).expect("routes");
    // A bridge has its link-local route once the kernel sees it carry, which is some time after its first VM.
    routes.ipv6.retain(|to| !to.addr().is_unicast_link_local());
    let mut tables = nft::tables().expect("tables");
    tables.sort_by(|a, b| (&a.name, a.family).cmp(&(&b.name, b.family)));
    Traces {
        links,
        tables,
        routes: format!("{:?} {:?}", routes.ipv4, routes.ipv6),
        settings: [
            "ipv4/ip_forward",
            "ipv6/conf/all/forwarding",
            "ipv4/conf/all/route_localnet",
        ]
        .map(|name| sysctl::read(name).expect("a setting")),
    }
}
