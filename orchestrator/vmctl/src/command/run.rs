//! `vmctl run`: a VM that one stays with.

use std::io::IsTerminal;

use anyhow::{Result, bail};
use api::{Client, CreateVm, GuestKind, StopVm, Until, Vm, VmState};

use super::attach::{self, How, Left};
use super::description::{self, Description};
use crate::context::Context;
use crate::ending::EndSignals;
use crate::guest_status::exit_status;
use crate::session::Keys;
use crate::{console, progress, terminal};

/// Signals that are the program's while vmctl stays with it; the others end it.
const PASSED_ON: [libc::c_int; 2] = [libc::SIGUSR1, libc::SIGUSR2];

/// Create a VM and stay with it: its output comes to the standard output (with -o json to the standard error), its
/// exit status becomes vmctl's. Ctrl-C stops it, a second one kills it; with -it all keys are the program's, and
/// ctrl-p ctrl-q leaves it running.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not stay with it: print its id
    #[arg(short, long)]
    detach: bool,

    /// Remove the VM once it has ended
    #[arg(long)]
    rm: bool,

    /// Keys that leave the VM running, where it has a terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<Keys>,

    #[command(flatten)]
    description: Description,
}

impl Args {
    /// Whether the exit status is the guest's.
    pub(crate) fn passes_status_on(&self) -> bool {
        !self.detach
    }
}

/// Runs it.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    if args.detach {
        let client = context.client().await?;
        let request = args.description.request(context, &client, args.rm).await?;
        let vm = description::create(context, &client, &request).await?;
        context.output.result(&vm, || format!("{}\n", vm.id))?;
        return Ok(0);
    }
    let (input, tty) = (args.description.interactive, args.description.tty);
    if input && tty && !terminal::is_typed() {
        bail!(NO_TERMINAL);
    }
    // Before there is a VM: from here on, none is left behind by a Ctrl-C.
    let mut asked_to_end = EndSignals::new()?;
    let client = context.client().await?;
    // Removed here and not by the daemon, which would do it before the last of its console was read.
    let mut request = args.description.request(context, &client, false).await?;
    if request.stdin_open && is_library_os(&client, &request).await {
        // It has its console, and no other input.
        request.stdin_open = false;
    }
    let vm = description::create(context, &client, &request).await?;
    let keys = args.detach_keys.unwrap_or_default();
    let ending = end_when_asked(context, &client, &vm, &mut asked_to_end);
    let stayed = match vm.kind {
        GuestKind::Libos => console::stay(context, &client, &vm, input, ending)
            .await
            .map(Some),
        GuestKind::Linux => with_program(context, &client, &vm, input, keys, ending).await,
    };
    if let Ok(None) = stayed {
        let left = format!(
            "{} goes on: `vmctl attach {}` returns to it",
            vm.name, vm.name
        );
        let kept = format!("{left}; it is not removed when it ends");
        context.output.note(if args.rm { &kept } else { &left });
        return Ok(0);
    }
    if args.rm {
        // The daemon that was there at first may be gone, and the VM is not.
        let removed = context.client().await?.remove(&vm.id, true).await;
        // Why it could not be stayed with comes first.
        stayed.as_ref().map_or(Ok(()), |_| removed)?;
    }
    let vm = stayed?.unwrap_or(vm);
    if context.output.is_json() {
        context.output.result(&vm, String::new)?;
    }
    if vm.state == VmState::Failed
        && let Some(outcome) = &vm.outcome
    {
        context
            .output
            .note(&format!("{} failed: {}", vm.name, outcome.message));
    }
    Ok(exit_status(&vm))
}

/// What is said where a terminal is asked for and there is none.
pub(crate) const NO_TERMINAL: &str =
    "the standard input is no terminal: leave out -t to pass it on as it is";

/// Whether the image is a program on the library OS; one that is not there is none.
async fn is_library_os(client: &Client, request: &CreateVm) -> bool {
    let image = client.image(&request.image).await;
    image.is_ok_and(|image| image.kind != "linux")
}

/// Stays with a Linux guest's main program; nothing comes back where the user left it running.
async fn with_program(
    context: &Context,
    client: &Client,
    vm: &Vm,
    input: bool,
    keys: Keys,
    ending: impl Future<Output = Result<()>>,
) -> Result<Option<Vm>> {
    let staying = async {
        let bar = progress::waiting(&format!("waiting for {} to boot", vm.name));
        let wait = context.wait(&vm.id, Until::Ready);
        let booted = progress::shown(&context.output, &bar, wait).await?;
        if booted.state.is_ended() {
            return Ok(Left::Missed);
        }
        let how = How {
            backlog: true,
            input,
            keys,
            // In raw mode signals are vmctl's own.
            signals: match attach::is_raw(vm, input) {
                true => &[],
                false => &PASSED_ON,
            },
        };
        attach::stay(context, vm, how).await
    };
    let left = tokio::select! {
        left = staying => left?,
        ended = ending => {
            ended?;
            Left::Gone
        }
    };
    match left {
        Left::Detached => return Ok(None),
        Left::Missed => {
            context.wait(&vm.id, Until::Ended).await?;
            console::show_all(context, client, vm).await?;
        }
        Left::Ended(_) | Left::Gone | Left::Signal(_) => {}
    }
    context.wait(&vm.id, Until::Ended).await.map(Some)
}

/// Stops the VM at the first signal, and kills it at the second; returns never, because the VM's end is the end.
async fn end_when_asked(
    context: &Context,
    client: &Client,
    vm: &Vm,
    signals: &mut EndSignals,
) -> Result<()> {
    signals.next().await;
    if std::io::stderr().is_terminal() {
        context
            .output
            .note(&format!("stopping {}; Ctrl-C again kills it", vm.name));
    }
    tokio::select! {
        stopped = client.stop(&vm.id, StopVm::default()) => drop(stopped?),
        () = signals.next() => drop(client.kill(&vm.id).await?),
    }
    std::future::pending().await
}
