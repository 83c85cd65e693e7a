//! Volumes: disks that outlive their VM, mounted into its root.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use abi::agent::reply::Failure;
use abi::agent::start::Volume;
use nix::mount::MsFlags;

use super::disks::Disks;
use super::{failed_io, mounts, tree};

/// Mounts a volume. Gives a directory of it, where it can be written to.
pub(super) fn mount(volume: &Volume, disks: &Disks) -> Result<Option<OwnedFd>, Failure> {
    let path = &*volume.path;
    let device = disks.device(&volume.disk)?;
    mounts::make_directory(path, 0o755).map_err(failed_io(path))?;
    // What the mount will hide.
    let beneath = mounts::directory(path)?;
    let flags = if volume.read_only {
        MsFlags::MS_RDONLY
    } else {
        MsFlags::MS_NOATIME
    };
    mounts::disk(device, path, "ext4", flags)?;
    if volume.read_only {
        return Ok(None);
    }
    if volume.populate && is_empty(path).map_err(failed_io(path))? {
        let from = format!("/proc/self/fd/{}/.", beneath.as_raw_fd());
        tree::copy(Path::new(&from), Path::new(path)).map_err(failed_io(format_args!(
            "the image's files cannot be copied to {path}"
        )))?;
    }
    mounts::directory(path).map(Some)
}

/// Whether a file system is as `mkfs` left it.
fn is_empty(path: &str) -> std::io::Result<bool> {
    for entry in fs::read_dir(path)? {
        if entry?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}
