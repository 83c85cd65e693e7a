//! What is sent arrives, however it is cut; what is not right is refused, and nothing panics.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::net::IpAddr;

use proptest::prelude::*;
use proptest::{collection, option};

use super::frame::{Decoder, Frame, FrameError, HEADER, Kind, PAYLOAD_MAX};
use super::message::{Dropped, Hello, Message, MessageError, Signal, Size};
use super::network::{Dns, Host, Interface, Mac, Network, Prefix};
use super::reply::{
    Code, DiskUse, Exit, Failure, FileKind, Found, Healthy, Memory, Reply, Report, State, Status,
};
use super::request::{
    AddEntropy, Attach, CopyIn, CopyOut, Exec, Health, Probe, Program, Request, Shutdown, Stat, Tty,
};
use super::start::{Clock, Filesystem, Mode, Restart, Root, Start, Volume, When, Writes};

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_-]{0,12}"
}

fn path() -> impl Strategy<Value = String> {
    "/[a-zé \"\\\\/.\n]{0,30}"
}

fn size() -> impl Strategy<Value = Size> {
    (0..=4096_u16, 0..=4096_u16).prop_map(|(rows, cols)| Size { rows, cols })
}

fn program() -> impl Strategy<Value = Program> {
    let tty = (size(), option::of(word())).prop_map(|(size, term)| Tty { size, term });
    let argv = (path(), collection::vec("[^\0]{0,20}", 0..4)).prop_map(|(program, mut args)| {
        args.insert(0, program);
        args
    });
    let env = collection::vec("[A-Z]{1,8}=[^\0]{0,20}", 0..4);
    let groups = collection::vec(word(), 0..3);
    (
        argv,
        env,
        option::of(path()),
        option::of(word()),
        groups,
        option::of(tty),
        any::<bool>(),
    )
        .prop_map(|(argv, env, cwd, user, groups, tty, stdin)| Program {
            argv,
            env,
            cwd,
            user,
            groups,
            tty,
            stdin,
        })
}

fn clock() -> impl Strategy<Value = Clock> {
    (0..i64::MAX as u64, 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| Clock {
        seconds,
        nanoseconds,
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (any::<IpAddr>(), any::<u8>()).prop_map(|(address, bits)| Prefix {
        address,
        bits: bits % if address.is_ipv4() { 33 } else { 129 },
    })
}

fn network() -> impl Strategy<Value = Network> {
    let interface = (
        any::<[u8; 6]>(),
        collection::vec(prefix(), 0..3),
        any::<Option<core::net::Ipv4Addr>>(),
        any::<Option<core::net::Ipv6Addr>>(),
        option::of(68..u16::MAX),
    )
        .prop_map(|(mac, addresses, gateway_v4, gateway_v6, mtu)| Interface {
            mac: Mac(mac),
            addresses,
            gateway_v4,
            gateway_v6,
            mtu,
        });
    let dns = (
        collection::vec(any::<IpAddr>(), 0..3),
        collection::vec(word(), 0..3),
    )
        .prop_map(|(servers, search)| Dns { servers, search });
    let host = (any::<IpAddr>(), collection::vec(word(), 1..3))
        .prop_map(|(address, names)| Host { address, names });
    (
        collection::vec(interface, 0..3),
        dns,
        collection::vec(host, 0..3),
    )
        .prop_map(|(interfaces, dns, hosts)| Network {
            interfaces,
            dns,
            hosts,
        })
}

fn start() -> impl Strategy<Value = Start> {
    let writes = prop_oneof![
        Just(Writes::Refused),
        Just(Writes::Memory),
        word().prop_map(|disk| Writes::Disk { disk }),
    ];
    let filesystem = prop_oneof![Just(Filesystem::Erofs), Just(Filesystem::Ext4)];
    let root = (word(), filesystem, writes).prop_map(|(disk, filesystem, writes)| Root {
        disk,
        filesystem,
        writes,
    });
    let volume = (word(), path(), any::<bool>(), any::<bool>()).prop_map(
        |(disk, path, read_only, populate)| Volume {
            disk,
            path,
            read_only,
            populate,
        },
    );
    let when = prop_oneof![
        Just(When::Never),
        Just(When::Always),
        any::<Option<u32>>().prop_map(|max| When::OnFailure { max }),
    ];
    let restart =
        (when, any::<u32>(), any::<u32>()).prop_map(|(when, first_ms, limit_ms)| Restart {
            when,
            first_ms,
            limit_ms,
        });
    let mode = prop_oneof![Just(Mode::Agent), Just(Mode::Init)];
    let first = (
        word(),
        option::of(root),
        collection::vec(volume, 0..3),
        option::of(word()),
        network(),
    );
    let second = (
        option::of(clock()),
        collection::vec(any::<u8>(), 0..64),
        program(),
        mode,
        restart,
        1..=64_u8,
    );
    (first, second).prop_map(
        |(
            (generation, root, volumes, hostname, network),
            (clock, entropy, program, mode, restart, stop_signal),
        )| Start {
            generation,
            root,
            volumes,
            hostname,
            network,
            clock,
            entropy,
            program,
            mode,
            restart,
            stop_signal,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let probe = prop_oneof![
        program().prop_map(|program| Probe::Exec { program }),
        any::<u16>().prop_map(|port| Probe::Tcp { port }),
        (any::<u16>(), "/[a-z/?]{0,20}").prop_map(|(port, path)| Probe::Http { port, path }),
    ];
    prop_oneof![
        start().prop_map(|start| Request::Start(Box::new(start))),
        Just(Request::Status),
        Just(Request::Report),
        (program(), any::<bool>())
            .prop_map(|(program, detach)| Request::Exec(Exec { program, detach })),
        (any::<bool>(), any::<bool>(), option::of(size())).prop_map(|(backlog, stdin, size)| {
            Request::Attach(Attach {
                backlog,
                stdin,
                size,
            })
        }),
        (1..=64_u8).prop_map(|signal| Request::Signal(Signal { signal })),
        path().prop_map(|path| Request::CopyIn(CopyIn { path })),
        path().prop_map(|path| Request::CopyOut(CopyOut { path })),
        (path(), any::<bool>()).prop_map(|(path, follow)| Request::Stat(Stat { path, follow })),
        clock().prop_map(Request::SetClock),
        collection::vec(any::<u8>(), 0..=512)
            .prop_map(|bytes| Request::AddEntropy(AddEntropy { bytes })),
        (probe, any::<u32>())
            .prop_map(|(probe, timeout_ms)| Request::Health(Health { probe, timeout_ms })),
        (any::<u32>(), any::<bool>())
            .prop_map(|(timeout_ms, force)| Request::Shutdown(Shutdown { timeout_ms, force })),
    ]
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        any::<u8>().prop_map(Exit::Code),
        (1..=64_u8).prop_map(Exit::Signal)
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    ".{0,60}".prop_map(|message| Failure::new(Code::NotFound, message))
}

fn reply() -> impl Strategy<Value = Reply> {
    let state = prop_oneof![
        Just(State::Ready),
        Just(State::Stopping),
        any::<u32>().prop_map(|pid| State::Running { pid }),
        (exit(), any::<u32>()).prop_map(|(exit, retry_ms)| State::Waiting { exit, retry_ms }),
        exit().prop_map(|exit| State::Exited { exit }),
        failure().prop_map(|error| State::Failed { error }),
    ];
    let status = (option::of(word()), state, any::<u32>(), any::<u64>()).prop_map(
        |(generation, state, restarts, uptime_ms)| Status {
            generation,
            state,
            restarts,
            uptime_ms,
        },
    );
    let disk = (path(), any::<[u64; 4]>()).prop_map(|(path, n)| DiskUse {
        path,
        total: n[0],
        available: n[1],
        files: n[2],
        files_available: n[3],
    });
    let report = (
        any::<[u64; 6]>(),
        any::<[u32; 5]>(),
        collection::vec(disk, 0..3),
    )
        .prop_map(|(n, m, disks)| Report {
            memory: Memory {
                total: n[0],
                free: n[1],
                available: n[2],
                cached: n[3],
            },
            load: [m[0], m[1], m[2]],
            runnable: m[3],
            threads: m[4],
            cpu_busy_ms: n[4],
            cpu_idle_ms: n[5],
            disks,
        });
    let found = (
        any::<u64>(),
        0..=0o7777_u16,
        any::<[u32; 2]>(),
        any::<i64>(),
        option::of(path()),
    )
        .prop_map(|(size, mode, [uid, gid], modified, target)| Found {
            kind: FileKind::Link,
            size,
            mode,
            uid,
            gid,
            modified,
            target,
        });
    prop_oneof![
        Just(Reply::Done),
        Just(Reply::Ready),
        any::<u32>().prop_map(|pid| Reply::Started { pid }),
        status.prop_map(Reply::Status),
        report.prop_map(Reply::Report),
        (any::<bool>(), ".{0,40}")
            .prop_map(|(healthy, detail)| Reply::Health(Healthy::new(healthy, detail))),
        found.prop_map(Reply::Stat),
    ]
}

/// A message that owns its bytes, for they come in pieces.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let encoded = |message: Message<'_>| {
        let mut out = Vec::new();
        message
            .encode(&mut out)
            .expect("strategies give what is valid");
        out
    };
    let bytes = collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        any::<u32>().prop_map(move |version| encoded(Message::Hello(Hello { version }))),
        request().prop_map(move |request| encoded(Message::Request(Box::new(request)))),
        reply().prop_map(move |reply| encoded(Message::Reply(reply))),
        failure().prop_map(move |failure| encoded(Message::Error(failure))),
        size().prop_map(move |size| encoded(Message::Resize(size))),
        (1..=64_u8).prop_map(move |signal| encoded(Message::Signal(Signal { signal }))),
        exit().prop_map(move |exit| encoded(Message::Exit(exit))),
        any::<u64>().prop_map(move |bytes| encoded(Message::Dropped(Dropped { bytes }))),
        Just(encoded(Message::Eof)),
        (bytes, 0..4).prop_map(move |(bytes, which)| encoded(match which {
            0 => Message::Stdin(&bytes),
            1 => Message::Stdout(&bytes),
            2 => Message::Stderr(&bytes),
            _ => Message::Data(&bytes),
        })),
    ]
}

/// Every message that comes out of `pieces`, encoded again, and the error that ended it.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Option<String>) {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    for mut piece in pieces {
        loop {
            let message = match decoder.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(frame)) => Message::decode(frame),
                Err(error) => return (out, Some(error.to_string())),
            };
            match message {
                Ok(message) => message
                    .encode(&mut out)
                    .expect("what was read can be written"),
                Err(error) => return (out, Some(error.to_string())),
            }
        }
        assert!(piece.is_empty(), "a decoder that wants more has taken all");
    }
    (out, None)
}

proptest! {
    #[test]
    fn what_is_sent_arrives_however_it_is_cut(
        frames in collection::vec(frame(), 1..6),
        cuts in collection::vec(1..100_usize, 1..20),
    ) {
        let all: Vec<u8> = frames.concat();
        prop_assert_eq!(read([&all[..]].into_iter()), (all.clone(), None));
        let mut rest = &all[..];
        let pieces = cuts.iter().cycle().map_while(|&cut| {
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            rest = more;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(read(pieces), (all.clone(), None));
    }

    #[test]
    fn a_cut_stream_gives_its_whole_frames_and_waits(frame in frame(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(frame.len());
        prop_assert_eq!(read([&frame[..cut]].into_iter()), (vec![], None));
    }

    #[test]
    fn a_changed_byte_is_refused_or_read_and_never_a_panic(
        frame in frame(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut frame = frame;
        let at = at.index(frame.len());
        frame[at] = byte;
        read([&frame[..]].into_iter());
    }

    #[test]
    fn garbage_is_refused_alike_however_it_is_cut(
        bytes in collection::vec(prop_oneof![0..25_u8, any::<u8>()], 0..200), cut in 1..10_usize,
    ) {
        prop_assert_eq!(read(bytes.chunks(cut)), read([&bytes[..]].into_iter()));
    }
}

#[test]
fn a_header_that_cannot_be_is_refused_and_stays_refused() {
    for (bytes, error) in [
        ([0, 0, 0, 0, 0, 0, 0, 0], FrameError::Kind(0)),
        ([255, 0, 0, 0, 0, 0, 0, 0], FrameError::Kind(255)),
        ([1, 0, 1, 0, 0, 0, 0, 0], FrameError::Reserved),
        (
            [1, 0, 0, 0, 1, 0, 1, 0],
            FrameError::Length(PAYLOAD_MAX + 1),
        ),
        (
            [1, 0, 0, 0, 255, 255, 255, 255],
            FrameError::Length(u32::MAX as usize),
        ),
    ] {
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut &bytes[..]), Err(error));
        assert_eq!(decoder.next(&mut &[][..]), Err(error));
    }
}

#[test]
fn the_largest_frame_passes_and_a_larger_one_is_not_written() {
    let payload = vec![7; PAYLOAD_MAX];
    let mut out = Vec::new();
    Message::Data(&payload)
        .encode(&mut out)
        .expect("it is allowed");
    assert_eq!(out.len(), HEADER + PAYLOAD_MAX);
    assert_eq!(read(out.chunks(4096)), (out.clone(), None));
    let larger = vec![7; PAYLOAD_MAX + 1];
    let kind = Kind::Data;
    let refused = Frame {
        kind,
        payload: &larger,
    }
    .encode(&mut out);
    assert_eq!(refused, Err(FrameError::Length(PAYLOAD_MAX + 1)));
    assert_eq!(out.len(), HEADER + PAYLOAD_MAX);
}

#[test]
fn a_request_is_json_as_documented() {
    let json = br#"{"exec":{"program":{"argv":["ls","-l"],"tty":{"size":{"rows":24,"cols":80}}}}}"#;
    let frame = Frame {
        kind: Kind::Request,
        payload: json,
    };
    let Ok(Message::Request(request)) = Message::decode(frame) else {
        panic!("{:?}", Message::decode(frame));
    };
    let Request::Exec(exec) = *request else {
        panic!("{request:?}");
    };
    assert_eq!(exec.program.argv, ["ls", "-l"]);
    assert!(!exec.detach && !exec.program.stdin);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for json in [
        r#"{"exec":{"program":{"argv":[]}}}"#,
        r#"{"exec":{"program":{"argv":[""]}}}"#,
        r#"{"exec":{"program":{"argv":["a\u0000b"]}}}"#,
        r#"{"exec":{"program":{"argv":["a"],"env":["no"]}}}"#,
        r#"{"exec":{"program":{"argv":["a"],"env":["=no"]}}}"#,
        r#"{"exec":{"program":{"argv":["a"],"cwd":"relative"}}}"#,
        r#"{"exec":{"program":{"argv":["a"],"unknown":1}}}"#,
        r#"{"signal":{"signal":0}}"#,
        r#"{"signal":{"signal":65}}"#,
        r#"{"copy_in":{"path":"relative"}}"#,
        r#"{"set_clock":{"seconds":1,"nanoseconds":1000000000}}"#,
        r#"{"health":{"probe":{"http":{"port":1,"path":"/ HTTP/1.1"}},"timeout_ms":1}}"#,
        r#"{"start":{"generation":"","program":{"argv":["a"]}}}"#,
        r#"{"start":{"generation":"1","program":{"argv":["a"]},"hostname":"a b"}}"#,
        r#"{"start":{"generation":"1","program":{"argv":["a"]},"network":{"dns":{"search":["a\nb"]}}}}"#,
        r#"{"start":{"generation":"1","program":{"argv":["a"]},"root":{"disk":"../a","filesystem":"ext4","writes":"root"}}}"#,
        r#"{"start":{"generation":"1","program":{"argv":["a"]},"root":{"disk":"a","filesystem":"erofs","writes":"root"}}}"#,
        r#"{"unknown":1}"#,
        "\"status\" ",
        "",
    ] {
        let payload = json.as_bytes();
        let decoded = Message::decode(Frame {
            kind: Kind::Request,
            payload,
        });
        if json == "\"status\" " {
            assert!(decoded.is_ok(), "space behind JSON is JSON");
        } else {
            assert!(decoded.is_err(), "{json} was let through");
        }
    }
    let decoded = Message::decode(Frame {
        kind: Kind::Eof,
        payload: b"x",
    });
    assert!(matches!(decoded, Err(MessageError::Payload(1))));
}

#[test]
fn a_request_that_the_agent_would_refuse_is_not_sent() {
    let mut out = Vec::new();
    let refused =
        Message::Request(Box::new(Request::Signal(Signal { signal: 0 }))).encode(&mut out);
    assert!(refused.is_err() && out.is_empty());
    let bytes = vec![0; 513];
    let refused =
        Message::Request(Box::new(Request::AddEntropy(AddEntropy { bytes }))).encode(&mut out);
    assert!(refused.is_err() && out.is_empty());
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let failure = Failure::new(Code::Failed, format!("{}é", "x".repeat(511)));
    assert_eq!(failure.message.len(), 511);
    assert_eq!(Failure::new(Code::Failed, "a\0b").message, "a b");
}

#[test]
fn addresses_that_are_none_are_refused() {
    for mac in [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "2:0:0:0:0:1",
        "+2:00:00:00:00:01",
    ] {
        assert!(mac.parse::<Mac>().is_err(), "{mac}");
    }
    for prefix in [
        "10.0.0.1",
        "10.0.0.1/33",
        "10.0.0.1/+8",
        "fe80::1/129",
        "/8",
        "10.0.0.1/",
    ] {
        assert!(prefix.parse::<Prefix>().is_err(), "{prefix}");
    }
}
