//! `cargo ci openapi`: the API's document, as `vmd` itself gives it.

use std::fs;

use anyhow::{Context, Result};

use crate::check::host;
use crate::tree::Tree;

pub(crate) fn write(tree: &Tree) -> Result<()> {
    let path = tree.root.join("docs/openapi.json");
    let document = host(tree)
        .args(["run", "-q", "--release", "-p", "daemon", "--bin", "vmd"])
        .args(["--", "--openapi"])
        .output()?;
    fs::write(&path, document).with_context(|| format!("{} cannot be written", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
