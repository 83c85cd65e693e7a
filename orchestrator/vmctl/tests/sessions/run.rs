//! `vmctl run` of a Linux image, from its creation to its removal.

use std::process::Child;

use abi::agent::frame::Kind;
use abi::agent::message::Message;
use abi::agent::reply::{Exit, Reply};
use api::{Cause, Outcome, Vm, VmState};

use super::daemon::{Daemon, Frames};
use super::terminal::Terminal;
use super::{json, linux_vm, vmctl};

const VM: &str = "/v1/vms/3f2a9c11d0e4";

/// Without a terminal and without input.
fn plain() -> Vm {
    let mut vm = linux_vm();
    if let Some(linux) = &mut vm.linux {
        (linux.tty, linux.stdin_open) = (false, false);
    }
    vm
}

fn ended(vm: Vm, status: u32) -> Vm {
    let outcome = Outcome {
        cause: Cause::Exit,
        status,
        detail: String::new(),
        message: format!("exited with status {status}"),
    };
    Vm {
        state: VmState::Exited,
        outcome: Some(outcome),
        ..vm
    }
}

fn answer(daemon: &Daemon, line: &str, body: &[u8]) {
    daemon.expect(line).answer("200 OK", body);
}

/// Until its program is attached to, with or without what it wrote before.
fn attached(daemon: &Daemon, backlog: bool) -> Frames {
    let request = daemon.expect(&format!("POST {VM}/attach"));
    assert_eq!(request.json()["backlog"], backlog);
    let mut frames = request.upgrade();
    frames.say(&Message::Reply(Reply::Ready));
    frames
}

fn create(daemon: &Daemon, vm: &Vm) {
    answer(daemon, "POST /v1/vms", &json(vm));
    answer(daemon, &format!("GET {VM}/wait?until=ready"), &json(vm));
}

fn is_over(daemon: &Daemon, vm: Vm, status: u32) {
    let line = format!("GET {VM}/wait?until=ended");
    answer(daemon, &line, &json(&ended(vm, status)));
}

fn is_removed(daemon: &Daemon) {
    let line = format!("DELETE {VM}?force=true");
    daemon.expect(&line).answer("204 No Content", b"");
}

fn said(child: Child, status: i32) -> (String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{said:?}");
    said
}

#[test]
fn a_run_has_both_outputs_its_status_and_leaves_nothing() {
    let daemon = Daemon::new();
    let args = ["run", "--rm", "apache", "ls"];
    let child = vmctl(&daemon, &args).spawn().unwrap();
    create(&daemon, &plain());
    let mut frames = attached(&daemon, true);
    frames.say(&Message::Stdout(b"out"));
    frames.say(&Message::Stderr(b"err"));
    frames.say(&Message::Exit(Exit::Code(3)));
    is_over(&daemon, plain(), 3);
    is_removed(&daemon);
    assert_eq!(said(child, 3), ("out".into(), "err".into()));
}

#[test]
fn a_run_goes_on_when_the_daemon_comes_back() {
    let daemon = Daemon::new();
    let child = vmctl(&daemon, &["run", "apache"]).spawn().unwrap();
    create(&daemon, &plain());
    let mut frames = attached(&daemon, true);
    frames.say(&Message::Stdout(b"one "));
    drop(frames);
    let mut frames = attached(&daemon, false);
    frames.say(&Message::Stdout(b"two"));
    frames.say(&Message::Exit(Exit::Code(0)));
    is_over(&daemon, plain(), 0);
    let (out, err) = said(child, 0);
    assert_eq!(out, "one two");
    assert!(err.contains("the daemon was gone"), "{err}");
}

#[test]
fn a_program_that_was_too_quick_is_heard_from_its_console() {
    let daemon = Daemon::new();
    let child = vmctl(&daemon, &["run", "apache"]).spawn().unwrap();
    answer(&daemon, "POST /v1/vms", &json(&plain()));
    let line = format!("GET {VM}/wait?until=ready");
    answer(&daemon, &line, &json(&ended(plain(), 4)));
    is_over(&daemon, plain(), 4);
    answer(&daemon, &format!("GET {VM}/logs?follow=false"), b"hello\n");
    is_over(&daemon, plain(), 4);
    assert_eq!(said(child, 4).0, "hello\n");
}

#[test]
fn a_run_at_a_terminal_is_left_by_the_detach_keys_and_goes_on() {
    let daemon = Daemon::new();
    let args = ["run", "-it", "--detach-keys", "ctrl-x", "apache", "sh"];
    let mut terminal = Terminal::start(&daemon, &args);
    // Whether it is a Linux image says whether it can have an input.
    daemon.expect("GET /v1/images/apache").refuse("image");
    let request = daemon.expect("POST /v1/vms");
    assert_eq!(request.json()["tty"], true);
    assert_eq!(request.json()["stdin_open"], true);
    request.answer("200 OK", &json(&linux_vm()));
    let ready = format!("GET {VM}/wait?until=ready");
    answer(&daemon, &ready, &json(&linux_vm()));
    let mut frames = attached(&daemon, true);
    frames.say(&Message::Stdout(b"$ "));
    terminal.shows("$ ");
    terminal.assert_raw();
    terminal.types(b"\x03\x18");
    assert_eq!(frames.hear(), (Kind::Stdin, b"\x03".to_vec()));
    terminal.shows("vmctl attach web");
    assert_eq!(terminal.ends().code(), Some(0));
}

#[test]
fn a_guest_without_words_is_stopped_by_the_first_ctrl_c_and_killed_by_the_second() {
    let daemon = Daemon::new();
    let child = vmctl(&daemon, &["run", "apache"]).spawn().unwrap();
    let interrupt = || {
        // SAFETY: a signal to our own child, which was not waited for yet.
        assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    };
    create(&daemon, &plain());
    let mut frames = attached(&daemon, true);
    interrupt();
    let stop = daemon.expect(&format!("POST {VM}/stop"));
    interrupt();
    answer(&daemon, &format!("POST {VM}/kill"), &json(&plain()));
    drop(stop);
    frames.say(&Message::Exit(Exit::Signal(9)));
    is_over(&daemon, plain(), 137);
    said(child, 137);
}
