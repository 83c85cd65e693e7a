//! `vmctl attach`: back to a VM's main program.

use std::time::Duration;

use anyhow::Result;
use api::{Attach, GuestKind, Until, Vm};
use tokio::io::AsyncWrite;

use crate::console::note_gap;
use crate::context::Context;
use crate::guest_status::exit_status;
use crate::session::local::{self, FOR_PROGRAMS};
use crate::session::relay::Streams;
use crate::session::{End, Keys, Manner, relay, told};
use crate::terminal::{self, Raw};

/// A VM whose agent broke off has mostly ended; the daemon may take so long to know.
const SOON: Duration = Duration::from_secs(2);

/// Attach to the main program of a VM that runs: its output from now on, and its input where it was created with -i. Its exit status
/// becomes vmctl's. ctrl-p ctrl-q leaves it running, where it has a terminal; else signals are passed on to it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id, the beginning of its id, or its name
    vm: String,

    /// Do not pass the standard input on
    #[arg(long)]
    no_stdin: bool,

    /// Keys that leave the VM running, where it has a terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<Keys>,
}

/// How to stay with a main program.
pub(crate) struct How {
    /// Begin with what it wrote lately.
    pub(crate) backlog: bool,
    /// Pass the standard input on.
    pub(crate) input: bool,
    /// Keys that leave it.
    pub(crate) keys: Keys,
    /// Signals that are passed on, or in raw mode end vmctl.
    pub(crate) signals: &'static [libc::c_int],
}

/// How a main program was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It ended, with this status.
    Ended(u8),
    /// It goes on; the user left by the detach keys.
    Detached,
    /// The VM ended, and its program said no more.
    Gone,
    /// The VM ended before it was attached to.
    Missed,
    /// vmctl is to end by this signal.
    Signal(u8),
}

/// Attaches.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let vm = client.inspect(&args.vm).await?;
    if vm.kind == GuestKind::Libos {
        let show = super::console::Args::of(args.vm);
        return super::console::run(context, show).await;
    }
    let how = How {
        backlog: false,
        input: !args.no_stdin && vm.linux.as_ref().is_some_and(|linux| linux.stdin_open),
        keys: args.detach_keys.unwrap_or_default(),
        signals: &FOR_PROGRAMS,
    };
    match stay(context, &vm, how).await? {
        Left::Ended(status) => Ok(status),
        Left::Signal(signal) => Ok(signal.saturating_add(128)),
        Left::Detached => Ok(0),
        Left::Gone | Left::Missed => {
            let vm = context.wait(&vm.id, Until::Ended).await?;
            Ok(exit_status(&vm))
        }
    }
}

/// Whether the user's terminal is raw while it is attached to `vm`.
pub(crate) fn is_raw(vm: &Vm, input: bool) -> bool {
    input && has_tty(vm) && terminal::is_typed()
}

fn has_tty(vm: &Vm) -> bool {
    vm.linux.as_ref().is_some_and(|linux| linux.tty)
}

/// Stays with the main program of a Linux guest, also through the end of one daemon and the start of the next.
pub(crate) async fn stay(context: &Context, vm: &Vm, how: How) -> Result<Left> {
    let raw = is_raw(vm, how.input);
    let mut local = local::listen(how.signals)?;
    let mut input = how.input.then(tokio::io::stdin);
    let mut attached_once = false;
    loop {
        let attach = Attach {
            backlog: how.backlog && !attached_once,
            stdin: how.input,
            size: has_tty(vm).then(terminal::size),
        };
        let client = context.client().await?;
        let session = tokio::select! {
            session = client.attach(&vm.id, &attach) => session,
            signal = local::ending(&mut local) => return Ok(Left::Signal(signal)),
        };
        let session = match session {
            Ok(session) => session,
            Err(_) if ends_soon(context, vm).await => return Ok(gone(attached_once)),
            Err(error) => return Err(error.into()),
        };
        let streams = Streams {
            input: input.as_mut(),
            output: results(context),
            errors: tokio::io::stderr(),
        };
        let manner = Manner {
            tty: has_tty(vm),
            raw,
            keys: how.keys.clone(),
        };
        let mut attached = false;
        let mode = raw.then(Raw::new).transpose()?;
        let end = relay(session, streams, &mut local, manner, || attached = true).await;
        drop(mode);
        attached_once |= attached;
        match end {
            Ok(End::Exit(exit)) => return Ok(Left::Ended(exit.status())),
            Ok(End::Detached) => return Ok(Left::Detached),
            Ok(End::Signal(signal)) => return Ok(Left::Signal(signal)),
            // One that cuts every connection at once is not tried for ever.
            Err(error) if error.is_lost() && attached => note_gap(context, vm),
            Err(error) => {
                let error = told(error);
                if error.is::<std::io::Error>() || !ends_soon(context, vm).await {
                    return Err(error);
                }
                return Ok(gone(attached_once));
            }
        }
    }
}

fn gone(attached: bool) -> Left {
    if attached { Left::Gone } else { Left::Missed }
}

/// Where what the program says goes: programs that read vmctl's results want no other words among them.
fn results(context: &Context) -> Box<dyn AsyncWrite + Unpin> {
    match context.output.is_json() {
        true => Box::new(tokio::io::stderr()),
        false => Box::new(tokio::io::stdout()),
    }
}

async fn ends_soon(context: &Context, vm: &Vm) -> bool {
    let ended = context.wait(&vm.id, Until::Ended);
    matches!(tokio::time::timeout(SOON, ended).await, Ok(Ok(_)))
}
