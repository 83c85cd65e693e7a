//! Long names: GNU's entries and pax records that come before the entry that they are about.

use std::io::{self, Read};
use std::path::PathBuf;

use tar::{Entry, EntryType, PaxExtensions};

/// Most bytes of a name, and of all pax records of an entry.
const LONGEST: u64 = 64 << 10;

/// Headers cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadersError {
    /// They cannot be read at all.
    #[error("they end too early")]
    Read(#[source] io::Error),
    /// They are too long.
    #[error("one has {0} bytes, and {LONGEST} at most are read")]
    Long(u64),
    /// A size by another way than the header's.
    #[error("a file's size stands in a pax record, and another one in its header")]
    Size,
}

/// What the entries before an entry say about it.
#[derive(Debug, Default)]
pub(super) struct Headers {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

/// An entry's name, and what it is a link to.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) path: PathBuf,
    pub(super) link: PathBuf,
}

impl Headers {
    /// Takes `entry` where it is about the next one, and says whether it is.
    pub(super) fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, HeadersError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(name(entry)?),
            EntryType::GNULongLink => self.link = Some(name(entry)?),
            EntryType::XHeader => self.take_pax(&content(entry)?)?,
            EntryType::XGlobalHeader => drop(content(entry)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_pax(&mut self, records: &[u8]) -> Result<(), HeadersError> {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(HeadersError::Read)?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_owned()),
                b"linkpath" => self.link = Some(record.value_bytes().to_owned()),
                b"size" => {
                    let size = record.value().ok().and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or(HeadersError::Size)?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The names of the entry that all this was about.
    pub(super) fn names(&mut self, entry: &Entry<'_, impl Read>) -> Result<Names, HeadersError> {
        let header = entry.header();
        let short_link = || header.link_name_bytes().unwrap_or_default().into_owned();
        let path = self.path.take();
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = self.link.take().unwrap_or_else(short_link);
        let size = header.entry_size().map_err(HeadersError::Read)?;
        if self.size.take().is_some_and(|said| said != size) {
            return Err(HeadersError::Size);
        }
        Ok(Names {
            path: path_of(path),
            link: path_of(link),
        })
    }
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

/// A name, without the NUL behind it.
fn name(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, HeadersError> {
    let mut name = content(entry)?;
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    name.truncate(end);
    Ok(name)
}

fn content(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, HeadersError> {
    let size = entry.size();
    if size > LONGEST {
        return Err(HeadersError::Long(size));
    }
    let mut content = Vec::new();
    entry
        .read_to_end(&mut content)
        .map_err(HeadersError::Read)?;
    Ok(content)
}
