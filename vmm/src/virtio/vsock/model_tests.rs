//! One connection against a model: whatever either side does, and in which order, bytes arrive once, in order, none more than the
//! receiver has room for, and all of them unless their receiver left.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::super::packet::{BOTH, Header, Operation, SENDS_NO_MORE, TAKES_NO_MORE};
use super::tests::{Guest, of};

#[derive(Clone, Debug)]
enum Step {
    HostWrites(usize),
    HostReads(usize),
    HostEnds,
    HostCloses,
    GuestSends(usize),
    GuestReads,
    GuestConsumes(u32),
    GuestPosts(u16),
    GuestShuts(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..60_000_usize).prop_map(Step::HostWrites),
        4 => (1..200_000_usize).prop_map(Step::HostReads),
        1 => Just(Step::HostEnds),
        1 => Just(Step::HostCloses),
        6 => (1..60_000_usize).prop_map(Step::GuestSends),
        4 => Just(Step::GuestReads),
        4 => (1..20_000_u32).prop_map(Step::GuestConsumes),
        4 => (1..9_u16).prop_map(Step::GuestPosts),
        1 => (1..4_u32).prop_map(Step::GuestShuts),
    ]
}

/// The byte at a place of either stream.
fn byte(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

fn bytes(start: usize, count: usize) -> Vec<u8> {
    (start..start + count).map(byte).collect()
}

struct Model {
    guest: Guest,
    to_host: Header,
    host: Option<UnixStream>,
    /// Bytes that the host's program wrote, the guest received, and its program consumed.
    written: usize,
    received: usize,
    consumed: u32,
    /// Bytes that the guest sent, and the host's program read.
    sent: usize,
    read: usize,
    /// The credit that the guest was given.
    window: u32,
    forwarded: u32,
    host_ended: bool,
    guest_done: u32,
    told: u32,
    reset: bool,
    buffers: u16,
}

const ROOM: u32 = 50_000;

impl Model {
    fn new(by_guest: bool) -> Self {
        let mut guest = Guest::ready(1);
        let (host, to_host) = if by_guest {
            guest.connected()
        } else {
            guest.accepted()
        };
        host.set_nonblocking(true).unwrap();
        let mut model = Self {
            guest,
            to_host: Header {
                buf_alloc: ROOM,
                ..to_host
            },
            host: Some(host),
            written: 0,
            received: 0,
            consumed: 0,
            sent: 0,
            read: 0,
            window: 0,
            forwarded: 0,
            host_ended: false,
            guest_done: 0,
            told: 0,
            reset: false,
            buffers: 1,
        };
        // By which the guest learns its credit.
        model.say(Operation::CreditRequest, 0, &[]);
        model.receive();
        assert!(model.window > 0);
        model
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::HostWrites(count) if !self.host_ended => {
                let data = bytes(self.written, count);
                if let Some(host) = &mut self.host
                    && let Ok(count) = host.write(&data)
                {
                    self.written += count;
                }
            }
            Step::HostReads(count) => self.host_reads(count),
            Step::HostEnds => {
                if let Some(host) = &self.host {
                    let _ = host.shutdown(Shutdown::Write);
                    self.host_ended = true;
                }
            }
            Step::HostCloses => {
                self.host = None;
                self.host_ended = true;
            }
            Step::GuestSends(count) => self.guest_sends(count),
            Step::GuestReads => self.receive(),
            Step::GuestConsumes(count) => {
                let most = self.received as u32 - self.consumed;
                self.consumed += count.min(most);
                self.say(Operation::CreditUpdate, 0, &[]);
            }
            Step::GuestPosts(count) => {
                let count = count.min(30 - self.buffers);
                self.buffers += count;
                self.guest.post(count);
            }
            Step::GuestShuts(flags) if !self.reset => {
                self.guest_done |= flags;
                self.say(Operation::Shutdown, flags, &[]);
            }
            _ => {}
        }
        self.guest.turn();
    }

    fn say(&mut self, operation: Operation, flags: u32, data: &[u8]) {
        if self.reset {
            return;
        }
        let header = Header {
            flags,
            fwd_cnt: self.consumed,
            ..of(self.to_host, operation)
        };
        self.guest.send(header, data);
        // After the last word there is only the reset to come.
        self.reset |= operation == Operation::Shutdown && self.guest_done == BOTH;
    }

    fn guest_sends(&mut self, count: usize) {
        let room = self.window - (self.sent as u32).wrapping_sub(self.forwarded);
        let count = count.min(room as usize);
        if count == 0 || self.guest_done & SENDS_NO_MORE != 0 || self.told & TAKES_NO_MORE != 0 {
            return;
        }
        let data = bytes(self.sent, count);
        self.say(Operation::Data, 0, &data);
        if !self.reset {
            self.sent += count;
        }
    }

    fn receive(&mut self) {
        while let Some((header, data)) = self.guest.receive_only() {
            self.buffers -= 1;
            match Operation::of(header.operation).unwrap() {
                Operation::Data => {
                    assert_eq!(data, bytes(self.received, data.len()), "in order");
                    self.received += data.len();
                    assert!(
                        self.received as u32 - self.consumed <= ROOM,
                        "more than there is room for"
                    );
                    assert_eq!(self.told & SENDS_NO_MORE, 0, "data after the end");
                }
                Operation::Shutdown => {
                    assert_eq!(header.flags & self.told, self.told);
                    self.told = header.flags;
                }
                Operation::Reset => {
                    assert_eq!(self.guest_done, BOTH, "a reset out of the blue");
                    continue;
                }
                Operation::CreditUpdate => {}
                other => panic!("{other:?}"),
            }
            assert!(header.fwd_cnt as usize <= self.sent, "too much passed on");
            (self.window, self.forwarded) = (header.buf_alloc, header.fwd_cnt);
        }
    }

    fn host_reads(&mut self, count: usize) {
        let Some(host) = &mut self.host else { return };
        let mut data = vec![0; count];
        match host.read(&mut data) {
            Ok(count) => {
                assert_eq!(data[..count], bytes(self.read, count), "in order");
                self.read += count;
            }
            Err(e) => assert!(
                matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset),
                "{e}"
            ),
        }
    }

    /// Everybody does what is left to do, until that changes nothing.
    fn settle(&mut self) {
        let state = |m: &Self| (m.received, m.consumed, m.read, m.told, m.forwarded);
        let mut before = None;
        while before != Some(state(self)) {
            before = Some(state(self));
            let buffers = 100 - self.buffers;
            self.step(Step::GuestPosts(buffers));
            self.step(Step::GuestReads);
            self.step(Step::GuestConsumes(u32::MAX));
            self.step(Step::HostReads(1 << 20));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn bytes_arrive_once_in_order_and_within_credit(
        by_guest: bool,
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut model = Model::new(by_guest);
        for step in steps {
            model.step(step);
        }
        model.settle();
        if model.host.is_some() {
            prop_assert_eq!(model.read, model.sent, "what the guest sent is lost");
        }
        if model.guest_done & TAKES_NO_MORE == 0 {
            prop_assert_eq!(model.received, model.written, "what the host wrote is lost");
            if model.host_ended {
                prop_assert!(model.told & SENDS_NO_MORE != 0, "the guest hears no end");
            }
        }
        if model.host.is_none() && !model.reset {
            prop_assert_eq!(model.told, BOTH);
        }
    }
}
