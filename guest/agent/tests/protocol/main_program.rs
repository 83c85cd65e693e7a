//! The main program: its output, its end, its restarts.

use std::fs;
use std::io::Read;

use crate::common::{Agent, Client, Owned, code, program, sh, start, started};
use abi::agent::frame::Kind;
use abi::agent::message::{Message, Signal};
use abi::agent::reply::{Code, Exit, Reply, State};
use abi::agent::request::{Attach, Exec, Program, Request, Shutdown};
use abi::agent::start::{Clock, Mode, Restart, Start, When};

fn attach(agent: &Agent, attach: Attach) -> Client {
    let mut client = agent.ask(Request::Attach(attach));
    assert_eq!(client.next(), Some(Owned::Reply(Reply::Ready)));
    client
}

const FROM_THE_BEGINNING: Attach = Attach {
    backlog: true,
    stdin: false,
    size: None,
};

#[test]
fn its_status_is_the_guests_and_its_output_the_consoles() {
    let mut agent = Agent::new();
    let mut console = agent.console();
    let status = started(&agent, start("1", sh("echo out; echo err >&2; exit 6")));
    assert_eq!(status.generation.as_deref(), Some("1"));
    assert!(
        matches!(status.state, State::Running { .. } | State::Exited { .. }),
        "{status:?}"
    );
    assert_eq!(agent.ended().code(), Some(6));
    let mut told = String::new();
    console
        .read_to_string(&mut told)
        .expect("the console can be read");
    let mut lines: Vec<&str> = told.lines().collect();
    // Two pipes: which is read first is not said.
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
}

#[test]
fn a_signal_that_kills_it_is_told_as_a_shell_does() {
    let mut agent = Agent::new();
    started(&agent, start("1", sh("kill -9 $$")));
    assert_eq!(agent.ended().code(), Some(137));
}

#[test]
fn it_is_started_once() {
    let agent = Agent::new();
    let first = started(&agent, start("a", sh("sleep 1000")));
    // A host that was restarted asks again, and learns how far it is.
    assert_eq!(started(&agent, start("a", sh("exit 1"))).state, first.state);
    let again = agent.answer(Request::Start(Box::new(start("b", sh("true")))));
    assert_eq!(code(again), Code::Busy);
}

#[test]
fn a_start_that_cannot_be_is_told_and_stays() {
    let agent = Agent::new();
    let wanted = || Request::Start(Box::new(start("a", program(&["/no/such"]))));
    assert_eq!(code(agent.answer(wanted())), Code::NotFound);
    match agent.answer(wanted()) {
        Ok(Reply::Status(status)) => {
            assert!(matches!(status.state, State::Failed { error } if error.code == Code::NotFound))
        }
        other => panic!("{other:?} is no status"),
    }
    let sleeps = Request::Exec(Exec {
        program: sh("true"),
        detach: true,
    });
    assert!(
        agent.answer(sleeps).is_ok(),
        "its owner can look what went wrong"
    );
}

#[test]
fn somebody_elses_machine_is_not_changed() {
    let agent = Agent::new();
    let clock = Clock {
        seconds: 1,
        nanoseconds: 0,
    };
    assert_eq!(
        code(agent.answer(Request::SetClock(clock))),
        Code::Permission
    );
    for wanted in [
        Start {
            hostname: Some("other".into()),
            ..start("1", sh("true"))
        },
        Start {
            clock: Some(clock),
            ..start("2", sh("true"))
        },
        Start {
            mode: Mode::Init,
            ..start("3", sh("true"))
        },
    ] {
        // Each on an agent of its own: a start that failed is not tried again.
        let agent = Agent::new();
        assert_eq!(
            code(agent.answer(Request::Start(Box::new(wanted)))),
            Code::Permission
        );
    }
}

#[test]
fn those_attached_see_what_it_writes_and_how_it_ends() {
    let mut agent = Agent::new();
    started(
        &agent,
        start(
            "1",
            Program {
                stdin: true,
                ..sh("echo one; read line; echo $line >&2; exit 2")
            },
        ),
    );
    let mut first = attach(&agent, FROM_THE_BEGINNING);
    assert_eq!(
        first.next(),
        Some(Owned::Bytes(Kind::Stdout, b"one\n".to_vec()))
    );
    let mut second = attach(
        &agent,
        Attach {
            backlog: true,
            stdin: true,
            size: None,
        },
    );
    assert_eq!(
        second.next(),
        Some(Owned::Bytes(Kind::Stdout, b"one\n".to_vec()))
    );
    second.send(&Message::Stdin(b"two\n"));
    for client in [&mut first, &mut second] {
        let ran = client.ran();
        assert_eq!((&ran.stderr[..], ran.exit), (&b"two\n"[..], Exit::Code(2)));
    }
    assert_eq!(agent.ended().code(), Some(2));
}

#[test]
fn a_client_that_leaves_does_not_end_it() {
    let agent = Agent::new();
    started(
        &agent,
        start(
            "1",
            sh("trap 'echo alive' USR1; echo ready; while :; do sleep 0.05; done"),
        ),
    );
    let mut client = attach(&agent, FROM_THE_BEGINNING);
    client.until("ready\n");
    client.vanish();
    let mut client = attach(&agent, Attach::default());
    assert_eq!(
        agent.answer(Request::Signal(Signal { signal: 10 })),
        Ok(Reply::Done)
    );
    assert_eq!(client.until("alive\n"), "alive\n");
}

#[test]
fn a_reader_that_does_not_read_never_blocks_it() {
    let mut agent = Agent::new();
    // Nobody reads the console, nor this connection, until all is written.
    let mark = agent.dir().join("written");
    let script = format!(
        "read line; yes | head -c 8000000; : > {}; read line",
        mark.display()
    );
    started(
        &agent,
        start(
            "1",
            Program {
                stdin: true,
                ..sh(&script)
            },
        ),
    );
    let mut slow = attach(&agent, Attach::default());
    let mut writer = attach(
        &agent,
        Attach {
            stdin: true,
            ..Attach::default()
        },
    );
    writer.send(&Message::Stdin(b"go\n"));
    let began = std::time::Instant::now();
    while !fs::exists(&mark).expect("a directory can be read") {
        assert!(
            began.elapsed() < crate::common::DEADLINE,
            "the program waits for its readers"
        );
    }
    writer.send(&Message::Stdin(b"end\n"));
    let (mut read, mut dropped) = (0, 0);
    let exit = loop {
        match slow.next() {
            Some(Owned::Bytes(Kind::Stdout, bytes)) => read += bytes.len() as u64,
            Some(Owned::Dropped(bytes)) => dropped += bytes,
            Some(Owned::Exit(exit)) => break exit,
            other => panic!("{other:?} while attached"),
        }
    };
    assert_eq!((read + dropped, exit), (8_000_000, Exit::Code(0)));
    assert!(dropped > 0, "a socket that holds 8 MB is no slow reader");
    assert_eq!(agent.ended().code(), Some(0));
}

#[test]
fn it_is_started_again_as_the_policy_says() {
    let mut agent = Agent::new();
    let count = agent.dir().join("count");
    let script = format!(
        "echo x >> {0}; [ $(wc -l < {0}) -lt 4 ] && exit 9; exit 0",
        count.display()
    );
    let restart = Restart {
        when: When::OnFailure { max: None },
        first_ms: 1,
        limit_ms: 4,
    };
    started(
        &agent,
        Start {
            restart,
            ..start("1", sh(&script))
        },
    );
    assert_eq!(agent.ended().code(), Some(0));
    assert_eq!(
        fs::read_to_string(count).expect("it ran").lines().count(),
        4
    );
}

#[test]
fn who_is_attached_stays_over_a_restart() {
    let mut agent = Agent::new();
    let restart = Restart {
        when: When::OnFailure { max: Some(2) },
        first_ms: 1,
        limit_ms: 1,
    };
    started(
        &agent,
        Start {
            restart,
            ..start(
                "1",
                Program {
                    stdin: true,
                    ..sh("echo up; read line; exit 8")
                },
            )
        },
    );
    let mut client = attach(
        &agent,
        Attach {
            backlog: true,
            stdin: true,
            size: None,
        },
    );
    for restarts in 0..3 {
        client.until("up\n");
        assert_eq!(agent.status().restarts, restarts);
        client.send(&Message::Stdin(b"\n"));
    }
    assert_eq!(client.ran().exit, Exit::Code(8));
    assert_eq!(agent.ended().code(), Some(8));
}

#[test]
fn a_wait_for_a_restart_is_told_and_ends_with_a_shutdown() {
    let mut agent = Agent::new();
    let restart = Restart {
        when: When::Always,
        first_ms: 1_000_000,
        limit_ms: 1_000_000,
    };
    started(
        &agent,
        Start {
            restart,
            ..start("1", sh("exit 3"))
        },
    );
    let status = agent.until(|state| matches!(state, State::Waiting { .. }));
    assert!(
        matches!(status.state, State::Waiting { exit: Exit::Code(3), retry_ms } if retry_ms > 900_000)
    );
    let shutdown = Shutdown {
        timeout_ms: 1000,
        force: false,
    };
    assert_eq!(agent.answer(Request::Shutdown(shutdown)), Ok(Reply::Done));
    assert_eq!(agent.ended().code(), Some(3));
}

#[test]
fn a_shutdown_asks_first() {
    let mut agent = Agent::new();
    let program = sh("trap 'exit 21' USR2; echo ready; while :; do sleep 0.05; done");
    started(
        &agent,
        Start {
            stop_signal: 12,
            ..start("1", program)
        },
    );
    attach(&agent, FROM_THE_BEGINNING).until("ready\n");
    let mut client = agent.ask(Request::Shutdown(Shutdown {
        timeout_ms: 60_000,
        force: false,
    }));
    assert_eq!(client.next(), Some(Owned::Reply(Reply::Done)));
    assert_eq!(
        client.next(),
        None,
        "the connection lasts as long as the guest"
    );
    assert_eq!(agent.ended().code(), Some(21));
}

#[test]
fn a_program_that_does_not_hear_is_killed_in_time() {
    let mut agent = Agent::new();
    started(
        &agent,
        start(
            "1",
            sh("trap '' TERM; echo ready; while :; do sleep 0.05; done"),
        ),
    );
    attach(&agent, FROM_THE_BEGINNING).until("ready\n");
    let shutdown = |timeout_ms, force| Request::Shutdown(Shutdown { timeout_ms, force });
    assert_eq!(agent.answer(shutdown(1_000_000, false)), Ok(Reply::Done));
    assert_eq!(agent.status().state, State::Stopping);
    // Who cannot wait says so.
    assert_eq!(agent.answer(shutdown(50, false)), Ok(Reply::Done));
    assert_eq!(agent.ended().code(), Some(137));
}

#[test]
fn a_guest_with_nothing_in_it_ends_too() {
    let mut agent = Agent::new();
    let shutdown = Shutdown {
        timeout_ms: 1000,
        force: true,
    };
    assert_eq!(agent.answer(Request::Shutdown(shutdown)), Ok(Reply::Done));
    assert_eq!(agent.ended().code(), Some(143));
}
