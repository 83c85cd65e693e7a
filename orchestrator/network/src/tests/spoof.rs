//! What a guest may not send: frames as somebody else. Written and read as bytes, at the taps themselves.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use rustix::event::{PollFd, PollFlags, poll};

use super::place::test;
use super::world::{create, lease, open};
use crate::Mac;
use crate::net::Lease;

/// Bytes before a frame at a tap: a virtio header that says nothing.
const VNET: usize = 10;
const ALL: [u8; 6] = [0xff; 6];

fn frame(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; VNET];
    bytes.extend(to.iter().chain(&from).chain(&kind.to_be_bytes()));
    bytes.extend(payload);
    bytes
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, mark: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from.octets().iter().chain(&to.octets()));
    let sum: u32 = packet
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend([0x10, 0, 0x10, 0, 0, 9, 0, 0, mark]);
    packet
}

fn arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 2];
    packet.extend(
        mac.iter()
            .chain(&address.octets())
            .chain(&ALL)
            .chain(&address.octets()),
    );
    packet
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, protocol, 255];
    packet.extend(from.octets().iter().chain(&to.octets()));
    packet.extend(payload);
    packet
}

fn icmp6(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    let mut packet = vec![kind, 0, 0, 0, 0x60, 0, 0, 0];
    packet.extend(target.octets());
    packet
}

/// What arrives at a tap up to a frame that ends like `last`.
fn arrived(tap: &mut File, last: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        let mut waited = [PollFd::new(&*tap, PollFlags::IN)];
        let soon = rustix::event::Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        assert_eq!(
            poll(&mut waited, Some(&soon)).unwrap(),
            1,
            "the last frame never came"
        );
        let mut buffer = vec![0; 2048];
        let len = tap.read(&mut buffer).unwrap();
        let frame = buffer[VNET..len].to_vec();
        if frame == last[VNET..] {
            return frames;
        }
        frames.push(frame);
    }
}

struct Ends {
    attacker: File,
    victim: File,
    own: Lease,
    other: Lease,
}

fn ends(networks: &crate::Networks) -> Ends {
    create(networks, &["blue"]);
    let own = lease(networks, "attacker", "blue", &[]);
    let other = lease(networks, "victim", "blue", &[]);
    Ends {
        attacker: networks.attach("attacker").unwrap().tap.into(),
        victim: networks.attach("victim").unwrap().tap.into(),
        own,
        other,
    }
}

/// Sends frames and then an honest one, and says which of them came before it.
fn sent(ends: &mut Ends, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    for frame in frames {
        ends.attacker.write_all(frame).unwrap();
    }
    let last = honest(ends, 0xee);
    ends.attacker.write_all(&last).unwrap();
    let ours = |frame: &Vec<u8>| frames.iter().any(|sent| sent[VNET..] == frame[..]);
    arrived(&mut ends.victim, &last)
        .into_iter()
        .filter(ours)
        .collect()
}

fn honest(ends: &Ends, mark: u8) -> Vec<u8> {
    let (own, other) = (&ends.own, &ends.other);
    frame(
        other.mac().bytes(),
        own.mac().bytes(),
        0x0800,
        &ipv4(own.ipv4, other.ipv4, mark),
    )
}

#[test]
fn frames_as_somebody_else_do_not_arrive() {
    test(|| {
        let networks = open("spoof");
        let mut ends = ends(&networks);
        let network = &networks.list()[0];
        let (me, you) = (ends.own.mac().bytes(), ends.other.mac().bytes());
        let gateway = Mac::of(network.gateway4()).bytes();
        let (own, other) = (ends.own.clone(), ends.other.clone());
        let nodes: Ipv6Addr = "ff02::1".parse().unwrap();
        let tagged = [&[0, 1, 8, 0][..], &ipv4(own.ipv4, other.ipv4, 1)].concat();
        let mut long_arp = arp(me, own.ipv4);
        long_arp[4] = 8;
        let bad = [
            frame(you, gateway, 0x0800, &ipv4(own.ipv4, other.ipv4, 1)),
            frame(
                you,
                [2, 0, 0, 0, 0, 1],
                0x0800,
                &ipv4(own.ipv4, other.ipv4, 2),
            ),
            frame(you, me, 0x0800, &ipv4(network.gateway4(), other.ipv4, 3)),
            frame(you, me, 0x0800, &ipv4([8, 8, 8, 8].into(), other.ipv4, 4)),
            frame(you, me, 0x8100, &tagged),
            frame(you, me, 0x88a8, &tagged),
            frame(ALL, me, 0x0806, &arp(me, network.gateway4())),
            frame(ALL, me, 0x0806, &arp(gateway, own.ipv4)),
            frame(ALL, me, 0x0806, &arp(you, Ipv4Addr::UNSPECIFIED)),
            frame(ALL, me, 0x0806, &long_arp),
            frame(
                you,
                me,
                0x86dd,
                &ipv6(network.gateway6(), other.ipv6, 59, &[]),
            ),
            frame(
                you,
                me,
                0x86dd,
                &ipv6("fe80::1".parse().unwrap(), other.ipv6, 59, &[]),
            ),
            frame(
                you,
                me,
                0x86dd,
                &ipv6(own.ipv6, nodes, 58, &icmp6(136, network.gateway6())),
            ),
            frame(
                you,
                me,
                0x86dd,
                &ipv6(own.ipv6, nodes, 58, &icmp6(134, own.ipv6)),
            ),
            frame(
                you,
                me,
                0x86dd,
                &ipv6(own.ipv6, nodes, 58, &icmp6(137, own.ipv6)),
            ),
            frame(
                you,
                me,
                0x86dd,
                &ipv6(Ipv6Addr::UNSPECIFIED, nodes, 58, &icmp6(136, own.ipv6)),
            ),
            frame(
                you,
                me,
                0x86dd,
                &ipv6(Ipv6Addr::UNSPECIFIED, nodes, 17, &[0; 8]),
            ),
            frame(you, me, 0x88cc, b"neighbours"),
            frame([1, 0x80, 0xc2, 0, 0, 0], me, 0x0027, &[0x42; 38]),
        ];
        assert_eq!(sent(&mut ends, &bad), Vec::<Vec<u8>>::new());
    });
}

#[test]
fn frames_as_oneself_arrive() {
    test(|| {
        let networks = open("honest");
        let mut ends = ends(&networks);
        let (me, you) = (ends.own.mac().bytes(), ends.other.mac().bytes());
        let (own, other) = (ends.own.clone(), ends.other.clone());
        let good = [
            honest(&ends, 1),
            frame(ALL, me, 0x0806, &arp(me, own.ipv4)),
            frame(ALL, me, 0x0806, &arp(me, Ipv4Addr::UNSPECIFIED)),
            frame(
                you,
                me,
                0x86dd,
                &ipv6(own.ipv6, other.ipv6, 58, &icmp6(136, own.ipv6)),
            ),
            frame(
                you,
                me,
                0x86dd,
                &ipv6(own.ipv6, other.ipv6, 58, &icmp6(135, other.ipv6)),
            ),
            frame(
                you,
                me,
                0x86dd,
                &ipv6(Ipv6Addr::UNSPECIFIED, other.ipv6, 58, &icmp6(135, own.ipv6)),
            ),
        ];
        assert_eq!(
            sent(&mut ends, &good),
            good.map(|frame| frame[VNET..].to_vec())
        );
    });
}
