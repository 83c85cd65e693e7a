//! A tar archive as a set of files: where each lies in it, so that none is unpacked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::FileExt;

use super::OciError;
use super::blob::{BlobError, Blobs};
use super::layer::Packing;
use super::layer::unpack;
use crate::files::FileError;
use crate::progress::{Phase, Progress, Told};
use crate::rootfs::Limits;
use crate::tar::{Kind, Reader};

/// Most entries: a blob for each layer of each image, and some more.
const MAX_ENTRIES: usize = 10_000;

/// An archive, and what is where in it.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    entries: HashMap<String, Found>,
}

/// What has a name in an archive.
#[derive(Debug)]
enum Found {
    /// From which byte, how many.
    File(u64, u64),
    /// The name that stands for the same; docker writes a layer once that two images have.
    Link(String),
}

impl Archive {
    /// Finds what is where; an archive that is packed is unpacked into `scratch` first.
    pub(super) fn open(
        mut file: File,
        scratch: impl FnOnce() -> Result<File, FileError>,
        progress: Progress<'_>,
    ) -> Result<Self, OciError> {
        let read = |source| BlobError::Read {
            what: "archive".to_owned(),
            source,
        };
        file.rewind().map_err(read)?;
        let mut first = [0; 4];
        let got = file.read_at(&mut first, 0).map_err(read)?;
        let packing = Packing::sniff(&first[..got]);
        if packing != Packing::Plain {
            let packed = BufReader::with_capacity(128 << 10, file);
            file = keep(scratch()?, unpack(packing, packed).map_err(read)?, progress)?;
        }
        let size = file.metadata().map_err(read)?.len();
        file.rewind().map_err(read)?;
        let mut entries = HashMap::new();
        let mut reader = Reader::new(BufReader::with_capacity(128 << 10, &file));
        while let Some(entry) = reader.next_entry().map_err(OciError::Archive)? {
            if entries.len() >= MAX_ENTRIES {
                return Err(OciError::TooMuch("an archive of more than 10000 files"));
            }
            let Some(name) = plain(&entry.path) else {
                continue;
            };
            let found = match (entry.kind, reader.span()) {
                (Kind::File, Some((at, length))) if at + length <= size => Found::File(at, length),
                (Kind::Symlink, _) => match beside(&name, &entry.link) {
                    Some(target) => Found::Link(target),
                    None => continue,
                },
                (Kind::HardLink, _) => match plain(&entry.link) {
                    Some(target) => Found::Link(target),
                    None => continue,
                },
                _ => continue,
            };
            entries.insert(name, found);
        }
        drop(reader);
        Ok(Self { file, entries })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Bytes of a file.
    pub(super) fn size(&self, name: &str) -> Result<u64, BlobError> {
        self.find(name).map(|(_, length)| length)
    }

    fn find(&self, name: &str) -> Result<(u64, u64), BlobError> {
        match self.entries.get(name) {
            Some(&Found::File(at, length)) => Ok((at, length)),
            Some(Found::Link(target)) => match self.entries.get(target) {
                Some(&Found::File(at, length)) => Ok((at, length)),
                _ => Err(BlobError::NoFile(name.to_owned())),
            },
            None => Err(BlobError::Missing(name.to_owned())),
        }
    }
}

impl Blobs for Archive {
    fn open(&self, name: &str) -> Result<Box<dyn Read + '_>, BlobError> {
        let (at, left) = self.find(name)?;
        let file = &self.file;
        Ok(Box::new(Piece { file, at, left }))
    }
}

/// A piece of a file.
struct Piece<'f> {
    file: &'f File,
    at: u64,
    left: u64,
}

impl Read for Piece<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = self.left.min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Keeps what cannot be read twice.
pub(super) fn keep(
    mut scratch: File,
    from: impl Read,
    progress: Progress<'_>,
) -> Result<File, OciError> {
    let max = Limits::DEFAULT.bytes;
    let failed = |source| BlobError::Read {
        what: "archive".to_owned(),
        source,
    };
    let mut from = Told::new(from.take(max + 1), Phase::Download, 0, 0, progress);
    let kept = io::copy(&mut from, &mut scratch).map_err(failed)?;
    scratch.flush().map_err(failed)?;
    if kept > max {
        let what = "archive".to_owned();
        return Err(BlobError::TooLarge { what, max }.into());
    }
    Ok(scratch)
}

/// A path in the archive as others name it: no `.`, no `..`.
fn plain(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let mut plain: Vec<&str> = Vec::new();
    for part in parts {
        if part == ".." {
            plain.pop()?;
        } else {
            plain.push(part);
        }
    }
    Some(plain.join("/"))
}

/// Where a symbolic link in the archive leads, within it.
fn beside(name: &str, target: &[u8]) -> Option<String> {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = [folder.as_bytes(), b"/", target].concat();
    plain(&path)
}
