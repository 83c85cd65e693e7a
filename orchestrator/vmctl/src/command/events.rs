//! `vmctl events`.

use anyhow::Result;

use crate::context::Context;
use crate::render;

/// Follow what happens to VMs. With -o json: an object a line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Begin with those after this number
    #[arg(long, value_name = "NUMBER")]
    since: Option<u64>,
}

/// Follows them until the daemon ends.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let mut events = context.client().await?.events(args.since).await?;
    while let Some(event) = events.next().await? {
        context
            .output
            .item(&event, || render::event::line(&event))?;
    }
    Ok(0)
}
