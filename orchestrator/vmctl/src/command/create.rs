//! `vmctl create`: a VM that goes on by itself.

use anyhow::Result;
use api::{Until, VmState};
use clap::ValueEnum;

use super::description::{self, Description};
use crate::context::Context;
use crate::guest_status::exit_status;
use crate::progress;

/// Create a VM, start it and print its id.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Wait until the VM runs, a Linux guest's program runs (ready), its health probe succeeds, or it exits; then its status is
    /// passed on
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "running")]
    wait: Option<Wait>,

    /// Remove the VM, console and all, as soon as it has ended
    #[arg(long)]
    pub(crate) rm: bool,

    #[command(flatten)]
    pub(crate) description: Description,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// It runs.
    Running,
    /// Its program runs.
    Ready,
    /// Its health probe succeeds.
    Healthy,
    /// It has ended.
    Exit,
}

impl Args {
    /// Whether the exit status is the guest's.
    pub(crate) fn passes_status_on(&self) -> bool {
        self.wait.is_some()
    }
}

/// Creates it.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    // Who waits for a VM also removes it: the daemon would do it before it could be asked how the VM ended.
    let remove_it = args.rm && args.wait.is_some();
    let auto_remove = args.rm && !remove_it;
    let request = args.description.request(context, &client, auto_remove);
    let vm = description::create(context, &client, &request.await?).await?;
    let id = |vm: &api::Vm| format!("{}\n", vm.id);
    let Some(wait) = args.wait else {
        context.output.result(&vm, || id(&vm))?;
        return Ok(0);
    };
    // Before the wait: a VM that never ends has an id too.
    if !context.output.is_json() {
        crate::output::print(&id(&vm))?;
    }
    let (until, what) = match wait {
        Wait::Running => (Until::Running, "to run"),
        Wait::Ready => (Until::Ready, "to be ready"),
        Wait::Healthy => (Until::Healthy, "to be healthy"),
        Wait::Exit => (Until::Ended, "to end"),
    };
    let bar = progress::waiting(&format!("waiting for {} {what}", vm.name));
    let vm = progress::shown(&context.output, &bar, context.wait(&vm.id, until)).await?;
    context.output.result(&vm, String::new)?;
    if remove_it && vm.state.is_ended() {
        client.remove(&vm.id, true).await?;
    }
    let status = match vm.state {
        VmState::Running | VmState::Paused | VmState::Stopping => 0,
        _ => exit_status(&vm),
    };
    if vm.state == VmState::Failed
        && let Some(outcome) = &vm.outcome
    {
        context
            .output
            .note(&format!("{} failed: {}", vm.name, outcome.message));
    }
    Ok(status)
}
