//! The agent in a Linux guest, by the sockets that its monitor has.
//!
//! There is no program in the guest but the agent itself, which says how it is used when it is not process 1, and ends with status 2.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use abi::agent::reply::{Code, Exit, Failure, Reply, State};
use abi::agent::request::{AddEntropy, Request, Shutdown};
use abi::agent::start::{Clock, Start};
use tests::agent::{Agent, program, start};
use tests::monitor::{Running, Vm};
use tests::place;
use vmm::boot::linux;
use vmm::host;

/// Where ring 0 is emulated a boot takes many seconds, and those of a loaded host are long.
const DEADLINE: Duration = Duration::from_secs(400);
/// The only program there is.
const PROGRAM: &str = "/init";
const USAGE: &str = "agent --listen-unix PATH";

/// A guest whose agent answers, and the directory that its socket is in.
fn guest() -> (Running, Agent, tempfile::TempDir) {
    let emulated = host::probe().expect("there is KVM").ring0_emulated;
    let dir = tempfile::tempdir().expect("a directory can be made");
    let socket = dir.path().join("vsock");
    let listener = UnixListener::bind(&socket).expect("a socket can be made");
    let initrd = std::fs::read(place::initrd()).expect("it can be read");
    let running = Vm::of_file(&place::kernel())
        .memory_mib(128)
        .cmdline(&linux::words(emulated))
        .initrd(&initrd)
        .vsock(listener)
        .deadline(DEADLINE)
        .start()
        .expect("a monitor starts");
    let launched = running.launched();
    let agent = Agent::reach(&socket, DEADLINE).expect("the agent answers");
    eprintln!("the agent answered after {:?}", launched.elapsed());
    (running, agent, dir)
}

#[test]
fn a_guest_is_started_looked_into_and_ends_with_its_program() {
    let (running, agent, _dir) = guest();
    assert_eq!(agent.status().expect("it answers").state, State::Ready);

    let ran = agent.run(&[PROGRAM]).expect("it runs");
    assert!(
        String::from_utf8_lossy(&ran.stderr).contains(USAGE),
        "{ran:?}"
    );
    assert_eq!(ran.exit, Exit::Code(2));
    let missing = agent.run(&["/no/such"]).expect_err("it is not there");
    assert_eq!(
        missing.downcast_ref::<Failure>().map(|f| f.code),
        Some(Code::NotFound)
    );

    let entropy = Request::AddEntropy(AddEntropy { bytes: vec![7; 32] });
    assert_eq!(agent.ask(entropy).expect("it is done"), Reply::Done);
    let Reply::Report(report) = agent.ask(Request::Report).expect("it is told") else {
        panic!("no report");
    };
    assert!(
        (64 << 20..128 << 20).contains(&report.memory.total),
        "{report:?}"
    );

    let wanted = Start {
        hostname: Some("guest".into()),
        clock: Some(Clock {
            seconds: 2_000_000_000,
            nanoseconds: 0,
        }),
        entropy: vec![1; 64],
        ..start(program(&[PROGRAM]))
    };
    agent
        .ask(Request::Start(Box::new(wanted)))
        .expect("it starts");
    running.wait().exited(2).shows(USAGE);
}

#[test]
fn a_guest_that_is_asked_to_end_ends() {
    let (running, agent, _dir) = guest();
    let shutdown = Request::Shutdown(Shutdown {
        timeout_ms: 1000,
        force: false,
    });
    assert_eq!(agent.ask(shutdown).expect("it is heard"), Reply::Done);
    running.wait().exited(abi::status::SHUTDOWN);
}
