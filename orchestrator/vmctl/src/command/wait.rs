//! `vmctl wait`.

use anyhow::Result;
use api::Until;

use super::several::each;
use crate::context::Context;
use crate::guest_status::exit_status;

/// Wait until VMs have ended, and print their statuses, a line each. The statuses are as those of `vmctl run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, beginnings of ids, or names
    #[arg(required = true)]
    vms: Vec<String>,
}

/// Waits for them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let wait = async |vm: String| context.wait(&vm, Until::Ended).await;
    each(context, &args.vms, "waiting", wait, |_, vm| {
        Some(exit_status(vm).to_string())
    })
    .await
}
