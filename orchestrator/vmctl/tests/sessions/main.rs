//! `vmctl` as its users have it, at a terminal and in a pipe, against a daemon that says what each test wants.

mod daemon;
mod run;
mod terminal;

use std::process::{Command, Stdio};

use abi::agent::frame::Kind;
use abi::agent::message::Message;
use abi::agent::reply::{Exit, Reply};
use api::{AgentState, GuestKind, Init, LinuxVm, Restart, Vm, VmState};
use daemon::Daemon;
use terminal::Terminal;

const STARTED: Message<'static> = Message::Reply(Reply::Started { pid: 7 });

fn vmctl(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmctl"));
    command.arg("--dir").arg(daemon.dir()).args(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn linux_vm() -> Vm {
    Vm {
        id: "3f2a9c11d0e4".into(),
        name: "web".into(),
        state: VmState::Running,
        outcome: None,
        image: "apache".into(),
        digest: "ab".repeat(32),
        kind: GuestKind::Linux,
        args: vec![],
        env: [].into(),
        vcpus: 1,
        memory_mib: 128,
        timeout_ms: None,
        auto_remove: false,
        created_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        started_at: None,
        ended_at: None,
        monitor_pid: None,
        metrics: None,
        linux: Some(LinuxVm {
            command: vec!["sh".into()],
            user: String::new(),
            workdir: "/".into(),
            hostname: "web".into(),
            tty: true,
            stdin_open: true,
            init: Init::Agent,
            disk_mib: 8192,
            addresses: vec![],
            ports: vec![],
            volumes: vec![],
            restart: Restart::default(),
            restarts: 0,
            stop_signal: "TERM".into(),
            stop_timeout_ms: 10_000,
            agent: AgentState::Running,
            agent_message: None,
            health_probe: None,
            health: None,
        }),
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[test]
fn a_program_at_a_terminal_has_its_size_every_key_and_the_last_word() {
    let daemon = Daemon::new();
    let mut terminal = Terminal::start(&daemon, &["exec", "-it", "-u", "me", "web", "sh", "-l"]);
    let request = daemon.expect("POST /v1/vms/web/exec");
    let expected = serde_json::json!({
        "command": ["sh", "-l"], "user": "me", "stdin": true, "detach": false,
        "tty": {"rows": 33, "cols": 101}, "term": "xterm-256color",
    });
    assert_eq!(request.json(), expected);
    let mut frames = request.upgrade();
    frames.say(&STARTED);
    frames.say(&Message::Stdout(b"$ "));
    terminal.shows("$ ");
    terminal.assert_raw();
    terminal.types(b"\x03\x10\x11");
    let mut typed = Vec::new();
    while typed.len() < 3 {
        let (kind, payload) = frames.hear();
        assert_eq!(kind, Kind::Stdin);
        typed.extend(payload);
    }
    assert_eq!(typed, b"\x03\x10\x11", "an exec is not left by keys");
    terminal.resize(40, 120);
    assert_eq!(
        frames.hear(),
        (Kind::Resize, br#"{"rows":40,"cols":120}"#.to_vec())
    );
    frames.say(&Message::Exit(Exit::Code(7)));
    assert_eq!(terminal.ends().code(), Some(7));
}

#[test]
fn a_terminal_is_given_back_whatever_ends_vmctl() {
    let start = || {
        let daemon = Daemon::new();
        let mut terminal = Terminal::start(&daemon, &["exec", "-it", "web", "sh"]);
        let mut frames = daemon.request().upgrade();
        frames.say(&STARTED);
        frames.say(&Message::Stdout(b"$ "));
        terminal.shows("$ ");
        terminal.assert_raw();
        (terminal, frames, daemon)
    };
    for (signal, status) in [
        (libc::SIGTERM, 143),
        (libc::SIGHUP, 129),
        (libc::SIGINT, 130),
    ] {
        let (terminal, _frames, _daemon) = start();
        terminal.signal(signal);
        assert_eq!(terminal.ends().code(), Some(status));
    }
    let (mut terminal, mut frames, _daemon) = start();
    frames.say_bytes(&[99; 8]);
    terminal.shows("cannot be read");
    assert_eq!(terminal.ends().code(), Some(125));
    let (mut terminal, frames, _daemon) = start();
    drop(frames);
    terminal.shows("before the program ended");
    assert_eq!(terminal.ends().code(), Some(125));
}

#[test]
fn the_detach_keys_leave_a_main_program() {
    let daemon = Daemon::new();
    let mut terminal = Terminal::start(&daemon, &["attach", "web"]);
    daemon
        .expect("GET /v1/vms/web")
        .answer("200 OK", &json(&linux_vm()));
    let request = daemon.expect("POST /v1/vms/3f2a9c11d0e4/attach");
    assert_eq!(request.json()["stdin"], true);
    let mut frames = request.upgrade();
    frames.say(&Message::Reply(Reply::Ready));
    frames.say(&Message::Stdout(b"here"));
    terminal.shows("here");
    terminal.types(b"a\x10");
    assert_eq!(frames.hear(), (Kind::Stdin, b"a".to_vec()));
    terminal.types(b"\x11");
    assert_eq!(terminal.ends().code(), Some(0));
    frames.ends();
}

#[test]
fn a_pipe_goes_through_a_program_and_its_status_comes_out() {
    let daemon = Daemon::new();
    let mut child = vmctl(&daemon, &["exec", "-i", "web", "cat"])
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, &sent).unwrap());
    let echo = std::thread::spawn(move || {
        let mut frames = daemon.request().upgrade();
        frames.say(&STARTED);
        loop {
            match frames.hear() {
                (Kind::Stdin, bytes) => frames.say(&Message::Stdout(&bytes)),
                (Kind::Eof, _) => break,
                other => panic!("{other:?}"),
            }
        }
        frames.say(&Message::Stderr(b"done"));
        frames.say(&Message::Exit(Exit::Signal(9)));
        daemon
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    drop(echo.join().unwrap());
    assert!(
        output.stdout == expected,
        "{} bytes came back",
        output.stdout.len()
    );
    assert_eq!(output.stderr, b"done");
    assert_eq!(output.status.code(), Some(137));
}

#[test]
fn signals_reach_a_program_without_a_terminal() {
    let daemon = Daemon::new();
    let mut child = vmctl(&daemon, &["exec", "web", "sleep"]).spawn().unwrap();
    let mut frames = daemon.request().upgrade();
    frames.say(&STARTED);
    frames.say(&Message::Stdout(b"runs"));
    // Before it runs, a signal is vmctl's own.
    let mut said = [0; 4];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    // SAFETY: a signal to our own child, which was not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(frames.hear(), (Kind::Signal, br#"{"signal":15}"#.to_vec()));
    frames.say(&Message::Exit(Exit::Signal(15)));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
}

#[test]
fn a_signal_ends_vmctl_while_the_guest_still_boots() {
    let daemon = Daemon::new();
    let child = vmctl(&daemon, &["exec", "web", "ls"]).spawn().unwrap();
    let _unanswered = daemon.request();
    // SAFETY: a signal to our own child, which was not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

#[test]
fn files_go_into_a_guest_as_an_archive() {
    let daemon = Daemon::new();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("site")).unwrap();
    std::fs::write(dir.path().join("site/index.html"), "hello").unwrap();
    let from = dir.path().join("site");
    let args = ["cp", from.to_str().unwrap(), "web:/srv/www"];
    let child = vmctl(&daemon, &args).spawn().unwrap();
    let path = "/v1/vms/web/files/stat?path=%2Fsrv%2Fwww&follow=true";
    daemon.expect(&format!("GET {path}")).refuse("file");
    daemon
        .expect("GET /v1/vms/web")
        .answer("200 OK", &json(&linux_vm()));
    // It is not there, so that it gets the target's name.
    let put = daemon.expect("PUT /v1/vms/web/files?path=%2Fsrv");
    let archive = put.chunks();
    let mut archive = tar::Archive::new(&archive[..]);
    let names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    assert_eq!(
        names,
        ["www", "www/index.html"].map(std::path::PathBuf::from)
    );
    put.answer("204 No Content", b"");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_console_is_shown_to_its_end_and_typed_into() {
    let daemon = Daemon::new();
    let mut child = vmctl(&daemon, &["console", "-n", "3", "web"])
        .spawn()
        .unwrap();
    daemon
        .expect("GET /v1/vms/web")
        .answer("200 OK", &json(&linux_vm()));
    let vm = "/v1/vms/3f2a9c11d0e4";
    let logs = daemon.expect(&format!("GET {vm}/logs?follow=true&tail=3"));
    let mut logs = logs.begin();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"poweroff\n").unwrap();
    let console = daemon.expect(&format!("POST {vm}/console"));
    assert_eq!(console.chunks(), b"poweroff\n");
    console.answer("204 No Content", b"");
    std::io::Write::write_all(&mut logs, b"login: ").unwrap();
    drop(logs);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"login: ");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_missing_program_is_told_from_a_missing_vm() {
    let daemon = Daemon::new();
    for (there, status) in [(true, 127), (false, 125)] {
        let child = vmctl(&daemon, &["exec", "web", "nope"]).spawn().unwrap();
        daemon.request().refuse("program nope");
        let inspect = daemon.expect("GET /v1/vms/web");
        match there {
            true => inspect.answer("200 OK", &json(&linux_vm())),
            false => inspect.refuse("VM web"),
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("there is no program nope"), "{said}");
    }
}

#[test]
fn an_image_that_is_missing_is_built_where_a_recipe_has_its_name() {
    let daemon = Daemon::new();
    let recipes = br#"[{"name":"apache","description":"a web server"}]"#;
    let refused = |image: &str| {
        daemon.expect("POST /v1/vms").refuse("image");
        daemon
            .expect(&format!("GET /v1/images/{image}"))
            .refuse("image");
        daemon.expect("GET /v1/recipes").answer("200 OK", recipes);
    };
    let args = ["run", "-d", "-p", "8080:80", "apache"];
    let child = vmctl(&daemon, &args).spawn().unwrap();
    refused("apache");
    let build = daemon.expect("POST /v1/images/build");
    assert_eq!(build.json()["recipe"], "apache");
    let image = r#"{"digest":"ab","names":["apache"],"bytes":1,"kind":"linux","added_at":"2026-01-01T00:00:00Z","used_by":0}"#;
    let events = format!(
        "{}\n{}\n{{\"event\":\"done\",\"image\":{image}}}\n",
        r#"{"event":"step","message":"installing packages"}"#,
        r#"{"event":"progress","of":"root","done":2097152,"total":2097152}"#,
    );
    build.answer("200 OK", events.as_bytes());
    let create = daemon.expect("POST /v1/vms");
    assert_eq!(create.json()["ports"][0]["host_port"], 8080);
    create.answer("201 Created", &json(&linux_vm()));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"3f2a9c11d0e4\n");
    let said = String::from_utf8_lossy(&output.stderr);
    for words in [
        "building it from its recipe",
        "installing packages",
        "root: 2.0 MiB",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }

    let child = vmctl(&daemon, &["run", "-d", "nope"]).spawn().unwrap();
    refused("nope");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("\"nope\"") && said.contains("vmctl image pull"),
        "{said}"
    );
}

#[test]
fn files_come_out_of_a_guest_by_dockers_rules_and_no_further() {
    let daemon = Daemon::new();
    let target = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let to = target.path().join("new");
        let to = to.to_str().unwrap();
        let child = vmctl(&daemon, &["cp", "web:/etc/hosts", to])
            .spawn()
            .unwrap();
        let stat = r#"{"kind":"file","size":1,"mode":420,"uid":0,"gid":0,"modified":0}"#;
        daemon
            .expect("GET /v1/vms/web/files/stat?path=%2Fetc%2Fhosts&follow=false")
            .answer("200 OK", stat.as_bytes());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(1);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.push(b'x');
        archive.resize(2048, 0);
        daemon
            .expect("GET /v1/vms/web/files?path=%2Fetc%2Fhosts")
            .answer("200 OK", &archive);
        child.wait_with_output().unwrap()
    };
    let output = copy("hosts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(std::fs::read(target.path().join("new")).unwrap(), b"x");
    let output = copy("../../escaped");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("leads out of it"), "{said}");
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 1);
}
