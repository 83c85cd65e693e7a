//! Blobs: bytes that are known by their SHA-256.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::MAX_JSON;
use super::json::Descriptor;

const ALGORITHM: &str = "sha256:";

/// A SHA-256; written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

/// A part of an image cannot be had, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Not a digest that is understood.
    #[error("{0:?} is not a digest: \"sha256:\" and 64 hexadecimal digits in lower case")]
    Digest(String),
    /// It is not there.
    #[error("the image's {0} is missing")]
    Missing(String),
    /// It is something else than a file.
    #[error("the image's {0} is no file")]
    NoFile(String),
    /// It could not be read.
    #[error("cannot read the image's {what}")]
    Read {
        /// Which part.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Too large for what it should be.
    #[error("the image's {what} has more than {max} bytes")]
    TooLarge {
        /// Which part.
        what: String,
        /// How many there may be.
        max: u64,
    },
    /// It has another size than was said.
    #[error("the image's {what} has {found} bytes and should have {said}")]
    Size {
        /// Which part.
        what: String,
        /// How many came.
        found: u64,
        /// How many were announced.
        said: u64,
    },
    /// It is not what it should be.
    #[error("the image's {what} has the digest {found}")]
    Wrong {
        /// Which part, by the digest that it should have.
        what: String,
        /// What its bytes hash to.
        found: Sha256,
    },
}

/// Where the parts of an image are.
pub(super) trait Blobs {
    /// A file by its name in a layout; `blobs/sha256/…` for a blob.
    fn open(&self, name: &str) -> Result<Box<dyn Read + '_>, BlobError>;
}

/// The name of a blob in a layout.
pub(super) fn name(digest: Sha256) -> String {
    format!("blobs/sha256/{}", digest.digits())
}

/// A small file, whole.
pub(super) fn file(blobs: &impl Blobs, name: &str) -> Result<Vec<u8>, BlobError> {
    let mut bytes = Vec::new();
    let read = blobs.open(name)?.take(MAX_JSON + 1).read_to_end(&mut bytes);
    read.map_err(|source| BlobError::Read {
        what: name.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(BlobError::TooLarge {
            what: name.to_owned(),
            max: MAX_JSON,
        });
    }
    Ok(bytes)
}

/// A small blob, whole and as its descriptor says.
pub(super) fn whole(blobs: &impl Blobs, descriptor: &Descriptor) -> Result<Vec<u8>, BlobError> {
    let name = name(descriptor.digest);
    if descriptor.size > MAX_JSON {
        return Err(BlobError::TooLarge {
            what: name,
            max: MAX_JSON,
        });
    }
    let bytes = file(blobs, &name)?;
    let said = (descriptor.size, Some(descriptor.digest));
    check(&name, said, bytes.len() as u64, Sha256::of(&bytes))?;
    Ok(bytes)
}

/// Whether what came has the size and the digest that were announced.
pub(super) fn check(
    what: &str,
    said: (u64, Option<Sha256>),
    size: u64,
    digest: Sha256,
) -> Result<(), BlobError> {
    if size != said.0 {
        return Err(BlobError::Size {
            what: what.to_owned(),
            found: size,
            said: said.0,
        });
    }
    said.1.map_or(Ok(()), |said| matches(what, said, digest))
}

pub(super) fn matches(what: &str, said: Sha256, found: Sha256) -> Result<(), BlobError> {
    if said == found {
        return Ok(());
    }
    Err(BlobError::Wrong {
        what: what.to_owned(),
        found,
    })
}

/// A reader that counts and hashes what goes through it.
pub(super) struct Hashing<R> {
    from: R,
    hasher: sha2::Sha256,
    pub(super) count: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            hasher: sha2::Sha256::new(),
            count: 0,
        }
    }

    pub(super) fn digest(self) -> Sha256 {
        Sha256(self.hasher.finalize().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.count += read as u64;
        Ok(read)
    }
}

impl Sha256 {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The hexadecimal digits alone.
    #[must_use]
    pub fn digits(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl FromStr for Sha256 {
    type Err = BlobError;

    fn from_str(text: &str) -> Result<Self, BlobError> {
        // Longer text is cut in the message: it is a stranger's.
        let refuse = || BlobError::Digest(text.chars().take(80).collect());
        let digits = text.strip_prefix(ALGORITHM).ok_or_else(refuse)?.as_bytes();
        if digits.len() != 64 {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            for &digit in pair {
                let value = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return Err(refuse()),
                };
                *byte = *byte << 4 | value;
            }
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = BlobError;

    fn try_from(text: String) -> Result<Self, BlobError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", self.digits())
    }
}
