//! `vmctl run`: a VM that one stays with.

use std::io::IsTerminal;

use anyhow::Result;
use api::client::Bytestream;
use api::{Client, LogsQuery, StopVm, Until, Vm, VmState};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::io::ReaderStream;

use super::description::Description;
use crate::context::Context;
use crate::guest_status::exit_status;
use crate::output::{one_line, print_bytes};

/// Create a VM and stay with it: its console comes to the standard output (with -o json to the standard error), its
/// exit status becomes vmctl's. Ctrl-C stops it, a second one kills it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pass the standard input to the VM's console
    #[arg(short, long)]
    interactive: bool,

    /// Remove the VM once it has ended
    #[arg(long)]
    rm: bool,

    #[command(flatten)]
    description: Description,
}

/// Runs it.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    // Before there is a VM: from here on, none is left behind by a Ctrl-C.
    let mut asked_to_end = EndSignals::new()?;
    let client = context.client().await?;
    // Removed here and not by the daemon, which would do it before the last of its console was read.
    let vm = client.create(&args.description.request(false)).await?;
    let attached = attach(context, &client, &vm, args.interactive, &mut asked_to_end).await;
    if args.rm {
        client.remove(&vm.id, true).await?;
    }
    let vm = attached?;
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

/// Stays with the VM until it has ended.
async fn attach(
    context: &Context,
    client: &Client,
    vm: &Vm,
    interactive: bool,
    asked_to_end: &mut EndSignals,
) -> Result<Vm> {
    let query = LogsQuery {
        follow: true,
        tail: None,
    };
    let mut console = client.logs(&vm.id, query).await?;
    let mut input = std::pin::pin!(pass_input(client, vm, interactive));
    let mut input_open = true;
    let mut ending = std::pin::pin!(end_when_asked(context, client, vm, asked_to_end));
    loop {
        tokio::select! {
            // What the console has said is shown before anything else is done.
            biased;
            more = show(context, &mut console) => if !more? { break },
            ended = &mut ending => ended?,
            () = &mut input, if input_open => input_open = false,
        }
    }
    Ok(client.wait(&vm.id, Until::Ended).await?)
}

/// Shows what came of the console; says whether more may come.
async fn show(context: &Context, console: &mut Bytestream) -> Result<bool> {
    let Some(bytes) = console.next().await? else {
        return Ok(false);
    };
    if context.output.is_json() {
        use std::io::Write;
        std::io::stderr().write_all(&bytes)?;
    } else {
        print_bytes(&bytes)?;
    }
    Ok(true)
}

async fn pass_input(client: &Client, vm: &Vm, interactive: bool) {
    if !interactive {
        return;
    }
    let input = ReaderStream::new(tokio::io::stdin());
    if let Err(error) = client.console(&vm.id, input).await {
        let error = one_line(&error.into());
        eprintln!("vmctl: input no longer reaches {}: {error}", vm.name);
    }
}

/// Stops the VM at the first signal, and kills it at the second; returns never, because the console's end is the end.
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

/// The signals by which a user ends a command.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl EndSignals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
