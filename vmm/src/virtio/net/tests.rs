//! A driver, and the other end of its wire.

use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::time::Timespec;

use super::*;
use crate::spec::{TokenBucket, wire};
use crate::virtio::flow_driver::{BUFFERS, Driver};

/// A wire of packets: each read and write is one of them.
struct Wire {
    fd: OwnedFd,
    offloads: Arc<Mutex<Offloads>>,
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Link for Wire {
    fn set_offloads(&self, offloads: Offloads) {
        *self.offloads.lock().unwrap() = offloads;
    }

    fn forget(&self) {
        while rustix::io::read(&self.fd, &mut [0; 1]).is_ok_and(|length| length > 0) {}
    }
}

struct Guest {
    driver: Driver<Net>,
    wire: OwnedFd,
    offloads: Arc<Mutex<Offloads>>,
}

const MERGED: u32 = 1 << VIRTIO_NET_F_MRG_RXBUF;
const TSO: u32 = 1 << VIRTIO_NET_F_GUEST_CSUM | 1 << VIRTIO_NET_F_GUEST_TSO4;
/// Distance of receive buffers.
const STEP: u64 = 0x4000;
const SEND: u64 = BUFFERS + 0x60_0000;

fn guest(settings: Settings) -> Guest {
    let (wire, ours) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let offloads = Arc::default();
    let link = Wire {
        fd: ours,
        offloads: Arc::clone(&offloads),
    };
    let driver = Driver::new(|meter| Net::new(Box::new(link), settings, meter).unwrap());
    Guest {
        driver,
        wire,
        offloads,
    }
}

fn ready(features: u32) -> Guest {
    let mut guest = guest(Settings::default());
    guest.driver.set_up(features);
    guest
}

impl Guest {
    /// Makes `count` receive buffers of `length` bytes available, in two pieces each.
    fn post(&mut self, first: u64, count: u64, length: u32) {
        for number in first..first + count {
            let at = BUFFERS + number * STEP;
            let cut = length / 3;
            let pieces = [(at, cut, true), (at + u64::from(cut), length - cut, true)];
            let head = self.driver.post(RECEIVE, &pieces);
            assert_eq!(u64::from(head), 2 * number, "tests post each place once");
        }
    }

    /// A frame comes from outside.
    fn comes(&self, frame: &[u8]) {
        let header = [0; HEADER];
        rustix::io::write(&self.wire, &[&header[..], frame].concat()).unwrap();
    }

    fn turn(&self) {
        self.driver.serve(RECEIVE);
    }

    /// The next frame that the driver received, and how many buffers it took.
    fn received(&mut self) -> Option<(Vec<u8>, u16)> {
        let mut number = 1;
        let mut frame = vec![];
        let mut taken = 0;
        while taken < number {
            let (head, length) = self.driver.used(RECEIVE)?;
            let at = BUFFERS + u64::from(head) / 2 * STEP;
            let bytes = self.driver.read(at, length as usize);
            if taken == 0 {
                number = u16::from_le_bytes([bytes[10], bytes[11]]);
            }
            frame.extend(bytes);
            taken += 1;
        }
        Some((frame.split_off(HEADER), number))
    }

    fn send(&mut self, frame: &[u8]) {
        self.driver.write(SEND, &[0; HEADER]);
        self.driver.write(SEND + 0x100, frame);
        let pieces = [
            (SEND, HEADER as u32, false),
            (SEND + 0x100, frame.len() as u32, false),
        ];
        self.driver.post(TRANSMIT, &pieces);
        self.driver.serve(TRANSMIT);
    }

    /// The next frame that went out.
    fn went(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 70_000];
        let length = rustix::io::read(&self.wire, &mut bytes).ok()?;
        bytes.truncate(length);
        Some(bytes.split_off(HEADER))
    }

    fn count(&self, counter: Counter) -> u64 {
        self.driver.count(counter)
    }
}

fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ i >> 8) as u8).collect()
}

#[test]
fn a_driver_is_told_what_its_device_is_like() {
    let settings = Settings {
        mac: Some("02:00:00:00:00:07".parse().unwrap()),
        mtu: Some(1400),
        ..Settings::default()
    };
    let guest = guest(settings);
    let net = Net::new(
        Box::new(Wire {
            fd: guest.wire,
            offloads: guest.offloads,
        }),
        settings,
        guest.driver.meter,
    )
    .unwrap();
    assert_eq!(net.config()[..8], [2, 0, 0, 0, 0, 7, 1, 0]);
    assert_eq!(net.config()[10..], 1400_u16.to_le_bytes());
    assert!(net.features() & 1 << VIRTIO_NET_F_MAC != 0);
    assert!(net.features() & 1 << VIRTIO_NET_F_MTU != 0);
}

#[test]
fn nothing_is_said_of_what_nobody_chose() {
    let guest = guest(Settings::default());
    guest.driver.transport.with_device(RECEIVE, |net| {
        let unsaid = 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_MTU;
        assert_eq!(net.features() & unsaid, 0);
    });
}

#[test]
fn frames_go_both_ways_whole() {
    let mut guest = ready(MERGED);
    guest.post(0, 4, 1600);
    for length in [1, 60, 1514] {
        guest.comes(&frame(length));
        guest.turn();
        assert_eq!(guest.received(), Some((frame(length), 1)));
        guest.send(&frame(length));
        assert_eq!(guest.went(), Some(frame(length)));
    }
    assert_eq!(guest.count(Counter::NetReceived), 3);
    assert_eq!(guest.count(Counter::NetReceivedBytes), 1575);
    assert_eq!(guest.count(Counter::NetSent), 3);
    assert_eq!(guest.count(Counter::NetSentBytes), 1575);
    assert_eq!(guest.count(Counter::DriverErrors), 0);
}

#[test]
fn a_large_frame_takes_as_many_buffers_as_it_needs() {
    let mut guest = ready(MERGED | TSO);
    guest.post(0, 60, 1536);
    for length in [60_000, 100, 4000] {
        guest.comes(&frame(length));
    }
    guest.turn();
    assert_eq!(guest.received(), Some((frame(60_000), 40)));
    // There is no room left for another of any length.
    assert_eq!(guest.received(), None);
    guest.post(60, 40, 1536);
    guest.turn();
    assert_eq!(guest.received(), Some((frame(100), 1)));
    assert_eq!(guest.received(), Some((frame(4000), 3)));
}

#[test]
fn a_frame_waits_until_there_is_room() {
    let mut guest = ready(MERGED);
    guest.comes(&frame(1000));
    guest.turn();
    assert_eq!(guest.received(), None);
    guest.post(0, 1, 600);
    guest.turn();
    assert_eq!(guest.received(), None);
    guest.post(1, 2, 600);
    guest.turn();
    assert_eq!(guest.received(), Some((frame(1000), 2)));
}

#[test]
fn without_merging_a_frame_has_one_buffer_or_none() {
    let mut guest = ready(0);
    guest.post(0, 3, 500);
    guest.comes(&frame(600));
    guest.comes(&frame(400));
    guest.turn();
    assert_eq!(guest.received(), Some((frame(400), 1)));
    assert_eq!(guest.received(), None);
    assert_eq!(guest.count(Counter::NetDropped), 1);
}

#[test]
fn a_burst_is_received_in_order() {
    let mut guest = ready(MERGED);
    guest.post(0, 100, 1536);
    for length in 1..=90 {
        guest.comes(&frame(length));
    }
    guest.turn();
    for length in 1..=90 {
        assert_eq!(guest.received(), Some((frame(length), 1)));
    }
    assert_eq!(guest.received(), None);
}

#[test]
fn the_link_hears_what_the_driver_can_do_and_forgets_the_past() {
    let mut guest = guest(Settings::default());
    guest.comes(&frame(10));
    guest.driver.set_up(MERGED | TSO);
    let expected = Offloads {
        checksum: true,
        tso4: true,
        tso6: false,
    };
    assert_eq!(*guest.offloads.lock().unwrap(), expected);
    guest.post(0, 50, 1536);
    guest.turn();
    assert_eq!(guest.received(), None);
}

#[test]
fn chains_that_make_no_sense_are_counted_and_given_back() {
    let mut guest = ready(MERGED);
    // A frame without a byte, one in memory that is to be written, and one of nobody's memory.
    for pieces in [
        &[(SEND, HEADER as u32, false)][..],
        &[(SEND, 100, true)],
        &[(u64::MAX - 50, 100, false)],
        &[(SEND, 90_000, false)],
    ] {
        guest.driver.post(TRANSMIT, pieces);
        guest.driver.serve(TRANSMIT);
        assert!(guest.driver.used(TRANSMIT).is_some());
    }
    assert_eq!(guest.count(Counter::DriverErrors), 4);
    assert_eq!(guest.went(), None);
    // One that is not to be written, behind one that is: both go, and the next are good.
    guest
        .driver
        .post(RECEIVE, &[(BUFFERS, 100, true), (BUFFERS + 100, 50, true)]);
    guest
        .driver
        .post(RECEIVE, &[(BUFFERS, 50, false), (BUFFERS + 100, 50, false)]);
    guest.post(2, 2, 1600);
    guest.comes(&frame(70));
    guest.turn();
    assert_eq!(guest.driver.used(RECEIVE), Some((0, 0)));
    assert_eq!(guest.driver.used(RECEIVE), Some((2, 0)));
    assert_eq!(guest.received(), Some((frame(70), 1)));
    assert_eq!(guest.count(Counter::DriverErrors), 5);
}

#[test]
fn a_wire_that_is_gone_leaves_the_device() {
    let mut guest = ready(MERGED);
    guest.post(0, 4, 1600);
    let (other, _) = rustix::pipe::pipe().unwrap();
    drop(std::mem::replace(&mut guest.wire, other));
    guest.send(&frame(60));
    assert_eq!(guest.count(Counter::NetErrors), 1);
    assert!(guest.driver.used(TRANSMIT).is_some());
    guest.turn();
    guest.driver.set_up(MERGED);
}

#[test]
fn what_is_over_the_limit_goes_when_its_time_has_come() {
    let bucket = |size, refill_time| wire::TokenBucket {
        size,
        one_time_burst: None,
        refill_time,
    };
    let rate = |bucket| {
        let ops = Some(bucket);
        RateLimit::check(Some(wire::RateLimit {
            bandwidth: None,
            ops,
        }))
        .unwrap()
    };
    let settings = Settings {
        receive: rate(bucket(2, 20)),
        transmit: rate(bucket(2, 20)),
        ..Settings::default()
    };
    let mut guest = guest(settings);
    guest.driver.set_up(MERGED);
    guest.post(0, 20, 1600);
    for _ in 0..4 {
        guest.send(&frame(60));
        guest.comes(&frame(60));
    }
    guest.turn();
    let sent = guest.count(Counter::NetSent);
    let received = guest.count(Counter::NetReceived);
    assert!(sent < 4 && received < 4, "{sent} {received}");
    let wakes = guest.driver.transport.with_device(RECEIVE, |net| {
        let own = |(queue, fd): (usize, BorrowedFd<'_>)| (queue, fd.try_clone_to_owned().unwrap());
        net.wakes().into_iter().map(own).collect::<Vec<_>>()
    });
    for (queue, counter) in [(1, Counter::NetSent), (0, Counter::NetReceived)] {
        while guest.count(counter) < 4 {
            let timer = &wakes.iter().rfind(|(q, _)| *q == queue).unwrap().1;
            let mut poll = [rustix::event::PollFd::new(
                timer,
                rustix::event::PollFlags::IN,
            )];
            let patience = Timespec {
                tv_sec: 10,
                tv_nsec: 0,
            };
            assert_eq!(rustix::event::poll(&mut poll, Some(&patience)), Ok(1));
            guest.driver.serve(queue);
        }
    }
    // And without limits nothing waits.
    let none = LimitChange {
        bandwidth: Some(None),
        ops: Some(None::<TokenBucket>),
    };
    let unlimited = |net: &mut Net| net.limit(none, none);
    guest.driver.transport.with_device(RECEIVE, unlimited);
    for _ in 0..10 {
        guest.send(&frame(60));
    }
    assert_eq!(guest.count(Counter::NetSent), 14);
}
