//! Requests, and who carries them out.

use std::path::Path;
use std::time::{Duration, Instant};

use abi::agent::message::Message;
use abi::agent::reply::{Code, Exit, Failure, Reply};
use abi::agent::request::{Attach, Exec, Health, Probe, Program, Request};
use abi::agent::start::{Mode, Start};

use crate::conn::{Conn, Job, Task};
use crate::main_program::{Main, Phase};
use crate::server::Server;
use crate::spawn::Command;
use crate::stdio::{self, Kind};
use crate::worker::Worker;
use crate::{pump, report, setup, stat};

/// Where a connection goes from here.
pub(crate) enum Next {
    /// It stays in the loop.
    Stay,
    /// A worker takes it.
    Leave(Box<Worker>),
}

impl Server {
    /// Carries out a connection's request, or begins to.
    pub(crate) fn handle(&mut self, conn: &mut Conn, index: usize, request: Request) -> Next {
        let result = match request {
            Request::Start(start) => self.start(conn, index, *start),
            Request::Status => {
                self.tell_status(conn);
                Ok(())
            }
            Request::Report => self.guest.mount_basics().and_then(|()| {
                let report = report::report(&self.guest)?;
                conn.finish(&Message::Reply(Reply::Report(report)));
                Ok(())
            }),
            Request::Exec(exec) => self.exec(conn, index, &exec),
            Request::Attach(attach) => self.attach(conn, attach),
            Request::Signal(signal) => self.running().map(|main| {
                main.signal(signal.signal);
                conn.finish(&Message::Reply(Reply::Done));
            }),
            Request::Stat(wanted) => stat::stat(&wanted).map(|found| {
                conn.finish(&Message::Reply(Reply::Stat(found)));
            }),
            Request::SetClock(clock) => self
                .guest
                .allow()
                .and_then(|()| setup::clock::set(clock))
                .map(|()| {
                    conn.finish(&Message::Reply(Reply::Done));
                }),
            Request::AddEntropy(add) => self
                .guest
                .allow()
                .and_then(|()| self.guest.mount_basics())
                .and_then(|()| setup::clock::add_entropy(&add.bytes))
                .map(|()| conn.finish(&Message::Reply(Reply::Done))),
            Request::Health(Health {
                probe: Probe::Exec { program },
                timeout_ms,
            }) => self.probe(
                conn,
                index,
                &program,
                Duration::from_millis(timeout_ms.into()),
            ),
            Request::Health(Health { probe, timeout_ms }) => {
                return Next::Leave(Box::new(Worker::Probe(
                    probe,
                    Duration::from_millis(timeout_ms.into()),
                )));
            }
            Request::CopyIn(copy) => return Next::Leave(Box::new(Worker::CopyIn(copy.path))),
            Request::CopyOut(copy) => return Next::Leave(Box::new(Worker::CopyOut(copy.path))),
            Request::Shutdown(shutdown) => {
                conn.send(&Message::Reply(Reply::Done));
                conn.task = Task::Held;
                self.shut_down(
                    Duration::from_millis(shutdown.timeout_ms.into()),
                    shutdown.force,
                );
                Ok(())
            }
        };
        if let Err(failure) = result {
            conn.fail(failure);
        }
        Next::Stay
    }

    fn tell_status(&self, conn: &mut Conn) {
        conn.finish(&Message::Reply(Reply::Status(self.status())));
    }

    fn start(&mut self, conn: &mut Conn, index: usize, start: Start) -> Result<(), Failure> {
        let status = self.status();
        if let Some(generation) = &status.generation {
            if *generation == start.generation {
                conn.finish(&Message::Reply(Reply::Status(status)));
                return Ok(());
            }
            let why = format_args!("the guest was started already, as generation {generation:?}");
            return Err(Failure::new(Code::Busy, why));
        }
        if self.ending.is_asked() {
            return Err(Failure::new(Code::Busy, "the guest is ending"));
        }
        let generation = start.generation.clone();
        let is_ready = self.guest.become_it(&start);
        // Also where that failed: what went wrong may be looked for there.
        self.console.open(Path::new(self.guest.console()));
        match is_ready.and_then(|()| self.begin(index, start)) {
            Ok(main) => self.main = Some(main),
            Err(failure) => {
                self.failed = Some((generation, failure.clone()));
                return Err(failure);
            }
        }
        if self
            .main
            .as_ref()
            .is_some_and(|main| main.start.mode == Mode::Init)
        {
            // This process is the child of the one that heard the request: its poll is new.
            self.poll
                .add(
                    conn.socket.stream(),
                    index as u32,
                    crate::poll::Role::Socket,
                )
                .map_err(|errno| Failure::new(Code::Failed, errno.desc()))?;
        }
        self.tell_status(conn);
        Ok(())
    }

    /// The main program, running.
    fn begin(&mut self, index: usize, start: Start) -> Result<Main, Failure> {
        match start.mode {
            Mode::Agent => Main::start(start, &self.poll),
            Mode::Init => {
                self.guest.allow()?;
                let main = Main::beside_init(start)?;
                crate::init::hand_over(&main)?;
                self.go_on_as_child(index)
                    .map_err(|errno| Failure::new(Code::Failed, errno.desc()))?;
                Ok(main)
            }
        }
    }

    fn running(&self) -> Result<&Main, Failure> {
        self.main
            .as_ref()
            .filter(|main| main.pid().is_some())
            .ok_or_else(|| Failure::new(Code::Busy, "the main program does not run"))
    }

    /// What runs beside the main program runs as it does, unless something else is said.
    fn command(&self, program: &Program) -> Result<Command, Failure> {
        let Some(main) = &self.main else {
            return Command::new(program, &[]);
        };
        let main = &main.start.program;
        let mut program = program.clone();
        if program.user.is_none() {
            program.user.clone_from(&main.user);
            program.groups.extend(main.groups.iter().cloned());
        }
        if program.cwd.is_none() {
            program.cwd.clone_from(&main.cwd);
        }
        Command::new(&program, &main.env)
    }

    fn exec(&mut self, conn: &mut Conn, index: usize, exec: &Exec) -> Result<(), Failure> {
        self.guest.mount_basics()?;
        let command = self.command(&exec.program)?;
        let kind = match &exec.program.tty {
            _ if exec.detach => Kind::Null,
            Some(tty) => Kind::Terminal(tty.size),
            None => Kind::Pipes {
                stdin: exec.program.stdin,
            },
        };
        // At most as many as there are connections.
        let (ours, theirs) = stdio::open(kind, &self.poll, index as u32)?;
        let pid = command.spawn(theirs.fds())?;
        let started = Message::Reply(Reply::Started {
            pid: pid.as_raw().unsigned_abs(),
        });
        if exec.detach {
            conn.finish(&started);
        } else {
            conn.send(&started);
            conn.task = Task::Job(Job {
                pid,
                ours,
                exit: None,
            });
        }
        Ok(())
    }

    fn probe(
        &mut self,
        conn: &mut Conn,
        index: usize,
        program: &Program,
        timeout: Duration,
    ) -> Result<(), Failure> {
        self.guest.mount_basics()?;
        let mut program = program.clone();
        program.tty = None;
        let command = self.command(&program)?;
        let (_, theirs) = stdio::open(Kind::Null, &self.poll, index as u32)?;
        let pid = command.spawn(theirs.fds())?;
        conn.task = Task::Probe {
            pid,
            deadline: Instant::now() + timeout,
        };
        Ok(())
    }

    fn attach(&mut self, conn: &mut Conn, attach: Attach) -> Result<(), Failure> {
        let main = self
            .main
            .as_ref()
            .ok_or_else(|| Failure::new(Code::Busy, "there is no main program yet"))?;
        if let Some(size) = attach.size {
            pump::resize(&main.ours.stdout, size);
        }
        conn.send(&Message::Reply(Reply::Ready));
        let position = if attach.backlog {
            main.ring.start()
        } else {
            main.ring.end()
        };
        conn.task = Task::Attached {
            position,
            stdin: attach.stdin,
        };
        Ok(())
    }

    /// How the main program ended, once it has for good.
    pub(crate) fn final_exit(&self) -> Option<Exit> {
        match self.main.as_ref()?.phase {
            Phase::Ended { exit } => Some(exit),
            _ => None,
        }
    }
}
