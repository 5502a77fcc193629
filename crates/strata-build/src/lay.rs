//! Lays a selection over a root: which paths a COPY sets, by the rules of BuildKit's copy.
//!
//! A directory's contents go into the destination, which is made when it is missing, keeps its
//! own mode when it is there, and gets the directory's time. A file goes to the destination, or
//! into it when that is a directory or ends with a slash. Directories that are made on the way are
//! `0o755`, or less where `--chmod` says an octal number with less, and the new owner's. In a
//! directory with the set-group-ID bit they get its group and that bit, as the kernel's mkdir
//! gives it to what BuildKit makes.

use std::collections::BTreeMap;

use strata_cas::{Action, BlobId, Change, Item, Layer, Metadata, Time, TreeError, TreePath};

use crate::selection::{Match, Picked, Selection, What};
use crate::view::{HardLink, Kind, Seen, View};

const SET_GROUP_ID: u32 = 0o2000;

/// Why a selection does not fit.
#[derive(Debug)]
pub(crate) enum LayError {
    /// A file would have to be a directory or the other way round.
    InTheWay {
        path: TreePath,
        message: &'static str,
    },
    Tree(TreeError),
}

impl From<TreeError> for LayError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

/// Tells which of a source's files have several names.
pub(crate) type Names<'a> = &'a dyn Fn(&TreePath) -> Option<HardLink>;

/// Collects what changes over a root.
pub(crate) struct Laying<'a> {
    target: &'a dyn View,
    /// Who gets what is laid, if not who has it.
    owner: Option<(u32, u32)>,
    /// When directories are made, and with which mode.
    now: Time,
    directory_mode: u32,
    /// Whether directories that are there get that time, too, and not their own.
    own_times: bool,
    /// Whether all that is made has the one time that was asked for.
    one_time: bool,
    placed: BTreeMap<TreePath, Action>,
    /// Which of the laid files are one and the same: names within one match.
    links: BTreeMap<TreePath, (usize, HardLink)>,
    /// How many matches were laid.
    matches: usize,
    /// What a source's path has in common with others that are the same file.
    names: Option<Names<'a>>,
    /// The blobs that are set, with where they are in the source.
    pub(crate) blobs: Vec<(BlobId, TreePath)>,
    /// The bytes of here-documents.
    pub(crate) inline: Vec<Vec<u8>>,
}

impl<'a> Laying<'a> {
    pub(crate) fn new(target: &'a dyn View, owner: Option<(u32, u32)>, now: Time) -> Self {
        Self {
            target,
            owner,
            now,
            directory_mode: 0o755,
            own_times: false,
            one_time: false,
            placed: BTreeMap::new(),
            links: BTreeMap::new(),
            matches: 0,
            names: None,
            blobs: Vec::new(),
            inline: Vec::new(),
        }
    }

    /// Asks for files with several names where the selection does not know them.
    pub(crate) fn with_names(self, names: Names<'a>) -> Self {
        Self { names: Some(names), ..self }
    }

    /// Directories that are made get this mode: an octal `--chmod` counts for them too.
    pub(crate) fn with_directory_mode(self, directory_mode: u32) -> Self {
        Self { directory_mode, ..self }
    }

    /// The directories above get the time of those that are made: so the layer of a `--link` has
    /// nothing of what it is laid over but what it can not do without.
    pub(crate) fn with_own_times(self, own_times: bool) -> Self {
        Self { own_times, ..self }
    }

    /// No directory that is made has another time than the one given.
    pub(crate) fn with_one_time(self, one_time: bool) -> Self {
        Self { one_time, ..self }
    }

    /// Lays a whole selection; `dest` is absolute and ends with a slash where a directory is
    /// meant.
    pub(crate) fn selection(&mut self, selection: &Selection, dest: &str) -> Result<(), LayError> {
        for found in &selection.matches {
            self.found(found, dest)?;
        }
        Ok(())
    }

    /// Lays one match.
    pub(crate) fn found(&mut self, found: &Match, dest: &str) -> Result<(), LayError> {
        let path = self.destination(dest)?;
        self.matches += 1;
        if let What::Directory(entries) = &found.picked.what {
            self.make_directory(&path)?;
            self.entries(entries, &path)?;
            return self.take_time(&found.picked, &path);
        }
        let is_directory =
            dest.ends_with('/') || self.at(&path)?.is_some_and(|seen| seen.kind == Kind::Directory);
        let path = if is_directory {
            self.make_directory(&path)?;
            path.child(&found.name).unwrap_or(path)
        } else {
            if let Some(parent) = path.parent() {
                self.make_directory(&parent)?;
            }
            path
        };
        self.enter(&path);
        self.leaf(&found.picked, path)
    }

    /// What is laid into a directory after that took another one's time gives it the time of what
    /// is made, as the file system does.
    fn enter(&mut self, path: &TreePath) {
        let parent = path.parent().and_then(|parent| self.placed.get_mut(&parent));
        if let Some(Action::Set { item: Item::Directory { .. }, modified, .. }) = parent {
            *modified = self.now;
        }
    }

    /// A directory that got another one's contents has its time from then on, as `cp -p` leaves
    /// it. The top of a context or a stage has none that says anything.
    fn take_time(&mut self, from: &Picked, path: &TreePath) -> Result<(), LayError> {
        if self.one_time || from.path.is_root() || path.is_root() {
            return Ok(());
        }
        if let Some(Seen { kind: Kind::Directory, metadata, .. }) = self.at(path)? {
            self.set(path.clone(), Item::Directory { opaque: false }, metadata, from.modified);
        }
        Ok(())
    }

    /// The destination with its links followed, inside of the root.
    pub(crate) fn destination(&self, dest: &str) -> Result<TreePath, LayError> {
        let path = TreePath::normalise(dest.as_bytes());
        match self.target.follow(&path)? {
            Some((path, _)) => Ok(path),
            None => Err(LayError::InTheWay { path, message: "leads through too many symlinks" }),
        }
    }

    /// Makes a directory with its parents, where they are missing.
    pub(crate) fn make_directory(&mut self, path: &TreePath) -> Result<(), LayError> {
        self.make_directory_as(path, self.made())
    }

    /// Makes a directory that is as another one.
    pub(crate) fn make_directory_like(&mut self, path: &TreePath, picked: &Picked) {
        let metadata = self.owned(picked.metadata.clone());
        self.set(path.clone(), Item::Directory { opaque: false }, metadata, picked.modified);
    }

    /// What a directory gets that is made on the way.
    fn made(&self) -> Metadata {
        self.owned(Metadata::root(self.directory_mode))
    }

    fn make_directory_as(&mut self, path: &TreePath, metadata: Metadata) -> Result<(), LayError> {
        match self.at(path)? {
            Some(seen) if seen.kind == Kind::Directory => return Ok(()),
            Some(_) => {
                let (path, message) = (path.clone(), "is not a directory");
                return Err(LayError::InTheWay { path, message });
            }
            None => {}
        }
        let mut metadata = metadata;
        if let Some(parent) = path.parent() {
            self.make_directory_as(&parent, metadata.clone())?;
            if let Some(gid) = self.inherited_group(&parent)? {
                metadata.mode |= SET_GROUP_ID;
                metadata.gid = self.owner.map_or(gid, |(_, gid)| gid);
            }
        }
        self.enter(path);
        self.set(path.clone(), Item::Directory { opaque: false }, metadata, self.now);
        Ok(())
    }

    /// The group that a directory gets from the one it is made in.
    fn inherited_group(&self, parent: &TreePath) -> Result<Option<u32>, LayError> {
        let parent = self.at(parent)?.map(|seen| seen.metadata);
        Ok(parent.filter(|metadata| metadata.mode & SET_GROUP_ID != 0).map(|m| m.gid))
    }

    fn entries(
        &mut self,
        entries: &BTreeMap<Vec<u8>, Picked>,
        directory: &TreePath,
    ) -> Result<(), LayError> {
        for (name, picked) in entries {
            let Ok(path) = directory.child(name) else { continue };
            let What::Directory(below) = &picked.what else {
                self.leaf(picked, path)?;
                continue;
            };
            if self.at(&path)?.is_some_and(|seen| seen.kind != Kind::Directory) {
                let message = "is not a directory, and a directory is to be copied there";
                return Err(LayError::InTheWay { path, message });
            }
            let metadata = self.owned(picked.metadata.clone());
            self.set(path.clone(), Item::Directory { opaque: false }, metadata, picked.modified);
            self.entries(below, &path)?;
        }
        Ok(())
    }

    fn leaf(&mut self, picked: &Picked, path: TreePath) -> Result<(), LayError> {
        if self.at(&path)?.is_some_and(|seen| seen.kind == Kind::Directory) {
            let message = "is a directory, and a file is to be copied there";
            return Err(LayError::InTheWay { path, message });
        }
        let (item, modified) = match &picked.what {
            What::Leaf(Kind::File { blob, size }) => {
                self.blobs.push((*blob, picked.path.clone()));
                (Item::File { blob: *blob, size: *size }, picked.modified)
            }
            What::Leaf(Kind::Symlink { target }) => {
                (Item::Symlink { target: target.clone() }, picked.modified)
            }
            What::Leaf(Kind::Device(device)) => (Item::Device(*device), picked.modified),
            What::Inline(bytes) => {
                self.inline.push(bytes.clone());
                let (blob, size) = (BlobId::of(bytes), bytes.len() as u64);
                (Item::File { blob, size }, self.now)
            }
            What::Directory(_) | What::Leaf(Kind::Directory) => return Ok(()),
        };
        let metadata = self.owned(picked.metadata.clone());
        let is_file = matches!(&picked.what, What::Leaf(Kind::File { .. }));
        let names = self.names.filter(|_| is_file);
        let link = picked.link.clone().or_else(|| names.and_then(|names| names(&picked.path)));
        self.set(path.clone(), item, metadata, modified);
        if let Some(link) = link {
            self.links.insert(path, (self.matches, link));
        }
        Ok(())
    }

    /// Lays the contents of an archive, as a layer of its own, below a directory. `--chmod` does
    /// not count here. Directories that the archive takes for granted are those that are there,
    /// through links, or else root's.
    pub(crate) fn archive(
        &mut self,
        layer: &Layer,
        implied: &[TreePath],
        below: &TreePath,
    ) -> Result<(), LayError> {
        self.make_directory_as(below, Metadata { mode: 0o755, ..self.made() })?;
        self.matches += 1;
        // Where the archive's directories are that links lead elsewhere.
        let mut moved: BTreeMap<TreePath, TreePath> = BTreeMap::new();
        for change in layer.changes() {
            let Action::Set { item, metadata, modified } = &change.action else { continue };
            let Some(path) = place(&change.path, below, &moved) else { continue };
            if implied.binary_search(&change.path).is_ok() {
                moved.insert(change.path.clone(), self.granted(path)?);
                continue;
            }
            match item {
                Item::Directory { .. } => drop(moved.insert(change.path.clone(), path.clone())),
                // As tar: what is in the way goes.
                _ if self.at(&path)?.is_some_and(|seen| seen.kind == Kind::Directory) => {
                    self.clear_below(&path);
                }
                _ => {}
            }
            let Item::HardLink { to } = item else {
                let metadata = self.owned(metadata.clone());
                self.set(path, item.clone(), metadata, *modified);
                continue;
            };
            let first = place(to, below, &moved);
            let Some((first, Action::Set { item, metadata, modified })) =
                first.and_then(|first| Some((first.clone(), self.placed.get(&first).cloned()?)))
            else {
                continue;
            };
            self.set(path.clone(), item, metadata, modified);
            for name in [path, first] {
                let link = HardLink { layer: 0, first: to.clone() };
                self.links.insert(name, (self.matches, link));
            }
        }
        Ok(())
    }

    /// Forgets what was laid below a path that is a directory no more.
    fn clear_below(&mut self, path: &TreePath) {
        let is_below = |other: &TreePath| other != path && other.below(path).is_some();
        self.placed.retain(|other, _| !is_below(other));
        self.links.retain(|other, _| !is_below(other));
    }

    /// A directory that an archive takes for granted.
    fn granted(&mut self, path: TreePath) -> Result<TreePath, LayError> {
        let found = match self.at(&path)?.map(|seen| seen.kind) {
            Some(Kind::Symlink { .. }) => match self.target.follow(&path)? {
                Some((found, _)) => found,
                None => {
                    let message = "leads through too many symlinks";
                    return Err(LayError::InTheWay { path, message });
                }
            },
            _ => path,
        };
        if self.at(&found)?.is_none()
            && let Some(parent) = found.parent()
            && let Some(gid) = self.inherited_group(&parent)?
        {
            // The mode is set after it was made: of the set-group-ID bit only the group stays.
            let metadata = Metadata { gid, ..Metadata::root(0o755) };
            self.set(found.clone(), Item::Directory { opaque: false }, metadata, self.now);
        } else {
            self.make_directory_as(&found, Metadata::root(0o755))?;
        }
        Ok(found)
    }

    fn owned(&self, mut metadata: Metadata) -> Metadata {
        if let Some((uid, gid)) = self.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        metadata
    }

    fn set(&mut self, path: TreePath, item: Item, metadata: Metadata, modified: Time) {
        self.links.remove(&path);
        self.placed.insert(path, Action::Set { item, metadata, modified });
    }

    /// What stands at a path after all that was laid so far.
    fn at(&self, path: &TreePath) -> Result<Option<Seen>, LayError> {
        match self.placed.get(path) {
            Some(Action::Set { item, metadata, modified }) => {
                let kind = match item {
                    Item::Directory { .. } => Kind::Directory,
                    Item::File { blob, size } => Kind::File { blob: *blob, size: *size },
                    Item::Symlink { target } => Kind::Symlink { target: target.clone() },
                    Item::Device(device) => Kind::Device(*device),
                    Item::HardLink { to } => return self.at(to),
                };
                Ok(Some(Seen { kind, metadata: metadata.clone(), modified: *modified }))
            }
            _ => Ok(self.target.get(path)?),
        }
    }

    /// Makes the second and later names of a file links to the first one.
    fn link(&mut self) {
        let mut first: BTreeMap<(usize, HardLink), TreePath> = BTreeMap::new();
        for (path, link) in std::mem::take(&mut self.links) {
            match first.get(&link) {
                None => drop(first.insert(link, path)),
                Some(to) => {
                    if let Some(Action::Set { item, .. }) = self.placed.get_mut(&path) {
                        *item = Item::HardLink { to: to.clone() };
                    }
                }
            }
        }
    }

    /// The layer: what was laid, with the directories above it as they are. They belong to it
    /// because a directory of an upper layer hides the lower one's mode and owner.
    pub(crate) fn into_layer(mut self) -> Result<Layer, LayError> {
        self.link();
        let mut changes: Vec<Change> = Vec::with_capacity(self.placed.len());
        let mut above: BTreeMap<TreePath, Action> = BTreeMap::new();
        for path in self.placed.keys() {
            for parent in path.ancestors() {
                if parent.is_root()
                    || self.placed.contains_key(&parent)
                    || above.contains_key(&parent)
                {
                    continue;
                }
                if let Some(Seen { kind: Kind::Directory, metadata, modified }) =
                    self.target.get(&parent)?
                {
                    let item = Item::Directory { opaque: false };
                    let modified = if self.own_times { self.now } else { modified };
                    above.insert(parent, Action::Set { item, metadata, modified });
                }
            }
        }
        let all = self.placed.into_iter().chain(above);
        changes.extend(all.map(|(path, action)| Change { path, action }));
        Ok(Layer::new(changes))
    }
}

/// Where a path of an archive goes; none for its top, which is there.
fn place(
    path: &TreePath,
    below: &TreePath,
    moved: &BTreeMap<TreePath, TreePath>,
) -> Option<TreePath> {
    let parent = path.parent()?;
    let directory = moved.get(&parent).cloned().or_else(|| below.join(&parent).ok())?;
    directory.child(path.name()).ok()
}
