//! What people call an image: `name` or `name:tag`, as docker's.

use std::fmt;
use std::str::FromStr;

/// Most bytes of a name, and of a tag.
const MAX: usize = 63;
/// The tag of a name without one.
const LATEST: &str = "latest";

/// An image's name: `[a-z0-9][a-z0-9._-]{0,62}` and a tag of the same form, `latest` where none is given.
///
/// It holds no `/` and begins with no `.`, so it is safe as a file's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    name: String,
    tag: String,
}

/// Not an image's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an image name: 1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit, then ':' and a \
     tag of the same form if need be"
)]
pub struct NameError(String);

impl ImageName {
    /// The part before the colon.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part after the colon.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The name and the tag, always both: the file in `names/`.
    pub(crate) fn file_name(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, tag) = text.split_once(':').unwrap_or((text, LATEST));
        if !is_part(name) || !is_part(tag) {
            // A stranger's text: show what identifies it and no more.
            return Err(NameError(text.chars().take(2 * MAX + 2).collect()));
        }
        Ok(Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
        })
    }
}

/// As short as it may be: `latest` goes without saying.
impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.tag != LATEST {
            write!(f, ":{}", self.tag)?;
        }
        Ok(())
    }
}

fn is_part(text: &str) -> bool {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX && text.bytes().next().is_some_and(first) && text.bytes().all(inner)
}
