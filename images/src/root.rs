//! A root file system on its way into the store.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use tempfile::NamedTempFile;

use crate::add::AddError;
use crate::config::Config;
use crate::digest::Digest;
use crate::files::{At, FileError, make_read_only, place};
use crate::image::Inspection;
use crate::manifest::{Manifest, Source};
use crate::name::ImageName;
use crate::store::Store;

/// Most bytes of a root, holes among them.
pub const MAX_ROOT: u64 = 64 << 30;
/// What a file system's blocks are aligned to; as many zeroes become a hole.
const BLOCK: usize = 4096;
/// Where an erofs superblock is, and how it begins.
const SUPERBLOCK: u64 = 1024;
const MAGIC: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();

/// Writes a root from its first byte to its last; blocks of zeroes take no room on the disk.
#[derive(Debug)]
pub struct RootWriter {
    file: NamedTempFile,
    hasher: blake3::Hasher,
    /// Less than a block that was not written yet.
    pending: Vec<u8>,
    size: u64,
}

/// A root that is whole and on the disk, not yet an image's. Dropped, it is gone.
#[derive(Debug)]
pub struct Root {
    file: NamedTempFile,
    digest: Digest,
    size: u64,
}

impl Store {
    /// Begins a root.
    ///
    /// # Errors
    /// [`FileError`] where the store cannot be written to.
    pub fn root_writer(&self) -> Result<RootWriter, FileError> {
        Ok(RootWriter {
            file: self.layout.temporary(&self.layout.exclusive()?)?,
            hasher: blake3::Hasher::new(),
            pending: Vec::with_capacity(BLOCK),
            size: 0,
        })
    }

    /// Adds a Linux image and gives it a name, which another image may lose by it. A root that is there already is
    /// kept once.
    ///
    /// # Errors
    /// [`AddError`]; the store is then as before.
    pub fn add_linux(
        &self,
        name: &ImageName,
        root: Root,
        config: Config,
        source: Source,
    ) -> Result<Inspection, AddError> {
        config.check().map_err(|e| AddError::Manifest(e.into()))?;
        let manifest = Manifest::new(root.digest, root.size, config, source);
        let bytes = manifest.bytes()?;
        let held = self.layout.exclusive()?;
        let path = self.root(root.digest);
        // A file of another length under this name was damaged from outside: this mends it.
        if !fs::metadata(&path).is_ok_and(|m| m.len() == root.size) {
            place(root.file, &path)?;
        }
        // A crash here leaves a root that no manifest names, which goes with the next collection.
        let digest = Digest::of(&bytes);
        let blob = self.blob(digest);
        if !fs::read(&blob).is_ok_and(|there| there == bytes) {
            let mut file = self.layout.temporary(&held)?;
            file.write_all(&bytes).at("write", file.path())?;
            make_read_only(&file)?;
            place(file, &blob)?;
        }
        self.point(&held, name, digest)
    }
}

impl Store {
    /// Gives an image that is there another name, which another image may lose by it.
    pub(crate) fn tag(&self, digest: Digest, name: &ImageName) -> Result<Inspection, AddError> {
        self.point(&self.layout.exclusive()?, name, digest)
    }
}

impl RootWriter {
    /// Ends the root: it is on the disk from here on.
    ///
    /// # Errors
    /// [`AddError`] where it is no erofs, or cannot be written.
    pub fn finish(mut self) -> Result<Root, AddError> {
        let path = self.file.path().to_owned();
        self.flush_block().at("write", &path)?;
        let file = self.file.as_file();
        // The last blocks may be a hole.
        file.set_len(self.size).at("write", &path)?;
        let mut magic = [0; 4];
        let read = file.read_exact_at(&mut magic, SUPERBLOCK);
        if read.is_err() || magic != MAGIC {
            return Err(AddError::NoRoot);
        }
        make_read_only(&self.file)?;
        // The slow part of writing, before anybody waits for the lock.
        file.sync_all().at("sync", &path)?;
        Ok(Root {
            digest: self.hasher.finalize().into(),
            size: self.size,
            file: self.file,
        })
    }

    /// Writes what `from` has.
    ///
    /// # Errors
    /// [`AddError`] where it cannot be read, has too much, or cannot be written.
    pub fn copy(&mut self, from: &mut impl Read) -> Result<(), AddError> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(AddError::Read(e)),
            };
            if self.size + read as u64 > MAX_ROOT {
                return Err(AddError::RootTooLarge);
            }
            self.write_all(&buffer[..read])
                .at("write", self.file.path())?;
        }
    }

    fn flush_block(&mut self) -> io::Result<()> {
        put(self.file.as_file_mut(), &self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

impl Write for RootWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size + bytes.len() as u64 > MAX_ROOT {
            return Err(io::Error::other(AddError::RootTooLarge));
        }
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        let mut rest = bytes;
        if !self.pending.is_empty() {
            let (first, later) = rest.split_at(rest.len().min(BLOCK - self.pending.len()));
            self.pending.extend_from_slice(first);
            rest = later;
            if self.pending.len() == BLOCK {
                self.flush_block()?;
            }
        }
        let (whole, later) = rest.split_at(rest.len() / BLOCK * BLOCK);
        put(self.file.as_file_mut(), whole)?;
        self.pending.extend_from_slice(later);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `bytes`, which begin at a block, and passes over blocks of zeroes.
fn put(file: &mut fs::File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let hole = is_hole(bytes);
        let blocks = bytes.chunks(BLOCK);
        let run = blocks.take_while(|b| is_hole(b) == hole).count() * BLOCK;
        let (run, later) = bytes.split_at(run.min(bytes.len()));
        if hole {
            file.seek(SeekFrom::Current(run.len() as i64))?;
        } else {
            file.write_all(run)?;
        }
        bytes = later;
    }
    Ok(())
}

/// Whether the first block is whole and all zeroes.
fn is_hole(bytes: &[u8]) -> bool {
    const ZEROES: [u8; BLOCK] = [0; BLOCK];
    bytes.get(..BLOCK).is_some_and(|block| block == ZEROES)
}
