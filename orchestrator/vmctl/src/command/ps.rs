//! `vmctl ps`.

use anyhow::Result;
use jiff::Timestamp;

use crate::context::Context;
use crate::render;

/// List VMs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Those too that have ended
    #[arg(short, long)]
    all: bool,
}

/// Lists them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let vms = context.client().await?.list(args.all).await?;
    let output = &context.output;
    output.result(&vms, || {
        if output.quiet {
            vms.iter().map(|vm| format!("{}\n", vm.id)).collect()
        } else {
            render::vms::table(&vms, Timestamp::now(), output.style)
        }
    })?;
    Ok(0)
}
