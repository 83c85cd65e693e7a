//! Writing a tree as an erofs file system: read-only, uncompressed, the same bytes for the same tree.
//!
//! ```text
//! block 0     superblock, at byte 1024
//! block 1..   inodes, from the root down; behind an inode its attributes, and, where that fits into the block, what a
//!             small file, a link or the end of a directory holds
//! then        blocks of files and directories, in the order of their inodes
//! ```
//!
//! Written from the first byte to the last, for what is where is known before. Files begin at blocks, so that what the
//! host reads of a root it keeps once for every machine that runs it, and what a guest reads needs no unpacking, which
//! is slow where its kernel is emulated. The format is that of Linux 5.4 and later
//! (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h).

mod directory;
mod inode;
mod layout;

use std::io::{self, Write};

use crate::rootfs::{Body, Flattener, NodeId, Spool, Tree};
use inode::XattrError;
use layout::{Layout, Place};

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// Inodes are counted in slots of so many bytes.
const SLOT: u64 = 32;
/// Where the superblock is, and how many bytes it has.
const SUPERBLOCK: usize = 1024;
const SUPERBLOCK_SIZE: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
/// The superblock has a checksum, and inodes have times of their own.
const FEATURES: u32 = 1 | 2;

/// No root was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Its own form has bounds too.
    #[error("the image is too large for its root")]
    Large,
    /// An attribute that was checked before.
    #[error(transparent)]
    Xattr(#[from] XattrError),
    /// What the files hold is not there any more.
    #[error("cannot read back what the image's files hold")]
    Spool(#[source] io::Error),
    /// Nobody takes it.
    #[error("cannot write the image's root")]
    Write(#[source] io::Error),
}

/// Writes the root that `flat` holds; `written` is told of each piece of files' contents, in bytes, and may end it.
///
/// # Errors
/// [`WriteError`].
pub fn write<S: Spool>(
    flat: &Flattener<S>,
    to: &mut impl Write,
    mut written: impl FnMut(u64) -> io::Result<()>,
) -> Result<(), WriteError> {
    let (tree, spool) = flat.parts();
    let layout = Layout::new(tree)?;
    let mut out = Out { to, at: 0 };
    out.put(&superblock(&layout)).map_err(WriteError::Write)?;
    for place in &layout.places {
        out.fill(place.at).map_err(WriteError::Write)?;
        let mut bytes = inode::bytes(tree, place)?;
        bytes.extend(tail(tree, spool, &layout, place)?);
        out.put(&bytes).map_err(WriteError::Write)?;
    }
    for place in layout.places.iter().filter(|p| p.blocks > 0) {
        out.fill(u64::from(place.first_block) * BLOCK)
            .map_err(WriteError::Write)?;
        match &tree.node(place.id).body {
            Body::File(content) => {
                let mut buffer = vec![0; 256 << 10];
                let mut at = 0;
                while at < content.size {
                    let want = (content.size - at).min(buffer.len() as u64) as usize;
                    spool
                        .read_at(&mut buffer[..want], content.at + at)
                        .map_err(WriteError::Spool)?;
                    out.put(&buffer[..want]).map_err(WriteError::Write)?;
                    written(want as u64).map_err(WriteError::Write)?;
                    at += want as u64;
                }
            }
            Body::Directory(_) => {
                let bytes = directory::bytes(tree, &layout, place.id);
                let whole = (u64::from(place.blocks) * BLOCK).min(bytes.len() as u64);
                out.put(&bytes[..whole as usize])
                    .map_err(WriteError::Write)?;
            }
            Body::Symlink(target) => out.put(target).map_err(WriteError::Write)?,
            Body::Character(..) | Body::Block(..) | Body::Fifo => {}
        }
    }
    out.fill(layout.blocks * BLOCK).map_err(WriteError::Write)
}

/// Bytes that all files of a root hold.
#[must_use]
pub fn content_bytes<S: Spool>(flat: &Flattener<S>) -> u64 {
    let (tree, _) = flat.parts();
    let order = layout::order(tree);
    let size = |id: &NodeId| match &tree.node(*id).body {
        Body::File(content) => content.size,
        _ => 0,
    };
    order.iter().map(size).sum()
}

/// What lies behind an inode.
fn tail(
    tree: &Tree,
    spool: &impl Spool,
    layout: &Layout,
    place: &Place,
) -> Result<Vec<u8>, WriteError> {
    if place.tail == 0 {
        return Ok(Vec::new());
    }
    Ok(match &tree.node(place.id).body {
        Body::File(content) => {
            let mut bytes = vec![0; content.size as usize];
            spool
                .read_at(&mut bytes, content.at)
                .map_err(WriteError::Spool)?;
            bytes
        }
        Body::Directory(_) => {
            let bytes = directory::bytes(tree, layout, place.id);
            bytes[bytes.len() - place.tail as usize..].to_vec()
        }
        Body::Symlink(target) => target.to_vec(),
        Body::Character(..) | Body::Block(..) | Body::Fifo => Vec::new(),
    })
}

/// The first block.
fn superblock(layout: &Layout) -> [u8; BLOCK as usize] {
    let mut block = [0; BLOCK as usize];
    let mut fields = Vec::with_capacity(SUPERBLOCK_SIZE);
    fields.extend(MAGIC.to_le_bytes());
    // The checksum, below.
    fields.extend(0_u32.to_le_bytes());
    fields.extend(FEATURES.to_le_bytes());
    fields.push(BLOCK.ilog2() as u8);
    fields.push(0);
    fields.extend(layout.root.to_le_bytes());
    fields.extend((layout.places.len() as u64).to_le_bytes());
    // No time and no identity of its own: both would make two of one image.
    fields.extend([0; 12]);
    fields.extend((layout.blocks as u32).to_le_bytes());
    // Inodes are counted from block 0; there are no attributes that several share.
    fields.extend([0; 8]);
    block[SUPERBLOCK..][..fields.len()].copy_from_slice(&fields);
    let sum = crc32c(&block[SUPERBLOCK..]);
    block[SUPERBLOCK + 4..][..4].copy_from_slice(&sum.to_le_bytes());
    block
}

/// The Castagnoli checksum as the kernel has it: begun with all bits set, and not inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

/// What counts how much was written.
struct Out<'w, W> {
    to: &'w mut W,
    at: u64,
}

impl<W: Write> Out<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Zeroes up to `at`, which lies less than two blocks ahead.
    fn fill(&mut self, at: u64) -> io::Result<()> {
        let zeroes = [0; 2 * BLOCK as usize];
        let room = at
            .checked_sub(self.at)
            .and_then(|n| zeroes.get(..n as usize));
        let room = room.ok_or_else(|| io::Error::other("two parts of a root overlap"))?;
        self.put(room)
    }
}
