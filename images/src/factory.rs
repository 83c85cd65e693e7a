//! The images that come with an installation.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use crate::add::{AddError, MAX_SIZE};
use crate::digest::Digest;
use crate::files::{At, FileError};
use crate::name::ImageName;
use crate::store::Store;

/// What [`Store::import_factory`] did with a file that was new to it.
#[derive(Debug)]
pub struct Imported {
    /// The file, and the name of the image.
    pub name: ImageName,
    /// The image, or why there is none.
    pub result: Result<Digest, ImportError>,
}

/// A file of an installation was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read, or not noted that it was imported.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no image.
    #[error("cannot add {path}", path = path.display())]
    Add {
        /// The file.
        path: PathBuf,
        /// Why.
        source: AddError,
    },
}

impl Store {
    /// Adds each ELF file of `dir` under its own name, unless it is the one that was imported last: a name that was
    /// removed stays away, and a new build takes the old one's place. Without `dir` there is nothing to do.
    ///
    /// One bad file does not keep the others out: the answer tells of each that is new.
    ///
    /// # Errors
    /// [`FileError`] where `dir` cannot be read.
    pub fn import_factory(&self, dir: &Path) -> Result<Vec<Imported>, FileError> {
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at("read", dir)?,
        };
        let mut report = Vec::new();
        for entry in entries {
            let entry = entry.at("read", dir)?;
            // A build's folder holds more than images: dependency lists, folders, files of other kinds.
            let Some(name) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            match self.import(&entry.path(), &name) {
                Ok(None) => {}
                Ok(Some(digest)) => report.push(Imported {
                    name,
                    result: Ok(digest),
                }),
                Err(e) => report.push(Imported {
                    name,
                    result: Err(e),
                }),
            }
        }
        report.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(report)
    }

    /// The digest of a file that was added; none where it is no ELF file or the one of last time.
    fn import(&self, path: &Path, name: &ImageName) -> Result<Option<Digest>, ImportError> {
        let mut file = File::open(path).at("open", path)?;
        if !file.metadata().at("read the size of", path)?.is_file() {
            return Ok(None);
        }
        let mut magic = Vec::new();
        (&file).take(4).read_to_end(&mut magic).at("read", path)?;
        if magic != *b"\x7fELF" {
            return Ok(None);
        }
        file.rewind().at("read", path)?;
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader((&file).take(MAX_SIZE + 1))
            .at("read", path)?;
        let digest = Digest::from(hasher.finalize());

        let note = self.layout.factory.join(name.file_name());
        if fs::read_to_string(&note).is_ok_and(|t| t.trim_end() == digest.to_string()) {
            return Ok(None);
        }
        file.rewind().at("read", path)?;
        let added = self.add(name, file).map_err(|source| ImportError::Add {
            path: path.to_owned(),
            source,
        })?;
        // The digest that was added, should a build have replaced the file meanwhile.
        let digest = added.image.digest;
        let held = self.layout.exclusive()?;
        self.layout.write(&held, &note, &format!("{digest}\n"))?;
        Ok(Some(digest))
    }
}
