//! Where a host's daemon is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where a host's daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// What it keeps everything in.
    pub(crate) dir: PathBuf,
    /// Where it listens.
    pub(crate) socket: PathBuf,
}

impl Place {
    /// What was asked for, and defaults for the rest. Paths become absolute: the daemon has another working directory.
    pub(crate) fn new(dir: Option<PathBuf>, socket: Option<PathBuf>) -> Result<Self> {
        let dir = absolute(&dir.map_or_else(default_dir, Ok)?)?;
        let socket = match socket {
            Some(socket) => absolute(&socket)?,
            None => dir.join("vmd.sock"),
        };
        Ok(Self { dir, socket })
    }
}

fn default_dir() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/shoal".into());
    }
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    if let Some(data) = set("XDG_DATA_HOME") {
        return Ok(Path::new(&data).join("shoal"));
    }
    let home = set("HOME").context("HOME is not set: give a directory with --dir")?;
    Ok(Path::new(&home).join(".local/share/shoal"))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}
