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

/// As `vmd` has it.
fn default_dir() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/shoal".into());
    }
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        // The XDG specification: a relative path is as none.
        .filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share"));
    data.or_else(home)
        .map(|data| data.join("shoal"))
        .context("neither XDG_DATA_HOME nor HOME is set: give a directory with --dir")
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}
