//! A guest and host programs, on real sockets.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use super::super::{QUEUES, RECEIVE, TRANSMIT, Vsock};
use super::*;
use crate::spec::VsockOut;
use crate::virtio::flow_driver::{BUFFERS, Driver};
use crate::virtio::vsock::packet::{BOTH, SENDS_NO_MORE, TAKES_NO_MORE};

const CID: u32 = 7;
/// Bytes of a receive buffer, as Linux has them.
const BUFFER: u32 = 4096 + packet::SIZE as u32;
/// Where packets are sent from: there is one at a time.
const SEND: u64 = 0x40_0000;

/// A guest of which each step is told.
pub(super) struct Guest {
    driver: Driver<Vsock>,
    dir: tempfile::TempDir,
    posted: u32,
}

impl Guest {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("v")).unwrap();
        let vsock = crate::spec::Vsock {
            cid: CID,
            listener: listener.into(),
            out: Some(VsockOut {
                dir: std::fs::File::open(dir.path()).unwrap().into(),
                prefix: "v".to_owned(),
            }),
        };
        let driver = Driver::new(|meter| Vsock::new(vsock, meter).unwrap());
        Self {
            driver,
            dir,
            posted: 0,
        }
    }

    /// One whose driver is ready, with `buffers` to receive.
    pub(super) fn ready(buffers: u16) -> Self {
        let mut guest = Self::new();
        guest.set_up(buffers);
        guest
    }

    pub(super) fn set_up(&mut self, buffers: u16) {
        self.driver.set_up(0);
        self.posted = 0;
        self.post(buffers);
    }

    pub(super) fn post(&mut self, buffers: u16) {
        for _ in 0..buffers {
            let slot = self.posted % u32::from(QUEUES[RECEIVE]);
            let at = BUFFERS + u64::from(slot) * 0x2000;
            let head = self.driver.post(RECEIVE, &[(at, BUFFER, true)]);
            assert_eq!(u32::from(head), slot);
            self.posted += 1;
        }
        self.turn();
    }

    /// Something happened on the host, or there are buffers again.
    pub(super) fn turn(&self) {
        self.driver.serve(RECEIVE);
    }

    pub(super) fn send(&mut self, header: Header, data: &[u8]) {
        let header = Header {
            src_cid: u64::from(CID),
            dst_cid: HOST,
            kind: STREAM,
            length: data.len() as u32,
            ..header
        };
        self.send_raw(&header, data);
    }

    fn send_raw(&mut self, header: &Header, data: &[u8]) {
        let length = data.len() as u32;
        self.driver.write(SEND, &header.bytes());
        self.driver.write(SEND + 0x1000, data);
        let header = (SEND, packet::SIZE as u32, false);
        // Two pieces of data, where there are as many bytes.
        let cut = length / 3;
        let first = (SEND + 0x1000, cut, false);
        let second = (SEND + 0x1000 + u64::from(cut), length - cut, false);
        match length {
            0 => self.driver.post(TRANSMIT, &[header]),
            1 | 2 => self.driver.post(TRANSMIT, &[header, second]),
            _ => self.driver.post(TRANSMIT, &[header, first, second]),
        };
        self.driver.serve(TRANSMIT);
        self.driver
            .used(TRANSMIT)
            .expect("a packet is taken at once");
    }

    /// The next packet, whose buffer is made available again.
    pub(super) fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let got = self.receive_only()?;
        self.post(1);
        Some(got)
    }

    /// The next packet, whose buffer is kept.
    pub(super) fn receive_only(&mut self) -> Option<(Header, Vec<u8>)> {
        let (head, length) = self.driver.used(RECEIVE)?;
        let bytes = self
            .driver
            .read(BUFFERS + u64::from(head) * 0x2000, length as usize);
        let (header, data) = bytes.split_first_chunk().unwrap();
        let header = Header::parse(header);
        assert_eq!(
            (header.src_cid, header.dst_cid),
            (HOST, u64::from(CID)),
            "{header:?}"
        );
        assert_eq!(header.length as usize, data.len());
        Some((header, data.to_vec()))
    }

    fn expect(&mut self, operation: Operation) -> Header {
        self.turn();
        let (header, data) = self.receive().expect("a packet");
        assert_eq!(Operation::of(header.operation), Some(operation));
        assert!(data.is_empty());
        header
    }

    fn data(&mut self) -> Vec<u8> {
        self.turn();
        let (header, data) = self.receive().expect("data");
        assert_eq!(Operation::of(header.operation), Some(Operation::Data));
        data
    }

    fn nothing(&mut self) {
        self.turn();
        assert_eq!(self.receive(), None, "there should be nothing");
    }

    pub(super) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("v")).unwrap()
    }

    pub(super) fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.dir.path().join(format!("v_{port}"))).unwrap()
    }

    /// A host program's connection to port 80, and the header of a packet in it.
    pub(super) fn accepted(&mut self) -> (UnixStream, Header) {
        let mut host = self.connect();
        host.write_all(b"CONNECT 80\n").unwrap();
        let request = self.expect(Operation::Request);
        assert_eq!(request.dst_port, 80);
        let to_host = Header {
            src_port: 80,
            dst_port: request.src_port,
            buf_alloc: 100_000,
            ..Header::default()
        };
        self.send(of(to_host, Operation::Response), &[]);
        let answer = format!("OK {}\n", request.src_port);
        let mut text = vec![0; answer.len()];
        host.read_exact(&mut text).unwrap();
        assert_eq!(text, answer.as_bytes());
        (host, to_host)
    }

    /// A guest's connection to host port 52.
    pub(super) fn connected(&mut self) -> (UnixStream, Header) {
        let listener = self.listen(52);
        let to_host = Header {
            src_port: 1000,
            dst_port: 52,
            buf_alloc: 100_000,
            ..Header::default()
        };
        self.send(of(to_host, Operation::Request), &[]);
        let answer = self.expect(Operation::Response);
        assert_eq!((answer.src_port, answer.dst_port), (52, 1000));
        let (host, _) = listener.accept().unwrap();
        std::fs::remove_file(self.dir.path().join("v_52")).unwrap();
        (host, to_host)
    }
}

pub(super) fn of(header: Header, operation: Operation) -> Header {
    Header {
        operation: operation as u16,
        ..header
    }
}

fn shutdown(header: Header, flags: u32) -> Header {
    Header {
        flags,
        ..of(header, Operation::Shutdown)
    }
}

#[test]
fn a_host_program_talks_to_a_guest_and_both_part() {
    let mut guest = Guest::ready(8);
    let (mut host, to_host) = guest.accepted();
    host.write_all(b"hello").unwrap();
    assert_eq!(guest.data(), b"hello");
    guest.send(of(to_host, Operation::Data), b"good day");
    let mut text = [0; 8];
    host.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"good day");
    guest.send(shutdown(to_host, BOTH), &[]);
    guest.expect(Operation::Reset);
    assert_eq!(host.read(&mut text).unwrap(), 0);
    guest.nothing();
    assert_eq!(guest.driver.count(Counter::VsockConnections), 1);
    assert_eq!(guest.driver.count(Counter::VsockReceived), 5);
    assert_eq!(guest.driver.count(Counter::VsockSent), 8);
    assert_eq!(guest.driver.count(Counter::DriverErrors), 0);
}

#[test]
fn a_guest_talks_to_a_host_program_and_it_leaves() {
    let mut guest = Guest::ready(8);
    let (mut host, to_host) = guest.connected();
    guest.send(of(to_host, Operation::Data), b"hello");
    let mut text = [0; 5];
    host.read_exact(&mut text).unwrap();
    host.write_all(b"and goodbye").unwrap();
    drop(host);
    // All that it said comes before its end.
    assert_eq!(guest.data(), b"and goodbye");
    assert_eq!(guest.expect(Operation::Shutdown).flags, BOTH);
    // What the guest still sends is forgotten.
    guest.send(of(to_host, Operation::Data), b"hello?");
    guest.send(of(to_host, Operation::Reset), &[]);
    guest.nothing();
}

#[test]
fn a_connect_waits_for_the_driver() {
    let mut guest = Guest::new();
    let mut host = guest.connect();
    host.write_all(b"CONNECT 80\n").unwrap();
    guest.turn();
    guest.set_up(4);
    assert_eq!(guest.expect(Operation::Request).dst_port, 80);
}

#[test]
fn a_port_where_nobody_listens_closes_the_connection() {
    let mut guest = Guest::ready(4);
    let mut host = guest.connect();
    host.write_all(b"CONNECT 80\n").unwrap();
    let request = guest.expect(Operation::Request);
    let reset = Header {
        src_port: 80,
        dst_port: request.src_port,
        ..of(Header::default(), Operation::Reset)
    };
    guest.send(reset, &[]);
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
    // And a guest that calls where nobody listens hears so.
    let call = Header {
        src_port: 1000,
        dst_port: 99,
        ..of(Header::default(), Operation::Request)
    };
    guest.send(call, &[]);
    assert_eq!(guest.expect(Operation::Reset).dst_port, 1000);
}

#[test]
fn a_host_program_that_gives_up_is_withdrawn() {
    let mut guest = Guest::ready(4);
    let mut host = guest.connect();
    host.write_all(b"CONNECT 80\n").unwrap();
    let request = guest.expect(Operation::Request);
    drop(host);
    let reset = guest.expect(Operation::Reset);
    assert_eq!(reset.src_port, request.src_port);
    guest.nothing();
}

#[test]
fn a_half_that_ends_leaves_the_other_open() {
    let mut guest = Guest::ready(8);
    let (mut host, to_host) = guest.accepted();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.expect(Operation::Shutdown).flags, SENDS_NO_MORE);
    guest.send(of(to_host, Operation::Data), b"still there");
    guest.send(shutdown(to_host, SENDS_NO_MORE), &[]);
    let mut text = String::new();
    host.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still there");
    assert_eq!(guest.expect(Operation::Shutdown).flags, BOTH);

    let (mut host, to_host) = guest.accepted();
    guest.send(shutdown(to_host, SENDS_NO_MORE), &[]);
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
    host.write_all(b"an answer").unwrap();
    assert_eq!(guest.data(), b"an answer");
    guest.send(shutdown(to_host, TAKES_NO_MORE), &[]);
    guest.expect(Operation::Reset);
    assert!(host.write_all(b"more").is_err());
}

#[test]
fn a_guest_sends_no_more_than_it_may() {
    let mut guest = Guest::ready(8);
    let (mut host, to_host) = guest.accepted();
    let data = vec![7; 60_000];
    let mut sent = 0;
    // The socket takes some, the window the rest; then it is a guest that does not count.
    let refused = (0..100).find_map(|_| {
        guest.send(of(to_host, Operation::Data), &data);
        sent += data.len();
        let reset = Some(Operation::Reset as u16);
        std::iter::from_fn(|| guest.receive()).find(|(h, _)| Some(h.operation) == reset)
    });
    assert!(refused.is_some());
    assert!(sent < 2 << 20, "{sent}");
    let mut bytes = vec![];
    host.read_to_end(&mut bytes).unwrap();
    assert!(bytes.iter().all(|b| *b == 7));
}

#[test]
fn a_slow_host_program_gets_all_also_after_the_guest_has_left() {
    let mut guest = Guest::ready(8);
    let (mut host, to_host) = guest.accepted();
    let (mut sent, mut forwarded, mut window) = (vec![], 0, 0);
    for number in 0_u32.. {
        let data: Vec<u8> = (0..10_000)
            .flat_map(|i| (number * 10_000 + i).to_le_bytes())
            .collect();
        if window != 0 && sent.len() - forwarded + data.len() > window {
            break;
        }
        guest.send(of(to_host, Operation::Data), &data);
        sent.extend(data);
        let ask = of(to_host, Operation::CreditRequest);
        guest.send(ask, &[]);
        while let Some((header, _)) = guest.receive() {
            (window, forwarded) = (header.buf_alloc as usize, header.fwd_cnt as usize);
        }
    }
    assert!(sent.len() > forwarded);
    guest.send(shutdown(to_host, BOTH), &[]);
    guest.expect(Operation::Reset);
    let mut bytes = vec![0; sent.len()];
    for piece in bytes.chunks_mut(50_000) {
        host.read_exact(piece).unwrap();
        guest.turn();
    }
    assert!(bytes == sent);
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_guest_that_takes_slowly_stops_the_host_program() {
    let mut guest = Guest::ready(4);
    let (host, to_host) = guest.accepted();
    host.set_nonblocking(true).unwrap();
    let mut written = 0;
    while let Ok(count) = { &host }.write(&[1; 10_000]) {
        written += count;
        guest.turn();
    }
    let mut got = 0;
    while let Some((_, data)) = guest.receive() {
        got += data.len();
    }
    assert_eq!(got, 100_000, "the guest's room, and no more");
    assert!(written > got);
    let more = Header {
        fwd_cnt: 60_000,
        ..of(to_host, Operation::CreditUpdate)
    };
    guest.send(more, &[]);
    let mut rest = 0;
    while let Some((_, data)) = guest.receive() {
        rest += data.len();
    }
    assert_eq!(rest, 60_000);
}

#[test]
fn connections_have_their_turns() {
    let mut guest = Guest::ready(16);
    let mut hosts: Vec<(UnixStream, Header)> = (0..4).map(|_| guest.accepted()).collect();
    while guest.receive_only().is_some() {}
    // Buffers are used up by the first two; then all have something to say.
    for (host, _) in &mut hosts {
        host.write_all(&[0; 40_000]).unwrap();
    }
    guest.turn();
    let mut ports = vec![];
    while let Some((header, _)) = guest.receive_only() {
        ports.push(header.src_port);
    }
    assert_eq!(ports.len(), 16);
    for (_, to_host) in &hosts {
        let turns = ports.iter().filter(|p| **p == to_host.dst_port).count();
        assert_eq!(turns, 4);
    }
}

#[test]
fn nonsense_is_answered_by_a_reset() {
    let mut guest = Guest::ready(8);
    let stray = Header {
        src_port: 5,
        dst_port: 6,
        ..Header::default()
    };
    for operation in [2, 4, 5, 6, 7, 0, 99] {
        guest.send(Header { operation, ..stray }, &[]);
        guest.expect(Operation::Reset);
    }
    guest.send(of(stray, Operation::Reset), &[]);
    guest.nothing();
    let mut host = {
        let (host, to_host) = guest.accepted();
        guest.send(of(to_host, Operation::Request), &[]);
        host
    };
    guest.expect(Operation::Reset);
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
    assert_eq!(guest.driver.count(Counter::DriverErrors), 0);
}

#[test]
fn packets_of_others_and_cut_ones_are_counted() {
    let mut guest = Guest::ready(8);
    let (mut host, to_host) = guest.accepted();
    let honest = Header {
        src_cid: u64::from(CID),
        dst_cid: HOST,
        kind: STREAM,
        ..of(to_host, Operation::Data)
    };
    guest.send_raw(
        &Header {
            src_cid: 8,
            ..honest
        },
        &[],
    );
    guest.nothing();
    assert_eq!(guest.driver.count(Counter::DriverErrors), 1);
    // Another host, and another kind of socket: nobody is there.
    for header in [
        Header {
            dst_cid: 3,
            ..honest
        },
        Header { kind: 2, ..honest },
    ] {
        guest.send_raw(&header, &[]);
        guest.turn();
        let (head, length) = guest.driver.used(RECEIVE).unwrap();
        let bytes = guest
            .driver
            .read(BUFFERS + u64::from(head) * 0x2000, length as usize);
        let reset = Header::parse(bytes.first_chunk().unwrap());
        assert_eq!(reset, header.refusal());
        guest.post(1);
    }
    let cut = Header {
        length: u32::MAX,
        ..honest
    };
    guest.send_raw(&cut, b"abc");
    guest.expect(Operation::Reset);
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
    assert_eq!(guest.driver.count(Counter::DriverErrors), 2);
}

#[test]
fn a_reset_of_the_driver_closes_everything() {
    let mut guest = Guest::ready(8);
    let (mut first, _) = guest.accepted();
    let (mut second, _) = guest.connected();
    let mut third = guest.connect();
    guest.turn();
    guest.set_up(8);
    for host in [&mut first, &mut second, &mut third] {
        assert_eq!(host.read(&mut [0]).unwrap(), 0);
    }
    guest.nothing();
    guest.accepted();
}

#[test]
fn there_are_bounds_and_nobody_is_kept_out_by_the_silent() {
    let mut guest = Guest::ready(8);
    let mut silent: Vec<UnixStream> = vec![];
    for _ in 0..GREETINGS + 10 {
        silent.push(guest.connect());
        guest.turn();
    }
    let _open = guest.accepted();
    // The oldest made room.
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0);
    guest.driver.transport.with_device(RECEIVE, |vsock| {
        assert!(vsock.mux.greetings.len() <= GREETINGS);
        vsock.mux.max = vsock.mux.slots.len() - vsock.mux.free.len();
    });
    // Full: a guest is refused, a host program waits.
    let listener = guest.listen(52);
    let call = Header {
        src_port: 1000,
        dst_port: 52,
        ..of(Header::default(), Operation::Request)
    };
    guest.send(call, &[]);
    guest.expect(Operation::Reset);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    let mut waiting = guest.connect();
    waiting.write_all(b"CONNECT 80\n").unwrap();
    guest.nothing();
    // One leaves.
    silent.pop();
    // Its slot is free; then who waits is heard.
    guest.turn();
    guest.expect(Operation::Request);
}

#[test]
fn a_guest_that_takes_no_answers_gets_no_more_than_some() {
    let mut guest = Guest::ready(0);
    let stray = Header {
        src_port: 5,
        dst_port: 6,
        ..of(Header::default(), Operation::Data)
    };
    for _ in 0..RESETS + 50 {
        guest.send(stray, &[]);
    }
    let mut count = 0;
    guest.post(QUEUES[RECEIVE]);
    while guest.receive().is_some() {
        count += 1;
    }
    assert_eq!(count, RESETS);
}

#[test]
fn what_happens_on_the_host_wakes_the_event_loop() {
    let mut guest = Guest::ready(4);
    let mut events =
        crate::event_loop::EventLoop::new(vec![guest.driver.transport.clone()]).unwrap();
    events.resume();
    let mut host = guest.connect();
    host.write_all(b"CONNECT 80\n").unwrap();
    guest.driver.wait_for_interrupt();
    let (request, _) = guest.receive_only().unwrap();
    assert_eq!(request.operation, Operation::Request as u16);
    drop(host);
    guest.driver.wait_for_interrupt();
    let (reset, _) = guest.receive_only().unwrap();
    assert_eq!(reset.operation, Operation::Reset as u16);
    events.stop();
}
