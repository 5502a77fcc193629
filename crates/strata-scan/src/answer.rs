//! What can be asked of a finished scan. The answer is the walk's directories together with the
//! stamp file that they refer to: what nobody asks for is never put together, so that an unchanged
//! context costs no more than the look at its files.

use strata_cas::{BlobId, Device, TreeId, TreePath};

use crate::Glob;
use crate::links;
use crate::name::tree_of;
use crate::scan::Note;
use crate::stamp::{Stamp, Timestamp};
use crate::stamps::Stamps;
use crate::walked::{Entry, Listing, Node, Seen};

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: FoundKind,
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// When its content last changed, as the file system says.
    pub modified: Timestamp,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// The name of its bytes.
        blob: BlobId,
        /// Their number.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: Vec<u8>,
    },
    /// A device or fifo.
    Device(Device),
}

/// What a scan did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanStats {
    /// Files in the answer.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories that were visited.
    pub directories: u64,
    /// Directories that were read, because no stamp told what is in them.
    pub listed_directories: u64,
    /// Files that were read, because no stamp told what is in them.
    pub hashed_files: u64,
    /// Their bytes.
    pub hashed_bytes: u64,
    /// Whether the stamp file was replaced.
    pub stamps_replaced: bool,
}

/// From so many files on, an answer is large.
const MANY_FILES: u64 = 5_000;

/// The answer: wanted paths with the directories above them. The root is always there.
#[derive(Debug)]
pub struct Scan {
    nodes: Vec<Node>,
    old: Stamps,
    stats: ScanStats,
    notes: Vec<Note>,
}

/// What stands at a path, in the walk's terms.
#[derive(Clone, Copy)]
enum At<'a> {
    Directory(&'a Node),
    Leaf(&'a Entry),
}

impl Entry {
    /// What the entry is, if it is in the answer and no directory.
    pub(crate) fn found(&self, old: &Stamps) -> Option<Found> {
        let file =
            |stamp: &Stamp, blob| Some(found(FoundKind::File { blob, size: stamp.size }, stamp));
        match &self.seen {
            Seen::Unwanted | Seen::Excluded | Seen::Nothing | Seen::Socket | Seen::Directory(_) => {
                None
            }
            Seen::Unchanged(_) => {
                let (stamp, blob) = old.entry(self.old?)?.content?;
                file(&stamp, blob)
            }
            Seen::File(read) => file(&read.0, read.1?),
            Seen::Symlink(link) => {
                Some(found(FoundKind::Symlink { target: link.1.clone() }, &link.0))
            }
            Seen::Device(device) => Some(found(FoundKind::Device(device.1), &device.0)),
        }
    }
}

fn found(kind: FoundKind, stamp: &Stamp) -> Found {
    Found { kind, mode: stamp.permissions(), modified: stamp.modified }
}

impl Drop for Scan {
    /// Gives the memory of a large answer back beside what comes next: for 100,000 files that
    /// takes milliseconds.
    fn drop(&mut self) {
        if self.stats.files < MANY_FILES {
            return;
        }
        let large = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.old));
        // Without a thread it is done here.
        drop(std::thread::Builder::new().name("scan-end".into()).spawn(move || drop(large)));
    }
}

impl Scan {
    /// Takes over named directories.
    pub(crate) fn new(
        nodes: Vec<Node>,
        old: Stamps,
        mut stats: ScanStats,
        notes: Vec<Note>,
    ) -> Self {
        // Every file whose stamp does not hold was read, or there would be no answer.
        (stats.files, stats.bytes) = (stats.hashed_files, stats.hashed_bytes);
        for node in &nodes {
            stats.directories += 1;
            stats.listed_directories += u64::from(matches!(node.listing, Listing::Read { .. }));
            stats.files += node.unchanged.0;
            stats.bytes += node.unchanged.1;
        }
        Self { nodes, old, stats, notes }
    }

    /// What stands at the path itself; links are not followed.
    pub fn get(&self, path: &TreePath) -> Option<Found> {
        self.find(path).and_then(|at| self.found(at))
    }

    /// The id of all that was found at and below a directory, if that had this mode: everything is
    /// root's, with the permissions that were found.
    pub fn tree(&self, directory: &TreePath, mode: u32) -> Option<TreeId> {
        let At::Directory(node) = self.find(directory)? else { return None };
        match node.stamp.permissions() == mode {
            true => node.tree,
            false => Some(tree_of(&self.nodes, node, &self.old, mode)),
        }
    }

    /// All paths, in the order of [`TreePath`]: a directory directly before what is in it.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (TreePath, Found)> {
        let root = self.get(&TreePath::ROOT).map(|found| (TreePath::ROOT, found));
        let all: Vec<_> = root.into_iter().chain(self.below(&TreePath::ROOT)).collect();
        all.into_iter()
    }

    /// All paths below a directory, in order, without itself.
    pub fn below(
        &self,
        directory: &TreePath,
    ) -> impl ExactSizeIterator<Item = (TreePath, Found)> + use<> {
        let mut all = Vec::new();
        let mut open: Vec<_> = self.children(directory).rev().collect();
        while let Some((path, found)) = open.pop() {
            if found.kind == FoundKind::Directory {
                open.extend(self.children(&path).rev());
            }
            all.push((path, found));
        }
        all.into_iter()
    }

    /// The entries of a directory, in order.
    pub fn children(
        &self,
        directory: &TreePath,
    ) -> impl DoubleEndedIterator<Item = (TreePath, Found)> + use<> {
        let node = match self.find(directory) {
            Some(At::Directory(node)) => Some(node),
            _ => None,
        };
        let entries = node.into_iter().flat_map(|node| &node.entries);
        let child = |entry: &Entry| {
            let path = directory.child(entry.name(&self.old)).ok()?;
            Some((path, self.found(self.at(entry)?)?))
        };
        entries.filter_map(child).collect::<Vec<_>>().into_iter()
    }

    /// The paths that a glob matches, in order; what is below a match is not listed.
    pub fn matches(&self, glob: &Glob) -> impl Iterator<Item = (TreePath, Found)> {
        let prefix = glob.literal_prefix();
        let first = self.get(&prefix).map(|found| (prefix.clone(), found));
        let candidates = first.into_iter().chain(self.below(&prefix));
        candidates.filter(|(path, _)| glob.matches(path))
    }

    /// The path that this one leads to when all links are followed, the last component's too:
    /// none if nothing wanted is there. Targets are resolved within the context.
    pub fn resolve(&self, path: &TreePath) -> Option<TreePath> {
        let at = links::resolve(path, |path| match self.get(path)?.kind {
            FoundKind::Symlink { target } => Some(target),
            _ => None,
        })?;
        self.find(&at).map(|_| at)
    }

    /// The same, but a link in the last component is not followed: where the path itself stands.
    pub fn resolve_parents(&self, path: &TreePath) -> Option<TreePath> {
        let Some(parent) = path.parent() else { return Some(TreePath::ROOT) };
        let path = self.resolve(&parent)?.child(path.name()).ok()?;
        self.find(&path).map(|_| path)
    }

    /// What the scan did.
    pub fn stats(&self) -> ScanStats {
        self.stats
    }

    /// What is worth telling.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn find(&self, path: &TreePath) -> Option<At<'_>> {
        let mut at = At::Directory(self.nodes.first()?);
        for name in path.components() {
            let At::Directory(node) = at else { return None };
            let entry = node.entries.binary_search_by(|entry| entry.name(&self.old).cmp(name));
            at = self.at(&node.entries[entry.ok()?])?;
        }
        Some(at)
    }

    /// What an entry is, if it is in the answer.
    fn at<'a>(&'a self, entry: &'a Entry) -> Option<At<'a>> {
        match &entry.seen {
            Seen::Directory(child) => {
                let node = self.nodes.get((*child)? as usize)?;
                node.tree.is_some().then_some(At::Directory(node))
            }
            Seen::Unchanged(_) | Seen::File(_) | Seen::Symlink(_) | Seen::Device(_) => {
                Some(At::Leaf(entry))
            }
            Seen::Unwanted | Seen::Excluded | Seen::Nothing | Seen::Socket => None,
        }
    }

    fn found(&self, at: At<'_>) -> Option<Found> {
        match at {
            At::Directory(node) => Some(found(FoundKind::Directory, &node.stamp)),
            At::Leaf(entry) => entry.found(&self.old),
        }
    }
}
