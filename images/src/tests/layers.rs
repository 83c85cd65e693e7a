//! Layers that tests make, and what should come of them.

use std::io::Write;
use std::path::Path;

use tar::{Builder, EntryType, Header};
use tempfile::NamedTempFile;

use crate::erofs;
use crate::rootfs::{FileSpool, Flattener, LayerError, Limits};

/// A tar stream in the making.
pub(super) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(match kind {
            EntryType::Directory => 0o755,
            _ => 0o644,
        });
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header
    }

    /// Puts a path where no builder would: unchecked, as a stranger would.
    fn put(mut self, mut header: Header, path: &str, link: &str, data: &[u8]) -> Self {
        for (record, text, room) in [(b'L', path, 100), (b'K', link, 100)] {
            if text.len() > room {
                let mut long = Self::header(EntryType::new(record));
                long.set_size(text.len() as u64 + 1);
                long.set_cksum();
                let bytes = [text.as_bytes(), b"\0"].concat();
                self.0.append(&long, &bytes[..]).unwrap();
            }
        }
        let old = header.as_old_mut();
        let cut = |text: &str| text.as_bytes()[..text.len().min(100)].to_vec();
        old.name[..path.len().min(100)].copy_from_slice(&cut(path));
        old.linkname[..link.len().min(100)].copy_from_slice(&cut(link));
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(super) fn file(self, path: &str, data: &[u8]) -> Self {
        let mut header = Self::header(EntryType::Regular);
        header.set_size(data.len() as u64);
        self.put(header, path, "", data)
    }

    pub(super) fn owned(self, path: &str, mode: u32, owner: u64, mtime: u64) -> Self {
        let mut header = Self::header(EntryType::Regular);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner + 1);
        header.set_mtime(mtime);
        self.put(header, path, "", b"")
    }

    /// With nothing in the fields of numbers that a tool may leave out.
    pub(super) fn blank(self, path: &str) -> Self {
        let mut header = Self::header(EntryType::Regular);
        let old = header.as_old_mut();
        for field in [&mut old.uid, &mut old.gid, &mut old.mode] {
            field.fill(b' ');
        }
        old.mtime.fill(0);
        self.put(header, path, "", b"")
    }

    pub(super) fn directory(self, path: &str, mode: u32) -> Self {
        let mut header = Self::header(EntryType::Directory);
        header.set_mode(mode);
        self.put(header, path, "", b"")
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Self {
        self.put(Self::header(EntryType::Symlink), path, target, b"")
    }

    pub(super) fn hard_link(self, path: &str, target: &str) -> Self {
        self.put(Self::header(EntryType::Link), path, target, b"")
    }

    pub(super) fn device(self, path: &str, kind: EntryType, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.put(header, path, "", b"")
    }

    /// Pax records for the entry that follows.
    pub(super) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        let records = records.iter().map(|(key, value)| (*key, *value));
        self.0.append_pax_extensions(records).unwrap();
        self
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Lays layers over one another.
pub(super) fn flatten(layers: &[Vec<u8>]) -> Result<Flattener<FileSpool>, LayerError> {
    flatten_within(Limits::DEFAULT, layers)
}

pub(super) fn flatten_within(
    limits: Limits,
    layers: &[Vec<u8>],
) -> Result<Flattener<FileSpool>, LayerError> {
    let mut flat = Flattener::new(FileSpool::new(tempfile::tempfile().unwrap()), limits);
    for layer in layers {
        flat.layer(&layer[..])?;
    }
    Ok(flat)
}

/// Writes a root into a file.
pub(super) fn write(flat: &Flattener<FileSpool>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    erofs::write(flat, file.as_file_mut(), |_| Ok(())).unwrap();
    file.flush().unwrap();
    file
}

/// What the host's kernel finds in the root that layers make; none where it cannot be asked.
pub(super) fn mounted(layers: &[Vec<u8>]) -> Option<std::collections::BTreeMap<String, String>> {
    let file = write(&flatten(layers).unwrap());
    look(file.path())
}

pub(super) fn look(image: &Path) -> Option<std::collections::BTreeMap<String, String>> {
    super::survey::fsck(image);
    let mounted = super::survey::Mounted::new(image)?;
    Some(super::survey::survey(mounted.path()))
}
