//! Pax records: `length key=value\n`, the length in decimal and of all of it.

use super::{TarError, Xattr};

/// What may be said of an entry in all its extended attributes.
const MAX_XATTRS: usize = 128;
const MAX_XATTR_BYTES: usize = 64 << 10;
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What pax records say of an entry, as far as anybody here asks.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<Xattr>,
    /// A sparse file's own name, where `path` is a made-up one.
    pub(super) sparse_name: Option<Vec<u8>>,
    pub(super) sparse_major: Option<u64>,
    pub(super) sparse_size: Option<u64>,
    /// Offsets and lengths, one after the other.
    pub(super) sparse_map: Vec<u64>,
}

impl Pax {
    pub(super) fn parse(mut records: &[u8]) -> Result<Self, TarError> {
        let mut pax = Self::default();
        let mut xattr_bytes = 0;
        // Padding, which some write.
        while !records.is_empty() && records[0] != 0 {
            let (key, value, rest) = record(records).ok_or(TarError::Pax)?;
            records = rest;
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"linkpath" => pax.linkpath = Some(value.to_vec()),
                b"size" => pax.size = Some(number(value)?),
                b"uid" => pax.uid = Some(number(value)?),
                b"gid" => pax.gid = Some(number(value)?),
                b"mtime" => pax.mtime = Some(time(value).ok_or(TarError::Pax)?),
                b"GNU.sparse.name" => pax.sparse_name = Some(value.to_vec()),
                b"GNU.sparse.major" => pax.sparse_major = Some(number(value)?),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    pax.sparse_size = Some(number(value)?);
                }
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    pax.sparse_map.push(number(value)?);
                }
                b"GNU.sparse.map" => {
                    let numbers = value.split(|&b| b == b',').map(number);
                    pax.sparse_map = numbers.collect::<Result<_, _>>()?;
                }
                _ => {
                    let Some(name) = key.strip_prefix(XATTR) else {
                        continue;
                    };
                    xattr_bytes += name.len() + value.len();
                    if pax.xattrs.len() >= MAX_XATTRS || xattr_bytes > MAX_XATTR_BYTES {
                        return Err(TarError::Xattrs);
                    }
                    pax.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(pax)
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.sparse_size.is_some()
    }
}

/// Key and value of the first record, and what comes after it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(number(&bytes[..space]).ok()?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    Some((&body[..equals], &body[equals + 1..], rest))
}

pub(super) fn number(text: &[u8]) -> Result<u64, TarError> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok())
        .ok_or(TarError::Pax)
}

/// Seconds with a fraction, which counts upwards from the second before.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|&b| b == b'.');
    let (whole, fraction) = text.split_at(dot.unwrap_or(text.len()));
    let fraction = fraction.get(1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(number(whole).ok()?).ok()?;
    let nanoseconds = fraction
        .iter()
        .chain(std::iter::repeat(&b'0'))
        .take(9)
        .fold(0, |n, &digit| 10 * n + u32::from(digit - b'0'));
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}
