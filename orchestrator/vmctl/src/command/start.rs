//! `vmctl start`.

use anyhow::Result;

use super::several::each;
use crate::context::Context;

/// Start VMs again that have ended, with their disks, volumes and addresses.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, beginnings of ids, or names
    #[arg(required = true)]
    vms: Vec<String>,
}

/// Starts them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let start = async |vm: String| Ok(client.start(&vm).await?);
    let quiet = context.output.quiet;
    each(context, &args.vms, "starting", start, |vm, _| {
        (!quiet).then(|| vm.to_owned())
    })
    .await
}
