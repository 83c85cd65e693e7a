//! Programs beside the main one.

use std::fs;
use std::thread;

use crate::common::{Agent, Client, Owned, code, program, sh};
use abi::agent::frame::Kind;
use abi::agent::message::{Message, Signal, Size};
use abi::agent::reply::{Code, Exit, Reply};
use abi::agent::request::{Exec, Program, Request, Tty};

fn exec(agent: &Agent, program: Program) -> Client {
    let mut client = agent.ask(Request::Exec(Exec {
        program,
        detach: false,
    }));
    match client.next() {
        Some(Owned::Reply(Reply::Started { .. })) => client,
        other => panic!("{other:?} is no start"),
    }
}

fn terminal(script: &str) -> Program {
    let size = Size {
        rows: 30,
        cols: 100,
    };
    Program {
        tty: Some(Tty { size, term: None }),
        ..sh(script)
    }
}

#[test]
fn a_program_has_its_output_and_its_status() {
    let agent = Agent::new();
    let ran = agent
        .run(sh("echo out; echo err >&2; exit 7"), b"")
        .expect("it runs");
    assert_eq!(
        (&ran.stdout[..], &ran.stderr[..], ran.exit),
        (&b"out\n"[..], &b"err\n"[..], Exit::Code(7))
    );
    let ran = agent.run(program(&["true"]), b"").expect("it runs");
    assert_eq!(ran.exit, Exit::Code(0));
}

#[test]
fn a_program_that_is_killed_has_its_signal() {
    let agent = Agent::new();
    for signal in [9, 11, 15, 34, 64] {
        let ran = agent
            .run(sh(&format!("kill -{signal} $$")), b"")
            .expect("it runs");
        assert_eq!(ran.exit, Exit::Signal(signal));
    }
}

#[test]
fn a_signal_reaches_the_whole_group() {
    let agent = Agent::new();
    let mut client = exec(
        &agent,
        sh("trap 'echo got; exit 3' USR1; echo ready; sleep 1000 & wait"),
    );
    client.until("ready\n");
    client.send(&Message::Signal(Signal { signal: 10 }));
    assert_eq!(client.until("got\n"), "got\n");
    assert_eq!(client.ran().exit, Exit::Code(3));
}

#[test]
fn what_cannot_be_run_says_why() {
    let agent = Agent::new();
    let plain = agent.dir().join("plain");
    fs::write(&plain, "no program").expect("a file can be written");
    let plain = plain.to_str().expect("a plain path");
    let fails = |program: Program| code(agent.run(program, b""));
    assert_eq!(fails(program(&["no-such-program"])), Code::NotFound);
    assert_eq!(fails(program(&["/no/such/program"])), Code::NotFound);
    assert_eq!(fails(program(&[plain])), Code::NotExecutable);
    assert_eq!(fails(program(&["/"])), Code::NotExecutable);
    assert_eq!(
        fails(Program {
            cwd: Some("/no/such".into()),
            ..program(&["true"])
        }),
        Code::NotFound
    );
    assert_eq!(
        fails(Program {
            user: Some("no-such-user".into()),
            ..program(&["true"])
        }),
        Code::NotFound
    );
    // And the agent is as well as before.
    assert_eq!(
        agent.run(program(&["true"]), b"").expect("it runs").exit,
        Exit::Code(0)
    );
}

#[test]
fn a_program_gets_what_was_said() {
    let agent = Agent::new();
    let wanted = Program {
        env: vec!["A=1 2".into(), "A=3".into(), "PATH=/usr/bin:/bin".into()],
        cwd: Some("/usr".into()),
        user: Some("65534:12345".into()),
        groups: vec!["7".into()],
        ..sh("echo $A; pwd; id -u; id -g; id -G; ulimit -n")
    };
    let ran = agent.run(wanted, b"").expect("it runs");
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "3\n/usr\n65534\n12345\n12345 7\n1024\n"
    );
}

#[test]
fn nothing_of_the_agents_leaks_into_a_program() {
    let agent = Agent::new();
    let listed = agent
        .run(program(&["ls", "/proc/self/fd"]), b"")
        .expect("it runs");
    for fd in String::from_utf8_lossy(&listed.stdout).lines() {
        // `ls` has the directory itself open as 3; what this process was born with, all of its children have.
        let is_ours = fs::exists(format!("/proc/self/fd/{fd}")).expect("/proc can be read");
        assert!(
            matches!(fd, "0" | "1" | "2" | "3") || is_ours,
            "descriptor {fd} leaks"
        );
    }
    let ran = agent
        .run(sh("grep -E 'SigBlk|SigIgn' /proc/self/status; env"), b"")
        .expect("it runs");
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(told.starts_with("SigBlk:\t0000000000000000\n"), "{told}");
    let ignored = told
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .expect("the kernel tells");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a set of signals");
    assert_eq!(ignored & (1 << 12), 0, "SIGPIPE is ignored");
    assert!(
        told.contains("HOME=") && told.contains("PATH=") && !told.contains("CARGO"),
        "{told}"
    );
}

#[test]
fn input_goes_in_and_its_end_too() {
    let agent = Agent::new();
    let wanted = Program {
        stdin: true,
        ..program(&["cat"])
    };
    assert_eq!(
        agent.run(wanted, b"some text").expect("it runs").stdout,
        b"some text"
    );
    // Without any wish for input, it is empty.
    assert_eq!(
        agent.run(program(&["cat"]), b"").expect("it runs").stdout,
        b""
    );
    // A program that reads nothing does not mind.
    let wanted = Program {
        stdin: true,
        ..program(&["true"])
    };
    assert_eq!(
        agent.run(wanted, &[b'x'; 60_000]).expect("it runs").exit,
        Exit::Code(0)
    );
}

#[test]
fn sixty_four_mebibytes_come_back_as_they_went() {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 1024;
    let agent = Agent::new();
    let mut client = exec(
        &agent,
        Program {
            stdin: true,
            ..program(&["cat"])
        },
    );
    let chunk = |number: usize| -> Vec<u8> {
        let words = (0..CHUNK / 8)
            .map(|word| ((number * CHUNK + word) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        words.flat_map(u64::to_le_bytes).collect()
    };
    let mut writer = Client::new(client.stream.try_clone().expect("a descriptor"));
    let writes = thread::spawn(move || {
        for number in 0..CHUNKS {
            writer.send(&Message::Stdin(&chunk(number)));
        }
        writer.send(&Message::Eof);
    });
    let (mut number, mut got) = (0, Vec::new());
    loop {
        match client.next() {
            Some(Owned::Bytes(Kind::Stdout, bytes)) => got.extend(bytes),
            Some(Owned::Exit(exit)) => {
                assert_eq!(exit, Exit::Code(0));
                break;
            }
            other => panic!("{other:?} while a program runs"),
        }
        while got.len() >= CHUNK {
            assert!(
                got[..CHUNK] == chunk(number)[..],
                "chunk {number} is another"
            );
            got.drain(..CHUNK);
            number += 1;
        }
    }
    assert_eq!((number, got.len()), (CHUNKS, 0));
    writes.join().expect("the writer is well");
}

#[test]
fn a_hundred_at_once_each_have_their_own() {
    let agent = Agent::new();
    let mut clients: Vec<Client> = (0..100)
        .map(|number| {
            exec(
                &agent,
                Program {
                    stdin: true,
                    ..sh(&format!("read line; echo $line {number}; exit {number}"))
                },
            )
        })
        .collect();
    // All of them run before any may end.
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&Message::Stdin(format!("from {number}\n").as_bytes()));
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        let ran = client.ran();
        assert_eq!(
            String::from_utf8_lossy(&ran.stdout),
            format!("from {number} {number}\n")
        );
        // At most 99.
        assert_eq!(ran.exit, Exit::Code(number as u8));
    }
}

#[test]
fn a_terminal_is_one_and_changes_its_size() {
    let agent = Agent::new();
    let script = "tty -s && stty size && echo $TERM; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut client = exec(&agent, terminal(script));
    assert_eq!(client.until("ready\r\n"), "30 100\r\nxterm\r\nready\r\n");
    client.send(&Message::Resize(Size { rows: 7, cols: 40 }));
    assert_eq!(client.until("40\r\n"), "7 40\r\n");
    assert_eq!(client.ran().exit, Exit::Code(5));
}

#[test]
fn a_character_on_a_terminal_interrupts() {
    let agent = Agent::new();
    let mut client = exec(&agent, terminal("echo ready; exec sleep 1000"));
    client.until("ready\r\n");
    client.send(&Message::Stdin(b"\x03"));
    assert_eq!(client.ran().exit, Exit::Signal(2));
}

#[test]
fn a_client_that_vanishes_takes_its_program_along() {
    let agent = Agent::new();
    for wanted in [
        sh("echo $$; sleep 1000"),
        terminal("echo $$; sleep 1000"),
        sh("echo $$; yes"),
    ] {
        let mut client = exec(&agent, wanted);
        let mut told = String::new();
        while !told.contains('\n') {
            match client.next() {
                Some(Owned::Bytes(_, bytes)) => told.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?} while a program runs"),
            }
        }
        let pid = told
            .lines()
            .next()
            .map(str::trim)
            .unwrap_or_default()
            .to_owned();
        assert!(fs::exists(format!("/proc/{pid}")).expect("/proc can be read"));
        client.vanish();
        let began = std::time::Instant::now();
        while fs::exists(format!("/proc/{pid}")).expect("/proc can be read") {
            assert!(
                began.elapsed() < crate::common::DEADLINE,
                "process {pid} lives on"
            );
            thread::yield_now();
        }
    }
}

#[test]
fn a_detached_program_outlives_its_connection() {
    let agent = Agent::new();
    let mark = agent.dir().join("mark");
    let program = sh(&format!("sleep 0.2; echo done > {}", mark.display()));
    let reply = agent.answer(Request::Exec(Exec {
        program,
        detach: true,
    }));
    assert!(
        matches!(reply, Ok(Reply::Started { pid }) if pid > 1),
        "{reply:?}"
    );
    let began = std::time::Instant::now();
    while fs::read(&mark).map_or(0, |text| text.len()) < 5 {
        assert!(
            began.elapsed() < crate::common::DEADLINE,
            "it did not go on"
        );
    }
}

#[test]
fn a_reader_that_does_not_read_holds_up_its_own_program_only() {
    let agent = Agent::new();
    let mut slow = exec(&agent, sh("yes | head -c 10000000"));
    for _ in 0..10 {
        assert_eq!(
            agent.run(sh("echo quick"), b"").expect("it runs").stdout,
            b"quick\n"
        );
    }
    let ran = slow.ran();
    assert_eq!((ran.stdout.len(), ran.exit), (10_000_000, Exit::Code(0)));
}

#[test]
fn what_a_program_leaves_behind_does_not_keep_its_client() {
    let agent = Agent::new();
    let ran = agent
        .run(sh("echo said; sleep 1000 & exit 4"), b"")
        .expect("it runs");
    assert_eq!((&ran.stdout[..], ran.exit), (&b"said\n"[..], Exit::Code(4)));
}

#[test]
fn orphans_are_reaped_by_process_1() {
    let agent = Agent::in_namespace();
    // Each of these leaves a grandchild to process 1, which ends at once.
    for _ in 0..20 {
        agent
            .run(sh("(sh -c 'exit 3' &) ; exit 0"), b"")
            .expect("it runs");
    }
    let began = std::time::Instant::now();
    loop {
        let ran = agent
            .run(sh("cat /proc/[0-9]*/stat | grep -c ' Z ' || true"), b"")
            .expect("it runs");
        if ran.stdout == b"0\n" {
            break;
        }
        assert!(
            began.elapsed() < crate::common::DEADLINE,
            "zombies stay: {ran:?}"
        );
    }
}
