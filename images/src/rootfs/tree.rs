//! The tree of a root, as an operating system would see it.

use std::collections::BTreeMap;

use super::layer::LayerError;
use super::spool::Content;
use crate::tar::{MAX_PATH, Xattr};

/// Most bytes of a name.
const MAX_NAME: usize = 255;
/// Most symbolic links on the way to one entry, as Linux has it.
const MAX_LINKS: u32 = 40;
/// Steps on the way to all entries together, for each entry that there may be: more is a tangle of links.
const STEPS: u64 = 64;

/// A node of the tree: what an inode is to a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

/// What every kind of node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Without the bits of the type.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    /// In the order of their names, each once.
    pub(crate) xattrs: Vec<Xattr>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    File(Content),
    Directory(BTreeMap<Box<[u8]>, NodeId>),
    Symlink(Box<[u8]>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// A file, directory, or anything else that has a name.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) body: Body,
    /// How many names lead here; a directory has one.
    pub(crate) links: u32,
    /// How many directories lie above.
    depth: u32,
    /// The directory above; its own, where it has none or is no directory.
    parent: NodeId,
    /// The layer that had it last.
    layer: u32,
}

/// A root, and what it may become.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    max_nodes: u32,
    max_depth: u32,
    steps: u64,
    layer: u32,
}

impl Tree {
    pub(crate) const ROOT: NodeId = NodeId(0);

    pub(crate) fn new(max_nodes: u32, max_depth: u32) -> Self {
        Self {
            nodes: vec![Node {
                meta: implied(),
                body: Body::Directory(BTreeMap::new()),
                links: 1,
                depth: 0,
                parent: Self::ROOT,
                layer: 0,
            }],
            max_nodes,
            max_depth,
            steps: u64::from(max_nodes) * STEPS,
            layer: 0,
        }
    }

    /// What comes from now on belongs to another layer.
    pub(super) fn next_layer(&mut self) {
        self.layer += 1;
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The directory above; the root is above itself.
    pub(crate) fn parent(&self, id: NodeId) -> NodeId {
        self.node(id).parent
    }

    /// What a directory holds, in the order of the names' bytes; nothing for what is none.
    pub(crate) fn children(&self, id: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        let children = match &self.node(id).body {
            Body::Directory(children) => Some(children),
            _ => None,
        };
        let children = children.into_iter().flatten();
        children.map(|(name, &child)| (name.as_ref(), child))
    }

    pub(super) fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.node(directory).body {
            Body::Directory(children) => children.get(name).copied(),
            _ => None,
        }
    }

    /// The directory that `path` leads into, and the name in it; none where the path is the root's own. Directories
    /// that are not there are made; links on the way are followed, and never out of the root.
    pub(super) fn place<'p>(
        &mut self,
        path: &'p [u8],
    ) -> Result<Option<(NodeId, &'p [u8])>, LayerError> {
        let Some((above, name)) = split(path)? else {
            return Ok(None);
        };
        let directory = self.walk(above, true)?;
        Ok(directory.map(|directory| (directory, name)))
    }

    /// As [`Self::place`], and nothing is made: none where a directory is not there.
    pub(super) fn find<'p>(
        &mut self,
        path: &'p [u8],
    ) -> Result<Option<(NodeId, &'p [u8])>, LayerError> {
        let Some((above, name)) = split(path)? else {
            return Ok(None);
        };
        let directory = self.walk(above, false)?;
        Ok(directory.map(|directory| (directory, name)))
    }

    fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<NodeId>, LayerError> {
        let mut at = Self::ROOT;
        let mut links = 0;
        // What is still to go, the next part last.
        let mut ahead: Vec<Box<[u8]>> = parts(path).rev().map(Into::into).collect();
        while let Some(part) = ahead.pop() {
            self.steps = self.steps.checked_sub(1).ok_or(LayerError::Tangle)?;
            // Only links say this: it stays in the root, as it would when the system runs.
            if *part == *b".." {
                at = self.node(at).parent;
                continue;
            }
            let Some(next) = self.child(at, &part) else {
                if !make {
                    return Ok(None);
                }
                at = self.insert(at, &part, implied(), Body::Directory(BTreeMap::new()))?;
                continue;
            };
            match &self.node(next).body {
                Body::Directory(_) => at = next,
                Body::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LayerError::Loop(shown(path)));
                    }
                    let target = target.clone();
                    if target.first() == Some(&b'/') {
                        at = Self::ROOT;
                    }
                    ahead.extend(parts(&target).rev().map(Into::into));
                }
                _ => return Err(LayerError::NoDirectory(shown(path))),
            }
        }
        Ok(Some(at))
    }

    /// Puts something new under a name, in place of what is there.
    pub(super) fn insert(
        &mut self,
        directory: NodeId,
        name: &[u8],
        meta: Meta,
        body: Body,
    ) -> Result<NodeId, LayerError> {
        check_name(name)?;
        let depth = self.node(directory).depth + 1;
        if depth > self.max_depth {
            return Err(LayerError::Deep(self.max_depth));
        }
        if self.nodes.len() >= self.max_nodes as usize {
            return Err(LayerError::Entries(self.max_nodes));
        }
        let id = NodeId(self.nodes.len() as u32);
        let parent = match body {
            Body::Directory(_) => directory,
            _ => id,
        };
        self.nodes.push(Node {
            meta,
            body,
            links: 0,
            depth,
            parent,
            layer: self.layer,
        });
        self.link(directory, name, id)?;
        Ok(id)
    }

    /// Lets a name stand for a node that is there, in place of what it stood for.
    pub(super) fn link(
        &mut self,
        directory: NodeId,
        name: &[u8],
        id: NodeId,
    ) -> Result<(), LayerError> {
        check_name(name)?;
        let layer = self.layer;
        self.node_mut(id).layer = layer;
        self.node_mut(id).links += 1;
        let Body::Directory(children) = &mut self.node_mut(directory).body else {
            return Err(LayerError::NoDirectory(shown(name)));
        };
        if let Some(old) = children.insert(name.into(), id) {
            self.drop_link(old);
        }
        Ok(())
    }

    /// What a directory that is there already is from now on.
    pub(super) fn set_meta(&mut self, id: NodeId, meta: Meta) {
        let layer = self.layer;
        let node = self.node_mut(id);
        node.meta = meta;
        node.layer = layer;
    }

    /// Removes what `name` stands for as far as lower layers had it: what this layer has, stays.
    pub(super) fn hide(&mut self, directory: NodeId, name: &[u8]) {
        let Some(id) = self.child(directory, name) else {
            return;
        };
        self.hide_children(id);
        let gone = self.node(id).layer < self.layer && self.children(id).next().is_none();
        if gone && let Body::Directory(children) = &mut self.node_mut(directory).body {
            children.remove(name);
            self.drop_link(id);
        }
    }

    /// Does so with all that a directory holds.
    pub(super) fn hide_children(&mut self, directory: NodeId) {
        let names: Vec<Box<[u8]>> = self.children(directory).map(|(n, _)| n.into()).collect();
        for name in names {
            self.hide(directory, &name);
        }
    }

    /// One name less; what has none left lets go of what it holds.
    fn drop_link(&mut self, id: NodeId) {
        let mut unnamed = vec![id];
        while let Some(id) = unnamed.pop() {
            let node = self.node_mut(id);
            node.links -= 1;
            if node.links == 0
                && let Body::Directory(children) = std::mem::replace(&mut node.body, Body::Fifo)
            {
                unnamed.extend(children.into_values());
            }
        }
    }
}

/// A directory that no layer told of.
fn implied() -> Meta {
    Meta {
        mode: 0o755,
        ..Meta::default()
    }
}

/// A path's parts but for those that say nothing.
fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&b| b == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
}

/// What is before the last part of a path, and the last part.
type Split<'p> = (&'p [u8], &'p [u8]);

/// Splits a path there; none for the root.
fn split(path: &[u8]) -> Result<Option<Split<'_>>, LayerError> {
    if path.len() > MAX_PATH || path.contains(&0) || parts(path).any(|part| part == b"..") {
        return Err(LayerError::Path(shown(path)));
    }
    let Some(name) = parts(path).next_back() else {
        return Ok(None);
    };
    // The last part is a piece of the path: what is before it is all up to there.
    let at = name.as_ptr() as usize - path.as_ptr() as usize;
    Ok(Some((&path[..at], name)))
}

fn check_name(name: &[u8]) -> Result<(), LayerError> {
    let bad = matches!(name, b"" | b"." | b"..")
        || name.len() > MAX_NAME
        || name.iter().any(|b| matches!(b, b'/' | 0));
    if bad {
        return Err(LayerError::Path(shown(name)));
    }
    Ok(())
}

/// A stranger's path: as much of it as identifies it.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}
