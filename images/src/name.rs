//! What people call an image: `name`, `name:tag`, or where it is in a registry, as docker's.
//!
//! ```text
//!            hello                                    tag `latest`
//!            apache:v2
//! 127.0.0.1:5000/team/app:v2@sha256:<64 digits>
//! '----- host --' '- path -' tag '-- digest --'
//! ```

use std::fmt;
use std::str::FromStr;

/// Most bytes of a part of a name's path, and of a tag.
const MAX_PART: usize = 63;
/// Most bytes of a tag, as registries have it.
const MAX_TAG: usize = 128;
/// Most bytes of all: as many as a file's name may have, less what a tag that goes without saying adds.
const MAX: usize = 240;
/// The tag of a name without one.
const LATEST: &str = "latest";
/// What is between a digest's algorithm and its digits, and how many those are.
const SHA256: &str = "sha256:";
const SHA256_DIGITS: usize = 64;
/// Stands for `/` in a file's name: no name holds it.
const SLASH: &str = "%";

/// An image's name: parts `[a-z0-9][a-z0-9._-]{0,62}` with `/` between them, the first of several with a port if need
/// be, then a tag, `latest` where there is neither tag nor digest, then a digest.
///
/// No part begins with `.`, and as a file's name it holds no `/`, so that it never leaves its folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Not an image's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an image name: parts of 1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit, with '/' \
     between them; then ':' and a tag, then '@sha256:' and a digest, if need be; 240 bytes in all"
)]
pub struct NameError(String);

impl ImageName {
    /// The part before the tag: host and path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag; none where the digest says it all.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest in the registry, `sha256:` and 64 digits.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The registry, `host` or `host:port`: what is before the first `/`, where it looks like a host.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        let (host, _) = self.name.split_once('/')?;
        (host.contains(['.', ':']) || host == "localhost").then_some(host)
    }

    /// The file in `names/`: all that there is to say, with no `/`.
    pub(crate) fn file_name(&self) -> String {
        let mut text = self.name.replace('/', SLASH);
        for (mark, part) in [(':', &self.tag), ('@', &self.digest)] {
            if let Some(part) = part {
                text.push(mark);
                text.push_str(part);
            }
        }
        text
    }

    /// The name that a file in `names/` is for.
    pub(crate) fn of_file(file: &str) -> Option<Self> {
        let name: Self = file.replace(SLASH, "/").parse().ok()?;
        (name.file_name() == file).then_some(name)
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // A stranger's text: show what identifies it and no more.
        parse(text).ok_or_else(|| NameError(text.chars().take(MAX + 1).collect()))
    }
}

fn parse(text: &str) -> Option<ImageName> {
    if text.len() > MAX {
        return None;
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // The last colon is a tag's, unless a path comes after it: then it is a port's.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (host, path) = match name.split_once('/') {
        Some((host, path)) => (Some(host), path),
        None => (None, name),
    };
    let good = host.is_none_or(is_host)
        && path.split('/').all(is_part)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    let tag = tag.or(digest.is_none().then_some(LATEST));
    good.then(|| ImageName {
        name: name.to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

/// As short as it may be: `latest` goes without saying.
impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match (&self.tag, &self.digest) {
            (Some(tag), None) if tag == LATEST => {}
            (Some(tag), _) => write!(f, ":{tag}")?,
            (None, _) => {}
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

fn is_part(text: &str) -> bool {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_PART && text.bytes().next().is_some_and(first) && text.bytes().all(inner)
}

/// The first part of several: a port may follow it.
fn is_host(text: &str) -> bool {
    match text.split_once(':') {
        Some((host, port)) => is_part(host) && port.len() <= 5 && is_number(port),
        None => is_part(text),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_tag(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG && text.bytes().next().is_some_and(first) && text.bytes().all(inner)
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix(SHA256).is_some_and(|digits| {
        digits.len() == SHA256_DIGITS
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}
