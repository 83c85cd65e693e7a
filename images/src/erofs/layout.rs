//! Where everything goes.

use std::collections::HashMap;

use super::{BLOCK, SLOT, WriteError, directory, inode};
use crate::rootfs::{Body, NodeId, Tree};

/// Largest file that lies behind its inode: a block of its own, read by a request of its own, costs a guest more than
/// copying so little.
const SMALL: u64 = 2048;

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: NodeId,
    /// The inode's first byte.
    pub(super) at: u64,
    /// Bytes of what it holds.
    pub(super) size: u64,
    /// The last bytes of that, behind the inode; 0 where all of it is in blocks.
    pub(super) tail: u64,
    /// Blocks of its own, and the first of them.
    pub(super) blocks: u32,
    pub(super) first_block: u32,
}

impl Place {
    /// What directories call it.
    pub(super) fn number(&self) -> u64 {
        self.at / SLOT
    }
}

/// A whole file system.
#[derive(Debug)]
pub(super) struct Layout {
    /// Ascending, in the order in which a walk from the root finds them.
    pub(super) places: Vec<Place>,
    by_node: HashMap<NodeId, usize>,
    /// The root's number.
    pub(super) root: u16,
    /// Of everything.
    pub(super) blocks: u64,
}

impl Layout {
    pub(super) fn new(tree: &Tree) -> Result<Self, WriteError> {
        let mut places = Vec::new();
        let mut by_node = HashMap::new();
        let mut at = BLOCK;
        for id in order(tree) {
            let place = place(tree, id, at)?;
            at = place.at + inode::size(tree.node(id))? + place.tail;
            by_node.insert(id, places.len());
            places.push(place);
        }
        let mut next = at.div_ceil(BLOCK);
        for place in places.iter_mut().filter(|p| p.blocks > 0) {
            place.first_block = u32::try_from(next).map_err(|_| WriteError::Large)?;
            next += u64::from(place.blocks);
        }
        u32::try_from(next).map_err(|_| WriteError::Large)?;
        let root = places.first().map_or(0, Place::number);
        Ok(Self {
            places,
            by_node,
            root: u16::try_from(root).map_err(|_| WriteError::Large)?,
            blocks: next,
        })
    }

    /// Where a node of the tree is.
    pub(super) fn place(&self, id: NodeId) -> &Place {
        &self.places[self.by_node[&id]]
    }
}

/// Finds room for a node at `from` or soon after.
fn place(tree: &Tree, id: NodeId, from: u64) -> Result<Place, WriteError> {
    let node = tree.node(id);
    let size = match &node.body {
        Body::File(content) => content.size,
        Body::Directory(_) => directory::size(tree, id),
        Body::Symlink(target) => target.len() as u64,
        Body::Character(..) | Body::Block(..) | Body::Fifo => 0,
    };
    let head = inode::size(node)?;
    let wish = match &node.body {
        Body::File(_) if size > SMALL => 0,
        _ => size % BLOCK,
    };
    // What is behind an inode may not go from one block to the next, and neither may the inode itself.
    let fits = |at: u64, tail: u64| {
        let apart = at % BLOCK + inode::SIZE <= BLOCK;
        let tail_at = at + head;
        apart && (tail == 0 || tail_at % BLOCK + tail <= BLOCK)
    };
    let here = from.next_multiple_of(SLOT);
    let next = from.next_multiple_of(BLOCK);
    let (at, tail) = [(here, wish), (next, wish), (here, 0), (next, 0)]
        .into_iter()
        .find(|&(at, tail)| fits(at, tail))
        .unwrap_or((next, 0));
    let blocks = if tail == 0 {
        size.div_ceil(BLOCK)
    } else {
        size / BLOCK
    };
    Ok(Place {
        id,
        at,
        size,
        tail,
        blocks: u32::try_from(blocks).map_err(|_| WriteError::Large)?,
        first_block: 0,
    })
}

/// Every node once: a directory's own first, then what lies in its directories. What is listed together is read together.
pub(super) fn order(tree: &Tree) -> Vec<NodeId> {
    let mut order = vec![Tree::ROOT];
    let mut seen = std::collections::HashSet::new();
    let mut directories = vec![Tree::ROOT];
    while let Some(directory) = directories.pop() {
        let mut below = Vec::new();
        for (_, child) in tree.children(directory) {
            match &tree.node(child).body {
                Body::Directory(_) => below.push(child),
                // A file of several names is where the first of them is.
                _ if tree.node(child).links > 1 && !seen.insert(child) => continue,
                _ => {}
            }
            order.push(child);
        }
        directories.extend(below.into_iter().rev());
    }
    order
}
