//! The files that bodies and flags name: opened once, when the name arrives, so that a wrong one is refused at that moment.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::ConfigureError;
use crate::backend::file::Backing;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};

/// Most bytes of a file that is read whole.
const MAX_READ: u64 = 1 << 20;

/// A file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The kernel refused.
    #[error("cannot open {path:?}: {source}")]
    Open {
        /// The name.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Not a file that bytes can be taken from at any place.
    #[error("{0:?} is not a regular file")]
    NotRegular(PathBuf),
    /// Too long to be what it should be.
    #[error("{0:?} has more than {MAX_READ} bytes")]
    TooLong(PathBuf),
}

/// Opens a regular file to read.
pub(super) fn input(path: &Path) -> Result<OwnedFd, FileError> {
    // Without NONBLOCK a FIFO of that name would hold the control thread until somebody writes to it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open_with(path, flags)?;
    let mode = fstat(&file).map_err(|e| failed(path, e))?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(FileError::NotRegular(path.to_owned())),
    }
}

/// Opens a disk's file.
pub(super) fn disk(path: &Path, read_only: bool) -> Result<OwnedFd, ConfigureError> {
    let access = if read_only {
        OFlags::RDONLY
    } else {
        OFlags::RDWR
    };
    let file = open_with(
        path,
        access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
    )?;
    match Backing::check(&file, read_only) {
        Ok(_) => Ok(file),
        Err(error) => Err(ConfigureError::Drive {
            path: path.to_owned(),
            error,
        }),
    }
}

/// Opens a file, FIFO or device to add to, and makes the file where there is none.
pub(super) fn output(path: &Path) -> Result<OwnedFd, FileError> {
    // Read as well as write: a FIFO then opens before its reader does, and survives its reader.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND;
    open_with(
        path,
        flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
    )
}

/// Reads a regular file whole.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    File::from(input(path)?)
        .take(MAX_READ + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| FileError::Open {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > MAX_READ {
        return Err(FileError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

fn open_with(path: &Path, flags: OFlags) -> Result<OwnedFd, FileError> {
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    open(path, flags, mode).map_err(|e| failed(path, e))
}

fn failed(path: &Path, error: rustix::io::Errno) -> FileError {
    FileError::Open {
        path: path.to_owned(),
        source: error.into(),
    }
}

/// A file that takes whole lines and holds nobody up: what a full FIFO does not take is lost.
#[derive(Debug)]
pub(super) struct Lines(File);

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        output(path).map(|file| Self(file.into()))
    }

    /// Writes a line. It should fit `PIPE_BUF` (4096 bytes), for then a FIFO takes it whole or not at all.
    pub(super) fn write(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        line.push(b'\n');
        self.0.write_all(&line)
    }
}
