//! A monitor without a machine, for tests of the daemon on hosts without KVM: it takes a description as the real one does, and
//! its "guest" does what its arguments say.
//!
//! | arguments | guest |
//! |---|---|
//! | (none) | runs until it is asked to shut down, then exits with 143 |
//! | `exit N` | exits with N at once |
//! | `say TEXT` | writes TEXT and a line's end, then as without |
//! | `echo` | writes what it reads |
//! | `deaf` | as without, but does not listen when asked to shut down |
//! | `stuck` | is never entered |
//! | `crash` | the monitor dies without a word |
//!
//! With a vsock device it is a Linux guest, and has an agent: see [`agent`].

mod agent;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use vmm::launch::{self, Event};
use vmm::meter::{Counter, Meter, Phase, State};
use vmm::outcome::Outcome;
use vmm::spec::{ConsoleOutput, Vm};

fn main() {
    if std::env::args().any(|arg| arg == "--probe") {
        println!(r#"{{"fake":true}}"#);
        return;
    }
    // SAFETY: the launcher's socket is this process's standard input, which nothing else here uses.
    let mut socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    let Ok((json, descriptors)) = launch::receive(&mut socket) else {
        return;
    };
    let vm = Vm::validate(&json, descriptors).expect("a valid description");
    let meter = Arc::new(Meter::create(vm.meter.as_ref()).expect("a meter"));
    meter.reach_at(Phase::Launched, vm.launched_at.unwrap_or(1));
    let console = vm.console.expect("a console");
    let ConsoleOutput::Log { file, .. } = console.output else {
        panic!("a log");
    };
    let mut output = File::from(file);
    let mut input = console.input.map(File::from).expect("an input");

    let words: Vec<String> = abi::cmdline::words(vm.boot.args.as_str())
        .skip_while(|word| word.raw() != abi::cmdline::ARGUMENTS)
        .skip(1)
        .map(|word| word.chars().collect())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words == ["crash"] {
        eprintln!("no machine here");
        std::process::exit(3);
    }
    if words == ["stuck"] {
        loop {
            std::thread::park();
        }
    }
    meter.reach(Phase::Entered);
    meter.set_state(State::Running);
    launch::tell(&socket, &Event::Running);
    if let Some(vsock) = vm.vsock {
        let guest = agent::Guest::new(vm.boot.args.as_str(), output, vm.disks, meter, socket);
        return agent::serve(&Arc::new(guest), vsock.listener, vm.control);
    }
    let end = |status| {
        let outcome = Outcome::exit(status);
        meter.end(&outcome);
        launch::tell(&socket, &Event::Ended(outcome));
    };
    let mut say = |bytes: &[u8]| {
        output.write_all(bytes).expect("the log takes it");
        meter.add(Counter::ConsoleOut, bytes.len() as u64);
    };
    match words[..] {
        ["exit", status] => return end(status.parse().expect("a status")),
        ["say", text] => say(format!("{text}\n").as_bytes()),
        ["echo"] => {
            let mut buffer = [0; 4096];
            loop {
                // The FIFO does not block, and never ends.
                wait_for(&input);
                let read = input.read(&mut buffer).unwrap_or(0);
                say(&buffer[..read]);
            }
        }
        _ => {}
    }
    let control = UnixListener::from(vm.control.expect("a control socket"));
    loop {
        let (client, _) = control.accept().expect("a client");
        let request = answer(&client, &meter);
        if request.contains("SendCtrlAltDel") && words != ["deaf"] {
            return end(abi::status::SHUTDOWN);
        }
    }
}

/// Reads one request, says yes, and does what it says of the state.
pub(crate) fn answer(client: &UnixStream, meter: &Meter) -> String {
    let mut reader = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).expect("a line") == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let body = String::from_utf8(body).expect("text");
    if body.contains("Paused") {
        meter.set_state(State::Paused);
    } else if body.contains("Resumed") {
        meter.set_state(State::Running);
    }
    let mut client = client;
    let _ = client.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    body
}

fn wait_for(input: &File) {
    use rustix::event::{PollFd, PollFlags, poll};
    let _ = poll(&mut [PollFd::new(input, PollFlags::IN)], None);
}
