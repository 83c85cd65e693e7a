//! From layers to one tree.
//!
//! ```text
//! layer 1 (tar) ─┐                        names, owners, modes, attributes ──▶ Tree, in memory ─┐
//! layer 2 (tar) ─┼─▶ Flattener, in order ─┤                                                     ├─▶ erofs
//! layer 3 (tar) ─┘                        contents of files ─────────────────▶ Spool, on disk ──┘
//! ```
//!
//! Nothing is unpacked: no path of a layer ever reaches the host's file system, so there is nothing there to leave the
//! root by, to follow, or to overwrite. A path is walked in the tree alone, where `/` is the root and symbolic links of
//! lower layers lead where they would in the running system. All of it is bounded by [`Limits`].

mod layer;
mod spool;
mod tree;

pub use crate::tar::TarError;
pub use layer::{Flattener, LayerError};
pub(crate) use spool::Content;
pub use spool::{FileSpool, MemorySpool, Spool};
pub(crate) use tree::{Body, Meta, Node, NodeId, Tree};

/// What the layers of an image may make of it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files, directories and all else, in all layers together, and directories that layers leave out.
    pub entries: u32,
    /// Bytes of all files in all layers, holes among them.
    pub bytes: u64,
    /// How deep directories lie in one another.
    pub depth: u32,
    /// Bytes that a layer unpacks to for each that it has, past the first 64 MiB.
    pub ratio: u64,
}

impl Limits {
    /// What a large image of today needs, several times over.
    pub const DEFAULT: Self = Self {
        entries: 1_000_000,
        bytes: 32 << 30,
        depth: 512,
        ratio: 200,
    };
}
