//! `vmctl wait`.

use anyhow::Result;
use api::Until;

use super::several::each;
use crate::context::Context;
use crate::guest_status::exit_status;
use crate::progress;

/// Wait until VMs have ended, and print their statuses, a line each. The statuses are as those of `vmctl run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, beginnings of ids, or names
    #[arg(required = true)]
    vms: Vec<String>,
}

/// Waits for them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let wait = async |vm: String| Ok(client.wait(&vm, Until::Ended).await?);
    let work = each(context, &args.vms, wait, |_, vm| {
        Some(exit_status(vm).to_string())
    });
    progress::shown(&context.output, &progress::waiting("waiting"), work).await
}
