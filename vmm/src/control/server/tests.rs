//! The server, driven through a real socket by real clients.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::control::fake::Fake;
use crate::control::http::MAX_BODY;
use crate::meter::State;

/// A server on a thread of its own, until it is stopped.
struct Running {
    path: PathBuf,
    stop: OwnedFd,
    thread: Option<JoinHandle<Fake>>,
    _dir: tempfile::TempDir,
}

fn serve(limits: Limits) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api");
    let socket = Socket::bind(&path).unwrap();
    let instance = Instance {
        id: "a".parse().unwrap(),
        launched_at: None,
        logger: crate::control::Logger::default(),
        metrics_path: None,
    };
    let mut control = Control::new(instance, Some(socket))
        .unwrap()
        .with_limits(limits);
    let (stopped, stop) = rustix::pipe::pipe().unwrap();
    let thread = std::thread::spawn(move || {
        let mut monitor = Fake::in_state(Some(State::Running));
        loop {
            let mut fds = [
                PollFd::new(&control, PollFlags::IN),
                PollFd::new(&stopped, PollFlags::IN),
            ];
            poll(&mut fds, None).unwrap();
            if !fds[1].revents().is_empty() {
                control.finish(&monitor);
                return monitor;
            }
            control.handle(&mut monitor);
        }
    });
    Running {
        path,
        stop,
        thread: Some(thread),
        _dir: dir,
    }
}

impl Running {
    fn client(&self) -> UnixStream {
        UnixStream::connect(&self.path).unwrap()
    }

    fn stop(mut self) -> Fake {
        rustix::io::write(&self.stop, b"x").unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

const ASK: &[u8] = b"GET /version HTTP/1.1\r\n\r\n";

/// Reads one answer: its status and its body.
fn answer(client: &mut UnixStream) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |l| l.parse().unwrap())];
    client.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn ask(client: &mut UnixStream) {
    client.write_all(ASK).unwrap();
    assert_eq!(answer(client).0, 200);
}

/// Reads until the server hangs up.
fn rest(client: &mut UnixStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    // A server that closes before it read all resets the connection, once what it said was read.
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(text).unwrap()
}

fn impatient() -> Limits {
    Limits {
        patience: Duration::from_millis(30),
        ..Limits::default()
    }
}

#[test]
fn a_client_drives_a_vm() {
    let server = serve(Limits::default());
    let mut client = server.client();
    ask(&mut client);
    for (state, body) in [
        ("Paused", r#"{"state":"Paused"}"#),
        ("Running", r#"{"state":"Resumed"}"#),
    ] {
        write!(
            client,
            "PATCH /vm HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        assert_eq!(answer(&mut client), (204, String::new()));
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(answer(&mut client).1.contains(state));
    }
    let path = server.path.clone();
    assert_eq!(server.stop().calls, ["pause", "resume"]);
    assert!(!path.exists(), "the socket's file is left behind");
    assert_eq!(rest(&mut client), "");
}

#[test]
fn requests_sent_together_are_answered_in_order() {
    let server = serve(Limits::default());
    let mut client = server.client();
    let pair = [ASK, b"GET / HTTP/1.1\r\n\r\n"].concat();
    client.write_all(&pair.repeat(50)).unwrap();
    for _ in 0..50 {
        assert!(answer(&mut client).1.contains("firecracker_version"));
        assert!(answer(&mut client).1.contains("app_name"));
    }
}

#[test]
fn a_client_that_does_not_take_answers_is_asked_no_more() {
    let server = serve(Limits::default());
    let mut greedy = server.client();
    let mut writer = greedy.try_clone().unwrap();
    const COUNT: usize = 5_000;
    let thread = std::thread::spawn(move || writer.write_all(&ASK.repeat(COUNT)).unwrap());
    // Others are served all the while.
    ask(&mut server.client());
    for _ in 0..COUNT {
        assert_eq!(answer(&mut greedy).0, 200);
    }
    thread.join().unwrap();
}

#[test]
fn a_body_of_a_gibibyte_is_refused_unread() {
    let server = serve(Limits::default());
    let mut client = server.client();
    client
        .write_all(b"PUT /mmds HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n")
        .unwrap();
    let (status, body) = answer(&mut client);
    assert_eq!(status, 413);
    assert!(
        body.contains("1073741824 bytes, 51200 are allowed"),
        "{body}"
    );
    // What it sends all the same is forgotten; it sees an end, not an error.
    client.write_all(&[b'x'; 1 << 20]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client), "");
}

#[test]
fn the_largest_body_arrives_after_its_invitation() {
    let server = serve(Limits::default());
    let mut client = server.client();
    write!(
        client,
        "PUT /logger HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {MAX_BODY}\r\n\r\n"
    )
    .unwrap();
    assert_eq!(answer(&mut client), (100, String::new()));
    client.write_all(&vec![b' '; MAX_BODY]).unwrap();
    let (status, body) = answer(&mut client);
    assert_eq!(status, 400);
    assert!(body.contains("deserializing the json body"), "{body}");
    ask(&mut client);
}

#[test]
fn garbage_is_answered_and_closed() {
    let server = serve(Limits::default());
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\n"[..], " 400 "),
        (
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            " 411 ",
        ),
        (b"DELETE / HTTP/1.1\r\n\r\n", " 400 "),
        (b"GET / HTTP/1.0\r\n\r\n", " 200 "),
    ] {
        let mut client = server.client();
        client.write_all(bytes).unwrap();
        let text = rest_after_shutdown(&mut client);
        assert!(
            text.contains(status) && text.contains("Connection: close"),
            "{text}"
        );
    }
}

fn rest_after_shutdown(client: &mut UnixStream) -> String {
    let text = rest(client);
    let _ = client.shutdown(std::net::Shutdown::Both);
    text
}

#[test]
fn a_client_that_has_said_all_still_reads_its_answer() {
    let server = serve(Limits::default());
    let mut client = server.client();
    client.write_all(ASK).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(rest(&mut client).contains("200 OK"));
    // And one that leaves in the midst of a request is no harm.
    server.client().write_all(b"GET /ver").unwrap();
    ask(&mut server.client());
}

#[test]
fn a_slow_client_is_told_so_and_holds_nobody_up() {
    let server = serve(impatient());
    let mut slow = server.client();
    slow.write_all(b"PUT /actions HTTP/1.1\r\nContent-Length: 40\r\n\r\n{")
        .unwrap();
    ask(&mut server.client());
    let text = rest(&mut slow);
    assert!(
        text.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{text}"
    );
    assert!(text.contains("was not complete within 0.03 s"), "{text}");
}

#[test]
fn a_client_that_is_idle_may_stay() {
    let server = serve(impatient());
    let (mut idle, mut slow) = (server.client(), server.client());
    ask(&mut idle);
    slow.write_all(b"GET").unwrap();
    // By then the idle one has waited as long.
    assert!(rest(&mut slow).contains(" 408 "));
    ask(&mut idle);
}

#[test]
fn one_client_too_many_takes_the_place_of_the_idlest() {
    let server = serve(Limits {
        connections: 3,
        ..Limits::default()
    });
    let mut clients: Vec<UnixStream> = (0..3).map(|_| server.client()).collect();
    for at in [1, 0, 2] {
        ask(&mut clients[at]);
    }
    let mut fourth = server.client();
    ask(&mut fourth);
    assert_eq!(rest(&mut clients[1]), "");
    ask(&mut clients[0]);
    ask(&mut clients[2]);
    ask(&mut fourth);
}

#[test]
fn where_all_are_at_work_one_more_waits() {
    let server = serve(Limits {
        connections: 2,
        ..Limits::default()
    });
    let mut busy: Vec<UnixStream> = (0..2).map(|_| server.client()).collect();
    for client in &mut busy {
        // Served once, so that its request has surely begun when the next client comes.
        client.write_all(&[ASK, b"GET /ver"].concat()).unwrap();
        assert_eq!(answer(client).0, 200);
    }
    let mut third = server.client();
    third.write_all(ASK).unwrap();
    busy[0].write_all(b"sion HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(answer(&mut busy[0]).0, 200);
    assert_eq!(answer(&mut third).0, 200);
    busy[1].write_all(b"sion HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(answer(&mut busy[1]).0, 200);
}

#[test]
fn silent_clients_cannot_keep_others_out() {
    let server = serve(Limits {
        connections: 2,
        ..impatient()
    });
    let mut silent: Vec<UnixStream> = (0..2).map(|_| server.client()).collect();
    ask(&mut server.client());
    assert_eq!(rest(&mut silent[0]), "");
}

#[test]
fn a_crowd_is_served_to_the_last() {
    let server = serve(Limits::default());
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| ask(&mut server.client()));
        }
    });
    let fake = server.stop();
    assert_eq!(fake.state, Some(State::Running));
}
