//! `vmctl kill`.

use anyhow::Result;

use super::description::linux::signal_name;
use super::several::each;
use crate::context::Context;

/// End VMs at once, or send their programs a signal.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, beginnings of ids, or names
    #[arg(required = true)]
    vms: Vec<String>,

    /// Send this signal to the main program of a Linux guest, and leave the VM alone: HUP, SIGUSR1, 15
    #[arg(short, long, value_parser = signal_name)]
    signal: Option<String>,
}

/// Kills them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let quiet = context.output.quiet;
    let show = |vm: &str| (!quiet).then(|| vm.to_owned());
    if let Some(signal) = &args.signal {
        let send = async |vm: String| {
            client.signal(&vm, signal).await?;
            Ok(vm)
        };
        return each(context, &args.vms, "signalling", send, |vm, _| show(vm)).await;
    }
    let kill = async |vm: String| Ok(client.kill(&vm).await?);
    each(context, &args.vms, "killing", kill, |vm, _| show(vm)).await
}
