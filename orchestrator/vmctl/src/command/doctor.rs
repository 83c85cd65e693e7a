//! `vmctl doctor`.

use anyhow::Result;

use crate::context::Context;
use crate::doctor::{facts, verdict};

/// Says how the host is; a daemon is not needed for it, and none is started.
pub(crate) async fn run(context: &Context) -> Result<u8> {
    let verdict = verdict::judge(facts::gather(&context.place).await);
    context
        .output
        .result(&verdict, || verdict.page(context.output.style))?;
    Ok(u8::from(!verdict.can_run))
}
