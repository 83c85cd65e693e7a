//! `vmctl restart`.

use anyhow::Result;
use api::StopVm;

use super::several::each;
use crate::context::Context;
use crate::units::milliseconds;

/// Stop VMs, where they run, and start them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, beginnings of ids, or names
    #[arg(required = true)]
    vms: Vec<String>,

    /// How long a guest has to end by itself: seconds, or 500ms, 10s, 2m; ten seconds where nothing else was
    /// said when it was created
    #[arg(short, long, value_parser = milliseconds, value_name = "TIME")]
    time: Option<u64>,
}

/// Stops and starts them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let how = StopVm {
        timeout_ms: args.time,
    };
    let restart = async |vm: String| {
        if !client.inspect(&vm).await?.state.is_ended() {
            client.stop(&vm, how).await?;
        }
        Ok(client.start(&vm).await?)
    };
    let quiet = context.output.quiet;
    each(context, &args.vms, "restarting", restart, |vm, _| {
        (!quiet).then(|| vm.to_owned())
    })
    .await
}
