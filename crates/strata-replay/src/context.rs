//! A commit's build context as a tree: git's tree with the ignore rules applied. A new commit's
//! context shares all directories that did not change with the one before, so it costs what
//! changed.

use std::path::Path;
use std::sync::Arc;

use gix::ObjectId;
use gix::objs::TreeRefIter;
use gix::objs::tree::EntryKind;
use strata_cas::{BlobId, TreeId, TreePath, Writer};
use strata_scan::{IgnoreRules, Verdict};

use crate::history::{History, HistoryError};

/// A directory of a context.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The git tree that it was made of.
    tree: ObjectId,
    /// Names all that is in it.
    pub(crate) id: TreeId,
    /// By name, in order.
    pub(crate) entries: Vec<Entry>,
    /// How many files are below.
    pub(crate) files: u64,
    /// Bytes of the files below.
    pub(crate) bytes: u64,
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: Box<[u8]>,
    pub(crate) node: Node,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    File {
        blob: ObjectId,
        executable: bool,
        bytes: u64,
    },
    Link {
        blob: ObjectId,
    },
    /// A submodule: its commit stands for what is in it.
    Module {
        commit: ObjectId,
    },
    Directory(Arc<Directory>),
}

impl Node {
    /// Names the node, under a mode that a `--chmod` may have given.
    pub(crate) fn feed(&self, mode: impl Fn(u32, bool) -> u32, to: &mut Writer) {
        match self {
            Self::File { blob, executable, .. } => {
                to.byte(0);
                to.bytes(blob.as_slice());
                to.u32(mode(if *executable { 0o755 } else { 0o644 }, false));
            }
            Self::Link { blob } => {
                to.byte(1);
                to.bytes(blob.as_slice());
            }
            Self::Module { commit } => {
                to.byte(2);
                to.bytes(commit.as_slice());
            }
            Self::Directory(directory) => {
                to.byte(3);
                to.fixed(directory.id.as_bytes());
            }
        }
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::File { blob, executable, .. },
                Self::File { blob: other, executable: also, .. },
            ) => blob == other && executable == also,
            (Self::Link { blob }, Self::Link { blob: other }) => blob == other,
            (Self::Module { commit }, Self::Module { commit: other }) => commit == other,
            (Self::Directory(one), Self::Directory(other)) => one.id == other.id,
            _ => false,
        }
    }
}

impl Directory {
    pub(crate) fn entry(&self, name: &[u8]) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| (*entry.name).cmp(name));
        found.ok().map(|at| &self.entries[at])
    }

    /// What stands at a path without links.
    pub(crate) fn at(self: &Arc<Self>, path: &TreePath) -> Option<Node> {
        let mut node = Node::Directory(Arc::clone(self));
        for name in path.components() {
            let Node::Directory(directory) = &node else { return None };
            let next = directory.entry(name)?.node.clone();
            node = next;
        }
        Some(node)
    }

    fn new(tree: ObjectId, mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut to = Writer::default();
        to.count(entries.len());
        let (mut files, mut bytes) = (0, 0);
        for entry in &entries {
            to.bytes(&entry.name);
            entry.node.feed(|mode, _| mode, &mut to);
            match &entry.node {
                Node::Directory(directory) => {
                    files += directory.files;
                    bytes += directory.bytes;
                }
                Node::File { bytes: size, .. } => {
                    files += 1;
                    bytes += size;
                }
                Node::Link { .. } | Node::Module { .. } => files += 1,
            }
        }
        let id = TreeId::from(BlobId::of(to.as_bytes()));
        Self { tree, id, entries, files, bytes }
    }
}

/// Makes contexts.
pub(crate) struct Reader<'a> {
    pub(crate) history: &'a History,
    pub(crate) rules: &'a IgnoreRules,
}

impl Reader<'_> {
    /// The context below a git tree; `before` is one that was made by the same rules.
    pub(crate) fn read(
        &self,
        tree: ObjectId,
        before: Option<&Arc<Directory>>,
    ) -> Result<Arc<Directory>, HistoryError> {
        let path = TreePath::ROOT;
        self.directory(tree, &path, Verdict::default(), before)
    }

    fn directory(
        &self,
        tree: ObjectId,
        path: &TreePath,
        verdict: Verdict,
        before: Option<&Arc<Directory>>,
    ) -> Result<Arc<Directory>, HistoryError> {
        if let Some(before) = before
            && before.tree == tree
        {
            return Ok(Arc::clone(before));
        }
        let unreadable = |reason: String| HistoryError::Object { id: tree.to_string(), reason };
        let bytes = self.history.bytes(tree)?;
        let bytes = bytes.ok_or_else(|| unreadable("it is not there".to_owned()))?;
        let rules = self.rules.below(path, verdict);
        let mut entries = Vec::new();
        for entry in TreeRefIter::from_bytes(&bytes, tree.kind()) {
            let entry = entry.map_err(|error| unreadable(error.to_string()))?;
            let name: &[u8] = entry.filename;
            let known = before.and_then(|before| before.entry(name)).map(|entry| &entry.node);
            let own = rules.verdict(name);
            let mode = entry.mode.kind();
            let node = match mode {
                EntryKind::Tree => {
                    self.subdirectory(entry.oid.to_owned(), path, name, own, known)?
                }
                _ if self.rules.is_exclusion(own) => None,
                _ => Some(self.leaf(mode, entry.oid.to_owned(), known)),
            };
            entries.extend(node.map(|node| Entry { name: name.into(), node }));
        }
        Ok(Arc::new(Directory::new(tree, entries)))
    }

    /// A directory that is left out is there only for what is brought back below it.
    fn subdirectory(
        &self,
        tree: ObjectId,
        above: &TreePath,
        name: &[u8],
        verdict: Verdict,
        known: Option<&Node>,
    ) -> Result<Option<Node>, HistoryError> {
        // A name that is no path component is nothing that could be checked out.
        let Ok(path) = above.child(name) else { return Ok(None) };
        if !self.rules.may_include(path.as_bytes(), verdict) {
            return Ok(None);
        }
        let before = match known {
            Some(Node::Directory(before)) => Some(before),
            _ => None,
        };
        let directory = self.directory(tree, &path, verdict, before)?;
        let nothing = self.rules.is_exclusion(verdict) && directory.entries.is_empty();
        Ok((!nothing).then_some(Node::Directory(directory)))
    }

    fn leaf(&self, kind: EntryKind, id: ObjectId, known: Option<&Node>) -> Node {
        match kind {
            EntryKind::Link => Node::Link { blob: id },
            EntryKind::Commit => Node::Module { commit: id },
            kind => {
                let bytes = match known {
                    Some(Node::File { blob, bytes, .. }) if *blob == id => *bytes,
                    _ => self.history.size(id).unwrap_or(0),
                };
                Node::File { blob: id, executable: kind == EntryKind::BlobExecutable, bytes }
            }
        }
    }
}

/// The id and kind of what stands at a path of a git tree, found without reading anything else.
pub(crate) fn find(
    history: &History,
    root: ObjectId,
    path: &Path,
) -> Result<Option<(ObjectId, EntryKind)>, HistoryError> {
    use std::os::unix::ffi::OsStrExt;
    let path = TreePath::normalise(path.as_os_str().as_bytes());
    let mut found = (root, EntryKind::Tree);
    for name in path.components() {
        if found.1 != EntryKind::Tree {
            return Ok(None);
        }
        let Some(bytes) = history.bytes(found.0)? else { return Ok(None) };
        let mut entries = TreeRefIter::from_bytes(&bytes, found.0.kind()).filter_map(Result::ok);
        match entries.find(|entry| entry.filename == name) {
            Some(entry) => found = (entry.oid.to_owned(), entry.mode.kind()),
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Added,
    Removed,
    Changed,
}

/// Files that differ from one node to another, as told to `found`; false ends it.
pub(crate) fn diff(
    old: Option<&Node>,
    new: Option<&Node>,
    at: &TreePath,
    found: &mut dyn FnMut(&TreePath, Change, Option<&Node>) -> bool,
) -> bool {
    if let (Some(old), Some(new)) = (old, new)
        && old.is_same(new)
    {
        return true;
    }
    let directory = |node: Option<&Node>| match node {
        Some(Node::Directory(directory)) => Some(Arc::clone(directory)),
        _ => None,
    };
    let (old_directory, new_directory) = (directory(old), directory(new));
    let (was, is) = (old.is_some(), new.is_some());
    let leaf = |directory: &Option<Arc<Directory>>, is: bool| is && directory.is_none();
    let (was_leaf, is_leaf) = (leaf(&old_directory, was), leaf(&new_directory, is));
    let change = match (was_leaf, is_leaf) {
        (true, true) => Some(Change::Changed),
        (true, false) => Some(Change::Removed),
        (false, true) => Some(Change::Added),
        (false, false) => None,
    };
    if let Some(change) = change
        && !found(at, change, new.filter(|_| is_leaf))
    {
        return false;
    }
    let empty = Vec::new();
    let old = old_directory.as_ref().map_or(&empty, |directory| &directory.entries);
    let new = new_directory.as_ref().map_or(&empty, |directory| &directory.entries);
    diff_entries(old, new, at, found)
}

fn diff_entries(
    old: &[Entry],
    new: &[Entry],
    at: &TreePath,
    found: &mut dyn FnMut(&TreePath, Change, Option<&Node>) -> bool,
) -> bool {
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let order = match (old.get(i), new.get(j)) {
            (Some(old), Some(new)) => old.name.cmp(&new.name),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        let one = (order.is_le()).then(|| &old[i]);
        let other = (order.is_ge()).then(|| &new[j]);
        i += usize::from(one.is_some());
        j += usize::from(other.is_some());
        let Some(entry) = one.or(other) else { break };
        let Ok(path) = at.child(&entry.name) else { continue };
        if !diff(one.map(|e| &e.node), other.map(|e| &e.node), &path, found) {
            return false;
        }
    }
    true
}
