//! A scan from request to answer: follow the wanted paths' links, walk, keep the stamps, put the
//! result in order. What a COPY makes of the answer is not decided here.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use strata_cas::{BlobId, Device, TreePath};

use crate::follow::{LINKS, follow};
use crate::stamp::{Stamp, Timestamp};
use crate::stamps::{self, Stamps};
use crate::walk::{Seen, Walk, Walked, open_root};
use crate::{Glob, IgnoreRules, keep};

/// What to scan.
#[derive(Debug, Clone, Copy)]
pub struct ScanRequest<'a> {
    /// The context's directory.
    pub root: &'a Path,
    /// What is left out.
    pub rules: &'a IgnoreRules,
    /// The sources of COPY and ADD: nothing else is visited. A match brings all that is below
    /// it, the root's glob everything.
    pub wanted: &'a [Glob],
    /// The stamp file to read and to replace: any path outside of the context. One that is
    /// missing, damaged or from another context makes the scan cold, never wrong.
    pub stamps: Option<&'a Path>,
    /// How many threads work; 0 for as many as there are processors.
    pub threads: usize,
}

/// A context that cannot be scanned.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The context's directory cannot be opened.
    #[error("cannot open the context `{}`", path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something in the context cannot be read.
    #[error("cannot {action} `{path}`")]
    Unreadable {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: TreePath,
        /// Why it did not work.
        source: io::Error,
    },
    /// It was there a moment ago.
    #[error("`{0}` vanished while it was scanned")]
    Vanished(TreePath),
    /// It changed each time that it was read.
    #[error("`{0}` keeps changing while it is scanned")]
    Changing(TreePath),
    /// A wanted path leads through this link again and again.
    #[error("`{0}` leads through too many symlinks")]
    SymlinkLoop(TreePath),
    /// The system gives no threads.
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
}

impl ScanError {
    pub(crate) fn at(path: &TreePath, action: &'static str, error: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        let path = path.clone();
        match error {
            Errno::NOENT => Self::Vanished(path),
            // It was of another type when it was listed.
            Errno::NOTDIR | Errno::LOOP => Self::Changing(path),
            error => Self::Unreadable { action, path, source: error.into() },
        }
    }
}

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

/// What the caller may want to tell.
#[derive(Debug)]
pub enum Note {
    /// A socket, which no image can hold, was left out.
    Socket(TreePath),
    /// The stamp file could not be replaced: the next scan will take longer.
    StampsNotKept(io::Error),
}

/// The answer: wanted paths with the directories above them, in the order of [`TreePath`]
/// (a directory directly before what is in it). The root is always there.
#[derive(Debug)]
pub struct Scan {
    entries: Vec<(TreePath, Found)>,
    stats: ScanStats,
    notes: Vec<Note>,
}

/// Scans a context.
///
/// Nothing outside of the context is read but the stamp file, and nothing but that is written.
/// A wanted path that is not there is no error; a directory that cannot be read, or a file that
/// changes all the time, is one.
pub fn scan(request: &ScanRequest<'_>) -> Result<Scan, ScanError> {
    scan_at(request, Timestamp::now())
}

/// Scans as if the clock said `start`.
pub(crate) fn scan_at(request: &ScanRequest<'_>, start: Timestamp) -> Result<Scan, ScanError> {
    let ScanRequest { root, rules, wanted, stamps, threads } = *request;
    let opened = open_root(root)
        .map_err(|error| ScanError::Root { path: root.to_owned(), source: error.into() })?;
    let followed = follow(opened.as_fd(), rules, wanted)?;
    let globs = [wanted, &followed].concat();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("scan-{number}"))
        .build()
        .map_err(|error| ScanError::Threads(io::Error::other(error)))?;
    let old = stamps.map(Stamps::load).unwrap_or_default();
    let walk = Walk::new(rules, &globs, &old, start);
    let mut walked = pool.install(|| walk.run(opened))?;
    let mut stats = take_hashed(&mut walked);
    let mut notes = Vec::new();
    if let Some(path) = stamps
        && keep::has_news(&walked, start)
    {
        let kept =
            keep::encode(&walked, &old, start).and_then(|bytes| stamps::replace(path, &bytes));
        stats.stamps_replaced = kept.is_ok();
        notes.extend(kept.err().map(Note::StampsNotKept));
    }
    let entries = in_order(walked, &old, &mut stats, &mut notes);
    for (_, found) in &entries {
        if let FoundKind::File { size, .. } = found.kind {
            stats.files += 1;
            stats.bytes += size;
        }
    }
    Ok(Scan { entries, stats, notes })
}

/// Enters what the reading tasks handed in.
fn take_hashed(walked: &mut Walked<'_>) -> ScanStats {
    let mut stats = ScanStats::default();
    for hashed in &walked.hashed {
        let entry = &mut walked.nodes[hashed.node as usize].entries[hashed.entry as usize];
        if let Seen::File(_, file) = &mut entry.seen {
            **file = (hashed.stamp, Some(hashed.blob));
        }
        stats.hashed_files += 1;
        stats.hashed_bytes += hashed.stamp.size;
    }
    stats
}

/// Puts all entries in order, without directories that hold nothing wanted.
fn in_order(
    mut walked: Walked<'_>,
    old: &Stamps,
    stats: &mut ScanStats,
    notes: &mut Vec<Note>,
) -> Vec<(TreePath, Found)> {
    let count = walked.nodes.iter().map(|node| node.entries.len() + 1).sum();
    let mut entries = Vec::with_capacity(count);
    // Directories that were begun: node, entry to come next, place in the result.
    let mut open = Vec::new();
    let mut begin = Some(0);
    loop {
        if let Some(node) = begin.take() {
            let node: &mut crate::walk::Node<'_> = &mut walked.nodes[node];
            open.push((std::mem::take(&mut node.entries).into_iter(), node.wanted, entries.len()));
            let path = std::mem::take(&mut node.path);
            entries.push((path, found(FoundKind::Directory, &node.stamp)));
            stats.directories += 1;
            let was_read = matches!(node.listing, crate::walk::Listing::Read { .. });
            stats.listed_directories += u64::from(was_read);
        }
        let Some((rest, wanted, place)) = open.last_mut() else { break };
        let Some(entry) = rest.next() else {
            if !*wanted && entries.len() == *place + 1 && *place > 0 {
                entries.pop();
            }
            open.pop();
            continue;
        };
        let known = || old.entry(entry.old?)?.content;
        match entry.seen {
            Seen::No | Seen::Nothing => {}
            Seen::Directory(node) => begin = node.map(|node| node as usize),
            Seen::Unchanged(path) => {
                entries.extend(known().map(|(stamp, blob)| (path, file(&stamp, blob))));
            }
            Seen::File(path, read) => {
                let (stamp, blob) = *read;
                entries.extend(blob.map(|blob| (path, file(&stamp, blob))));
            }
            Seen::Symlink(path, link) => {
                let (stamp, target) = *link;
                entries.push((path, found(FoundKind::Symlink { target }, &stamp)));
            }
            Seen::Device(path, device) => {
                let (stamp, device) = *device;
                entries.push((path, found(FoundKind::Device(device), &stamp)));
            }
            Seen::Socket(path) => notes.push(Note::Socket(path)),
        }
    }
    entries
}

fn file(stamp: &Stamp, blob: BlobId) -> Found {
    found(FoundKind::File { blob, size: stamp.size }, stamp)
}

fn found(kind: FoundKind, stamp: &Stamp) -> Found {
    Found { kind, mode: stamp.permissions(), modified: stamp.modified }
}

impl Scan {
    /// What stands at the path itself; links are not followed.
    pub fn get(&self, path: &TreePath) -> Option<&Found> {
        self.index(path).map(|index| &self.entries[index].1)
    }

    /// All paths, in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&TreePath, &Found)> {
        self.entries.iter().map(|(path, found)| (path, found))
    }

    /// All paths below a directory, in order, without itself.
    pub fn below(
        &self,
        directory: &TreePath,
    ) -> impl ExactSizeIterator<Item = (&TreePath, &Found)> {
        let range = self.index(directory).map(|index| index + 1..self.end(index));
        self.entries[range.unwrap_or_default()].iter().map(|(path, found)| (path, found))
    }

    /// The entries of a directory, in order.
    pub fn children(&self, directory: &TreePath) -> impl Iterator<Item = (&TreePath, &Found)> {
        let mut range = self.index(directory).map(|at| at + 1..self.end(at)).unwrap_or_default();
        std::iter::from_fn(move || {
            let at = range.start;
            let (path, found) = self.entries[range.clone()].first()?;
            range.start = self.end(at);
            Some((path, found))
        })
    }

    /// The paths that a glob matches, in order; what is below a match is not listed.
    pub fn matches(&self, glob: &Glob) -> impl Iterator<Item = (&TreePath, &Found)> {
        let first = self.index(&glob.literal_prefix());
        let range = first.map(|index| index..self.end(index)).unwrap_or_default();
        let entries = self.entries[range].iter().map(|(path, found)| (path, found));
        entries.filter(move |(path, _)| glob.matches(path))
    }

    /// The path that this one leads to when all links are followed, the last component's too:
    /// none if nothing wanted is there. Targets are resolved within the context.
    pub fn resolve(&self, path: &TreePath) -> Option<TreePath> {
        let mut at = TreePath::ROOT;
        let mut rest: Vec<&[u8]> = path.components().rev().collect();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name {
                b"" | b"." => continue,
                b".." => {
                    at = at.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = at.child(name).ok()?;
            match self.get(&next).map(|found| &found.kind) {
                Some(FoundKind::Symlink { target }) => {
                    links += 1;
                    if links > LINKS {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        at = TreePath::ROOT;
                    }
                    rest.extend(target.rsplit(|byte| *byte == b'/'));
                }
                _ => at = next,
            }
        }
        self.get(&at).map(|_| at)
    }

    /// The same, but a link in the last component is not followed: where the path itself stands.
    pub fn resolve_parents(&self, path: &TreePath) -> Option<TreePath> {
        let Some(parent) = path.parent() else { return Some(TreePath::ROOT) };
        let path = self.resolve(&parent)?.child(path.name()).ok()?;
        self.get(&path).map(|_| path)
    }

    /// What the scan did.
    pub fn stats(&self) -> ScanStats {
        self.stats
    }

    /// What is worth telling.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn index(&self, path: &TreePath) -> Option<usize> {
        self.entries.binary_search_by(|(other, _)| other.cmp(path)).ok()
    }

    /// The end of what is below the entry with this number.
    fn end(&self, index: usize) -> usize {
        let (path, found) = &self.entries[index];
        if found.kind != FoundKind::Directory {
            return index + 1;
        }
        let path = path.as_bytes();
        let below = |other: &TreePath| {
            let rest = other.as_bytes().strip_prefix(path);
            path.is_empty() || rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        index + 1 + self.entries[index + 1..].partition_point(|(other, _)| below(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_ahead_of_the_clock_is_not_believed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("context");
        std::fs::create_dir(&root).expect("create the context");
        std::fs::write(root.join("a"), "a").expect("write a file");
        let request = ScanRequest {
            root: &root,
            rules: &IgnoreRules::default(),
            wanted: &[Glob::new(b".").expect("good")],
            stamps: Some(&directory.path().join("stamps")),
            threads: 1,
        };
        let now = Timestamp::now();
        let read_at = |seconds| {
            let start = Timestamp { seconds: now.seconds + seconds, ..now };
            let stats = scan_at(&request, start).expect("it can be scanned").stats();
            (stats.hashed_files, stats.listed_directories)
        };
        assert_eq!(read_at(100), (1, 1));
        assert_eq!(read_at(100), (0, 0));
        // The clock went back behind the file's times.
        assert_eq!(read_at(-100), (1, 1));
        assert_eq!(read_at(100), (0, 0));
    }
}
