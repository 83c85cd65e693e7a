//! The process `vmm`: from its arguments to its exit status.
//!
//! ```text
//! vmm --spec-fd N        one VM, described over a socket (crate::launch): what `vmd` uses
//! vmm --api-sock PATH    one VM, described over HTTP (crate::control): Firecracker's flags
//! vmm --probe            what this host offers, as JSON
//! ```
//!
//! The main thread is the control thread: it waits for the VM's end, the deadline, a signal, requests
//! ([`supervisor`]). The exit status is the guest's own where it gave one, else [`FAILURE`]; [`USAGE`] where the
//! arguments make no sense.

pub mod supervisor;

use std::io::Read;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::control::args::{HELP, Mode};
use crate::control::{Control, Instance, Socket};
use crate::host;
use crate::launch::{self, Event};
use crate::meter::{Meter, Phase, monotonic_ns};
use crate::outcome::{Cause, Outcome};
use crate::spec::Vm;
use crate::words::words;
use supervisor::Supervisor;

/// The exit status of a VM that did not end by the guest's own.
pub const FAILURE: u8 = 1;
/// The exit status where the arguments make no sense.
pub const USAGE: u8 = 2;

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    let started = monotonic_ns();
    prepare();
    let mode = match Mode::parse(std::env::args_os().skip(1)) {
        Ok(mode) => mode,
        Err(error) => {
            eprintln!("vmm: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match mode {
        Mode::Spec { fd } => run_spec(fd, started),
        Mode::Api {
            socket,
            config,
            instance,
        } => run_api(Some(socket), config, instance, started),
        Mode::File { config, instance } => run_api(None, Some(config), instance, started),
        Mode::Probe => probe(),
        Mode::Version => {
            println!("vmm {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Mode::Help => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
    }
}

/// What holds for the whole process: a closed pipe is an error where it is written to, not a signal; one heap
/// serves all threads, for each would have pages of its own.
fn prepare() {
    // SAFETY: neither touches memory of ours, and no other thread has been started yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

fn probe() -> ExitCode {
    match host::probe() {
        Ok(host) => {
            // A description of plain fields has JSON.
            println!(
                "{}",
                serde_json::to_string_pretty(&host).unwrap_or_default()
            );
            ExitCode::SUCCESS
        }
        Err(error) => fail(&words(&error)),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("vmm: {text}");
    ExitCode::from(FAILURE)
}

fn failed(error: &dyn std::error::Error) -> Outcome {
    Outcome::new(Cause::Failed, words(error))
}

fn finish(outcome: &Outcome) -> ExitCode {
    if outcome.cause != Cause::Exit {
        eprintln!("vmm: {outcome}");
    }
    ExitCode::from(exit_code(outcome))
}

/// The exit status that says how a VM ended.
#[must_use]
pub fn exit_code(outcome: &Outcome) -> u8 {
    match outcome.cause {
        Cause::Exit => abi::status::exit_code(outcome.status),
        _ => FAILURE,
    }
}

fn run_spec(fd: RawFd, started: u64) -> ExitCode {
    // A session of its own: signals that a terminal sends its launcher are not for the VM. It fails where it has one already.
    let _ = rustix::process::setsid();
    let Some(mut socket) = take_descriptor(fd).map(UnixStream::from) else {
        return fail(&format!("--spec-fd: descriptor {fd} is not open"));
    };
    match described(&mut socket, started) {
        Ok((vm, meter)) => finish(&run_described(vm, meter, &socket)),
        Err(outcome) => {
            launch::tell(&socket, &Event::Ended(outcome.clone()));
            finish(&outcome)
        }
    }
}

fn take_descriptor(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: the call only asks whether it is open.
    let open = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }).is_ok();
    // SAFETY: it is open, and the launcher gave it to this process for this one use.
    open.then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn described(socket: &mut UnixStream, started: u64) -> Result<(Vm, Meter), Outcome> {
    let (json, descriptors) = launch::receive(socket).map_err(|e| failed(&e))?;
    let mut vm = Vm::validate(&json, descriptors).map_err(|e| failed(&e))?;
    let meter = Meter::create(vm.meter.take()).map_err(|e| failed(&e))?;
    begin(&meter, vm.launched_at, started);
    meter.reach(Phase::Described);
    Ok((vm, meter))
}

fn begin(meter: &Meter, launched: Option<u64>, started: u64) {
    meter.set_start_time(start_time());
    if let Some(ns) = launched {
        meter.reach_at(Phase::Launched, ns);
    }
    meter.reach_at(Phase::Main, started);
}

/// Runs a VM to its end. Its launcher hears of the end before the machine is taken down: closing a VM may take KVM
/// tens of milliseconds, which nobody is to wait for.
fn run_described(mut vm: Vm, meter: Meter, socket: &UnixStream) -> Outcome {
    // Held to the end, past all else: by its lock a launcher that came back sees that this monitor lives.
    let _lease = vm.lease.take();
    let tell_end = |outcome: Outcome| {
        launch::tell(socket, &Event::Ended(outcome.clone()));
        outcome
    };
    let control = match control_of(&mut vm) {
        Ok(control) => control,
        Err(outcome) => {
            meter.end(&outcome);
            return tell_end(outcome);
        }
    };
    let mut supervisor = match Supervisor::new(meter) {
        Ok(supervisor) => supervisor,
        Err(error) => return tell_end(failed(&error)),
    };
    if let Err(error) = supervisor.start(vm) {
        return tell_end(supervisor.end(failed(&error)));
    }
    launch::tell(socket, &Event::Running);
    tell_end(supervisor.run(control))
}

fn control_of(vm: &mut Vm) -> Result<Option<Control>, Outcome> {
    let Some(listener) = vm.control.take() else {
        return Ok(None);
    };
    let socket = Socket::try_from(listener).map_err(|e| failed(&e))?;
    Control::of(vm, socket).map(Some).map_err(|e| failed(&e))
}

fn run_api(
    path: Option<PathBuf>,
    config: Option<PathBuf>,
    instance: Instance,
    started: u64,
) -> ExitCode {
    match serve_api(path.as_deref(), config.as_deref(), instance, started) {
        Ok(outcome) => finish(&outcome),
        Err(error) => fail(&words(&*error)),
    }
}

fn serve_api(
    path: Option<&Path>,
    config: Option<&Path>,
    instance: Instance,
    started: u64,
) -> Result<Outcome, Box<dyn std::error::Error>> {
    let meter = Meter::create(None::<OwnedFd>)?;
    begin(&meter, instance.launched_at, started);
    let mut supervisor = Supervisor::new(meter)?;
    let socket = path.map(Socket::bind).transpose()?;
    let mut control = Control::new(instance, socket)?;
    if let Some(config) = config {
        control.start_from(config, &mut supervisor)?;
    }
    Ok(supervisor.run(Some(control)))
}

/// When this process started, in clock ticks since boot: field 22 of `/proc/self/stat`.
fn start_time() -> u64 {
    let mut bytes = [0; 1024];
    let file = std::fs::File::open("/proc/self/stat");
    let length = file.and_then(|mut file| file.read(&mut bytes));
    let stat = String::from_utf8_lossy(&bytes[..length.unwrap_or(0)]);
    // The second field is the program's name, which may hold anything, `)` included: fields are counted from its end.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_ascii_whitespace().nth(19);
    ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}
