//! Layers, one over the other: what hides what.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::tree::shown;
use super::{Body, Content, Limits, Meta, NodeId, Spool, Tree};
use crate::tar::{Entry, Kind, Reader, TarError};

/// Marks what is removed from lower layers: the name is behind it.
const WHITEOUT: &[u8] = b".wh.";
/// Marks a directory that shows nothing of lower layers.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What else begins so is a storage driver's own.
const DRIVER: &[u8] = b".wh..wh.";
/// Attributes that mean something to Linux, and those of them that mean something to overlayfs alone, which would take
/// the root's word for it.
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// What contents are aligned to in the spool.
const BLOCK: u64 = 4096;

/// A layer cannot be laid over those before it.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It is no tar stream.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A path that no root has.
    #[error("the layer has the path {0:?}, which leads nowhere within a root")]
    Path(String),
    /// A path through a file.
    #[error("the layer has the path {0:?}, which leads through something that is no directory")]
    NoDirectory(String),
    /// Links that lead to one another.
    #[error("the layer has the path {0:?}, which leads through more than 40 symbolic links")]
    Loop(String),
    /// Links without end.
    #[error("the image's symbolic links are too tangled")]
    Tangle,
    /// A hard link to what is not there, or to a directory.
    #[error("the layer has the hard link {link:?} to {target:?}, which is no file")]
    HardLink {
        /// The link.
        link: String,
        /// What it should lead to.
        target: String,
    },
    /// A symbolic link's target that Linux cannot hold.
    #[error("the layer has the symbolic link {0:?} with a target of no or too many bytes")]
    Symlink(String),
    /// A device that Linux cannot name.
    #[error("the layer has the device {path:?} with numbers {major}, {minor}")]
    Device {
        /// Where.
        path: String,
        /// Over 4095, or
        major: u32,
        /// over 1048575.
        minor: u32,
    },
    /// An attribute's name that Linux cannot hold.
    #[error("the layer has an extended attribute with a bad name at {0:?}")]
    Xattr(String),
    /// Too many entries.
    #[error("the image has more than {0} files and directories")]
    Entries(u32),
    /// Too many bytes.
    #[error("the image's files have more than {0} bytes")]
    Bytes(u64),
    /// Directories in directories.
    #[error("the image has directories more than {0} deep")]
    Deep(u32),
    /// The spool failed.
    #[error("cannot keep what the image's files hold")]
    Spool(#[source] io::Error),
}

/// Lays layers over one another.
#[derive(Debug)]
pub struct Flattener<S> {
    tree: Tree,
    spool: S,
    /// Bytes in the spool, padding and all.
    spooled: u64,
    /// Bytes that files may still have.
    left: u64,
    /// Entries that may still come: those that replace one another count as well.
    entries: u32,
    limits: Limits,
    buffer: Vec<u8>,
}

impl<S: Spool> Flattener<S> {
    /// An empty root.
    #[must_use]
    pub fn new(spool: S, limits: Limits) -> Self {
        Self {
            tree: Tree::new(limits.entries, limits.depth),
            spool,
            spooled: 0,
            left: limits.bytes,
            entries: limits.entries,
            limits,
            buffer: vec![0; 128 << 10],
        }
    }

    /// The limits that it was made with.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The root, and what its files hold.
    pub(crate) fn parts(&self) -> (&Tree, &S) {
        (&self.tree, &self.spool)
    }

    /// Lays a layer, a tar stream, over what is there. After an error the root is of no use.
    ///
    /// # Errors
    /// [`LayerError`], the first thing that is wrong.
    pub fn layer(&mut self, from: impl Read) -> Result<(), LayerError> {
        self.tree.next_layer();
        let mut reader = Reader::new(from);
        while let Some(entry) = reader.next_entry()? {
            self.entries = self
                .entries
                .checked_sub(1)
                .ok_or(LayerError::Entries(self.limits.entries))?;
            self.entry(entry, &mut reader)?;
        }
        // What comes after the end is part of the layer's digest all the same.
        io::copy(&mut reader.into_inner(), &mut io::sink()).map_err(TarError::Read)?;
        Ok(())
    }

    fn entry(&mut self, entry: Entry, data: &mut impl Read) -> Result<(), LayerError> {
        let name = entry.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        if name.starts_with(WHITEOUT) {
            return self.whiteout(&entry.path);
        }
        let meta = meta(&entry)?;
        let path = entry.path.as_slice();
        let Some((directory, name)) = self.tree.place(path)? else {
            // The root's own entry.
            if entry.kind == Kind::Directory {
                self.tree.set_meta(Tree::ROOT, meta);
                return Ok(());
            }
            return Err(LayerError::Path(shown(path)));
        };
        let device = |major, minor| {
            let path = shown(path);
            if major > 0xfff || minor > 0xf_ffff {
                return Err(LayerError::Device { path, major, minor });
            }
            Ok((major, minor))
        };
        let (major, minor) = entry.device;
        let body = match entry.kind {
            Kind::Directory => match self.tree.child(directory, name) {
                Some(there) if matches!(self.tree.node(there).body, Body::Directory(_)) => {
                    self.tree.set_meta(there, meta);
                    return Ok(());
                }
                _ => Body::Directory(BTreeMap::new()),
            },
            Kind::File => Body::File(self.keep(entry.size, data)?),
            Kind::HardLink => {
                let target = self.target(&entry)?;
                // A link to itself changes nothing.
                if self.tree.child(directory, name) != Some(target) {
                    self.tree.link(directory, name, target)?;
                }
                return Ok(());
            }
            Kind::Symlink => {
                let good = (1..4096).contains(&entry.link.len()) && !entry.link.contains(&0);
                if !good {
                    return Err(LayerError::Symlink(shown(path)));
                }
                Body::Symlink(entry.link.as_slice().into())
            }
            Kind::Character => device(major, minor).map(|(a, b)| Body::Character(a, b))?,
            Kind::Block => device(major, minor).map(|(a, b)| Body::Block(a, b))?,
            Kind::Fifo => Body::Fifo,
        };
        self.tree.insert(directory, name, meta, body)?;
        Ok(())
    }

    /// Removes what a whiteout names from lower layers.
    fn whiteout(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let Some((directory, marker)) = self.tree.find(path)? else {
            // There is nothing to hide.
            return Ok(());
        };
        if marker == OPAQUE {
            self.tree.hide_children(directory);
        } else if !marker.starts_with(DRIVER) {
            self.tree.hide(directory, &marker[WHITEOUT.len()..]);
        }
        Ok(())
    }

    /// What a hard link leads to: anything but a directory, of this layer or a lower one.
    fn target(&mut self, entry: &Entry) -> Result<NodeId, LayerError> {
        let found = self.tree.find(&entry.link)?;
        let target = found.and_then(|(directory, name)| self.tree.child(directory, name));
        match target {
            Some(id) if !matches!(self.tree.node(id).body, Body::Directory(_)) => Ok(id),
            _ => Err(LayerError::HardLink {
                link: shown(&entry.path),
                target: shown(&entry.link),
            }),
        }
    }

    /// Puts a file's content by.
    fn keep(&mut self, size: u64, data: &mut impl Read) -> Result<Content, LayerError> {
        // What it says is enough to refuse it: nothing of it is written then.
        let Some(left) = self.left.checked_sub(size) else {
            return Err(LayerError::Bytes(self.limits.bytes));
        };
        self.left = left;
        let at = self.spooled;
        let mut read = 0;
        while read < size {
            let want = (size - read).min(self.buffer.len() as u64) as usize;
            let piece = &mut self.buffer[..want];
            data.read_exact(piece).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => TarError::Cut,
                _ => TarError::Read(e),
            })?;
            self.spool.append(piece).map_err(LayerError::Spool)?;
            read += want as u64;
        }
        // The next one begins at a block, so that holes stay holes.
        let padding = size.next_multiple_of(BLOCK) - size;
        let zeroes = [0; BLOCK as usize];
        self.spool
            .append(&zeroes[..padding as usize])
            .map_err(LayerError::Spool)?;
        self.spooled += size + padding;
        Ok(Content { at, size })
    }
}

/// What an entry says of its node, as far as Linux knows it.
fn meta(entry: &Entry) -> Result<Meta, LayerError> {
    // Of several with one name the last counts.
    let mut xattrs = BTreeMap::new();
    for (name, value) in &entry.xattrs {
        let space = NAMESPACES.iter().find(|space| name.starts_with(space));
        let short = match space {
            Some(space) => &name[space.len()..],
            None if ACLS.contains(&name.as_slice()) => b"acl",
            // Another system's: there is nobody to understand it.
            None => continue,
        };
        if OVERLAY.iter().any(|space| name.starts_with(space)) {
            continue;
        }
        if short.is_empty() || name.len() > 255 || short.contains(&0) {
            return Err(LayerError::Xattr(shown(&entry.path)));
        }
        xattrs.insert(name.clone(), value.clone());
    }
    Ok(Meta {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: xattrs.into_iter().collect(),
    })
}
