//! What a Linux image is in the store: a small file that names a root and says how to run it.

use std::fs::File;
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError};
use crate::digest::Digest;

/// Most bytes of a manifest.
const MAX: u64 = 1 << 20;
/// The form that is written, and the only one that is read.
const VERSION: u32 = 1;

/// A Linux image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    /// The root: an uncompressed erofs file system in `roots/`.
    pub root: Digest,
    /// Its bytes, holes among them.
    pub root_bytes: u64,
    /// How it wants to be run.
    pub config: Config,
    /// Where it came from.
    pub source: Source,
}

/// Where a Linux image came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// An OCI image, by the digest of its own manifest.
    Oci {
        /// `sha256:` and 64 digits.
        digest: String,
    },
    /// A recipe, by its name and the hash of what went into it.
    Recipe {
        /// As its file says.
        name: String,
        /// Of the recipe, its files, and the versions of the packages.
        inputs: Digest,
    },
}

/// A manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It could not be read.
    #[error("cannot read the manifest")]
    Read(#[source] std::io::Error),
    /// It is no manifest of ours.
    #[error("the manifest has more than {MAX} bytes")]
    TooLarge,
    /// It is no JSON, or of another shape.
    #[error("the manifest is not of the form that it should be")]
    Form(#[source] serde_json::Error),
    /// It was written by another version of this program.
    #[error("the manifest is of version {0}, and only version {VERSION} is known")]
    Version(u32),
    /// What it says cannot be done.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Manifest {
    pub(crate) fn new(root: Digest, root_bytes: u64, config: Config, source: Source) -> Self {
        Self {
            version: VERSION,
            root,
            root_bytes,
            config,
            source,
        }
    }

    /// As it lies in the store: always the same bytes for the same image.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(ManifestError::Form)?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MAX {
            return Err(ManifestError::TooLarge);
        }
        Ok(bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        /// Looked at first, so that a newer form is told as what it is.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes).map_err(ManifestError::Form)?;
        if version != VERSION {
            return Err(ManifestError::Version(version));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Form)?;
        manifest.config.check()?;
        Ok(manifest)
    }

    pub(crate) fn read(file: &File) -> Result<Self, ManifestError> {
        let mut bytes = Vec::new();
        let read = file.take(MAX + 1).read_to_end(&mut bytes);
        if read.map_err(ManifestError::Read)? as u64 > MAX {
            return Err(ManifestError::TooLarge);
        }
        Self::parse(&bytes)
    }
}
