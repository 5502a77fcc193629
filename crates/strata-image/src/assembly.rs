//! The layer that a foreign tar amounts to, while its entries arrive: names are resolved as it
//! stands on the lower layers, later entries replace earlier ones, hard links are names of one
//! file.

use std::borrow::Cow;
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use strata_cas::{Action, BlobId, Change, Item, Layer, Metadata, Time, TreePath};

use crate::destination::MAX_DEPTH;
use crate::{ImageError, LowerItem, LowerLayers};

/// A path leads through at most this many symbolic links, as in Linux's own walks (and Go's).
const MAX_LINKS: usize = 255;
/// The longest name, in bytes: Linux's `PATH_MAX`.
const MAX_NAME_BYTES: usize = 4096;

/// What a path of the layer is so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Removed,
    Directory {
        opaque: bool,
        metadata: Metadata,
        modified: Time,
    },
    /// A name of the leaf with this number.
    Leaf(usize),
}

/// A file, symbolic link or device, whatever its names.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) item: Item,
    pub(crate) metadata: Metadata,
    pub(crate) modified: Time,
}

/// The layer so far, and what it stands on.
#[derive(Default)]
pub(crate) struct Assembly<'a> {
    nodes: BTreeMap<TreePath, Node>,
    leaves: Vec<Leaf>,
    lower: Option<&'a dyn LowerLayers>,
}

impl<'a> Assembly<'a> {
    pub(crate) fn on(lower: Option<&'a dyn LowerLayers>) -> Self {
        Self { lower, ..Self::default() }
    }

    /// What the layer itself has.
    pub(crate) fn get(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Sets a path to something with no other name so far.
    pub(crate) fn set_leaf(&mut self, path: TreePath, leaf: Leaf) {
        self.leaves.push(leaf);
        self.nodes.insert(path, Node::Leaf(self.leaves.len() - 1));
    }

    /// What has this number.
    pub(crate) fn leaf(&self, number: usize) -> Option<&Leaf> {
        self.leaves.get(number)
    }

    /// A later entry for the same leaf: its owner, mode and time count (of a symbolic link's only
    /// the owner), and its attributes are added. What all names then have, if that is new.
    pub(crate) fn change_leaf(
        &mut self,
        number: usize,
        metadata: &Metadata,
        modified: Time,
    ) -> Option<&Leaf> {
        let leaf = self.leaves.get_mut(number)?;
        let mut metadata = with_more(&leaf.metadata, metadata);
        let mut modified = modified;
        if matches!(leaf.item, Item::Symlink { .. }) {
            metadata.mode = leaf.metadata.mode;
            modified = leaf.modified;
        }
        if (&leaf.metadata, leaf.modified) == (&metadata, modified) {
            return None;
        }
        (leaf.metadata, leaf.modified) = (metadata, modified);
        Some(leaf)
    }

    pub(crate) fn set(&mut self, path: TreePath, node: Node) {
        self.nodes.insert(path, node);
    }

    /// A lower layer's path is gone. What this layer itself has there stays, as OCI says, and
    /// is all that there is.
    pub(crate) fn hide(&mut self, path: TreePath) {
        match self.nodes.entry(path) {
            Slot::Vacant(slot) => drop(slot.insert(Node::Removed)),
            Slot::Occupied(mut slot) => {
                if let Node::Directory { opaque, .. } = slot.get_mut() {
                    *opaque = true;
                }
            }
        }
    }

    /// Forgets a path and all below it.
    pub(crate) fn clear(&mut self, path: &TreePath) {
        let from = (Bound::Included(path), Bound::Unbounded);
        let below: Vec<TreePath> = self
            .nodes
            .range::<TreePath, _>(from)
            .map(|(other, _)| other)
            .take_while(|other| other.below(path).is_some())
            .cloned()
            .collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }

    /// What the lower layers show where this one has and hides nothing.
    pub(crate) fn look_below(&self, path: &TreePath) -> Result<Option<LowerItem>, ImageError> {
        match self.lower {
            Some(lower) if !self.covers(path) => lower.look(path),
            _ => Ok(None),
        }
    }

    /// Whether what is at a path, if anything, is this layer's.
    fn covers(&self, path: &TreePath) -> bool {
        let hides = |above: &TreePath| {
            !matches!(self.nodes.get(above), None | Some(Node::Directory { opaque: false, .. }))
        };
        self.nodes.contains_key(path) || path.ancestors().iter().any(hides)
    }

    /// Where an entry of this name belongs: symbolic links, of the layer or below it, that lead
    /// to it are followed as if its top were `/`, its last component is not.
    pub(crate) fn resolve(
        &self,
        name: &[u8],
        refuse: impl Fn(&'static str) -> ImageError,
    ) -> Result<TreePath, ImageError> {
        let mut rest: VecDeque<Vec<u8>> = clean(name).map_err(&refuse)?.into();
        let Some(last) = rest.pop_back() else { return Ok(TreePath::ROOT) };
        let (mut at, mut links) = (TreePath::ROOT, 0);
        while let Some(component) = rest.pop_front() {
            if component == b".." {
                at = at.parent().unwrap_or_default();
                continue;
            }
            let next = at.child(&component).map_err(|_| refuse("its name is not a path"))?;
            if next.components().count() >= MAX_DEPTH {
                return Err(refuse("it is too deep"));
            }
            let Some(target) = self.target(&next, &refuse)? else {
                at = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS || target.len() > MAX_NAME_BYTES {
                return Err(refuse("it leads through too many symbolic links"));
            }
            if target.starts_with(b"/") {
                at = TreePath::ROOT;
            }
            for component in components(&target).rev() {
                rest.push_front(component.to_vec());
            }
        }
        at.child(&last).map_err(|_| refuse("its name is not a path"))
    }

    /// Where the symbolic link at a path leads; none if a directory is there or can be made.
    fn target(
        &self,
        path: &TreePath,
        refuse: impl Fn(&'static str) -> ImageError,
    ) -> Result<Option<Cow<'_, [u8]>>, ImageError> {
        match self.nodes.get(path) {
            Some(Node::Leaf(number)) => match self.leaves.get(*number).map(|leaf| &leaf.item) {
                Some(Item::Symlink { target }) => Ok(Some(target.into())),
                _ => Err(refuse("it is below something that is not a directory")),
            },
            Some(Node::Removed | Node::Directory { .. }) => Ok(None),
            None => Ok(match self.look_below(path)? {
                Some(LowerItem::Symlink { target }) => Some(target.into()),
                _ => None,
            }),
        }
    }

    /// The nodes, in order.
    pub(crate) fn nodes(&self) -> impl DoubleEndedIterator<Item = (&TreePath, &Node)> {
        self.nodes.iter()
    }

    /// The layer, and each of its files once. A leaf's first name says what it is.
    pub(crate) fn into_layer(self) -> (Layer, Vec<(BlobId, TreePath)>) {
        let mut carriers: BTreeMap<usize, TreePath> = BTreeMap::new();
        let mut changes = Vec::with_capacity(self.nodes.len());
        let mut files = Vec::new();
        for (path, node) in self.nodes {
            let (item, metadata, modified) = match node {
                Node::Removed => {
                    changes.push(Change { path, action: Action::Remove });
                    continue;
                }
                Node::Directory { opaque, metadata, modified } => {
                    (Item::Directory { opaque }, metadata, modified)
                }
                Node::Leaf(number) => {
                    let Leaf { item, metadata, modified } = &self.leaves[number];
                    let item = match carriers.get(&number) {
                        Some(to) => Item::HardLink { to: to.clone() },
                        None => {
                            carriers.insert(number, path.clone());
                            if let Item::File { blob, .. } = item {
                                files.push((*blob, path.clone()));
                            }
                            item.clone()
                        }
                    };
                    (item, metadata.clone(), *modified)
                }
            };
            changes.push(Change { path, action: Action::Set { item, metadata, modified } });
        }
        (Layer::new(changes), files)
    }
}

/// The second, with the attributes of both.
pub(crate) fn with_more(old: &Metadata, new: &Metadata) -> Metadata {
    let mut metadata = new.clone();
    for (name, value) in &old.xattrs {
        metadata.xattrs.entry(name.clone()).or_insert_with(|| value.clone());
    }
    metadata
}

fn components(name: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    name.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// The components of an entry's name, without `..`. A name that leads above the top is refused.
fn clean(name: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    if name.is_empty() {
        return Err("it has no name");
    }
    if name.len() > MAX_NAME_BYTES {
        return Err("its name is longer than 4096 bytes");
    }
    let mut names = Vec::new();
    for component in components(name) {
        if component != b".." {
            names.push(component.to_vec());
        } else if names.pop().is_none() {
            return Err("its name leads out of the archive");
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(assembly: &mut Assembly<'_>, at: &str, target: &str) {
        let item = Item::Symlink { target: target.as_bytes().to_vec() };
        let leaf = Leaf { item, metadata: Metadata::root(0o777), modified: Time(0) };
        assembly.set_leaf(TreePath::new(at).expect("clean"), leaf);
    }

    fn refuse(reason: &'static str) -> ImageError {
        ImageError::Entry { entry: String::new(), reason }
    }

    #[test]
    fn resolves_names_inside() {
        let mut assembly = Assembly::default();
        link(&mut assembly, "lib", "usr/lib");
        link(&mut assembly, "out", "../../../etc");
        link(&mut assembly, "usr/abs", "/opt");
        link(&mut assembly, "loop", "loop");
        let check = |name: &str, expected: Result<&str, ()>| {
            let path = assembly.resolve(name.as_bytes(), refuse).map(|path| path.to_string());
            assert_eq!(path.map_err(|_| ()), expected.map(str::to_owned), "{name}");
        };
        check("./a/./b/", Ok("a/b"));
        check("/etc/passwd", Ok("etc/passwd"));
        check("a/../b", Ok("b"));
        check("../b", Err(()));
        check("a/../../b", Err(()));
        check("", Err(()));
        check("./", Ok(""));
        check("lib/x", Ok("usr/lib/x"));
        check("lib", Ok("lib"));
        check("out/passwd", Ok("etc/passwd"));
        check("usr/abs/x", Ok("opt/x"));
        check("loop/x", Err(()));
    }
}
