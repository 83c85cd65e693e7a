//! Files out of a tar archive that a guest sent.
//!
//! The archive is hostile. Every name in it is walked from the target's descriptor, component by component, and no step follows a
//! symbolic link: neither one that the archive brought nor one that was there. So nothing is written outside the target, whatever changes
//! beside us. What else an archive could bring is cut off:
//!
//! - devices, pipes and sockets are left out, set-uid, set-gid and sticky bits too; all files are the user's who copies;
//! - a hard link is made between files of the archive's own tree only;
//! - names and pax records have a length ([`headers`]), the rest is a stream: memory does not grow with the archive.

mod headers;
mod tree;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, EntryType};

use headers::{Headers, HeadersError};
use tree::{Tree, TreeError};

/// Most components of a name: deeper trees are somebody's trap.
const DEEPEST: usize = 256;

/// Where an archive's entries go.
#[derive(Debug)]
pub(crate) struct Target {
    /// The directory that all goes into.
    pub(crate) dir: OwnedFd,
    /// Whether each name begins with the source's own, which is taken off.
    pub(crate) named: bool,
    /// What it is called in the directory; nothing, where the contents go there.
    pub(crate) name: Option<OsString>,
}

/// What came out of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Files, directories and links.
    pub(crate) entries: u64,
    /// Devices, pipes and sockets, that were left out.
    pub(crate) left_out: u64,
}

/// An archive could not be unpacked to its end; what came before is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It did not come whole, or is none.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// A name leads out of the target.
    #[error("the archive has {0:?}, which leads out of it")]
    Outside(PathBuf),
    /// A name that is too deep.
    #[error("the archive has a name of more than {DEEPEST} parts")]
    Deep,
    /// Headers that are too long or wrong.
    #[error("the archive's headers are wrong")]
    Headers(#[from] HeadersError),
    /// A file could not be made.
    #[error("{path} cannot be written", path = .0.display())]
    Write(PathBuf, #[source] TreeError),
    /// There was nothing in it.
    #[error("the archive is empty")]
    Empty,
}

/// Unpacks `archive`. For threads: it blocks.
///
/// # Errors
/// [`UnpackError`]
pub(crate) fn unpack(archive: impl Read, target: &Target) -> Result<Unpacked, UnpackError> {
    let tree = Tree::new(&target.dir);
    let mut archive = Archive::new(archive);
    let mut headers = Headers::default();
    let mut unpacked = Unpacked::default();
    // Raw: the crate would take long names into memory before they could be looked at.
    for entry in archive.entries().map_err(UnpackError::Read)?.raw(true) {
        let mut entry = entry.map_err(UnpackError::Read)?;
        if headers.take(&mut entry)? {
            continue;
        }
        let names = headers.names(&entry)?;
        let (written, kind) = (names.path, entry.header().entry_type());
        let path = inside(&written, target)?;
        // The source itself, where its contents are wanted.
        if path.as_os_str().is_empty() {
            unpacked.entries += 1;
            continue;
        }
        let mode = entry.header().mode().map_err(UnpackError::Read)?;
        let mtime = entry.header().mtime().map_err(UnpackError::Read)?;
        let done = match kind {
            EntryType::Regular | EntryType::Continuous => tree.file(&path, mode, mtime, &mut entry),
            EntryType::Directory => tree.directory(&path, mode),
            EntryType::Symlink => tree.symlink(&path, &names.link),
            EntryType::Link => tree.hard_link(&path, &inside(&names.link, target)?),
            _ => {
                unpacked.left_out += 1;
                continue;
            }
        };
        done.map_err(|error| UnpackError::Write(path, error))?;
        unpacked.entries += 1;
    }
    match unpacked {
        Unpacked {
            entries: 0,
            left_out: 0,
        } => Err(UnpackError::Empty),
        unpacked => Ok(unpacked),
    }
}

/// Where a name of the archive's is in the target's directory.
fn inside(name: &Path, target: &Target) -> Result<PathBuf, UnpackError> {
    let mut parts = Vec::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(UnpackError::Outside(name.to_owned()));
            }
        }
    }
    if parts.len() > DEEPEST {
        return Err(UnpackError::Deep);
    }
    let skipped = usize::from(target.named).min(parts.len());
    let name = target.name.as_deref().into_iter();
    Ok(name.chain(parts.into_iter().skip(skipped)).collect())
}
