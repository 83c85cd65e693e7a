//! A Linux guest with an agent and no Linux: it keeps its word by threads of this process.
//!
//! How it is comes with the kernel's words:
//!
//! | word | the agent |
//! |---|---|
//! | (none) | is as it should be |
//! | `agent=absent` | does not listen |
//! | `agent=silent` | takes connections and says nothing |
//! | `agent=nonsense` | answers with bytes that are no frame |
//! | `agent=endless` | answers with a frame that never ends, and more of them |
//! | `agent=refuses` | cannot start the program |
//! | `agent=deaf` | does not end when it is asked to |
//! | `ends=N` | the guest exits with N once its program was started |
//! | `dies` | the monitor dies once its program was started |
//!
//! And programs that are run beside the main one: `cat`, `exit N`, `yes`, `garbage`, `hold`; others are not there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use abi::agent::frame::{Decoder, Frame, PAYLOAD_MAX};
use abi::agent::message::{Hello, Message};
use abi::agent::reply::{
    Code, Exit, Failure, FileKind, Found, Healthy, Reply, Report, State, Status,
};
use abi::agent::request::{Probe, Request};
use vmm::launch::{self, Event};
use vmm::meter::Meter;
use vmm::outcome::Outcome;
use vmm::spec::Disk;

/// Where on its own disk the guest counts its starts.
const COUNTER: u64 = 8 << 20;

pub(crate) struct Guest {
    words: Vec<String>,
    console: File,
    disk: File,
    meter: Arc<Meter>,
    launcher: UnixStream,
    generation: Mutex<Option<String>>,
}

impl Guest {
    pub(crate) fn new(
        words: &str,
        console: File,
        disks: Vec<Disk>,
        meter: Arc<Meter>,
        launcher: UnixStream,
    ) -> Self {
        let mut names = Vec::new();
        let mut own = None;
        for disk in disks {
            names.push(disk.id.as_str().to_owned());
            if disk.id.as_str() == "disk" {
                own = Some(File::from(disk.file));
            } else {
                // Held for as long as the guest lives, as a device does.
                std::mem::forget(disk.file);
            }
        }
        let guest = Self {
            words: words.split(' ').map(ToOwned::to_owned).collect(),
            console,
            disk: own.expect("a disk of its own"),
            meter,
            launcher,
            generation: Mutex::default(),
        };
        let mut count = [0];
        guest
            .disk
            .read_exact_at(&mut count, COUNTER)
            .expect("it reads its disk");
        guest
            .disk
            .write_all_at(&[count[0] + 1], COUNTER)
            .expect("it writes its disk");
        guest.say(&format!(
            "disks {}; start {}",
            names.join(" "),
            count[0] + 1
        ));
        guest
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|w| w == word)
    }

    fn say(&self, line: &str) {
        (&self.console)
            .write_all(format!("{line}\n").as_bytes())
            .expect("the log takes it");
    }

    fn end(&self, status: u32) -> ! {
        let outcome = Outcome::exit(status);
        self.meter.end(&outcome);
        launch::tell(&self.launcher, &Event::Ended(outcome));
        std::process::exit(0)
    }

    fn status(&self) -> Status {
        let generation = self.generation.lock().expect("not poisoned").clone();
        Status {
            state: match generation {
                None => State::Ready,
                Some(_) => State::Running { pid: 7 },
            },
            generation,
            restarts: 0,
            uptime_ms: 1,
        }
    }
}

/// Serves ports of the guest; the monitor's control API on another thread.
pub(crate) fn serve(guest: &Arc<Guest>, listener: OwnedFd, control: Option<OwnedFd>) {
    let control = UnixListener::from(control.expect("a control socket"));
    let pressed = Arc::clone(guest);
    std::thread::spawn(move || {
        for client in control.incoming() {
            let request = crate::answer(&client.expect("a client"), &pressed.meter);
            if request.contains("SendCtrlAltDel") && !pressed.has("agent=deaf") {
                pressed.end(abi::status::SHUTDOWN);
            }
        }
    });
    for client in UnixListener::from(listener).incoming() {
        let (guest, client) = (Arc::clone(guest), client.expect("a client"));
        std::thread::spawn(move || connection(&guest, client));
    }
}

fn connection(guest: &Guest, mut stream: UnixStream) -> Option<()> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    if line != b"CONNECT 1024\n" || guest.has("agent=absent") {
        return None;
    }
    stream.write_all(b"OK 77\n").ok()?;
    if guest.has("agent=silent") {
        let _ = stream.read_to_end(&mut Vec::new());
        return None;
    }
    if guest.has("agent=nonsense") {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
        return None;
    }
    if guest.has("agent=endless") {
        let mut frames = Vec::new();
        let payload = &[0; PAYLOAD_MAX];
        let kind = abi::agent::frame::Kind::Stdout;
        Frame { kind, payload }.encode(&mut frames).ok()?;
        loop {
            stream.write_all(&frames).ok()?;
        }
    }
    let mut peer = Peer {
        stream: stream.try_clone().ok()?,
        decoder: Decoder::new(),
        buffer: Vec::new(),
    };
    peer.next(|message| matches!(message, Message::Hello(_)).then_some(()))??;
    send(&mut stream, &Message::Hello(Hello::OURS))?;
    let request = peer.next(|message| match message {
        Message::Request(request) => Some(request),
        _ => None,
    })??;
    let refuse = |stream: &mut UnixStream, code, why: &str| {
        send(stream, &Message::Error(Failure::new(code, why)))
    };
    let reply = match *request {
        Request::Start(start) => {
            if guest.has("agent=refuses") {
                return refuse(&mut stream, Code::NotFound, "no such program");
            }
            let mut generation = guest.generation.lock().expect("not poisoned");
            if generation.is_none() {
                guest.say(&format!("start {}", start.program.argv.join(" ")));
                *generation = Some(start.generation);
            }
            drop(generation);
            Reply::Status(guest.status())
        }
        Request::Status => Reply::Status(guest.status()),
        Request::Report => Reply::Report(Report::default()),
        Request::Health(health) => {
            // Well as long as it is asked for a port that is even.
            let well = matches!(health.probe, Probe::Tcp { port } if port % 2 == 0);
            Reply::Health(Healthy::new(well, "looked"))
        }
        Request::Signal(signal) => {
            guest.say(&format!("signal {}", signal.signal));
            Reply::Done
        }
        Request::Stat(stat) if stat.path == "/there" => Reply::Stat(Found {
            kind: FileKind::File,
            size: 5,
            mode: 0o644,
            uid: 0,
            gid: 0,
            modified: 0,
            target: None,
        }),
        Request::Shutdown(_) => {
            send(&mut stream, &Message::Reply(Reply::Done))?;
            if guest.has("agent=deaf") {
                return None;
            }
            guest.say("shut down");
            guest.end(143);
        }
        Request::Exec(exec) => {
            let argv: Vec<&str> = exec.program.argv.iter().map(String::as_str).collect();
            return program(guest, &argv, stream, &mut peer);
        }
        Request::Attach(_) => return program(guest, &["cat"], stream, &mut peer),
        Request::CopyIn(copy) if copy.path == "/there" => {
            send(&mut stream, &Message::Reply(Reply::Ready))?;
            let mut bytes = 0;
            while let Some(part) = peer.next(|message| match message {
                Message::Data(part) => Some(part.len()),
                _ => None,
            })? {
                bytes += part;
            }
            guest.say(&format!("unpacked {bytes}"));
            Reply::Done
        }
        Request::CopyOut(copy) if copy.path == "/there" => {
            send(&mut stream, &Message::Reply(Reply::Ready))?;
            for _ in 0..3 {
                send(&mut stream, &Message::Data(&[b't'; 1000]))?;
            }
            return send(&mut stream, &Message::Eof);
        }
        _ => return refuse(&mut stream, Code::NotFound, "nothing is there"),
    };
    send(&mut stream, &Message::Reply(reply))?;
    let started = guest.generation.lock().expect("not poisoned").is_some();
    if let Some(status) = guest.words.iter().find_map(|w| w.strip_prefix("ends=")) {
        guest.end(status.parse().expect("a status"));
    }
    if started && guest.has("dies") {
        std::process::abort();
    }
    Some(())
}

fn program(guest: &Guest, argv: &[&str], mut stream: UnixStream, peer: &mut Peer) -> Option<()> {
    if !matches!(argv[0], "cat" | "exit" | "yes" | "garbage" | "hold") {
        let failure = Failure::new(Code::NotFound, format!("no program {}", argv[0]));
        return send(&mut stream, &Message::Error(failure));
    }
    send(&mut stream, &Message::Reply(Reply::Started { pid: 9 }))?;
    match *argv {
        ["exit", status] => {
            send(&mut stream, &Message::Stderr(b"bye"))?;
            let code = status.parse().expect("a status");
            send(&mut stream, &Message::Exit(Exit::Code(code)))
        }
        ["yes"] => {
            while send(&mut stream, &Message::Stdout(&[b'y'; 4096])).is_some() {}
            guest.say("nobody reads yes");
            None
        }
        ["garbage"] => stream.write_all(&[0xee; 100]).ok(),
        ["hold"] => {
            // Until nobody holds the other end.
            while peer.next(|_| Some(())).is_some() {}
            guest.say("hold is over");
            None
        }
        _ => loop {
            let echoed = peer.next(|message| match message {
                Message::Stdin(bytes) => Some(Some(bytes.to_vec())),
                Message::Eof => Some(None),
                _ => None,
            })?;
            match echoed? {
                Some(bytes) => send(&mut stream, &Message::Stdout(&bytes))?,
                None => return send(&mut stream, &Message::Exit(Exit::Code(0))),
            }
        },
    }
}

fn send(stream: &mut UnixStream, message: &Message<'_>) -> Option<()> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("a message");
    stream.write_all(&bytes).ok()
}

/// The host, as the agent hears it.
struct Peer {
    stream: UnixStream,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Peer {
    /// What `read` makes of the next message; nothing where there is none.
    fn next<T>(&mut self, read: impl FnOnce(Message<'_>) -> Option<T>) -> Option<Option<T>> {
        loop {
            let mut input = &self.buffer[..];
            let before = input.len();
            let found = self.decoder.next(&mut input).expect("a frame");
            if let Some(frame) = found {
                let value = read(Message::decode(frame).expect("a message"));
                let taken = before - input.len();
                self.buffer.drain(..taken);
                return Some(value);
            }
            self.buffer.clear();
            let mut part = vec![0; 8192];
            let got = self.stream.read(&mut part).ok().filter(|n| *n > 0)?;
            self.buffer.extend_from_slice(&part[..got]);
        }
    }
}
