//! A directory that files are put into, and nothing outside it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

/// Bytes that are written at a time.
const CHUNK: usize = 256 << 10;
/// Permissions that an archive may give. Set-uid and its like would be the user's own here, not the guest's.
const PERMISSIONS: u32 = 0o777;
/// A directory's owner can go on putting files into it.
const OWN: u32 = 0o700;

/// Something could not be put there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// A step of the way is a symbolic link.
    #[error("{part} on the way is a symbolic link, and none is followed", part = .0.display())]
    Link(PathBuf),
    /// A step of the way is no directory.
    #[error("{part} on the way is no directory", part = .0.display())]
    NotDirectory(PathBuf),
    /// A directory is in the way of what is none.
    #[error("a directory is in the way")]
    Directory,
    /// The file system refused.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The archive broke off.
    #[error("the archive broke off")]
    Archive(#[source] io::Error),
}

impl From<Errno> for TreeError {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// A directory by its descriptor. Paths are relative, made of names alone.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a OwnedFd) -> Self {
        let root = root.as_fd();
        Self { root }
    }

    /// Puts a file there, in the place of one that is there.
    pub(super) fn file(
        &self,
        path: &Path,
        mode: u32,
        mtime: u64,
        content: &mut impl Read,
    ) -> Result<(), TreeError> {
        let (dir, name) = self.parent(path)?;
        clear(&dir, name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = fs::openat(
            &dir,
            name,
            flags | OFlags::NOFOLLOW,
            Mode::RUSR | Mode::WUSR,
        )?;
        let mut file = File::from(file);
        copy(content, &mut file)?;
        fs::fchmod(&file, Mode::from_raw_mode(mode & PERMISSIONS))?;
        let time = Timespec {
            // One that no file system knows is not worth a failure.
            tv_sec: i64::try_from(mtime).unwrap_or(0),
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        fs::futimens(&file, &times)?;
        Ok(())
    }

    /// Makes a directory, where there is none.
    pub(super) fn directory(&self, path: &Path, mode: u32) -> Result<(), TreeError> {
        let (dir, name) = self.parent(path)?;
        let mode = Mode::from_raw_mode(mode & PERMISSIONS | OWN);
        match fs::mkdirat(&dir, name, mode) {
            // Its own permissions, whatever the user's mask.
            Ok(()) => Ok(fs::fchmod(step(dir.as_fd(), name)?, mode)?),
            Err(Errno::EXIST) => step(dir.as_fd(), name).map(drop),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a symbolic link, in the place of a file or a link; where it leads is nobody's business until it is followed.
    pub(super) fn symlink(&self, path: &Path, leads_to: &Path) -> Result<(), TreeError> {
        let (dir, name) = self.parent(path)?;
        clear(&dir, name)?;
        Ok(fs::symlinkat(leads_to, &dir, name)?)
    }

    /// Makes another name for a file of this tree.
    pub(super) fn hard_link(&self, path: &Path, to: &Path) -> Result<(), TreeError> {
        let (from_dir, from) = self.parent(to)?;
        let (dir, name) = self.parent(path)?;
        // One name twice is there already.
        if path != to {
            clear(&dir, name)?;
            // Not what a symbolic link leads to, but the link.
            fs::linkat(&from_dir, from, &dir, name, AtFlags::empty())?;
        }
        Ok(())
    }

    /// The directory that `path` is in, which is made where it is missing, and its name there.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), TreeError> {
        let name = path.file_name().ok_or(TreeError::Directory)?;
        let mut dir = self.root.try_clone_to_owned()?;
        for part in path.parent().into_iter().flatten() {
            dir = match step(dir.as_fd(), part) {
                Err(TreeError::System(e)) if e.kind() == io::ErrorKind::NotFound => {
                    fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755))?;
                    step(dir.as_fd(), part)?
                }
                other => other?,
            };
        }
        Ok((dir, name))
    }
}

/// One step into a directory; a symbolic link is none.
fn step(dir: BorrowedFd<'_>, part: &OsStr) -> Result<OwnedFd, TreeError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    match fs::openat(dir, part, flags, Mode::empty()) {
        // Linux says ENOTDIR of a link too, where a directory is asked for.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let there = fs::statat(dir, part, AtFlags::SYMLINK_NOFOLLOW)?;
            Err(match FileType::from_raw_mode(there.st_mode) {
                FileType::Symlink => TreeError::Link(part.into()),
                _ => TreeError::NotDirectory(part.into()),
            })
        }
        other => Ok(other?),
    }
}

/// Takes away what a new file would replace: a directory is not replaced.
fn clear(dir: &OwnedFd, name: &OsStr) -> Result<(), TreeError> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(TreeError::Directory),
        Err(error) => Err(error.into()),
    }
}

fn copy(from: &mut impl Read, to: &mut File) -> Result<(), TreeError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk).map_err(TreeError::Archive)? {
            0 => return Ok(()),
            count => to.write_all(&chunk[..count])?,
        }
    }
}
