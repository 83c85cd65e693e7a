//! `vmctl pause` and `vmctl unpause`.

use anyhow::Result;

use super::several::each;
use crate::context::Context;

/// Which VMs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, beginnings of ids, or names
    #[arg(required = true)]
    vms: Vec<String>,
}

/// Makes them stand still.
pub(crate) async fn pause(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let pause = async |vm: String| Ok(client.pause(&vm).await?);
    let quiet = context.output.quiet;
    each(context, &args.vms, "pausing", pause, |vm, _| {
        (!quiet).then(|| vm.to_owned())
    })
    .await
}

/// Lets them go on.
pub(crate) async fn unpause(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let resume = async |vm: String| Ok(client.resume(&vm).await?);
    let quiet = context.output.quiet;
    each(context, &args.vms, "resuming", resume, |vm, _| {
        (!quiet).then(|| vm.to_owned())
    })
    .await
}
