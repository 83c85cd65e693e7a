//! `cargo ci demo`: a first look at Shoal.

use anyhow::Result;

use crate::install;
use crate::tree::Tree;

pub(crate) fn demo(tree: &Tree) -> Result<()> {
    install::install(tree)
}
