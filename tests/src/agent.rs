//! What a host says to the agent in a Linux guest, by the socket that its monitor listens on.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use abi::agent::PORT;
use abi::agent::frame::Decoder;
use abi::agent::message::{Hello, Message};
use abi::agent::reply::{Exit, Reply, Status};
use abi::agent::request::{Exec, Program, Request};
use abi::agent::start::{Mode, Restart, Start};
use anyhow::{Context, Result, bail};

/// Between two tries to reach an agent that does not listen yet.
const AGAIN: Duration = Duration::from_millis(20);

/// An agent that answers.
#[derive(Debug)]
pub struct Agent {
    socket: PathBuf,
    /// How long it may take for each answer.
    patience: Duration,
}

/// A program's whole life.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub exit: Exit,
}

impl Agent {
    /// Waits until the agent behind a monitor's socket answers.
    ///
    /// # Errors
    /// Where it does not within `patience`.
    pub fn reach(socket: &Path, patience: Duration) -> Result<Self> {
        let agent = Self {
            socket: socket.to_owned(),
            patience,
        };
        let until = Instant::now() + patience;
        loop {
            match agent.status() {
                Ok(_) => return Ok(agent),
                Err(error) if Instant::now() >= until => {
                    return Err(error.context("the agent does not answer"));
                }
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }

    /// How far the guest is.
    ///
    /// # Errors
    /// Where the agent does not say.
    pub fn status(&self) -> Result<Status> {
        match self.ask(Request::Status)? {
            Reply::Status(status) => Ok(status),
            other => bail!("{other:?} is no status"),
        }
    }

    /// The answer to a request that has one.
    ///
    /// # Errors
    /// Where there is none, or a failure: a [`Failure`](abi::agent::reply::Failure) then.
    pub fn ask(&self, request: Request) -> Result<Reply> {
        let mut reply = None;
        self.follow(request, |message| match message {
            Message::Reply(answer) => {
                reply = Some(answer);
                Ok(true)
            }
            other => bail!("{other:?} is no answer"),
        })?;
        reply.context("there was no answer")
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// Where it was not run, or the connection broke.
    pub fn run(&self, argv: &[&str]) -> Result<Ran> {
        let (mut stdout, mut stderr, mut exit) = (Vec::new(), Vec::new(), None);
        let program = program(argv);
        let request = Request::Exec(Exec {
            program,
            detach: false,
        });
        self.follow(request, |message| {
            match message {
                Message::Stdout(bytes) => stdout.extend_from_slice(bytes),
                Message::Stderr(bytes) => stderr.extend_from_slice(bytes),
                Message::Exit(how) => exit = Some(how),
                Message::Reply(Reply::Started { .. }) => {}
                other => bail!("{other:?} while a program runs"),
            }
            Ok(exit.is_some())
        })?;
        let exit = exit.context("the program has no end")?;
        Ok(Ran {
            stdout,
            stderr,
            exit,
        })
    }

    /// Asks, and hands on each message until `hear` has enough.
    fn follow(
        &self,
        request: Request,
        mut hear: impl FnMut(Message<'_>) -> Result<bool>,
    ) -> Result<()> {
        let mut stream = self.connect()?;
        let mut out = Vec::new();
        Message::Hello(Hello::OURS).encode(&mut out)?;
        Message::Request(Box::new(request)).encode(&mut out)?;
        stream.write_all(&out)?;
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                bail!("the agent closed the connection");
            }
            let mut input = &buffer[..count];
            while let Some(frame) = decoder.next(&mut input)? {
                match Message::decode(frame)? {
                    Message::Hello(_) => {}
                    Message::Error(failure) => {
                        return Err(failure.into());
                    }
                    message => {
                        if hear(message)? {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.write_all(format!("CONNECT {PORT}\n").as_bytes())?;
        // `OK <port>`, a byte at a time: what follows is the agent's.
        let mut line = Vec::new();
        let mut byte = [0];
        while byte != *b"\n" {
            stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        if !line.starts_with(b"OK ") {
            let line = String::from_utf8_lossy(&line).into_owned();
            return Err(io::Error::other(format!("the monitor said {line:?}")));
        }
        Ok(stream)
    }
}

/// A program with arguments, and nothing else said.
#[must_use]
pub fn program(argv: &[&str]) -> Program {
    Program {
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        env: Vec::new(),
        cwd: None,
        user: None,
        groups: Vec::new(),
        tty: None,
        stdin: false,
    }
}

/// A start of `program` in the first file system, and nothing else said.
#[must_use]
pub fn start(program: Program) -> Start {
    Start {
        generation: "1".to_owned(),
        root: None,
        volumes: Vec::new(),
        hostname: None,
        network: abi::agent::network::Network::default(),
        clock: None,
        entropy: Vec::new(),
        program,
        mode: Mode::Agent,
        restart: Restart::default(),
        stop_signal: abi::agent::signal::TERM,
    }
}
