//! What is at a path: who copies wants to know before.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use abi::agent::reply::{Failure, FileKind, Found};
use abi::agent::request::Stat;

use crate::copy_in::failure;

/// Looks.
pub(crate) fn stat(wanted: &Stat) -> Result<Found, Failure> {
    let path = Path::new(&wanted.path);
    let meta = if wanted.follow {
        path.metadata()
    } else {
        path.symlink_metadata()
    };
    let meta = meta.map_err(|error| failure(&wanted.path, &error))?;
    let kind = meta.file_type();
    let target = if kind.is_symlink() {
        fs::read_link(path).ok()
    } else {
        None
    };
    Ok(Found {
        kind: match () {
            () if kind.is_file() => FileKind::File,
            () if kind.is_dir() => FileKind::Directory,
            () if kind.is_symlink() => FileKind::Link,
            () => FileKind::Other,
        },
        size: meta.len(),
        // Twelve bits.
        mode: (meta.mode() & 0o7777) as u16,
        uid: meta.uid(),
        gid: meta.gid(),
        modified: meta.mtime(),
        target: target.map(|target| target.to_string_lossy().into_owned()),
    })
}
