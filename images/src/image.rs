//! What the store says of an image, or why it cannot.

use std::fs::File;

use jiff::Timestamp;

use crate::digest::{Digest, DigestError};
use crate::elf::{ElfError, Facts};
use crate::files::FileError;
use crate::manifest::{Manifest, ManifestError};
use crate::name::ImageName;

/// An image, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What its bytes hash to.
    pub digest: Digest,
    /// What it is called, in order; none once every name was removed or given to another image.
    pub names: Vec<ImageName>,
    /// What it is.
    pub kind: Kind,
    /// Its bytes; a Linux image's with those of its root, which several images may share.
    pub size: u64,
    /// When its bytes were added first.
    pub created: Timestamp,
}

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A library OS's ELF file.
    LibOs,
    /// A root file system, and how to run what is in it.
    Linux,
}

/// An image, with what its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What a list shows.
    pub image: Image,
    /// What there is to say of its kind.
    pub detail: Detail,
}

/// What an image's file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What booting a library OS takes.
    LibOs(Facts),
    /// What a Linux image is made of.
    Linux(Box<Manifest>),
}

/// An image, opened for a monitor: its files are read-only, and unchanged for as long as they are open.
#[derive(Debug)]
pub enum Opened {
    /// A library OS.
    LibOs {
        /// The image.
        digest: Digest,
        /// Its ELF file.
        file: File,
    },
    /// A Linux image.
    Linux {
        /// The image: the digest of its manifest.
        digest: Digest,
        /// What it says.
        manifest: Box<Manifest>,
        /// Its root, an erofs.
        root: File,
    },
}

impl Opened {
    /// The image's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::LibOs { digest, .. } | Self::Linux { digest, .. } => *digest,
        }
    }
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

/// An image could not be described or opened.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It was not found.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Its bytes changed after they were checked.
    #[error("image {digest} is damaged: add it again")]
    Elf {
        /// The image.
        digest: Digest,
        /// What is wrong with it.
        source: ElfError,
    },
    /// Its manifest changed after it was written, or another version of this program wrote it.
    #[error("image {digest} cannot be used: add it again")]
    Manifest {
        /// The image.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
}

impl From<FileError> for InspectError {
    fn from(error: FileError) -> Self {
        Self::Find(error.into())
    }
}
