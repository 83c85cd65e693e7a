//! The store: what it holds, under which names, and what may go.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::digest::{Digest, DigestError};
use crate::elf::{self, ElfError, Facts};
use crate::files::{At, FileError, Layout, remove_if_there};
use crate::name::ImageName;

/// A folder of images.
#[derive(Debug)]
pub struct Store {
    pub(crate) layout: Layout,
}

/// An image, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What its bytes hash to.
    pub digest: Digest,
    /// What it is called, in order; none once every name was removed or given to another image.
    pub names: Vec<ImageName>,
    /// Its bytes.
    pub size: u64,
    /// When its bytes were added first.
    pub created: Timestamp,
}

/// An image, with what its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What a list shows.
    pub image: Image,
    /// What booting it takes.
    pub elf: Facts,
}

/// What [`Store::remove`] took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The image, whose bytes stay until [`Store::gc`].
    pub digest: Digest,
    /// The names that it lost.
    pub names: Vec<ImageName>,
}

/// What [`Store::gc`] took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// The images.
    pub digests: Vec<Digest>,
    /// Their bytes together.
    pub bytes: u64,
}

/// An image was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Neither a name nor the beginning of a digest.
    #[error("no image is called {0:?}, and no image's digest begins with it")]
    Unknown(String),
    /// The beginning of several digests.
    #[error("{count} images have digests that begin with {prefix:?}: give more digits")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// A name whose file holds something else.
    #[error("the store's note of what {name} stands for is damaged: add that image again")]
    Damaged {
        /// The name.
        name: ImageName,
        /// What its file holds.
        source: DigestError,
    },
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// An image could not be described.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It was not found.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Its bytes changed after they were checked.
    #[error("image {digest} is damaged: add it again")]
    Damaged {
        /// The image.
        digest: Digest,
        /// What is wrong with it.
        source: ElfError,
    },
}

impl Store {
    /// Opens a store, makes it where there is none, and removes what a crash left over.
    ///
    /// # Errors
    /// [`FileError`] where the folder cannot be made or written to.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, FileError> {
        let layout = Layout::create(dir.as_ref())?;
        let held = layout.exclusive()?;
        layout.sweep(&held)?;
        Ok(Self { layout })
    }

    /// Every image, in the order of their names; those without one come last.
    ///
    /// # Errors
    /// [`FindError`] where the store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, FindError> {
        let _held = self.layout.shared()?;
        let mut names = self.names_by_digest()?;
        let mut images = Vec::new();
        for digest in self.digests()? {
            images.push(self.image(digest, names.remove(&digest).unwrap_or_default())?);
        }
        images.sort_by(|a, b| {
            let key = |i: &Image| (i.names.is_empty(), i.names.first().cloned(), i.digest);
            key(a).cmp(&key(b))
        });
        Ok(images)
    }

    /// Describes the image that `reference`, a name or the beginning of a digest, stands for.
    ///
    /// # Errors
    /// [`InspectError`] where there is none, or it is damaged.
    pub fn inspect(&self, reference: &str) -> Result<Inspection, InspectError> {
        let (image, file) = self.find_open(reference)?;
        match elf::check(&file) {
            Ok(elf) => Ok(Inspection { image, elf }),
            Err(source) => Err(InspectError::Damaged {
                digest: image.digest,
                source,
            }),
        }
    }

    /// Finds the image that `reference`, a name or the beginning of a digest, stands for; its file is not looked at, so
    /// that a damaged one is found too.
    ///
    /// # Errors
    /// [`FindError`] where there is none.
    pub fn find(&self, reference: &str) -> Result<Image, FindError> {
        self.find_open(reference).map(|(image, _)| image)
    }

    fn find_open(&self, reference: &str) -> Result<(Image, File), FindError> {
        let _held = self.layout.shared()?;
        let digest = self.resolve(reference)?;
        let names = self.names_by_digest()?.remove(&digest).unwrap_or_default();
        let path = self.blob(digest);
        let file = File::open(&path).at("open", &path)?;
        Ok((self.image(digest, names)?, file))
    }

    /// Opens an image for a monitor: read-only, and unchanged for as long as it is open, whatever becomes of the name.
    ///
    /// # Errors
    /// [`FindError`] where there is none.
    pub fn open_image(&self, reference: &str) -> Result<(Digest, File), FindError> {
        self.find_open(reference)
            .map(|(image, file)| (image.digest, file))
    }

    /// Takes a name away, or, given the beginning of a digest, all of that image's names. Bytes stay until
    /// [`Self::gc`]; whether an image is in use is for the caller to know.
    ///
    /// # Errors
    /// [`FindError`] where there is no such name or image.
    pub fn remove(&self, reference: &str) -> Result<Removed, FindError> {
        let _held = self.layout.exclusive()?;
        let name = reference.parse::<ImageName>().ok();
        let named = name.as_ref().map(|n| self.named(n)).transpose()?.flatten();
        let (digest, names) = match (name, named) {
            (Some(name), Some(digest)) => (digest, vec![name]),
            _ => {
                let digest = self.resolve(reference)?;
                let names = self.names_by_digest()?.remove(&digest);
                (digest, names.unwrap_or_default())
            }
        };
        for name in &names {
            remove_if_there(&self.name_file(name))?;
        }
        Ok(Removed { digest, names })
    }

    /// Removes the bytes of images that have no name and are not `in_use`, and what a crash left over.
    ///
    /// # Errors
    /// [`FindError`] where the store cannot be read or written to; a damaged name is one, because what it kept is
    /// unknown.
    pub fn gc(&self, in_use: &HashSet<Digest>) -> Result<Freed, FindError> {
        let held = self.layout.exclusive()?;
        self.layout.sweep(&held)?;
        let names = self.names_by_digest()?;
        let mut freed = Freed::default();
        for digest in self.digests()? {
            if names.contains_key(&digest) || in_use.contains(&digest) {
                continue;
            }
            let path = self.blob(digest);
            let size = fs::metadata(&path).at("read the size of", &path)?.len();
            remove_if_there(&path)?;
            freed.bytes += size;
            freed.digests.push(digest);
        }
        Ok(freed)
    }

    /// What `reference` stands for: a name first, then the beginning of a digest.
    fn resolve(&self, reference: &str) -> Result<Digest, FindError> {
        if let Ok(name) = reference.parse::<ImageName>()
            && let Some(digest) = self.named(&name)?
        {
            return Ok(digest);
        }
        // A stranger's text: show what identifies it and no more.
        let shown = || reference.chars().take(2 * Digest::DIGITS).collect();
        if !Digest::is_prefix(reference) {
            return Err(FindError::Unknown(shown()));
        }
        let mut found = self.digests()?;
        found.retain(|digest| digest.to_string().starts_with(reference));
        match found[..] {
            [] => Err(FindError::Unknown(shown())),
            [digest] => Ok(digest),
            _ => Err(FindError::Ambiguous {
                prefix: shown(),
                count: found.len(),
            }),
        }
    }

    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.layout.blobs.join(digest.to_string())
    }

    pub(crate) fn name_file(&self, name: &ImageName) -> PathBuf {
        self.layout.names.join(name.file_name())
    }

    /// What an image's files say of it.
    pub(crate) fn image(&self, digest: Digest, names: Vec<ImageName>) -> Result<Image, FileError> {
        let path = self.blob(digest);
        let metadata = fs::metadata(&path).at("read the size of", &path)?;
        // A file system's time is in range but for a damaged one.
        let created = i32::try_from(metadata.mtime_nsec())
            .ok()
            .and_then(|nanoseconds| Timestamp::new(metadata.mtime(), nanoseconds).ok())
            .unwrap_or_default();
        Ok(Image {
            digest,
            names,
            size: metadata.len(),
            created,
        })
    }

    /// What a name stands for; a name whose image is not there is as none.
    fn named(&self, name: &ImageName) -> Result<Option<Digest>, FindError> {
        let path = self.name_file(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Err::<(), _>(e).at("read", &path).unwrap_err().into()),
        };
        let digest = text
            .trim_end()
            .parse()
            .map_err(|source| FindError::Damaged {
                name: name.clone(),
                source,
            })?;
        Ok(self.blob(digest).exists().then_some(digest))
    }

    pub(crate) fn names_by_digest(&self) -> Result<BTreeMap<Digest, Vec<ImageName>>, FindError> {
        let mut map: BTreeMap<Digest, Vec<ImageName>> = BTreeMap::new();
        for name in entries::<ImageName>(&self.layout.names)? {
            if let Some(digest) = self.named(&name)? {
                map.entry(digest).or_default().push(name);
            }
        }
        map.values_mut().for_each(|names| names.sort());
        Ok(map)
    }

    fn digests(&self) -> Result<Vec<Digest>, FileError> {
        entries(&self.layout.blobs)
    }
}

/// The files of a folder whose names mean something; others are not the store's.
fn entries<T: std::str::FromStr>(folder: &Path) -> Result<Vec<T>, FileError> {
    let mut list = Vec::new();
    for entry in fs::read_dir(folder).at("read", folder)? {
        let name = entry.at("read", folder)?.file_name();
        list.extend(name.to_str().and_then(|n| n.parse().ok()));
    }
    Ok(list)
}
