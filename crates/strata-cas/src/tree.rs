//! File trees as values: a Merkle DAG of directories. Reading and comparing them; changing them
//! is in `update`, making them from a file system is `strata-scan`'s work.

use std::collections::BTreeMap;

use crate::canonical::{DecodeError, Reader, Writer};
use crate::{BlobId, BlobStore, StoreError, TreeId, TreePath};

const FORMAT: &str = "strata.tree.1";

/// What a path has besides its content: no times, they are not part of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner, as numbered inside the image.
    pub uid: u32,
    /// Group, as numbered inside the image.
    pub gid: u32,
    /// Extended attributes by full name, such as `security.capability`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Metadata of root's without extended attributes.
    pub fn root(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }

    pub(crate) fn encode(&self, to: &mut Writer) {
        let Self { mode, uid, gid, xattrs } = self;
        to.u32(*mode);
        to.u32(*uid);
        to.u32(*gid);
        to.count(xattrs.len());
        for (name, value) in xattrs {
            to.bytes(name);
            to.bytes(value);
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mode, uid, gid) = (from.u32()?, from.u32()?, from.u32()?);
        let mut xattrs = BTreeMap::new();
        for _ in 0..from.count()? {
            let name = from.bytes()?.to_vec();
            xattrs.insert(name, from.bytes()?.to_vec());
        }
        Ok(Self { mode, uid, gid, xattrs })
    }
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct File {
    /// Its bytes.
    pub blob: BlobId,
    /// Their number.
    pub size: u64,
    /// Mode, owner, extended attributes.
    pub metadata: Metadata,
}

/// What a device node or fifo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// A character device with its major and minor number.
    Character(u32, u32),
    /// A block device with its major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

impl Device {
    pub(crate) fn encode(self, to: &mut Writer) {
        let (kind, major, minor) = match self {
            Self::Character(major, minor) => (0, major, minor),
            Self::Block(major, minor) => (1, major, minor),
            Self::Fifo => (2, 0, 0),
        };
        to.byte(kind);
        to.u32(major);
        to.u32(minor);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match (from.byte()?, from.u32()?, from.u32()?) {
            (0, major, minor) => Ok(Self::Character(major, minor)),
            (1, major, minor) => Ok(Self::Block(major, minor)),
            (2, 0, 0) => Ok(Self::Fifo),
            _ => Err(from.error("an unknown device")),
        }
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A directory; its own mode and owner are part of what its id names.
    Directory(TreeId),
    /// A regular file.
    File(File),
    /// A symbolic link, never followed.
    Symlink {
        /// Where it points, as written.
        target: Vec<u8>,
        /// Owner and extended attributes; the mode is always `0o777`.
        metadata: Metadata,
    },
    /// A device or fifo.
    Device {
        /// Which one.
        device: Device,
        /// Mode, owner, extended attributes.
        metadata: Metadata,
    },
}

/// A directory: its own metadata and its entries by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// The directory's own mode, owner, extended attributes.
    pub metadata: Metadata,
    /// What is in it.
    pub entries: BTreeMap<Vec<u8>, Node>,
}

impl Directory {
    /// The root directory of an image without a file: root's, `0o755`.
    pub fn empty_root() -> Self {
        Self { metadata: Metadata::root(0o755), entries: BTreeMap::new() }
    }

    /// The canonical bytes, whose BLAKE3 is the tree's id.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = DirectoryWriter::new(&self.metadata, self.entries.len());
        for (name, node) in &self.entries {
            writer.entry(name, node);
        }
        writer.finish()
    }

    /// Whether bytes begin as a directory's do.
    pub fn is_begun_by(bytes: &[u8]) -> bool {
        bytes.strip_prefix(FORMAT.as_bytes()).is_some_and(|rest| rest.starts_with(b"\n"))
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::with_format(FORMAT, bytes)?;
        let metadata = Metadata::decode(&mut from)?;
        let mut entries = BTreeMap::new();
        for _ in 0..from.count()? {
            let name = from.bytes()?.to_vec();
            if TreePath::ROOT.child(&name).is_err() {
                return Err(from.error("an entry's name is not a single component"));
            }
            if entries.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(from.error("its entries are not in order"));
            }
            entries.insert(name, decode_node(&mut from)?);
        }
        from.finish()?;
        Ok(Self { metadata, entries })
    }

    /// Names the tree below this directory.
    pub fn id(&self) -> TreeId {
        BlobId::of(&self.encode()).into()
    }

    /// Keeps this node and names it. What it refers to must be kept already.
    pub fn keep(&self, store: &dyn BlobStore) -> Result<TreeId, StoreError> {
        store.put(&self.encode()).map(TreeId::from)
    }
}

/// Writes a directory's canonical bytes entry by entry, for those who have them in order and need
/// no [`Directory`].
#[derive(Debug)]
pub struct DirectoryWriter(Writer);

impl DirectoryWriter {
    /// Begins a directory of so many entries.
    pub fn new(metadata: &Metadata, entries: usize) -> Self {
        let mut to = Writer::with_format(FORMAT);
        metadata.encode(&mut to);
        to.count(entries);
        Self(to)
    }

    /// Adds the next entry. Names must come in ascending order, each once.
    pub fn entry(&mut self, name: &[u8], node: &Node) {
        self.0.bytes(name);
        encode_node(node, &mut self.0);
    }

    /// The bytes, whose BLAKE3 is the tree's id.
    pub fn finish(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

fn encode_node(node: &Node, to: &mut Writer) {
    match node {
        Node::Directory(tree) => {
            to.byte(0);
            to.fixed(tree.as_bytes());
        }
        Node::File(File { blob, size, metadata }) => {
            to.byte(1);
            to.fixed(blob.as_bytes());
            to.u64(*size);
            metadata.encode(to);
        }
        Node::Symlink { target, metadata } => {
            to.byte(2);
            to.bytes(target);
            metadata.encode(to);
        }
        Node::Device { device, metadata } => {
            to.byte(3);
            device.encode(to);
            metadata.encode(to);
        }
    }
}

fn decode_node(from: &mut Reader<'_>) -> Result<Node, DecodeError> {
    Ok(match from.byte()? {
        0 => Node::Directory(TreeId::from_bytes(from.fixed()?)),
        1 => {
            let (blob, size) = (BlobId::from_bytes(from.fixed()?), from.u64()?);
            Node::File(File { blob, size, metadata: Metadata::decode(from)? })
        }
        2 => {
            let target = from.bytes()?.to_vec();
            Node::Symlink { target, metadata: Metadata::decode(from)? }
        }
        3 => {
            let device = Device::decode(from)?;
            Node::Device { device, metadata: Metadata::decode(from)? }
        }
        _ => return Err(from.error("an unknown kind of entry")),
    })
}

/// A tree that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The store does not have a node that the tree refers to.
    #[error("the store has no tree node {0}")]
    Missing(TreeId),
    /// A blob stands in a node's place.
    #[error("{0}")]
    Damaged(#[from] DecodeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads one directory of a tree.
pub fn load(store: &dyn BlobStore, tree: &TreeId) -> Result<Directory, TreeError> {
    let bytes = store.get(&tree.blob())?.ok_or(TreeError::Missing(*tree))?;
    Ok(Directory::decode(&bytes)?)
}

/// How a path differs between two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreeChange {
    /// Only the new tree has it.
    Added,
    /// Only the old tree has it.
    Removed,
    /// Its bytes, link target or type differ.
    Content,
    /// Only its mode, owner or extended attributes differ.
    Metadata,
}

/// One path that differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub path: TreePath,
    /// How.
    pub change: TreeChange,
    /// What stands there in the old tree.
    pub old: Option<Standing>,
    /// What stands there in the new one.
    pub new: Option<Standing>,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it is.
    pub node: Node,
    /// Its metadata, also if it is a directory.
    pub metadata: Metadata,
}

/// What differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// The first paths, in order.
    pub listed: Vec<Difference>,
    /// How many there are in all, as far as they were counted.
    pub total: usize,
}

/// The paths that differ from `old` to `new`, in order; equal subtrees are not read, and what is
/// in a directory that only one of them has is not told. Lists at most `listed` paths, and ends
/// when `counted` have been seen.
pub fn diff(
    store: &dyn BlobStore,
    old: &TreeId,
    new: &TreeId,
    listed: usize,
    counted: usize,
) -> Result<Diff, TreeError> {
    let mut diffing = Diffing { store, listed, counted, diff: Diff::default() };
    if old != new {
        let (old_root, new_root) = (load(store, old)?, load(store, new)?);
        if old_root.metadata != new_root.metadata {
            let (old, new) = (Node::Directory(*old), Node::Directory(*new));
            diffing.add(TreePath::ROOT, TreeChange::Metadata, Some(&old), Some(&new))?;
        }
        diffing.directories(&old_root, &new_root, &TreePath::ROOT)?;
    }
    Ok(diffing.diff)
}

struct Diffing<'a> {
    store: &'a dyn BlobStore,
    listed: usize,
    counted: usize,
    diff: Diff,
}

impl Diffing<'_> {
    fn add(
        &mut self,
        path: TreePath,
        change: TreeChange,
        old: Option<&Node>,
        new: Option<&Node>,
    ) -> Result<(), TreeError> {
        self.diff.total += 1;
        if self.diff.listed.len() < self.listed {
            let standing = |node: Option<&Node>| node.map(|node| self.standing(node)).transpose();
            let (old, new) = (standing(old)?, standing(new)?);
            self.diff.listed.push(Difference { path, change, old, new });
        }
        Ok(())
    }

    fn standing(&self, node: &Node) -> Result<Standing, TreeError> {
        let metadata = match node {
            Node::Directory(tree) => load(self.store, tree)?.metadata,
            Node::File(File { metadata, .. })
            | Node::Symlink { metadata, .. }
            | Node::Device { metadata, .. } => metadata.clone(),
        };
        Ok(Standing { node: node.clone(), metadata })
    }

    fn directories(
        &mut self,
        old: &Directory,
        new: &Directory,
        at: &TreePath,
    ) -> Result<(), TreeError> {
        let mut names: Vec<&Vec<u8>> = old.entries.keys().chain(new.entries.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            if self.diff.total >= self.counted {
                return Ok(());
            }
            let Ok(path) = at.child(name) else { continue };
            match (old.entries.get(name), new.entries.get(name)) {
                (Some(old), Some(new)) if old == new => {}
                (Some(old @ Node::Directory(old_tree)), Some(new @ Node::Directory(new_tree))) => {
                    let below = load(self.store, old_tree)?;
                    let new_below = load(self.store, new_tree)?;
                    if below.metadata != new_below.metadata {
                        self.add(path.clone(), TreeChange::Metadata, Some(old), Some(new))?;
                    }
                    self.directories(&below, &new_below, &path)?;
                }
                (Some(old), Some(new)) => {
                    self.add(path, how(old, new), Some(old), Some(new))?;
                }
                (Some(old), None) => self.add(path, TreeChange::Removed, Some(old), None)?,
                (None, new) => self.add(path, TreeChange::Added, None, new)?,
            }
        }
        Ok(())
    }
}

/// How two nodes differ that are not equal.
fn how(old: &Node, new: &Node) -> TreeChange {
    let same_content = match (old, new) {
        (Node::File(old), Node::File(new)) => old.blob == new.blob,
        (Node::Symlink { target: old, .. }, Node::Symlink { target: new, .. }) => old == new,
        (Node::Device { device: old, .. }, Node::Device { device: new, .. }) => old == new,
        _ => false,
    };
    if same_content { TreeChange::Metadata } else { TreeChange::Content }
}
