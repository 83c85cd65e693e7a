//! What an image's bytes are known by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The BLAKE3 hash of an image's bytes; written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Not a digest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: 64 hexadecimal digits in lower case")]
pub struct DigestError(String);

impl Digest {
    /// Hexadecimal digits of a whole digest.
    pub const DIGITS: usize = 64;
    /// Fewest digits that may stand for a digest.
    pub const MIN_PREFIX: usize = 4;

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// The first twelve digits: what people are shown.
    #[must_use]
    pub fn short(self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// Whether `text` may be a digest's beginning.
    #[must_use]
    pub fn is_prefix(text: &str) -> bool {
        (Self::MIN_PREFIX..=Self::DIGITS).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        // Longer text is cut in the message: it may be a stranger's.
        let refuse = || DigestError(text.chars().take(Self::DIGITS + 1).collect());
        if text.len() != Self::DIGITS || !Self::is_prefix(text) {
            return Err(refuse());
        }
        blake3::Hash::from_hex(text)
            .map(Into::into)
            .map_err(|_| refuse())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
