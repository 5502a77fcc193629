//! Files as a COPY sees them: of a scanned context or of a step's root, looked at the same way.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use strata_cas::{
    Action, BlobId, BlobStore, Device, Directory, Item, Layer, Metadata, Node, Time, TreeError,
    TreeId, TreePath,
};
use strata_scan::{Found, FoundKind, Glob, Scan};

/// As the kernel: more links than this in one path are a loop.
const LINKS_MAX: usize = 40;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    pub(crate) modified: Time,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File { blob: BlobId, size: u64 },
    Symlink { target: Vec<u8> },
    Device(Device),
}

/// Which of a source's files with several names: the layer that set it, from below, and the name
/// that it has there first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HardLink {
    pub(crate) layer: usize,
    pub(crate) first: TreePath,
}

/// A file tree that can be looked into.
pub(crate) trait View {
    /// What stands at the path itself.
    fn get(&self, path: &TreePath) -> Result<Option<Seen>, TreeError>;

    /// The id of a directory's tree, told without a look at all that is in it; if `mode` is given,
    /// as if the directory itself was root's and had that mode. None if none stands there.
    fn tree(&self, path: &TreePath, mode: Option<u32>) -> Result<Option<TreeId>, TreeError>;

    /// The names in a directory, in order.
    fn children(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, TreeError>;

    /// What all names of a file have in common that has more than one; none for other files.
    fn hard_link(&self, _path: &TreePath) -> Option<HardLink> {
        None
    }

    /// Where a path leads when links are followed. The second value says how many of its
    /// components are not there: those are taken as written.
    fn follow(&self, path: &TreePath) -> Result<Option<(TreePath, usize)>, TreeError> {
        let mut at = TreePath::ROOT;
        let mut rest: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let (mut links, mut missing) = (0, 0);
        while let Some(name) = rest.pop() {
            if name.is_empty() || name == b"." {
                continue;
            }
            if name == b".." {
                at = at.parent().unwrap_or_default();
                missing = usize::saturating_sub(missing, 1);
                continue;
            }
            let Ok(next) = at.child(&name) else { return Ok(None) };
            let seen = if missing > 0 { None } else { self.get(&next)? };
            match seen.map(|seen| seen.kind) {
                Some(Kind::Symlink { target }) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Ok(None);
                    }
                    if target.starts_with(b"/") {
                        at = TreePath::ROOT;
                    }
                    rest.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
                    continue;
                }
                Some(_) => {}
                None => missing += 1,
            }
            at = next;
        }
        Ok(Some((at, missing)))
    }

    /// Where an existing path leads.
    fn resolve(&self, path: &TreePath) -> Result<Option<TreePath>, TreeError> {
        Ok(self.follow(path)?.filter(|(_, missing)| *missing == 0).map(|(path, _)| path))
    }

    /// The paths that a pattern matches, in order.
    fn matches(&self, glob: &Glob) -> Result<Vec<TreePath>, TreeError> {
        let mut found = Vec::new();
        let mut open = vec![glob.literal_prefix()];
        while let Some(path) = open.pop() {
            if self.get(&path)?.is_none() {
                continue;
            }
            if glob.matches(&path) {
                found.push(path.clone());
            }
            for name in self.children(&path)? {
                open.extend(path.child(&name));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// A build context: everything is root's, whoever checked it out.
pub(crate) struct ContextView<'a>(pub(crate) &'a Scan);

impl View for ContextView<'_> {
    fn get(&self, path: &TreePath) -> Result<Option<Seen>, TreeError> {
        Ok(self.0.get(path).map(seen_in_context))
    }

    fn tree(&self, path: &TreePath, mode: Option<u32>) -> Result<Option<TreeId>, TreeError> {
        let mode = mode.or_else(|| self.0.get(path).map(|found| found.mode));
        Ok(mode.and_then(|mode| self.0.tree(path, mode)))
    }

    fn children(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, TreeError> {
        Ok(self.0.children(path).map(|(path, _)| path.name().to_vec()).collect())
    }

    fn matches(&self, glob: &Glob) -> Result<Vec<TreePath>, TreeError> {
        Ok(self.0.matches(glob).map(|(path, _)| path).collect())
    }
}

fn seen_in_context(found: Found) -> Seen {
    let kind = match found.kind {
        FoundKind::Directory => Kind::Directory,
        FoundKind::File { blob, size } => Kind::File { blob, size },
        FoundKind::Symlink { target } => Kind::Symlink { target },
        FoundKind::Device(device) => Kind::Device(device),
    };
    Seen { kind, metadata: Metadata::root(found.mode), modified: Time(found.modified.seconds) }
}

/// A step's root: its tree, and the layers that know the files' times.
pub(crate) struct RootView<'a> {
    store: &'a dyn BlobStore,
    tree: Option<TreeId>,
    /// Lowest first; without them all times are 0, and no file has two names.
    layers: Vec<Arc<Layer>>,
    /// For each layer, the files that have more names.
    linked: OnceLock<Vec<HashSet<TreePath>>>,
    directories: Mutex<HashMap<TreeId, Arc<Directory>>>,
}

impl<'a> RootView<'a> {
    pub(crate) fn new(
        store: &'a dyn BlobStore,
        tree: Option<TreeId>,
        layers: Vec<Arc<Layer>>,
    ) -> Self {
        let linked = OnceLock::new();
        Self { store, tree, layers, linked, directories: Mutex::default() }
    }

    fn directory(&self, tree: &TreeId) -> Result<Arc<Directory>, TreeError> {
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = directories.get(tree) {
            return Ok(directory.clone());
        }
        let directory = Arc::new(strata_cas::load(self.store, tree)?);
        directories.insert(*tree, directory.clone());
        Ok(directory)
    }

    /// The tree at a path without links.
    fn tree_at(&self, path: &TreePath) -> Result<Option<TreeId>, TreeError> {
        let Some(mut tree) = self.tree else { return Ok(None) };
        for name in path.components() {
            let directory = self.directory(&tree)?;
            let Some(Node::Directory(below)) = directory.entries.get(name) else { return Ok(None) };
            tree = *below;
        }
        Ok(Some(tree))
    }

    /// The directory at a path without links.
    fn directory_at(&self, path: &TreePath) -> Result<Option<Arc<Directory>>, TreeError> {
        self.tree_at(path)?.map(|tree| self.directory(&tree)).transpose()
    }

    /// When the topmost layer that sets a path says it was modified.
    fn modified(&self, path: &TreePath) -> Time {
        let times = self.layers.iter().rev().filter_map(|layer| match layer.get(path)? {
            Action::Set { modified, .. } => Some(*modified),
            Action::Remove => None,
        });
        times.into_iter().next().unwrap_or_default()
    }
}

impl View for RootView<'_> {
    fn get(&self, path: &TreePath) -> Result<Option<Seen>, TreeError> {
        let modified = self.modified(path);
        let Some(parent) = path.parent() else {
            let root = self.directory_at(path)?;
            let metadata = root.map_or_else(|| Metadata::root(0o755), |r| r.metadata.clone());
            return Ok(Some(Seen { kind: Kind::Directory, metadata, modified }));
        };
        let Some(directory) = self.directory_at(&parent)? else { return Ok(None) };
        let (kind, metadata) = match directory.entries.get(path.name()) {
            None => return Ok(None),
            Some(Node::Directory(tree)) => {
                (Kind::Directory, self.directory(tree)?.metadata.clone())
            }
            Some(Node::File(file)) => {
                (Kind::File { blob: file.blob, size: file.size }, file.metadata.clone())
            }
            Some(Node::Symlink { target, metadata }) => {
                (Kind::Symlink { target: target.clone() }, metadata.clone())
            }
            Some(Node::Device { device, metadata }) => (Kind::Device(*device), metadata.clone()),
        };
        Ok(Some(Seen { kind, metadata, modified }))
    }

    fn hard_link(&self, path: &TreePath) -> Option<HardLink> {
        let linked = self.linked.get_or_init(|| self.layers.iter().map(linked_files).collect());
        let set = self.layers.iter().enumerate().rev();
        let (layer, action) =
            set.filter_map(|(number, layer)| Some((number, layer.get(path)?))).next()?;
        let first = match action {
            Action::Set { item: Item::HardLink { to }, .. } => to,
            Action::Set { item: Item::File { .. }, .. } if linked[layer].contains(path) => path,
            _ => return None,
        };
        Some(HardLink { layer, first: first.clone() })
    }

    fn tree(&self, path: &TreePath, mode: Option<u32>) -> Result<Option<TreeId>, TreeError> {
        let Some(tree) = self.tree_at(path)? else { return Ok(None) };
        let Some(mode) = mode else { return Ok(Some(tree)) };
        let directory = self.directory(&tree)?;
        let metadata = Metadata::root(mode);
        if directory.metadata == metadata {
            return Ok(Some(tree));
        }
        Ok(Some(Directory { metadata, entries: directory.entries.clone() }.id()))
    }

    fn children(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, TreeError> {
        let directory = self.directory_at(path)?;
        Ok(directory.map(|d| d.entries.keys().cloned().collect()).unwrap_or_default())
    }
}

/// The files of a layer that have other names in it.
fn linked_files(layer: &Arc<Layer>) -> HashSet<TreePath> {
    let targets = layer.changes().iter().filter_map(|change| match &change.action {
        Action::Set { item: Item::HardLink { to }, .. } => Some(to.clone()),
        _ => None,
    });
    targets.collect()
}
