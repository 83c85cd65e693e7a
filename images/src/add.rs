//! How a library OS's image gets in: written beside, checked, then named.

use std::fs;
use std::io::{self, Read, Write};

use crate::digest::Digest;
use crate::elf::{self, ElfError};
use crate::files::{At, FileError, make_read_only, place};
use crate::image::{FindError, InspectError, Inspection};
use crate::manifest::ManifestError;
use crate::name::ImageName;
use crate::root::MAX_ROOT;
use crate::store::Store;

/// Most bytes of a library OS's image: a guest is shown its own file, and this is the room there is for it.
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
    /// More than [`MAX_ROOT`] bytes.
    #[error("the image's root has more than {max} GiB", max = MAX_ROOT >> 30)]
    RootTooLarge,
    /// The root is of another kind.
    #[error("the image's root is no erofs file system")]
    NoRoot,
    /// What is to be said of a Linux image cannot be.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What the store holds could not be read.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The store could not be written to.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Adds a library OS's image and gives it a name, which another image may lose by it. Bytes that are there already are kept
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
        elf::check(file.as_file())?;
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
        self.point(&held, name, digest)
    }

    /// Lets a name stand for an image that is there. The caller holds the store's lock.
    pub(crate) fn point(
        &self,
        held: &fs::File,
        name: &ImageName,
        digest: Digest,
    ) -> Result<Inspection, AddError> {
        self.layout
            .write(held, &self.name_file(name), &format!("{digest}\n"))?;
        let names = self.names_by_digest()?.remove(&digest).unwrap_or_default();
        match self.describe(self.image(digest, names)?) {
            Ok(inspection) => Ok(inspection),
            Err(InspectError::Find(e)) => Err(e.into()),
            Err(InspectError::Elf { source, .. }) => Err(source.into()),
            Err(InspectError::Manifest { source, .. }) => Err(source.into()),
        }
    }
}
