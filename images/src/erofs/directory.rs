//! Directories: blocks of entries in the order of their names, which are searched by halving.
//!
//! ```text
//! number u64, where the name begins u16, type u8, 0 u8   ... an entry a name ...   name name name
//! ```

use super::BLOCK;
use super::layout::Layout;
use crate::rootfs::{Body, NodeId, Tree};

/// Bytes of an entry without its name.
const ENTRY: usize = 12;

/// What a directory lists: its names, and what each stands for; itself and the one above among them.
fn entries(tree: &Tree, id: NodeId) -> Vec<(&[u8], NodeId)> {
    let mut entries: Vec<_> = tree.children(id).collect();
    for (name, leads_to) in [(&b".."[..], tree.parent(id)), (b".", id)] {
        let at = entries.partition_point(|&(other, _)| other < name);
        entries.insert(at, (name, leads_to));
    }
    entries
}

/// The entries of each block.
fn blocks<'e, 't>(
    entries: &'e [(&'t [u8], NodeId)],
) -> impl Iterator<Item = &'e [(&'t [u8], NodeId)]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut used = 0;
        let fit = rest.iter().take_while(|(name, _)| {
            used += ENTRY + name.len();
            used <= BLOCK as usize
        });
        let (block, later) = rest.split_at(fit.count());
        rest = later;
        (!block.is_empty()).then_some(block)
    })
}

/// Bytes that a directory takes: whole blocks, and as much of the last as there is.
pub(super) fn size(tree: &Tree, id: NodeId) -> u64 {
    let entries = entries(tree, id);
    let (mut blocks_before, mut last) = (0, 0);
    for block in blocks(&entries) {
        blocks_before += u64::from(last > 0);
        last = block.iter().map(|(name, _)| ENTRY + name.len()).sum();
    }
    blocks_before * BLOCK + last as u64
}

/// A directory as it lies in the file system.
pub(super) fn bytes(tree: &Tree, layout: &Layout, id: NodeId) -> Vec<u8> {
    let entries = entries(tree, id);
    let mut bytes = Vec::new();
    for block in blocks(&entries) {
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        let mut name_at = ENTRY * block.len();
        for &(name, leads_to) in block {
            bytes.extend(layout.place(leads_to).number().to_le_bytes());
            bytes.extend((name_at as u16).to_le_bytes());
            bytes.extend([kind(&tree.node(leads_to).body), 0]);
            name_at += name.len();
        }
        for (name, _) in block {
            bytes.extend_from_slice(name);
        }
    }
    bytes
}

/// What Linux's FT_ constants say.
fn kind(body: &Body) -> u8 {
    match body {
        Body::File(_) => 1,
        Body::Directory(_) => 2,
        Body::Character(..) => 3,
        Body::Block(..) => 4,
        Body::Fifo => 5,
        Body::Symlink(_) => 7,
    }
}
