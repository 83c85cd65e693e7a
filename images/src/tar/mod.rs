//! Reading tar streams that strangers made.
//!
//! ```text
//! [x: pax records] [L: long name] [K: long link]  header  data, to 512   ...   two blocks of zeroes
//! '---------- each at most once, bounded -------'
//! ```
//!
//! Understood are ustar, GNU (long names, base-256 numbers, sparse files) and pax (long names, times, extended
//! attributes, sparse files 0.0, 0.1 and 1.0). What an entry needs of memory is bounded by constants, whatever its
//! header says; its data goes past in the reader's buffer.

mod error;
mod pax;
mod sparse;

use std::io::{self, Read};

pub use error::TarError;
use pax::Pax;
use sparse::{Map, Segment};
use tar::{EntryType, Header};

/// What everything in a tar stream is a multiple of.
const BLOCK: u64 = 512;
/// Most bytes of a path, and of a link's target.
pub(crate) const MAX_PATH: usize = 4096;
/// Most bytes of what stands before an entry's own header.
const MAX_EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// An extended attribute: its name, and its value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// What stands before an entry's data.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Without the bits of the type.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970, and nanoseconds after them.
    pub(crate) mtime: (i64, u32),
    /// What a link leads to; empty for what is none.
    pub(crate) link: Vec<u8>,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Bytes of a file, holes among them; 0 for what is none.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<Xattr>,
}

/// A tar stream.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    from: R,
    /// Bytes read so far.
    position: u64,
    /// Bytes of the current entry's data that are left in the stream, without the padding.
    stored: u64,
    /// Bytes between the data and the next header.
    padding: u64,
    map: Map,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            position: 0,
            stored: 0,
            padding: 0,
            map: Map::default(),
        }
    }

    /// The next entry, past whatever is left of the last one's data; none at the end.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let (mut pax, mut name, mut link) = (None, None, None);
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if pax.is_some() || name.is_some() || link.is_some() {
                    return Err(TarError::Cut);
                }
                return Ok(None);
            };
            let size = header.entry_size().map_err(TarError::Number)?;
            match header.entry_type() {
                EntryType::XHeader if pax.is_none() => {
                    pax = Some(Pax::parse(&self.extension(size)?)?);
                }
                EntryType::GNULongName if name.is_none() => {
                    name = Some(text(self.extension(size)?));
                }
                EntryType::GNULongLink if link.is_none() => {
                    link = Some(text(self.extension(size)?));
                }
                // What it says of all entries, nobody goes by.
                EntryType::XGlobalHeader => self.expect(size)?,
                EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                    return Err(TarError::Repeated);
                }
                _ => {
                    let pax = pax.unwrap_or_default();
                    return self.entry(&header, pax, name, link).map(Some);
                }
            }
        }
    }

    /// Where in the stream the current entry's data begins, and how much there is; none for a sparse file, whose data
    /// does not lie there as it is.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        self.map.is_plain().then_some((self.position, self.stored))
    }

    /// What the stream comes from, to read past its end.
    pub(crate) fn into_inner(self) -> R {
        self.from
    }

    fn entry(
        &mut self,
        header: &Header,
        pax: Pax,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let number = |n: io::Result<u64>| n.map_err(TarError::Number);
        let mut path = pax
            .sparse_name
            .clone()
            .or(pax.path.clone())
            .or(name)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.linkpath.clone().or(link).unwrap_or_else(|| {
            let link = header.link_name_bytes();
            link.map(|l| l.into_owned()).unwrap_or_default()
        });
        if path.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(TarError::LongPath);
        }
        let raw = header.entry_type();
        let kind = match raw {
            // From before there were types: a directory is what ends so.
            EntryType::Regular if path.last() == Some(&b'/') => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char => Kind::Character,
            EntryType::Block => Kind::Block,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => return Err(TarError::Type(other.as_byte())),
        };
        while path.len() > 1 && path.last() == Some(&b'/') {
            path.pop();
        }
        let stored = match pax.size {
            Some(size) => size,
            None => number(header.entry_size())?,
        };
        // Other kinds may say a size, and have no data all the same.
        let mut size = if kind == Kind::File { stored } else { 0 };
        self.expect(size)?;
        self.map = Map::plain(size);
        if kind == Kind::File {
            if raw == EntryType::GNUSparse {
                self.gnu_sparse(header)?;
            } else if pax.is_sparse() {
                self.pax_sparse(&pax)?;
            }
            size = self.map.size();
        }
        let device = match kind {
            Kind::Character | Kind::Block => {
                let part = |n: io::Result<Option<u32>>| {
                    n.map(Option::unwrap_or_default).map_err(TarError::Number)
                };
                (part(header.device_major())?, part(header.device_minor())?)
            }
            _ => (0, 0),
        };
        // Some tools leave out what they have nothing to say in; that is nought, as GNU tar reads it.
        let field = |bytes: &[u8], read: fn(&Header) -> io::Result<u64>| {
            let blank = bytes.iter().all(|byte| matches!(byte, 0 | b' '));
            if blank { Ok(0) } else { number(read(header)) }
        };
        let old = header.as_old();
        let id = |said: Option<u64>, bytes, read| {
            let id = said.map_or_else(|| field(bytes, read), Ok)?;
            u32::try_from(id).map_err(|_| TarError::Id(id))
        };
        let mode = field(&old.mode, |header| header.mode().map(u64::from))? & 0o7777;
        let seconds = || field(&old.mtime, Header::mtime);
        Ok(Entry {
            path,
            kind,
            mode: mode as u16,
            uid: id(pax.uid, &old.uid, Header::uid)?,
            gid: id(pax.gid, &old.gid, Header::gid)?,
            mtime: match pax.mtime {
                Some(time) => time,
                // The field holds negative numbers as well, in two's complement.
                None => (seconds()?.cast_signed(), 0),
            },
            link,
            device,
            size,
            xattrs: pax.xattrs,
        })
    }

    /// The sparse file's map in its header, and in blocks after it.
    fn gnu_sparse(&mut self, header: &Header) -> Result<(), TarError> {
        let gnu = header.as_gnu().ok_or(TarError::Sparse)?;
        let size = gnu.real_size().map_err(TarError::Number)?;
        let mut segments = Vec::new();
        let mut more = sparse::gnu_segments(&mut segments, &gnu.sparse, gnu.is_extended())?;
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.read_exact(block.as_mut_bytes())?;
            let extended = block.is_extended();
            more = sparse::gnu_segments(&mut segments, block.sparse(), extended)?;
        }
        self.map = Map::sparse(segments, size, self.stored)?;
        Ok(())
    }

    /// The sparse file's map in pax records, or as text before the data.
    fn pax_sparse(&mut self, pax: &Pax) -> Result<(), TarError> {
        let size = pax.sparse_size.ok_or(TarError::Sparse)?;
        let segments = if pax.sparse_major == Some(1) {
            let mut lines = sparse::Lines::default();
            while !lines.is_whole()? {
                let mut block = [0; BLOCK as usize];
                if self.stored < BLOCK {
                    return Err(TarError::Sparse);
                }
                self.read_exact(&mut block)?;
                self.stored -= BLOCK;
                lines.feed(&block)?;
            }
            lines.segments()?
        } else {
            sparse::pairs(&pax.sparse_map)?
        };
        self.map = Map::sparse(segments, size, self.stored)?;
        Ok(())
    }

    /// Notes how much data comes now.
    fn expect(&mut self, size: u64) -> Result<(), TarError> {
        // Sums of offsets stay far from overflow.
        if size > i64::MAX as u64 / 2 {
            return Err(TarError::Size(size));
        }
        self.stored = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(())
    }

    /// What stands before an entry, whole.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(TarError::Extension(size));
        }
        self.expect(size)?;
        let mut bytes = vec![0; size as usize];
        self.read_exact(&mut bytes)?;
        self.stored = 0;
        Ok(bytes)
    }

    /// The next header; none where the stream says that it ends, or just does.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut have = 0;
        while have < block.len() {
            match self.from.read(&mut block[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Cut),
                Ok(read) => have += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(TarError::Read(e)),
            }
        }
        self.position += BLOCK;
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        // The field of the sum itself counts as spaces.
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        let own: u32 = block[148..156].iter().map(|&b| u32::from(b)).sum();
        match header.cksum() {
            Ok(told) if told == sum - own + 8 * u32::from(b' ') => Ok(Some(header)),
            _ => Err(TarError::Checksum(self.position - BLOCK)),
        }
    }

    /// Passes over the rest of the current entry.
    fn skip(&mut self) -> Result<(), TarError> {
        let mut left = self.stored + self.padding;
        let mut buffer = [0; 16 << 10];
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            self.read_exact(&mut buffer[..want])?;
            left -= want as u64;
        }
        (self.stored, self.padding) = (0, 0);
        Ok(())
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        self.from.read_exact(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Cut,
            _ => TarError::Read(e),
        })?;
        self.position += buffer.len() as u64;
        Ok(())
    }
}

/// The current entry's data, holes as zeroes.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((segment, left)) = self.map.here() else {
            return Ok(0);
        };
        let want = left.min(buffer.len() as u64) as usize;
        let read = match segment {
            Segment::Hole => {
                buffer[..want].fill(0);
                want
            }
            Segment::Data => self.from.read(&mut buffer[..want])?,
        };
        if read == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if segment == Segment::Data {
            self.position += read as u64;
            self.stored -= read as u64;
        }
        self.map.advance(read as u64);
        Ok(read)
    }
}

/// A name that ends at its first zero.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&b| b == 0) {
        bytes.truncate(end);
    }
    bytes
}
