//! `vmctl inspect`.

use anyhow::Result;
use jiff::Timestamp;

use crate::context::Context;
use crate::render;

/// Show all there is to know of a VM.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id, the beginning of its id, or its name
    vm: String,
}

/// Shows it.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let vm = context.client().await?.inspect(&args.vm).await?;
    context.output.result(&vm, || {
        render::vm::page(&vm, Timestamp::now(), context.output.style)
    })?;
    Ok(0)
}
