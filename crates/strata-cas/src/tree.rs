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
        let mut to = Writer::with_format(FORMAT);
        self.metadata.encode(&mut to);
        to.count(self.entries.len());
        for (name, node) in &self.entries {
            to.bytes(name);
            encode_node(node, &mut to);
        }
        to.into_bytes()
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

/// The paths that differ from `old` to `new`, in order; equal subtrees are not read.
/// Stops after `limit` paths: the second value is how many there are in all that were seen.
pub fn diff(
    store: &dyn BlobStore,
    old: &TreeId,
    new: &TreeId,
    limit: usize,
) -> Result<(Vec<(TreePath, TreeChange)>, usize), TreeError> {
    let mut found = Found { limit, paths: Vec::new(), total: 0 };
    diff_directories(store, old, new, &TreePath::ROOT, &mut found)?;
    Ok((found.paths, found.total))
}

struct Found {
    limit: usize,
    paths: Vec<(TreePath, TreeChange)>,
    total: usize,
}

impl Found {
    fn add(&mut self, path: TreePath, change: TreeChange) {
        self.total += 1;
        if self.paths.len() < self.limit {
            self.paths.push((path, change));
        }
    }
}

fn diff_directories(
    store: &dyn BlobStore,
    old: &TreeId,
    new: &TreeId,
    at: &TreePath,
    found: &mut Found,
) -> Result<(), TreeError> {
    if old == new {
        return Ok(());
    }
    let (old, new) = (load(store, old)?, load(store, new)?);
    if old.metadata != new.metadata {
        found.add(at.clone(), TreeChange::Metadata);
    }
    let mut names: Vec<&Vec<u8>> = old.entries.keys().chain(new.entries.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let Ok(path) = at.child(name) else { continue };
        match (old.entries.get(name), new.entries.get(name)) {
            (Some(Node::Directory(old)), Some(Node::Directory(new))) => {
                diff_directories(store, old, new, &path, found)?;
            }
            (Some(old), Some(new)) => {
                if let Some(change) = compare(old, new) {
                    found.add(path, change);
                }
            }
            (Some(_), None) => found.add(path, TreeChange::Removed),
            (None, _) => found.add(path, TreeChange::Added),
        }
    }
    Ok(())
}

fn compare(old: &Node, new: &Node) -> Option<TreeChange> {
    if old == new {
        return None;
    }
    let same_content = match (old, new) {
        (Node::File(old), Node::File(new)) => old.blob == new.blob,
        (Node::Symlink { target: old, .. }, Node::Symlink { target: new, .. }) => old == new,
        (Node::Device { device: old, .. }, Node::Device { device: new, .. }) => old == new,
        _ => false,
    };
    Some(if same_content { TreeChange::Metadata } else { TreeChange::Content })
}
