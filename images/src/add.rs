//! How an image gets in: written beside, checked, then named.

use std::fs;
use std::io::{self, Read, Write};

use crate::digest::Digest;
use crate::elf::{self, ElfError};
use crate::files::{At, FileError, make_read_only, place};
use crate::name::ImageName;
use crate::store::{FindError, Inspection, Store};

/// Most bytes of an image: a guest is shown its own file, and this is the room there is for it.
pub const MAX_SIZE: u64 = abi::layout::MODULE_MAX;

/// An image was not added, and nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The bytes did not come.
    #[error("cannot read the image that was to be added")]
    Read(#[source] io::Error),
    /// More than [`MAX_SIZE`] bytes.
    #[error("the image has more than {max} MiB", max = MAX_SIZE >> 20)]
    TooLarge,
    /// No microVM could boot it.
    #[error("the image cannot be booted")]
    Elf(#[from] ElfError),
    /// What the store holds could not be read.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The store could not be written to.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Adds an image and gives it a name, which another image may lose by it. Bytes that are there already are kept
    /// once.
    ///
    /// # Errors
    /// [`AddError`]; the store is then as before.
    pub fn add(&self, name: &ImageName, mut from: impl Read) -> Result<Inspection, AddError> {
        let mut file = self.layout.temporary(&self.layout.exclusive()?)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        let mut size = 0_u64;
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(AddError::Read(e)),
            };
            size += read as u64;
            if size > MAX_SIZE {
                return Err(AddError::TooLarge);
            }
            hasher.update(&buffer[..read]);
            file.write_all(&buffer[..read]).at("write", file.path())?;
        }
        let elf = elf::check(file.as_file())?;
        let digest = Digest::from(hasher.finalize());
        make_read_only(&file)?;
        // The slow part of writing, before anybody waits for the lock.
        file.as_file().sync_all().at("sync", file.path())?;

        let held = self.layout.exclusive()?;
        let blob = self.blob(digest);
        // A file of another length under this name was damaged from outside: this mends it.
        if !fs::metadata(&blob).is_ok_and(|m| m.len() == size) {
            place(file, &blob)?;
        }
        self.layout
            .write(&held, &self.name_file(name), &format!("{digest}\n"))?;
        let names = self.names_by_digest()?.remove(&digest).unwrap_or_default();
        let image = self.image(digest, names)?;
        Ok(Inspection { image, elf })
    }
}
