//! The walk: which of the wanted paths are there, and which files must be read. What is wanted
//! is in `select`, what is left out in `ignore_rules`, what directories hold in `listing`, reading
//! in `reading` and `hash`; what was found is `walked`, and is put together in `scan`.
//!
//! It is our own and not the `ignore` crate's parallel walker, for one reason: that one must read
//! every directory, and this one does not. A directory whose stamp is what the stamp file says
//! has the entries that the stamp file says, so an unchanged context costs one `statx` for each
//! file, relative to its directory, and next to nothing more (1.7 times that with the walker).
//! Its git rules would have to be off anyway, since a `!` below an excluded directory counts.
//!
//! Each directory is a task that never waits for another one, newest first, so that open
//! directories are bounded by depth times threads. No path is longer than one name, so there is
//! no limit to depth; nothing is followed, so nothing leads outside.

mod listing;
mod reading;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rayon::prelude::*;
use rustix::fs::{FileType, Mode, Statx};
use rustix::io::Errno;
use strata_cas::{Device, TreePath};

use self::listing::{DIRECTORY_FLAGS, read_directory, stamps_directories};
use self::reading::{Batch, HashJob};
use crate::ignore_rules::{RulesBelow, Verdict};
use crate::keep::is_known;
use crate::select::Selection;
use crate::stamp::{Stamp, Timestamp, look};
use crate::stamps::{DirectoryIndex, Kind, OldDirectory, Stamps};
use crate::walked::{Entry, Hashed, Listing, Node, Seen, Walked};
use crate::{Glob, IgnoreRules, ScanError};

pub(crate) use self::listing::open_root;

/// How many entries of one directory are one thread's work.
const CHUNK_ENTRIES: usize = 1024;

/// What the walk is given, and what its tasks hand in.
pub(crate) struct Walk<'a> {
    rules: &'a IgnoreRules,
    globs: &'a [Glob],
    old: &'a Stamps,
    start: Timestamp,
    /// Whether the stamp file's verdicts are those of these rules.
    same_rules: bool,
    next_node: AtomicU32,
    nodes: Mutex<Vec<Node>>,
    hashed: Mutex<Vec<Hashed>>,
    sockets: Mutex<Vec<TreePath>>,
    huge: Mutex<Vec<HashJob>>,
    failed: AtomicBool,
    failure: Mutex<Option<ScanError>>,
}

/// A directory to be visited.
struct Visit {
    parent: Option<(u32, u32)>,
    within: Option<Arc<OwnedFd>>,
    path: TreePath,
    selection: Selection,
    verdict: Verdict,
    old: Option<DirectoryIndex>,
}

/// A directory being visited.
struct Place<'a> {
    id: u32,
    descriptor: Arc<OwnedFd>,
    path: TreePath,
    selection: Selection,
    rules: RulesBelow<'a>,
    old: &'a Stamps,
    /// Whether the stamp file knows which entries the rules leave out.
    judged: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        rules: &'a IgnoreRules,
        globs: &'a [Glob],
        old: &'a Stamps,
        start: Timestamp,
    ) -> Self {
        Self {
            rules,
            globs,
            old,
            start,
            same_rules: old.rules() == Some(rules.fingerprint()),
            next_node: AtomicU32::new(0),
            nodes: Mutex::default(),
            hashed: Mutex::default(),
            sockets: Mutex::default(),
            huge: Mutex::default(),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    /// Visits all that is wanted below the open root. Runs in the pool that is to do the work.
    pub(crate) fn run(self, root: OwnedFd) -> Result<Walked, ScanError> {
        rayon::in_place_scope(|scope| self.visit_root(scope, root));
        self.read_huge_files();
        if let Some(error) = into_inner(self.failure) {
            return Err(error);
        }
        let mut nodes = into_inner(self.nodes);
        nodes.sort_unstable_by_key(|node| node.id);
        for id in 1..nodes.len() {
            if let Some((parent, entry)) = nodes[id].parent {
                let number = nodes[id].id;
                nodes[parent as usize].entries[entry as usize].seen = Seen::Directory(Some(number));
            }
        }
        let mut sockets = into_inner(self.sockets);
        sockets.sort();
        Ok(Walked { nodes, hashed: into_inner(self.hashed), sockets })
    }

    fn visit_root<'s>(&'s self, scope: &Scope<'s>, root: OwnedFd) {
        let visit = Visit {
            parent: None,
            within: None,
            path: TreePath::ROOT,
            selection: Selection::of_root(self.globs),
            verdict: Verdict::default(),
            old: self.old.root(),
        };
        self.attempt(self.visit(scope, visit, Some(root)));
    }

    /// Remembers the first failure; the others' tasks end soon.
    fn attempt<T>(&self, result: Result<T, ScanError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                lock(&self.failure).get_or_insert(error);
                None
            }
        }
    }

    fn visit<'s>(
        &'s self,
        scope: &Scope<'s>,
        visit: Visit,
        opened: Option<OwnedFd>,
    ) -> Result<(), ScanError> {
        if self.failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Visit { parent, within, path, selection, verdict, old } = visit;
        let failed = |error| ScanError::at(&path, "open", error);
        let descriptor = match (opened, &within) {
            (Some(root), _) => root,
            (None, Some(within)) => {
                rustix::fs::openat(within, path.name(), DIRECTORY_FLAGS, Mode::empty())
                    .map_err(failed)?
            }
            (None, None) => return Ok(()),
        };
        drop(within);
        let stamp = Stamp::from(&look(descriptor.as_fd(), b"").map_err(failed)?);
        let wanted = selection.everything && !self.rules.is_exclusion(verdict);
        let mut place = Place {
            id: self.next_node.fetch_add(1, Ordering::Relaxed),
            rules: self.rules.below(&path, verdict),
            descriptor: Arc::new(descriptor),
            path,
            selection,
            old: self.old,
            judged: false,
        };
        let (listing, stamp, mut entries) = self.list(&place, stamp, old)?;
        place.judged = listing == Listing::Known && self.same_rules;
        if entries.len() <= CHUNK_ENTRIES {
            self.look_at_all(scope, &place, 0, &mut entries);
        } else {
            let chunks = entries.par_chunks_mut(CHUNK_ENTRIES).enumerate();
            chunks.for_each(|(chunk, entries)| {
                self.look_at_all(scope, &place, chunk * CHUNK_ENTRIES, entries);
            });
        }
        let intact = listing == Listing::Known && entries.iter().all(|it| self.is_intact(it));
        let holds = entries.iter().any(|entry| {
            use Seen::{Device, File, Symlink, Unchanged};
            matches!(entry.seen, Unchanged(_) | File(_) | Symlink(_) | Device(_))
        });
        // Here, where they were just looked at.
        let unchanged = entries.iter().fold((0, 0), |(files, bytes), entry| match entry.seen {
            Seen::Unchanged(size) => (files + 1, bytes + size),
            _ => (files, bytes),
        });
        let (id, everything) = (place.id, place.selection.everything);
        let node = Node {
            id,
            parent,
            stamp,
            everything,
            wanted,
            listing,
            old,
            entries,
            intact,
            holds,
            unchanged,
            tree: None,
        };
        lock(&self.nodes).push(node);
        Ok(())
    }

    /// Whether an entry is what the stamp file says; of a directory, that it is one.
    fn is_intact(&self, entry: &Entry) -> bool {
        match &entry.seen {
            Seen::Unwanted | Seen::Excluded | Seen::Unchanged(_) | Seen::Directory(_) => true,
            Seen::Symlink(link) => self.is_unchanged(entry, &link.0),
            Seen::Device(device) => self.is_unchanged(entry, &device.0),
            Seen::Nothing | Seen::File(_) | Seen::Socket => false,
        }
    }

    /// The entries that can matter, sorted by name.
    fn list(
        &self,
        place: &Place<'_>,
        stamp: Stamp,
        old: Option<DirectoryIndex>,
    ) -> Result<(Listing, Stamp, Vec<Entry>), ScanError> {
        let old = old.and_then(|old| self.old.directory(old));
        if let Some(old) = &old
            && old.whole
            && old.stamp == stamp
            && stamp.is_settled(self.start)
            && let Some(entries) = self.known_entries(old)
        {
            return Ok((Listing::Known, stamp, entries));
        }
        if let Some(names) = place.selection.names(self.globs) {
            let entry = |name: &[u8]| Entry {
                old: old.as_ref().and_then(|old| self.old.find(old, name)),
                ..Entry::new(name, Kind::Unknown, Seen::Nothing)
            };
            return Ok((Listing::Partial, stamp, names.into_iter().map(entry).collect()));
        }
        let (stamp, mut entries) = read_directory(&place.descriptor, &place.path, stamp)?;
        self.join_old(&mut entries, old.as_ref());
        let stamped = stamps_directories(place.descriptor.as_fd());
        Ok((Listing::Read { stamped }, stamp, entries))
    }

    /// None if one of the names leads elsewhere, which can only be in a forged stamp file.
    fn known_entries(&self, directory: &OldDirectory) -> Option<Vec<Entry>> {
        let mut entries = Vec::with_capacity(directory.count as usize);
        for index in directory.first..directory.first + directory.count {
            let old = self.old.entry(index)?;
            if matches!(old.name, b"" | b"." | b"..") || old.name.contains(&b'/') {
                return None;
            }
            let seen = Seen::Unwanted;
            entries.push(Entry { own_name: None, kind: old.kind, old: Some(index), seen });
        }
        Some(entries)
    }

    /// Finds each entry's number in the stamp file: both are sorted.
    fn join_old(&self, entries: &mut [Entry], old: Option<&OldDirectory>) {
        let Some(old) = old else { return };
        let mut candidates = (old.first..old.first + old.count)
            .filter_map(|index| Some((index, self.old.entry(index)?.name)))
            .peekable();
        for entry in entries {
            let name = entry.own_name.as_deref().unwrap_or_default();
            while candidates.next_if(|(_, old)| *old < name).is_some() {}
            entry.old = candidates.next_if(|(_, old)| *old == name).map(|(at, _)| at);
        }
    }

    fn look_at_all<'s>(
        &'s self,
        scope: &Scope<'s>,
        place: &Place<'_>,
        first: usize,
        entries: &mut [Entry],
    ) {
        let mut batch = Batch::default();
        for (index, entry) in entries.iter_mut().enumerate() {
            let Ok(number) = u32::try_from(first + index) else { return };
            let found = self.attempt(self.look_at(scope, place, number, entry));
            let Some(found) = found else { return };
            if let Seen::File(file) = &found {
                let Some(path) = self.attempt(place.path_of(entry.name(self.old))) else { return };
                let job = HashJob {
                    node: place.id,
                    entry: number,
                    directory: Arc::clone(&place.descriptor),
                    name: entry.name(self.old).to_vec(),
                    path,
                    stamp: file.0,
                };
                self.add_to_batch(scope, &mut batch, job);
            }
            entry.seen = found;
        }
        self.read_batch(scope, batch);
    }

    fn look_at<'s>(
        &'s self,
        scope: &Scope<'s>,
        place: &Place<'_>,
        number: u32,
        entry: &Entry,
    ) -> Result<Seen, ScanError> {
        let name = entry.name(self.old);
        let selection = place.selection.of_entry(self.globs, name);
        if selection.is_empty() {
            return Ok(Seen::Unwanted);
        }
        let is_file = matches!(entry.kind, Kind::File | Kind::Other);
        let mut verdict = None;
        let excluded = match place.judgement(entry) {
            Some(excluded) if is_file => excluded,
            _ => self.rules.is_exclusion(*verdict.insert(place.rules.verdict(name))),
        };
        if excluded && is_file {
            return Ok(Seen::Excluded);
        }
        if excluded
            && let Some(verdict) = verdict
            && !self.rules.may_include(place.path_of(name)?.as_bytes(), verdict)
        {
            return Ok(Seen::Excluded);
        }
        let mut status = None;
        if entry.kind != Kind::Directory {
            status = match look(place.descriptor.as_fd(), name) {
                Ok(status) => Some(status),
                Err(Errno::NOENT) if matches!(entry.seen, Seen::Nothing) => {
                    return Ok(Seen::Nothing);
                }
                Err(error) => {
                    return Err(ScanError::at(&place.path_of(name)?, "look at", error));
                }
            };
        }
        let is_directory =
            |status: &Statx| FileType::from_raw_mode(status.stx_mode.into()) == FileType::Directory;
        match status {
            Some(status) if !is_directory(&status) => match excluded {
                true => Ok(Seen::Excluded),
                false => self.identify(place, entry, &status, selection.everything),
            },
            _ => {
                let visit = Visit {
                    parent: Some((place.id, number)),
                    within: Some(Arc::clone(&place.descriptor)),
                    path: place.path_of(name)?,
                    selection,
                    verdict: verdict.unwrap_or_else(|| place.rules.verdict(name)),
                    old: entry.old.and_then(|old| self.old.entry(old)?.child),
                };
                scope.spawn(move |scope| {
                    self.attempt(self.visit(scope, visit, None));
                });
                Ok(Seen::Directory(None))
            }
        }
    }

    /// What an entry is that is no directory and not excluded.
    fn identify(
        &self,
        place: &Place<'_>,
        entry: &Entry,
        status: &Statx,
        wanted: bool,
    ) -> Result<Seen, ScanError> {
        let (stamp, name) = (Stamp::from(status), entry.name(self.old));
        let (major, minor) = (status.stx_rdev_major, status.stx_rdev_minor);
        Ok(match stamp.file_type() {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&place.descriptor, name, Vec::new()).map_err(
                    |error| {
                        let path = place.path_of(name);
                        path.map_or_else(|e| e, |path| ScanError::at(&path, "read the link", error))
                    },
                )?;
                Seen::Symlink(Box::new((stamp, target.into_bytes())))
            }
            // A wanted path that would lead through it does not exist.
            _ if !wanted => Seen::Unwanted,
            FileType::RegularFile if self.is_unchanged(entry, &stamp) => {
                Seen::Unchanged(stamp.size)
            }
            FileType::RegularFile => Seen::File(Box::new((stamp, None))),
            FileType::Fifo => Seen::Device(Box::new((stamp, Device::Fifo))),
            FileType::CharacterDevice => {
                Seen::Device(Box::new((stamp, Device::Character(major, minor))))
            }
            FileType::BlockDevice => Seen::Device(Box::new((stamp, Device::Block(major, minor)))),
            _ => {
                lock(&self.sockets).push(place.path_of(name)?);
                Seen::Socket
            }
        })
    }

    /// Whether the stamp file knows what an entry is beyond doubt.
    fn is_unchanged(&self, entry: &Entry, stamp: &Stamp) -> bool {
        is_known(entry, stamp, self.old) && stamp.is_settled(self.start)
    }
}

impl Place<'_> {
    /// Whether the rules leave an entry out, if the stamp file knows.
    fn judgement(&self, entry: &Entry) -> Option<bool> {
        if self.judged { self.old.entry(entry.old?)?.excluded } else { None }
    }

    /// An entry's path. A name that is none can only come from a forged stamp file.
    fn path_of(&self, name: &[u8]) -> Result<TreePath, ScanError> {
        let above = self.path.as_bytes();
        let mut path = Vec::with_capacity(above.len() + 1 + name.len());
        path.extend_from_slice(above);
        if !above.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        match TreePath::new(path) {
            Ok(path) if !name.is_empty() && !name.contains(&b'/') => Ok(path),
            _ => Err(ScanError::Changing(self.path.clone())),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}
