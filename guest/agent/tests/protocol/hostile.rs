//! Peers that do not keep to the protocol, and what is left of them: nothing.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::common::{Agent, Client, Owned, code, program, sh};
use abi::agent::message::{Hello, Message, Size};
use abi::agent::reply::{Code, Exit, Reply};
use abi::agent::request::{Health, Probe, Program, Request, Stat};

/// What the agent says to bytes that nobody should send, up to the connection's end.
fn answer_to(agent: &Agent, bytes: &[u8]) -> Vec<Owned> {
    let mut stream = agent.connect();
    // It may close before it has heard all.
    let _ = stream.write_all(bytes);
    let mut client = Client::new(stream);
    std::iter::from_fn(|| client.next()).collect()
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    Message::Hello(Hello::OURS)
        .encode(&mut bytes)
        .expect("it is valid");
    bytes
}

fn is_refused(answers: &[Owned], code: Code) -> bool {
    matches!(answers.last(), Some(Owned::Error(failure)) if failure.code == code)
}

#[test]
fn garbage_is_refused_and_changes_nothing() {
    let agent = Agent::new();
    let valid = hello();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 100],
        &[255; 100_000],
        b"\x01\0\0\0\xff\xff\xff\xff",
        b"\x01\0\0\0\x02\0\0\0{}",
        b"\x02\0\0\0\x08\0\0\0\"status\"",
        b"\x10\0\0\0\x01\0\0\0x",
    ] {
        assert!(
            is_refused(&answer_to(&agent, garbage), Code::Invalid),
            "{garbage:?} was let through"
        );
        let behind = [&valid[..], garbage].concat();
        if garbage.first() != Some(&2) {
            assert!(
                is_refused(&answer_to(&agent, &behind), Code::Invalid),
                "{garbage:?} was let through"
            );
        }
    }
    assert_eq!(
        agent.run(program(&["true"]), b"").expect("it runs").exit,
        Exit::Code(0)
    );
}

#[test]
fn another_version_is_told_ours() {
    let agent = Agent::new();
    let mut client = Client::new(agent.connect());
    client.send(&Message::Hello(Hello { version: 999 }));
    assert_eq!(client.next(), Some(Owned::Hello));
    assert!(matches!(client.next(), Some(Owned::Error(failure)) if failure.code == Code::Version));
    assert_eq!(client.next(), None);
}

#[test]
fn frames_out_of_place_are_refused() {
    let agent = Agent::new();
    let mut client = agent.ask(Request::Exec(abi::agent::request::Exec {
        program: sh("sleep 1000"),
        detach: false,
    }));
    assert!(matches!(
        client.next(),
        Some(Owned::Reply(Reply::Started { .. }))
    ));
    client.send(&Message::Data(b"no copy"));
    assert!(matches!(client.next(), Some(Owned::Error(failure)) if failure.code == Code::Invalid));
    assert_eq!(client.next(), None);
}

#[test]
fn those_who_connect_and_say_nothing_cost_nobody_else() {
    let agent = Agent::new();
    let silent: Vec<UnixStream> = (0..900).map(|_| agent.connect()).collect();
    assert_eq!(
        agent.run(program(&["true"]), b"").expect("it runs").exit,
        Exit::Code(0)
    );
    drop(silent);
    // More than there is place for: those too many are closed, and place comes again.
    let silent: Vec<UnixStream> = (0..1500).map(|_| agent.connect()).collect();
    let mut last = silent.last().expect("there are some");
    assert_eq!(last.read(&mut [0; 1]).expect("it is closed, not reset"), 0);
    drop(silent);
    let began = std::time::Instant::now();
    loop {
        let mut client = Client::new(agent.connect());
        // It may be closed at once.
        let _ = client.stream.write_all(&hello());
        if client.next() == Some(Owned::Hello) {
            break;
        }
        assert!(
            began.elapsed() < crate::common::DEADLINE,
            "no place came free"
        );
    }
}

#[test]
fn nothing_stays_of_connections_that_ended() {
    let agent = Agent::new();
    let files = || {
        fs::read_dir(format!("/proc/{}/fd", agent.pid()))
            .expect("it lives")
            .count()
    };
    assert_eq!(
        agent.run(program(&["true"]), b"").expect("it runs").exit,
        Exit::Code(0)
    );
    let before = files();
    for number in 0..50 {
        let size = Size { rows: 1, cols: 1 };
        let tty = (number % 2 == 0).then_some(abi::agent::request::Tty { size, term: None });
        agent
            .run(
                Program {
                    tty,
                    stdin: true,
                    ..program(&["true"])
                },
                b"",
            )
            .expect("it runs");
        answer_to(&agent, b"garbage!");
        assert!(agent.run(program(&["/no/such"]), b"").is_err());
    }
    let began = std::time::Instant::now();
    while files() > before {
        assert!(
            began.elapsed() < crate::common::DEADLINE,
            "{} descriptors, {before} before",
            files()
        );
    }
}

#[test]
fn health_is_what_the_service_says() {
    let agent = Agent::new();
    let ask = |probe| match agent.answer(Request::Health(Health {
        probe,
        timeout_ms: 2000,
    })) {
        Ok(Reply::Health(health)) => health.healthy,
        other => panic!("{other:?} is no health"),
    };
    assert!(ask(Probe::Exec {
        program: program(&["true"])
    }));
    assert!(!ask(Probe::Exec {
        program: program(&["false"])
    }));
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = server.local_addr().expect("it has an address").port();
    assert!(ask(Probe::Tcp { port }));
    let serves = std::thread::spawn(move || {
        // The first is the probe above.
        let mut paths = Vec::new();
        for stream in server.incoming().skip(1).take(2) {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 512];
            let count = stream.read(&mut request).expect("a request");
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let status = if path == "/well" { "200 OK" } else { "500 Not" };
            stream
                .write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())
                .expect("it is heard");
            paths.push(path);
        }
        paths
    });
    assert!(ask(Probe::Http {
        port,
        path: "/well".into()
    }));
    assert!(!ask(Probe::Http {
        port,
        path: "/ill".into()
    }));
    assert_eq!(
        serves.join().expect("the server is well"),
        ["/well", "/ill"]
    );
    assert!(!ask(Probe::Tcp { port }), "nobody listens any more");
    let slow = Request::Health(Health {
        probe: Probe::Exec {
            program: sh("sleep 1000"),
        },
        timeout_ms: 50,
    });
    assert!(matches!(agent.answer(slow), Ok(Reply::Health(health)) if !health.healthy));
}

#[test]
fn report_and_stat_tell_what_is() {
    let agent = Agent::new();
    match agent.answer(Request::Report) {
        Ok(Reply::Report(report)) => {
            assert!(report.memory.total > report.memory.available && report.memory.available > 0);
            assert!(report.threads > 0 && report.cpu_busy_ms > 0);
        }
        other => panic!("{other:?} is no report"),
    }
    let path = agent.dir().join("file");
    fs::write(&path, "12345").expect("a file can be written");
    let path = path.to_str().expect("a plain path").to_owned();
    match agent.answer(Request::Stat(Stat {
        path,
        follow: false,
    })) {
        Ok(Reply::Stat(found)) => assert_eq!(
            (found.size, found.kind),
            (5, abi::agent::reply::FileKind::File)
        ),
        other => panic!("{other:?} is no stat"),
    }
    let missing = Request::Stat(Stat {
        path: "/no/such".into(),
        follow: true,
    });
    assert_eq!(code(agent.answer(missing)), Code::NotFound);
}
