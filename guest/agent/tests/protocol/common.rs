//! An agent on a unix socket, and what a host says to it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use abi::agent::frame::{Decoder, Kind};
use abi::agent::message::{Hello, Message};
use abi::agent::reply::{Code, Exit, Failure, Reply, State, Status};
use abi::agent::request::{Exec, Program, Request};
use abi::agent::start::{Mode, Restart, Start};

/// Nothing here takes as long where all is well.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An agent, ended when dropped.
pub(crate) struct Agent {
    dir: tempfile::TempDir,
    child: Child,
}

impl Agent {
    /// As an ordinary program.
    pub(crate) fn new() -> Self {
        Self::by(&mut Command::new(env!("CARGO_BIN_EXE_agent")))
    }

    /// As process 1 of a process namespace of its own.
    pub(crate) fn in_namespace() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(env!("CARGO_BIN_EXE_agent"));
        Self::by(&mut command)
    }

    fn by(command: &mut Command) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let child = command
            .arg("--listen-unix")
            .arg(dir.path().join("agent"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        Self { dir, child }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connect(&self) -> UnixStream {
        let began = Instant::now();
        loop {
            match UnixStream::connect(self.socket()) {
                Ok(stream) => {
                    stream
                        .set_read_timeout(Some(DEADLINE))
                        .expect("a timeout can be set");
                    stream
                        .set_write_timeout(Some(DEADLINE))
                        .expect("a timeout can be set");
                    return stream;
                }
                // It is not that far yet.
                Err(error) => assert!(
                    began.elapsed() < DEADLINE,
                    "the agent does not listen: {error}"
                ),
            }
            std::thread::yield_now();
        }
    }

    /// A connection that has asked for something.
    pub(crate) fn ask(&self, request: Request) -> Client {
        let mut client = Client::new(self.connect());
        client.send(&Message::Hello(Hello::OURS));
        client.send(&Message::Request(Box::new(request)));
        assert_eq!(client.next(), Some(Owned::Hello));
        client
    }

    /// The answer to a request that has one.
    pub(crate) fn answer(&self, request: Request) -> Result<Reply, Failure> {
        let mut client = self.ask(request);
        match client.next() {
            Some(Owned::Reply(reply)) => Ok(reply),
            Some(Owned::Error(failure)) => Err(failure),
            other => panic!("{other:?} is no answer"),
        }
    }

    /// A program's whole life.
    pub(crate) fn run(&self, program: Program, input: &[u8]) -> Result<Ran, Failure> {
        let mut client = self.ask(Request::Exec(Exec {
            program,
            detach: false,
        }));
        match client.next() {
            Some(Owned::Reply(Reply::Started { .. })) => {}
            Some(Owned::Error(failure)) => return Err(failure),
            other => panic!("{other:?} is no answer"),
        }
        if !input.is_empty() {
            client.send(&Message::Stdin(input));
        }
        client.send(&Message::Eof);
        Ok(client.ran())
    }

    pub(crate) fn status(&self) -> Status {
        match self.answer(Request::Status) {
            Ok(Reply::Status(status)) => status,
            other => panic!("{other:?} is no status"),
        }
    }

    /// Asks until the guest is in a state.
    pub(crate) fn until(&self, is_there: impl Fn(&State) -> bool) -> Status {
        let began = Instant::now();
        loop {
            let status = self.status();
            if is_there(&status.state) {
                return status;
            }
            assert!(began.elapsed() < DEADLINE, "it stays {status:?}");
        }
    }

    /// The console.
    pub(crate) fn console(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("the console is taken once")
    }

    /// Waits for its own end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(began.elapsed() < DEADLINE, "the agent does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program's whole life.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) exit: Exit,
}

/// A message that is nobody else's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owned {
    Hello,
    Reply(Reply),
    Error(Failure),
    Bytes(Kind, Vec<u8>),
    Eof,
    Exit(Exit),
    Dropped(u64),
}

/// The host's end of a connection.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
    read: Vec<u8>,
    at: usize,
}

impl Client {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            read: Vec::new(),
            at: 0,
        }
    }

    pub(crate) fn send(&mut self, message: &Message<'_>) {
        let mut frame = Vec::new();
        message
            .encode(&mut frame)
            .expect("tests send what is valid");
        self.stream.write_all(&frame).expect("the agent listens");
    }

    /// The next message; `None` at the connection's end.
    pub(crate) fn next(&mut self) -> Option<Owned> {
        loop {
            let mut input = &self.read[self.at..];
            let before = input.len();
            let frame = self
                .decoder
                .next(&mut input)
                .expect("the agent sends frames");
            let message = frame.map(|frame| {
                match Message::decode(frame).expect("the agent sends messages") {
                    Message::Hello(_) => Owned::Hello,
                    Message::Reply(reply) => Owned::Reply(reply),
                    Message::Error(failure) => Owned::Error(failure),
                    Message::Stdout(bytes) => Owned::Bytes(Kind::Stdout, bytes.to_vec()),
                    Message::Stderr(bytes) => Owned::Bytes(Kind::Stderr, bytes.to_vec()),
                    Message::Data(bytes) => Owned::Bytes(Kind::Data, bytes.to_vec()),
                    Message::Eof => Owned::Eof,
                    Message::Exit(exit) => Owned::Exit(exit),
                    Message::Dropped(dropped) => Owned::Dropped(dropped.bytes),
                    other => panic!("an agent does not say {other:?}"),
                }
            });
            self.at += before - input.len();
            if message.is_some() {
                return message;
            }
            self.read.resize(64 * 1024, 0);
            self.at = 0;
            let count = match self.stream.read(&mut self.read) {
                Ok(count) => count,
                // It closed with something of ours unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                Err(error) => panic!("the agent says nothing: {error}"),
            };
            self.read.truncate(count);
            if count == 0 {
                return None;
            }
        }
    }

    /// Everything up to a program's end.
    pub(crate) fn ran(&mut self) -> Ran {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.next() {
                Some(Owned::Bytes(Kind::Stdout, bytes)) => stdout.extend(bytes),
                Some(Owned::Bytes(Kind::Stderr, bytes)) => stderr.extend(bytes),
                Some(Owned::Exit(exit)) => {
                    return Ran {
                        stdout,
                        stderr,
                        exit,
                    };
                }
                other => panic!("{other:?} while a program runs"),
            }
        }
    }

    /// Reads until what a program wrote ends in `text`.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let mut all = String::new();
        while !all.ends_with(text) {
            match self.next() {
                Some(Owned::Bytes(_, bytes)) => all.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?} behind {all:?}, not {text:?}"),
            }
        }
        all
    }

    /// Closes our side.
    pub(crate) fn vanish(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A program with arguments, and nothing else said.
pub(crate) fn program(argv: &[&str]) -> Program {
    Program {
        argv: argv.iter().map(|&arg| arg.into()).collect(),
        env: Vec::new(),
        cwd: None,
        user: None,
        groups: Vec::new(),
        tty: None,
        stdin: false,
    }
}

/// A shell's work.
pub(crate) fn sh(script: &str) -> Program {
    program(&["sh", "-c", script])
}

/// A start of `program`, and nothing else said.
pub(crate) fn start(generation: &str, program: Program) -> Start {
    Start {
        generation: generation.into(),
        root: None,
        volumes: Vec::new(),
        hostname: None,
        network: abi::agent::network::Network::default(),
        clock: None,
        entropy: Vec::new(),
        program,
        mode: Mode::Agent,
        restart: Restart::default(),
        stop_signal: 15,
    }
}

/// A start that must be well.
pub(crate) fn started(agent: &Agent, start: Start) -> Status {
    match agent.answer(Request::Start(Box::new(start))) {
        Ok(Reply::Status(status)) => status,
        other => panic!("{other:?} is no status"),
    }
}

/// The code of a failure that is expected.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> Code {
    result.expect_err("a failure").code
}
