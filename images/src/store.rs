//! The store: what it holds, and under which names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;

use crate::digest::Digest;
use crate::elf;
use crate::files::{At, FileError, Layout};
use crate::image::{Detail, FindError, Image, InspectError, Inspection, Kind, Opened};
use crate::manifest::Manifest;
use crate::name::ImageName;

/// A folder of images.
#[derive(Debug)]
pub struct Store {
    pub(crate) layout: Layout,
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
        let _held = self.layout.shared()?;
        self.describe(self.look_up(reference)?)
    }

    /// Says what an image's file says. The caller holds the store's lock.
    pub(crate) fn describe(&self, image: Image) -> Result<Inspection, InspectError> {
        let digest = image.digest;
        let detail = match image.kind {
            Kind::Linux => Detail::Linux(Box::new(self.manifest(digest)?)),
            Kind::LibOs => match elf::check(&self.open_blob(digest)?) {
                Ok(facts) => Detail::LibOs(facts),
                Err(source) => return Err(InspectError::Elf { digest, source }),
            },
        };
        Ok(Inspection { image, detail })
    }

    /// Finds the image that `reference`, a name or the beginning of a digest, stands for; its file is not looked at, so
    /// that a damaged one is found too.
    ///
    /// # Errors
    /// [`FindError`] where there is none.
    pub fn find(&self, reference: &str) -> Result<Image, FindError> {
        let _held = self.layout.shared()?;
        self.look_up(reference)
    }

    /// The image that `reference` stands for. The caller holds the store's lock.
    fn look_up(&self, reference: &str) -> Result<Image, FindError> {
        let digest = self.resolve(reference)?;
        let names = self.names_by_digest()?.remove(&digest).unwrap_or_default();
        Ok(self.image(digest, names)?)
    }

    /// Opens an image for a monitor: read-only, and unchanged for as long as it is open, whatever becomes of the name.
    ///
    /// # Errors
    /// [`InspectError`] where there is none, or a Linux image's manifest is damaged; a library OS's file is for its
    /// monitor to check.
    pub fn open_image(&self, reference: &str) -> Result<Opened, InspectError> {
        let _held = self.layout.shared()?;
        let digest = self.resolve(reference)?;
        let file = self.open_blob(digest)?;
        if kind(&file).at("read", &self.blob(digest))? == Kind::LibOs {
            return Ok(Opened::LibOs { digest, file });
        }
        let manifest = Box::new(self.manifest(digest)?);
        let path = self.root(manifest.root);
        let root = File::open(&path).at("open", &path)?;
        Ok(Opened::Linux {
            digest,
            manifest,
            root,
        })
    }

    /// What `reference` stands for: a name first, then the beginning of a digest.
    pub(crate) fn resolve(&self, reference: &str) -> Result<Digest, FindError> {
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

    /// A file for what is gone when it is closed, on the store's own disk.
    ///
    /// # Errors
    /// [`FileError`] where it cannot be made.
    pub fn scratch(&self) -> Result<File, FileError> {
        self.layout.scratch()
    }

    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.layout.blobs.join(digest.to_string())
    }

    pub(crate) fn root(&self, digest: Digest) -> PathBuf {
        self.layout.roots.join(digest.to_string())
    }

    fn open_blob(&self, digest: Digest) -> Result<File, FindError> {
        let path = self.blob(digest);
        Ok(File::open(&path).at("open", &path)?)
    }

    pub(crate) fn manifest(&self, digest: Digest) -> Result<Manifest, InspectError> {
        Manifest::read(&self.open_blob(digest)?)
            .map_err(|source| InspectError::Manifest { digest, source })
    }

    pub(crate) fn name_file(&self, name: &ImageName) -> PathBuf {
        self.layout.names.join(name.file_name())
    }

    /// What an image's files say of it.
    pub(crate) fn image(&self, digest: Digest, names: Vec<ImageName>) -> Result<Image, FileError> {
        let path = self.blob(digest);
        let file = File::open(&path).at("open", &path)?;
        let metadata = file.metadata().at("read the size of", &path)?;
        let kind = kind(&file).at("read", &path)?;
        let mut size = metadata.len();
        // A damaged one is found too: all that is known of it is its own size.
        if kind == Kind::Linux
            && let Ok(manifest) = Manifest::read(&file)
        {
            size = size.saturating_add(manifest.root_bytes);
        }
        // A file system's time is in range but for a damaged one.
        let created = i32::try_from(metadata.mtime_nsec())
            .ok()
            .and_then(|nanoseconds| Timestamp::new(metadata.mtime(), nanoseconds).ok())
            .unwrap_or_default();
        Ok(Image {
            digest,
            names,
            kind,
            size,
            created,
        })
    }

    /// What a name stands for; a name whose image is not there is as none.
    pub(crate) fn named(&self, name: &ImageName) -> Result<Option<Digest>, FindError> {
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
        for FileName(name) in entries(&self.layout.names)? {
            if let Some(digest) = self.named(&name)? {
                map.entry(digest).or_default().push(name);
            }
        }
        map.values_mut().for_each(|names| names.sort());
        Ok(map)
    }

    pub(crate) fn digests(&self) -> Result<Vec<Digest>, FileError> {
        entries(&self.layout.blobs)
    }
}

/// A name, as its file is called.
struct FileName(ImageName);

impl FromStr for FileName {
    type Err = ();

    fn from_str(file: &str) -> Result<Self, ()> {
        ImageName::of_file(file).map(Self).ok_or(())
    }
}

/// What an image is, by its first byte: no manifest begins otherwise, and no ELF file so.
fn kind(file: &File) -> io::Result<Kind> {
    let mut first = [0];
    let read = file.read_at(&mut first, 0)?;
    Ok(match (read, first) {
        (1, [b'{']) => Kind::Linux,
        _ => Kind::LibOs,
    })
}

/// The files of a folder whose names mean something; others are not the store's.
pub(crate) fn entries<T: FromStr>(folder: &Path) -> Result<Vec<T>, FileError> {
    let mut list = Vec::new();
    for entry in fs::read_dir(folder).at("read", folder)? {
        let name = entry.at("read", folder)?.file_name();
        list.extend(name.to_str().and_then(|n| n.parse().ok()));
    }
    Ok(list)
}
