//! `vmctl kill`.

use anyhow::Result;

use super::several::each;
use crate::context::Context;

/// End VMs at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, beginnings of ids, or names
    #[arg(required = true)]
    vms: Vec<String>,
}

/// Kills them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let kill = async |vm: String| Ok(client.kill(&vm).await?);
    let quiet = context.output.quiet;
    each(context, &args.vms, kill, |vm, _| {
        (!quiet).then(|| vm.to_owned())
    })
    .await
}
