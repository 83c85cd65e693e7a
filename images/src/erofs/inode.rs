//! Inodes of the long form, and the attributes behind them.

use super::SLOT;
use super::layout::Place;
use crate::rootfs::{Body, Node, NodeId, Tree};
use crate::tar::Xattr;

/// Bytes of an inode of the long form.
pub(super) const SIZE: u64 = 2 * SLOT;
/// Bytes before the first attribute.
const XATTR_HEADER: usize = 12;
/// What an attribute's name begins with, and what stands for that.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];
/// Forms of what an inode holds: in blocks, or the end of it behind the inode.
const PLAIN: u16 = 0;
const INLINE: u16 = 2;

/// An attribute cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the extended attribute {name:?} of {bytes} bytes does not fit into the image's root")]
pub struct XattrError {
    name: String,
    bytes: usize,
}

/// Bytes of a node's inode and attributes.
pub(super) fn size(node: &Node) -> Result<u64, XattrError> {
    Ok(SIZE + xattrs(&node.meta.xattrs)?.len() as u64)
}

/// A node's inode and attributes.
pub(super) fn bytes(tree: &Tree, place: &Place) -> Result<Vec<u8>, XattrError> {
    let node = tree.node(place.id);
    let xattrs = xattrs(&node.meta.xattrs)?;
    let layout = if place.tail > 0 { INLINE } else { PLAIN };
    let count = match xattrs.len() {
        0 => 0,
        length => (length - XATTR_HEADER) / 4 + 1,
    };
    let (kind, own) = match &node.body {
        Body::Fifo => (0o010_000, 0),
        Body::Character(major, minor) => (0o020_000, device(*major, *minor)),
        Body::Directory(_) => (0o040_000, place.first_block),
        Body::Block(major, minor) => (0o060_000, device(*major, *minor)),
        Body::File(_) => (0o100_000, place.first_block),
        Body::Symlink(_) => (0o120_000, place.first_block),
    };
    let meta = &node.meta;
    let mut bytes = Vec::with_capacity(SIZE as usize + xattrs.len());
    // The long form is form 1.
    bytes.extend((layout << 1 | 1).to_le_bytes());
    bytes.extend((count as u16).to_le_bytes());
    bytes.extend((kind | meta.mode).to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(place.size.to_le_bytes());
    bytes.extend(own.to_le_bytes());
    // A number for systems with 32 bits.
    bytes.extend((place.number() as u32).to_le_bytes());
    bytes.extend(meta.uid.to_le_bytes());
    bytes.extend(meta.gid.to_le_bytes());
    bytes.extend(meta.mtime.0.to_le_bytes());
    bytes.extend(meta.mtime.1.to_le_bytes());
    bytes.extend(links(tree, place.id).to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(xattrs);
    Ok(bytes)
}

/// How many names a node has: a directory its own, `.`, and `..` in each directory in it.
fn links(tree: &Tree, id: NodeId) -> u32 {
    let node = tree.node(id);
    if !matches!(node.body, Body::Directory(_)) {
        return node.links;
    }
    let is_directory = |id: NodeId| matches!(tree.node(id).body, Body::Directory(_));
    let below = tree.children(id).filter(|&(_, child)| is_directory(child));
    2 + below.count() as u32
}

/// As Linux has it in 32 bits: the minor number's upper bits are above the major number.
fn device(major: u32, minor: u32) -> u32 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// Attributes as they lie behind an inode: nothing where there are none.
fn xattrs(list: &[Xattr]) -> Result<Vec<u8>, XattrError> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; XATTR_HEADER];
    for (name, value) in list {
        let refuse = || XattrError {
            name: String::from_utf8_lossy(name).into_owned(),
            bytes: value.len(),
        };
        let prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        let &(prefix, index) = prefix.ok_or_else(refuse)?;
        let short = &name[prefix.len()..];
        bytes.push(u8::try_from(short.len()).map_err(|_| refuse())?);
        bytes.push(index);
        let length = u16::try_from(value.len()).map_err(|_| refuse())?;
        bytes.extend(length.to_le_bytes());
        bytes.extend_from_slice(short);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        // The count of words is 16 bits wide.
        if bytes.len() > 4 * usize::from(u16::MAX) {
            return Err(refuse());
        }
    }
    Ok(bytes)
}
