//! `vmctl image recipes`.

use anyhow::Result;

use crate::context::Context;
use crate::render;

/// Lists them.
pub(super) async fn run(context: &Context) -> Result<u8> {
    let recipes = context.client().await?.recipes().await?;
    let output = &context.output;
    output.result(&recipes, || match output.quiet {
        true => recipes.iter().map(|r| format!("{}\n", r.name)).collect(),
        false => render::images::recipes(&recipes, output.style),
    })?;
    Ok(0)
}
