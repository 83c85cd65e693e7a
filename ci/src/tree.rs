//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The repository and what is built from it.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Where cargo builds the host's workspace.
    pub(crate) target: PathBuf,
    /// Where cargo builds the guests' workspace.
    pub(crate) guest_target: PathBuf,
}

impl Tree {
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the ci crate is not in a repository")?
            .to_owned();
        let chosen = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        Ok(match chosen {
            Some(target) => {
                let target = std::path::absolute(target)?;
                Self {
                    guest_target: target.join("guest"),
                    target,
                    root,
                }
            }
            None => Self {
                target: root.join("target"),
                guest_target: root.join("guest/target"),
                root,
            },
        })
    }

    /// The guests' workspace.
    pub(crate) fn guest(&self) -> PathBuf {
        self.root.join("guest")
    }

    /// The tree of an installed Shoal: `bin`, `share/shoal/images`.
    pub(crate) fn shoal(&self) -> PathBuf {
        self.target.join("shoal")
    }

    /// Every guest program, the ones that only tests boot too.
    pub(crate) fn guests(&self) -> PathBuf {
        self.target.join("guests")
    }
}
