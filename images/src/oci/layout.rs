//! An OCI layout in a directory that a stranger may have made: nothing outside it is opened.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::blob::{BlobError, Blobs};

/// An open directory.
#[derive(Debug)]
pub(super) struct Layout(OwnedFd);

impl Layout {
    pub(super) fn open(path: &Path) -> Result<Self, BlobError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        opened.map(Self).map_err(|e| refused("directory", e))
    }
}

impl Blobs for Layout {
    fn open(&self, name: &str) -> Result<Box<dyn Read + '_>, BlobError> {
        // A pipe would let us wait for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let within =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.0, name, flags, Mode::empty(), within)
            .map_err(|e| refused(name, e))?;
        let stat = rustix::fs::fstat(&file).map_err(|e| refused(name, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(BlobError::NoFile(name.to_owned()));
        }
        Ok(Box::new(File::from(file)))
    }
}

fn refused(name: &str, error: rustix::io::Errno) -> BlobError {
    match error {
        rustix::io::Errno::NOENT => BlobError::Missing(name.to_owned()),
        // A link where there should be a file.
        rustix::io::Errno::LOOP | rustix::io::Errno::XDEV => BlobError::NoFile(name.to_owned()),
        other => BlobError::Read {
            what: name.to_owned(),
            source: io::Error::from(other),
        },
    }
}
