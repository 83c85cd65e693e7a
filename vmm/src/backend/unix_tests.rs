//! Who comes and who is found.

use super::*;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

fn sockets(out: Option<VsockOut>) -> (Sockets, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("v")).unwrap();
    (Sockets::new(listener.into(), out).unwrap(), dir)
}

#[test]
fn a_line_is_heard_and_not_a_byte_more() {
    for (text, heard) in [
        (&b"CONNECT 1024\nmore"[..], Greeting::Port(1024)),
        (b"connect 4294967295\n", Greeting::Port(u32::MAX)),
        (b"CONNECT 10", Greeting::Unfinished),
        (b"", Greeting::Unfinished),
        (b"CONNECT 4294967296\n", Greeting::Nonsense),
        (b"CONNECT +1\n", Greeting::Nonsense),
        (b"CONNECT 1 2\n", Greeting::Nonsense),
        (b"CONNECT\n", Greeting::Nonsense),
        (b"\n", Greeting::Nonsense),
        (b"\xff\n", Greeting::Nonsense),
        (b"CONNECT 11111111111111111111111111", Greeting::Nonsense),
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.write_all(text).unwrap();
        let socket = OwnedFd::from(ours.try_clone().unwrap());
        assert_eq!(hear(&socket), heard, "{}", text.escape_ascii());
        if matches!(heard, Greeting::Port(_)) {
            drop(theirs);
            let mut rest = vec![];
            { ours }.read_to_end(&mut rest).unwrap();
            let end = text.iter().position(|b| *b == b'\n').unwrap();
            assert_eq!(rest, &text[end + 1..]);
        }
    }
}

#[test]
fn who_is_gone_is_heard_no_more() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert_eq!(hear(&ours.into()), Greeting::Nonsense);
}

#[test]
fn a_knock_is_heard_only_while_somebody_listens() {
    let (mut sockets, dir) = sockets(None);
    let _client = UnixStream::connect(dir.path().join("v")).unwrap();
    assert_eq!(sockets.events(), []);
    sockets.listen(true);
    assert_eq!(sockets.events(), [Event::Knock]);
    assert!(sockets.accept().is_some());
    assert!(sockets.accept().is_none());
    assert_eq!(sockets.events(), []);
}

#[test]
fn a_guest_finds_the_listener_of_its_port_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("vsock_52")).unwrap();
    let out = VsockOut {
        dir: std::fs::File::open(dir.path()).unwrap().into(),
        prefix: "vsock".to_owned(),
    };
    let (sockets, _dir) = sockets(Some(out));
    let _guest = sockets.connect(52).unwrap();
    listener.accept().unwrap();
    assert!(sockets.connect(53).is_err());
}

#[test]
fn a_guest_finds_nobody_where_no_place_is_given() {
    let (sockets, _dir) = sockets(None);
    assert!(sockets.connect(52).is_err());
}

#[test]
fn edges_tell_an_end_from_a_close() {
    let (mut sockets, _dir) = sockets(None);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ours = OwnedFd::from(ours);
    sockets.watch(&ours, 7).unwrap();
    let edges = |sockets: &mut Sockets| match sockets.events()[..] {
        [Event::Socket(7, edges)] => edges,
        ref other => panic!("{other:?}"),
    };
    let first = edges(&mut sockets);
    assert!(first.writable && !first.readable && !first.closed);
    assert_eq!(sockets.events(), []);
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let second = edges(&mut sockets);
    assert!(second.readable && !second.closed);
    drop(theirs);
    assert!(edges(&mut sockets).closed);
}

#[test]
fn what_does_not_listen_is_refused() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert!(Sockets::new(ours.into(), None).is_err());
}
