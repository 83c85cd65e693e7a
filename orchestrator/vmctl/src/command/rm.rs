//! `vmctl rm`.

use anyhow::Result;

use super::several::each;
use crate::context::Context;

/// Remove VMs that have ended. With -o json: a list of what was removed, as it was given.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, beginnings of ids, or names
    #[arg(required = true)]
    vms: Vec<String>,

    /// Kill those first that run
    #[arg(short, long)]
    force: bool,
}

/// Removes them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let remove = async |vm: String| {
        client.remove(&vm, args.force).await?;
        Ok(vm)
    };
    let quiet = context.output.quiet;
    each(context, &args.vms, remove, |vm, _| {
        (!quiet).then(|| vm.to_owned())
    })
    .await
}
