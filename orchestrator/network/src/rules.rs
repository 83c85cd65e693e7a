//! The packet filter of one instance: constant rules over sets, so that a VM that comes or goes changes elements and no rule.
//!
//! ```text
//! bridge shoal-I   ingress     a VM's frames: its own hardware address, its own addresses in ARP, ND and IP; no router's words
//! inet   shoal-I   guard       nothing from a bridge reaches the host's loopback addresses
//!                  publish     from outside: host's address and port -> VM's          (maps at4, any4, at6, any6)
//!                  publish-own from the host itself: the same
//!                  leave       VMs go out by the host's address; so do those who reach a VM by a published port of their own host
//!                  between     into a network only: answers, published ports, and the network itself
//!                  host        of the host VMs reach: names, ping, and answers
//! ```
//! Each instance guards its own bridges: nothing of another's is in its sets. See `docs/network.md`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_bindings::nftables::PayloadBase;

use crate::error::SystemError;
use crate::mac::Mac;
use crate::name::Instance;
use crate::net::{Lease, Network};
use crate::nft::batch::{Batch, Element, Hook, Set};
use crate::nft::expr::{Field, Rule};
use crate::nft::{self, Family};

const ETHERNET_SOURCE: Field = Field::Bytes(PayloadBase::LinkLayerHeader, 6, 6);
const ETHERNET_TYPE: Field = Field::Bytes(PayloadBase::LinkLayerHeader, 12, 2);
/// Ethernet, IPv4, and the lengths of their addresses.
const ARP_KIND: Field = Field::Bytes(PayloadBase::NetworkHeader, 0, 6);
const ARP_MAC: Field = Field::Bytes(PayloadBase::NetworkHeader, 8, 6);
const ARP_ADDRESS: Field = Field::Bytes(PayloadBase::NetworkHeader, 14, 4);
const SOURCE4: Field = Field::Bytes(PayloadBase::NetworkHeader, 12, 4);
const DESTINATION4: Field = Field::Bytes(PayloadBase::NetworkHeader, 16, 4);
/// First byte of an IPv4 address.
const DESTINATION4_NET: Field = Field::Bytes(PayloadBase::NetworkHeader, 16, 1);
const SOURCE4_NET: Field = Field::Bytes(PayloadBase::NetworkHeader, 12, 1);
const SOURCE6: Field = Field::Bytes(PayloadBase::NetworkHeader, 8, 16);
const DESTINATION6: Field = Field::Bytes(PayloadBase::NetworkHeader, 24, 16);
const ICMP6_TYPE: Field = Field::Bytes(PayloadBase::TransportHeader, 0, 1);
const ND_TARGET: Field = Field::Bytes(PayloadBase::TransportHeader, 8, 16);
const PORT: Field = Field::Bytes(PayloadBase::TransportHeader, 2, 2);

const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ETHERNET_FOR_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ICMP4: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
/// Types of ICMPv6 (RFC 4861, RFC 3810).
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const LISTENER_REPORT: u8 = 143;
const DNS_PORT: [u8; 2] = [0, 53];
const LOOPBACK4: u8 = 127;

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// Fields of keys, as those who list sets know them; an element's bytes are right whatever these say.
mod types {
    pub(super) const IPV4: u32 = 7;
    pub(super) const IPV6: u32 = 8;
    pub(super) const ETHERNET: u32 = 9;
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const PORT: u32 = 13;
    pub(super) const LINK: u32 = 41;

    /// Fields in a row.
    pub(super) const fn pair(a: u32, b: u32) -> u32 {
        a << 6 | b
    }
}

const fn set(name: &'static str, key_type: u32, key_len: u32) -> Set {
    Set {
        name,
        key_type,
        key_len,
        value_len: None,
    }
}

const fn map(name: &'static str, key_type: u32, key_len: u32, value_len: u32) -> Set {
    Set {
        name,
        key_type,
        key_len,
        value_len: Some(value_len),
    }
}

/// Sets over frames: taps, and what each may send.
const BRIDGE_SETS: [Set; 4] = [
    set("taps", types::LINK, 16),
    set("macs", types::pair(types::LINK, types::ETHERNET), 24),
    set("own4", types::pair(types::LINK, types::IPV4), 20),
    set("own6", types::pair(types::LINK, types::IPV6), 32),
];

/// Sets over packets.
const INET_SETS: [Set; 10] = [
    set("bridges", types::LINK, 16),
    set("within", types::pair(types::LINK, types::LINK), 32),
    set("gateways4", types::pair(types::LINK, types::IPV4), 20),
    set("gateways6", types::pair(types::LINK, types::IPV6), 32),
    set("vms4", types::IPV4, 4),
    set("vms6", types::IPV6, 16),
    map("any4", types::pair(types::PROTOCOL, types::PORT), 8, 8),
    map("any6", types::pair(types::PROTOCOL, types::PORT), 8, 20),
    map(
        "at4",
        types::pair(types::pair(types::PROTOCOL, types::IPV4), types::PORT),
        12,
        8,
    ),
    map(
        "at6",
        types::pair(types::pair(types::PROTOCOL, types::IPV6), types::PORT),
        24,
        20,
    ),
];

const INGRESS: Hook = Hook {
    kind: "filter",
    number: PREROUTING,
    priority: -300,
};

/// Chains over packets.
const INET_CHAINS: [(&str, Hook); 6] = [
    ("guard", hook("filter", PREROUTING, -300)),
    ("publish", hook("nat", PREROUTING, -100)),
    ("publish-own", hook("nat", OUTPUT, -100)),
    ("leave", hook("nat", POSTROUTING, 100)),
    ("between", hook("filter", FORWARD, 0)),
    ("host", hook("filter", INPUT, 0)),
];

const fn hook(kind: &'static str, number: u32, priority: i32) -> Hook {
    Hook {
        kind,
        number,
        priority,
    }
}

/// What a VM's frames must be.
fn ingress() -> Vec<Rule> {
    use Field::{InName, Layer4};
    let ip6 = || Rule::new().is(ETHERNET_TYPE, IPV6);
    let icmp6 = |kind: u8| ip6().is(Layer4, [ICMP6]).is(ICMP6_TYPE, [kind]);
    let arp = || {
        let rule = Rule::new()
            .is(ETHERNET_TYPE, ARP)
            .is(ARP_KIND, ETHERNET_FOR_IPV4);
        rule.within("macs", &[InName, ARP_MAC])
    };
    let nobody = || {
        ip6()
            .is(SOURCE6, Ipv6Addr::UNSPECIFIED.octets())
            .is(Layer4, [ICMP6])
    };
    vec![
        Rule::new().outside("taps", &[InName]).accept(),
        Rule::new()
            .outside("macs", &[InName, ETHERNET_SOURCE])
            .drop(),
        arp().within("own4", &[InName, ARP_ADDRESS]).accept(),
        // Who asks whether an address is taken has none yet.
        arp()
            .is(ARP_ADDRESS, Ipv4Addr::UNSPECIFIED.octets())
            .accept(),
        Rule::new()
            .is(ETHERNET_TYPE, IPV4)
            .within("own4", &[InName, SOURCE4])
            .accept(),
        icmp6(ROUTER_ADVERTISEMENT).drop(),
        icmp6(REDIRECT).drop(),
        icmp6(NEIGHBOUR_ADVERTISEMENT)
            .outside("own6", &[InName, ND_TARGET])
            .drop(),
        ip6().within("own6", &[InName, SOURCE6]).accept(),
        nobody().is(ICMP6_TYPE, [NEIGHBOUR_SOLICITATION]).accept(),
        nobody().is(ICMP6_TYPE, [LISTENER_REPORT]).accept(),
        Rule::new().drop(),
    ]
}

/// Where a packet for a published port goes.
fn publish() -> Vec<Rule> {
    use Field::Layer4;
    let ipv4 = || Rule::new().family(libc::AF_INET).for_host();
    // The kernel lets no packet of `::1` leave the host, whatever becomes of its addresses.
    let ipv6 = || {
        let rule = Rule::new().family(libc::AF_INET6).for_host();
        rule.differs(DESTINATION6, Ipv6Addr::LOCALHOST.octets())
    };
    vec![
        ipv4().redirect(libc::AF_INET, "at4", &[Layer4, DESTINATION4, PORT]),
        ipv4().redirect(libc::AF_INET, "any4", &[Layer4, PORT]),
        ipv6().redirect(libc::AF_INET6, "at6", &[Layer4, DESTINATION6, PORT]),
        ipv6().redirect(libc::AF_INET6, "any6", &[Layer4, PORT]),
    ]
}

fn rules_of(chain: &str) -> Vec<Rule> {
    use Field::{InName, Layer4, OutName};
    let ipv4 = || Rule::new().family(libc::AF_INET);
    let ipv6 = || Rule::new().family(libc::AF_INET6);
    match chain {
        "guard" => vec![
            ipv4()
                .within("bridges", &[InName])
                .is(DESTINATION4_NET, [LOOPBACK4])
                .drop(),
        ],
        "publish" | "publish-own" => publish(),
        "leave" => {
            // A VM, or the host by its loopback address, that reaches a VM through a published port: the answer must come back here.
            let back = || Rule::new().within("bridges", &[OutName]).translated();
            vec![
                ipv4()
                    .within("vms4", &[SOURCE4])
                    .outside("bridges", &[OutName])
                    .masquerade(),
                ipv6()
                    .within("vms6", &[SOURCE6])
                    .outside("bridges", &[OutName])
                    .masquerade(),
                back()
                    .family(libc::AF_INET)
                    .within("vms4", &[SOURCE4])
                    .masquerade(),
                back()
                    .family(libc::AF_INET6)
                    .within("vms6", &[SOURCE6])
                    .masquerade(),
                back()
                    .family(libc::AF_INET)
                    .is(SOURCE4_NET, [LOOPBACK4])
                    .masquerade(),
            ]
        }
        "between" => vec![
            Rule::new().outside("bridges", &[OutName]).accept(),
            Rule::new().known().accept(),
            Rule::new().translated().accept(),
            // Some hosts show frames that pass a bridge to the packet filter as well.
            Rule::new().within("within", &[InName, OutName]).accept(),
            Rule::new().drop(),
        ],
        "host" => {
            let dns4 = |protocol| ipv4().is(Layer4, [protocol]).is(PORT, DNS_PORT);
            let dns6 = |protocol| ipv6().is(Layer4, [protocol]).is(PORT, DNS_PORT);
            vec![
                Rule::new().outside("bridges", &[InName]).accept(),
                Rule::new().known().accept(),
                ipv4()
                    .is(Layer4, [ICMP4])
                    .within("gateways4", &[InName, DESTINATION4])
                    .accept(),
                ipv6().is(Layer4, [ICMP6]).accept(),
                dns4(UDP)
                    .within("gateways4", &[InName, DESTINATION4])
                    .accept(),
                dns4(TCP)
                    .within("gateways4", &[InName, DESTINATION4])
                    .accept(),
                dns6(UDP)
                    .within("gateways6", &[InName, DESTINATION6])
                    .accept(),
                dns6(TCP)
                    .within("gateways6", &[InName, DESTINATION6])
                    .accept(),
                Rule::new().drop(),
            ]
        }
        _ => Vec::new(),
    }
}

/// Makes everything new, with these elements, at once.
pub(crate) fn replace(instance: &Instance, mut elements: Vec<Element>) -> Result<(), SystemError> {
    let table = &instance.table();
    let mut batch = Batch::new();
    for family in [Family::Bridge, Family::Inet] {
        batch
            .table(family, table, &[])
            .remove_table(family, table)
            .table(family, table, &[]);
    }
    for set in &BRIDGE_SETS {
        batch.set(Family::Bridge, table, set);
    }
    for set in &INET_SETS {
        batch.set(Family::Inet, table, set);
    }
    batch.chain(Family::Bridge, table, "ingress", INGRESS);
    for rule in ingress() {
        batch.rule(Family::Bridge, table, "ingress", &rule);
    }
    for (chain, hook) in INET_CHAINS {
        batch.chain(Family::Inet, table, chain, hook);
        for rule in rules_of(chain) {
            batch.rule(Family::Inet, table, chain, &rule);
        }
    }
    elements.sort();
    batch.add(table, &elements);
    batch.send("make the packet filter's rules")
}

/// Adds elements.
pub(crate) fn add(instance: &Instance, mut elements: Vec<Element>) -> Result<(), SystemError> {
    elements.sort();
    let mut batch = Batch::new();
    batch.add(&instance.table(), &elements);
    batch.send("add to the packet filter's sets")
}

/// Removes elements.
pub(crate) fn remove(instance: &Instance, mut elements: Vec<Element>) -> Result<(), SystemError> {
    elements.sort();
    let mut batch = Batch::new();
    batch.remove(&instance.table(), &elements);
    batch.send("remove from the packet filter's sets")
}

/// Removes everything that is there of the instance.
pub(crate) fn clear(instance: &Instance) -> Result<(), SystemError> {
    let name = instance.table();
    let mut batch = Batch::new();
    let mut any = false;
    for family in [Family::Bridge, Family::Inet] {
        if nft::tables()?
            .iter()
            .any(|table| table.name == name && table.family == family as u8)
        {
            batch.remove_table(family, &name);
            any = true;
        }
    }
    if any {
        batch.send("remove the packet filter's rules")
    } else {
        Ok(())
    }
}

/// Whether the instance's tables are there.
pub(crate) fn present(instance: &Instance) -> Result<bool, SystemError> {
    let name = instance.table();
    Ok(nft::tables()?
        .iter()
        .filter(|table| table.name == name)
        .count()
        == 2)
}

/// What a network needs.
pub(crate) fn of_network(instance: &Instance, network: &Network) -> Vec<Element> {
    let bridge = &link(&instance.bridge(network.index));
    let element = |set, key| plain(Family::Inet, set, key);
    vec![
        element("bridges", bridge.clone()),
        element("within", [&bridge[..], &bridge[..]].concat()),
        element(
            "gateways4",
            [&bridge[..], &network.gateway4().octets()].concat(),
        ),
        element(
            "gateways6",
            [&bridge[..], &network.gateway6().octets()].concat(),
        ),
    ]
}

/// What a VM needs.
pub(crate) fn of_vm(tap: &str, lease: &Lease) -> Vec<Element> {
    let tap = &link(tap);
    let mac = lease.mac();
    let [a, b, c, d, e, f] = mac.bytes();
    let element = |set, key| plain(Family::Bridge, set, key);
    let mut elements = vec![
        element("taps", tap.clone()),
        element("macs", [&tap[..], &[a, b, c, d, e, f, 0, 0]].concat()),
        element("own4", [&tap[..], &lease.ipv4.octets()].concat()),
        element("own6", [&tap[..], &lease.ipv6.octets()].concat()),
        element("own6", [&tap[..], &link_local(mac).octets()].concat()),
        plain(Family::Inet, "vms4", lease.ipv4.octets().to_vec()),
        plain(Family::Inet, "vms6", lease.ipv6.octets().to_vec()),
    ];
    for port in &lease.ports {
        let key = |address: &[u8]| {
            let [high, low] = port.host.get().to_be_bytes();
            [
                &[port.protocol.number(), 0, 0, 0],
                address,
                &[high, low, 0, 0],
            ]
            .concat()
        };
        let to = |set, address: &[u8], own: &[u8]| {
            let [high, low] = port.guest.get().to_be_bytes();
            Element {
                family: Family::Inet,
                set,
                key: key(address),
                value: Some([own, &[high, low, 0, 0]].concat()),
            }
        };
        match port.address {
            None => {
                elements.push(to("any4", &[], &lease.ipv4.octets()));
                elements.push(to("any6", &[], &lease.ipv6.octets()));
            }
            Some(IpAddr::V4(at)) => elements.push(to("at4", &at.octets(), &lease.ipv4.octets())),
            Some(IpAddr::V6(at)) => elements.push(to("at6", &at.octets(), &lease.ipv6.octets())),
        }
    }
    elements
}

fn plain(family: Family, set: &'static str, key: Vec<u8>) -> Element {
    Element {
        family,
        set,
        key,
        value: None,
    }
}

/// A link's name as the kernel compares it.
fn link(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// The link-local address that belongs to a hardware address (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.bytes();
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_long_as_their_sets_say() {
        let instance = Instance::of("/tmp/x".as_ref());
        let network = Network {
            name: "n".into(),
            index: 1,
            ipv4: "10.1.0.0/24".parse().unwrap(),
            ipv6: "fd00::/64".parse().unwrap(),
            mtu: 1500,
        };
        let ports = ["1:2", "127.0.0.1:3:4/udp", "[fd00::9]:5:6"].map(|text| {
            let spec: crate::PortSpec = text.parse().unwrap();
            crate::Published {
                address: spec.address,
                host: spec.host.unwrap(),
                guest: spec.guest,
                protocol: spec.protocol,
            }
        });
        let lease = Lease {
            vm: "v".into(),
            name: "v".into(),
            network: "n".into(),
            ipv4: "10.1.0.2".parse().unwrap(),
            ipv6: "fd00::2".parse().unwrap(),
            ports: ports.to_vec(),
        };
        let mut elements = of_network(&instance, &network);
        elements.extend(of_vm(&instance.tap(1, 2), &lease));
        let mut seen = std::collections::BTreeSet::new();
        for element in elements {
            let mut sets = BRIDGE_SETS.iter().chain(&INET_SETS);
            let set = sets.find(|set| set.name == element.set).unwrap();
            assert_eq!(element.key.len(), set.key_len as usize, "{}", set.name);
            assert_eq!(
                element.value.map(|v| v.len() as u32),
                set.value_len,
                "{}",
                set.name
            );
            seen.insert(set.name);
        }
        assert_eq!(
            seen.len(),
            BRIDGE_SETS.len() + INET_SETS.len(),
            "each set is used"
        );
        assert_eq!(
            link_local(Mac::of([1, 2, 3, 4].into())).to_string(),
            "fe80::5a:1ff:fe02:304"
        );
    }
}
