//! What a COPY, ADD or mount selects, with effective metadata: as the layer will have it.
//!
//! The id of a selection is what enters the step's key. What can not be seen in the result is
//! not in it: no times, no owner of the checkout, no mode that `--chmod` replaces, no mode of the
//! directory whose contents are copied.

use std::collections::BTreeMap;
use std::io::Read;

use strata_cas::{
    Blob, BlobId, BlobStore, Directory, File, Metadata, Node, StoreError, Time, TreeError, TreeId,
    TreePath,
};
use strata_plan::{CopyOp, InlineFile};
use strata_scan::{Glob, IgnoreRules};

use crate::view::{HardLink, Kind, View};

/// The mode that a directory counts with where only its contents are copied.
const CONTENTS_MODE: u32 = 0o755;

/// One selected file or directory.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    /// Where it is in its source; empty for what is written out in the Dockerfile.
    pub(crate) path: TreePath,
    pub(crate) what: What,
    pub(crate) metadata: Metadata,
    pub(crate) modified: Time,
    /// Of a file with several names in its source.
    pub(crate) link: Option<HardLink>,
}

/// What is selected.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Directory(BTreeMap<Vec<u8>, Picked>),
    Leaf(Kind),
    /// The bytes of a here-document.
    Inline(Vec<u8>),
}

/// One match of a source: a name, and what stands there. Of a directory, the contents count.
#[derive(Debug, Clone)]
pub(crate) struct Match {
    /// Which of the instruction's sources it is; here-documents come after them.
    pub(crate) source: usize,
    pub(crate) name: Vec<u8>,
    pub(crate) picked: Picked,
}

/// All that one instruction selects, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    pub(crate) matches: Vec<Match>,
}

/// A source that is not there.
#[derive(Debug)]
pub(crate) enum SelectError {
    /// Nothing stands at this path.
    NotFound {
        source: usize,
        path: TreePath,
    },
    /// A wildcard fits nothing, and the directory before it is not there; of a context, it may have
    /// nothing that anybody wants.
    NothingFits {
        source: usize,
        above: TreePath,
    },
    /// What a wildcard matches is a link, and what that names is not there.
    LeadsNowhere {
        source: usize,
        path: TreePath,
    },
    /// The pattern is none.
    BadPattern {
        source: usize,
        reason: String,
    },
    Tree(TreeError),
}

impl From<TreeError> for SelectError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

/// Selects what a COPY or ADD copies from its own source and what is written out in it; what it
/// fetches is left out.
pub(crate) fn select(op: &CopyOp, view: &dyn View) -> Result<Selection, SelectError> {
    let picking = Picking::new(op, view)?;
    let mut matches = Vec::new();
    for number in 0..op.sources.len() {
        if op.sources[number].remote.is_some() {
            continue;
        }
        let (base, paths) = picking.source(number)?;
        if op.parents {
            matches.extend(picking.with_parents(number, &base, paths)?);
        } else {
            for (path, found) in paths {
                matches.extend(picking.one(number, &path, &found)?);
            }
        }
    }
    let inline = op.inline.iter().map(|file| picking.inline(file));
    matches.extend(inline);
    Ok(Selection { matches })
}

/// Names what a COPY or ADD copies: the id of what [`select`] gives, without a look at each file
/// unless the instruction changes what it copies.
pub(crate) fn name(op: &CopyOp, view: &dyn View) -> Result<TreeId, SelectError> {
    let picking = Picking::new(op, view)?;
    let as_it_is = op.chmod.is_none() && op.numeric_owner().is_none() && op.exclude.is_empty();
    if op.parents || !as_it_is {
        return Ok(select(op, view)?.keep(&Forgetful).map_err(TreeError::from)?);
    }
    let mut matches = Vec::new();
    for number in (0..op.sources.len()).filter(|number| op.sources[*number].remote.is_none()) {
        for (path, found) in picking.source(number)?.1 {
            matches.extend(picking.named(&path, &found)?);
        }
    }
    for Match { source: _, name, picked } in op.inline.iter().map(|file| picking.inline(file)) {
        matches.push((name, picked.node(&Forgetful).map_err(TreeError::from)?));
    }
    Ok(keep_matches(matches, &Forgetful).map_err(TreeError::from)?)
}

/// Selects what is copied of one source that was fetched: the view's root has it.
pub(crate) fn select_fetched(
    op: &CopyOp,
    number: usize,
    view: &dyn View,
) -> Result<Vec<Match>, SelectError> {
    let picking = Picking::new(op, view)?;
    let name = op.sources.get(number).map_or("", |source| &source.pattern);
    let path = match name {
        "" => TreePath::ROOT,
        name => TreePath::new(name).map_err(|error| SelectError::BadPattern {
            source: number,
            reason: error.to_string(),
        })?,
    };
    if view.get(&path)?.is_none() {
        return Err(SelectError::NotFound { source: number, path });
    }
    Ok(picking.one(number, &path, &path)?.into_iter().collect())
}

/// The glob that a scan must visit for a source.
pub(crate) fn wanted(op: &CopyOp) -> Vec<Glob> {
    let paths = op.sources.iter().filter(|source| source.remote.is_none());
    let patterns = paths.map(|source| pattern_of(op, &source.pattern.replace("/./", "/")));
    patterns.filter_map(|pattern| Glob::new(pattern.as_bytes()).ok()).collect()
}

/// Selects one path for a mount: a directory counts with its contents, a file by its name.
pub(crate) fn select_path(view: &dyn View, path: &TreePath) -> Result<Selection, SelectError> {
    let not_found = || SelectError::NotFound { source: 0, path: path.clone() };
    let found = view.resolve(path)?.ok_or_else(not_found)?;
    let op = CopyOp::empty();
    let picking = Picking { op: &op, view, exclude: IgnoreRules::default() };
    let picked = picking.pick(&found, &TreePath::ROOT)?.ok_or_else(not_found)?;
    Ok(Selection { matches: vec![Match { source: 0, name: path.name().to_vec(), picked }] })
}

/// A pattern as it counts: only with `--parents`, `**` is more than one directory.
fn pattern_of(op: &CopyOp, pattern: &str) -> String {
    if op.parents {
        return pattern.to_owned();
    }
    let single = |name| if name == "**" { "*" } else { name };
    pattern.split('/').map(single).collect::<Vec<_>>().join("/")
}

/// Names what a mount shows, as [`Selection::keep`] would.
pub(crate) fn name_path(view: &dyn View, path: &TreePath) -> Result<TreeId, SelectError> {
    let found = match view.resolve(path)? {
        Some(found) => view.tree(&found, None)?,
        None => None,
    };
    let named = match found {
        Some(tree) => keep_matches([(Vec::new(), Node::Directory(tree))], &Forgetful),
        None => select_path(view, path)?.keep(&Forgetful),
    };
    Ok(named.map_err(TreeError::from)?)
}

/// A store that keeps nothing: for naming.
struct Forgetful;

impl BlobStore for Forgetful {
    fn open(&self, _: &BlobId) -> Result<Option<Blob>, StoreError> {
        Ok(None)
    }

    fn put_from(&self, source: &mut dyn Read) -> Result<BlobId, StoreError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map_err(StoreError::io("read a tree node"))?;
        Ok(BlobId::of(&bytes))
    }

    fn has(&self, _: &BlobId) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// Names matches, each by name and node; their nodes go to `store`.
fn keep_matches(
    matches: impl IntoIterator<Item = (Vec<u8>, Node)>,
    store: &dyn BlobStore,
) -> Result<TreeId, StoreError> {
    let mut root = Directory::empty_root();
    for (number, (name, node)) in matches.into_iter().enumerate() {
        // A directory's name does not count, a file's does: it may be its name there.
        let mut entry = Directory::empty_root();
        let name = match &node {
            Node::Directory(_) => b"contents".to_vec(),
            _ => [b"name ", &name[..]].concat(),
        };
        entry.entries.insert(name, node);
        let number = format!("{number:08}").into_bytes();
        root.entries.insert(number, Node::Directory(entry.keep(store)?));
    }
    root.keep(store)
}

struct Picking<'a> {
    op: &'a CopyOp,
    view: &'a dyn View,
    exclude: IgnoreRules,
}

impl<'a> Picking<'a> {
    fn new(op: &'a CopyOp, view: &'a dyn View) -> Result<Self, SelectError> {
        // No path begins with a slash, so a pattern that does matches none.
        let patterns = op.exclude.iter().filter(|pattern| !pattern.starts_with(['/']));
        let exclude = IgnoreRules::new(patterns)
            .map_err(|error| SelectError::BadPattern { source: 0, reason: error.to_string() })?;
        Ok(Self { op, view, exclude })
    }

    /// What a source matches: each path as written with where it leads, and before them the base
    /// that `--parents` leaves out.
    fn source(&self, number: usize) -> Result<(TreePath, Vec<(TreePath, TreePath)>), SelectError> {
        let source = &self.op.sources[number];
        let (base, pattern) = match source.pattern.split_once("/./") {
            Some((base, pattern)) if self.op.parents => {
                (TreePath::normalise(base.as_bytes()), pattern)
            }
            _ => (TreePath::ROOT, &*source.pattern),
        };
        let full = match (base.is_root(), pattern) {
            (true, pattern) => pattern.to_owned(),
            (false, pattern) => format!("{base}/{pattern}"),
        };
        let full = pattern_of(self.op, &full);
        let glob = Glob::new(full.as_bytes()).map_err(|error| SelectError::BadPattern {
            source: number,
            reason: error.to_string(),
        })?;
        let paths = match glob.is_literal() {
            Some(path) => match self.view.resolve(&path)? {
                Some(found) => vec![(path, found)],
                None => return Err(SelectError::NotFound { source: number, path }),
            },
            None => self.wildcard(number, &glob)?,
        };
        Ok((base, paths))
    }

    /// As [`Self::one`], but named only.
    fn named(
        &self,
        path: &TreePath,
        found: &TreePath,
    ) -> Result<Option<(Vec<u8>, Node)>, TreeError> {
        let node = match self.view.tree(found, Some(CONTENTS_MODE))? {
            Some(contents) => Node::Directory(contents),
            None => match self.pick(found, &TreePath::ROOT)? {
                Some(picked) => picked.node(&Forgetful)?,
                None => return Ok(None),
            },
        };
        Ok(Some((path.name().to_vec(), node)))
    }

    /// Matches of a pattern with where they lead; as for BuildKit, a link that leads nowhere is
    /// an error, and so is a directory above the first wildcard that is not there. Links above it
    /// are followed.
    fn wildcard(
        &self,
        source: usize,
        glob: &Glob,
    ) -> Result<Vec<(TreePath, TreePath)>, SelectError> {
        let mut paths = Vec::new();
        let above = glob.literal_prefix();
        let Some(prefix) = self.view.resolve(&above)? else {
            return Err(SelectError::NothingFits { source, above });
        };
        for path in self.view.matches(&glob.moved(&prefix))? {
            match self.view.resolve(&path)? {
                Some(found) => paths.push((path, found)),
                None => return Err(SelectError::LeadsNowhere { source, path }),
            }
        }
        Ok(paths)
    }

    fn one(
        &self,
        source: usize,
        path: &TreePath,
        found: &TreePath,
    ) -> Result<Option<Match>, TreeError> {
        let name = path.name().to_vec();
        let is_directory =
            matches!(self.view.get(found)?, Some(seen) if seen.kind == Kind::Directory);
        // What is excluded is told by the path below the source: never the source itself.
        let Some(mut picked) = self.pick(found, &TreePath::ROOT)? else { return Ok(None) };
        if is_directory {
            // Only the contents are copied.
            picked.metadata = Metadata::root(CONTENTS_MODE);
        }
        Ok(Some(Match { source, name, picked }))
    }

    /// `--parents`: the paths below `base` keep the directories above them.
    fn with_parents(
        &self,
        source: usize,
        base: &TreePath,
        paths: Vec<(TreePath, TreePath)>,
    ) -> Result<Option<Match>, TreeError> {
        let mut root = self.directory(base)?;
        root.metadata = Metadata::root(0o755);
        for (path, found) in paths {
            let Some(relative) = path.below(base) else { continue };
            let Some(picked) = self.pick(&found, &relative)? else { continue };
            self.place(&mut root, base, &relative, picked)?;
        }
        let is_empty = matches!(&root.what, What::Directory(entries) if entries.is_empty());
        Ok((!is_empty).then(|| Match { source, name: Vec::new(), picked: root }))
    }

    fn place(
        &self,
        root: &mut Picked,
        base: &TreePath,
        relative: &TreePath,
        picked: Picked,
    ) -> Result<(), TreeError> {
        let mut at = root;
        let mut path = base.clone();
        let Some(parent) = relative.parent() else {
            *at = Picked { metadata: at.metadata.clone(), ..picked };
            return Ok(());
        };
        for name in parent.components() {
            path = path.child(name).unwrap_or_default();
            let directory = self.directory(&path)?;
            let What::Directory(entries) = &mut at.what else { return Ok(()) };
            at = entries.entry(name.to_vec()).or_insert(directory);
        }
        if let What::Directory(entries) = &mut at.what {
            entries.insert(relative.name().to_vec(), picked);
        }
        Ok(())
    }

    /// A directory alone.
    fn directory(&self, path: &TreePath) -> Result<Picked, TreeError> {
        let found = self.view.resolve(path)?.unwrap_or_default();
        let seen = self.view.get(&found)?;
        let (metadata, modified) = match seen {
            Some(seen) => (self.effective(&seen.kind, seen.metadata), seen.modified),
            None => (Metadata::root(0o755), Time::default()),
        };
        let what = What::Directory(BTreeMap::new());
        Ok(Picked { path: found, what, metadata, modified, link: None })
    }

    /// What stands at a path, with all below it that is not excluded.
    fn pick(&self, path: &TreePath, relative: &TreePath) -> Result<Option<Picked>, TreeError> {
        let Some(seen) = self.view.get(path)? else { return Ok(None) };
        let excluded = !relative.is_root() && self.exclude.excludes(relative);
        let metadata = self.effective(&seen.kind, seen.metadata);
        let is_file = matches!(seen.kind, Kind::File { .. });
        let what = match seen.kind {
            Kind::Directory => {
                let mut entries = BTreeMap::new();
                if !excluded || self.exclude.may_include_below(relative) {
                    for name in self.view.children(path)? {
                        let (Ok(path), Ok(relative)) = (path.child(&name), relative.child(&name))
                        else {
                            continue;
                        };
                        if let Some(picked) = self.pick(&path, &relative)? {
                            entries.insert(name, picked);
                        }
                    }
                }
                if excluded && entries.is_empty() {
                    return Ok(None);
                }
                What::Directory(entries)
            }
            _ if excluded => return Ok(None),
            kind => What::Leaf(kind),
        };
        let link = if is_file { self.view.hard_link(path) } else { None };
        let (path, modified) = (path.clone(), seen.modified);
        Ok(Some(Picked { path, what, metadata, modified, link }))
    }

    /// Mode and owner as the layer will have them.
    fn effective(&self, kind: &Kind, metadata: Metadata) -> Metadata {
        let mut metadata = metadata;
        if let Some((uid, gid)) = self.op.numeric_owner() {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        match (kind, &self.op.chmod) {
            (Kind::Symlink { .. }, _) => metadata.mode = 0o777,
            (kind, Some(chmod)) => {
                metadata.mode = chmod.apply(metadata.mode, *kind == Kind::Directory);
            }
            (_, None) => {}
        }
        metadata
    }

    fn inline(&self, file: &InlineFile) -> Match {
        let source = self.op.sources.len();
        let bytes = file.content.clone().into_bytes();
        let kind = Kind::File { blob: BlobId::of(&bytes), size: bytes.len() as u64 };
        let metadata = self.effective(&kind, Metadata::root(0o644));
        let (path, what, modified) = (TreePath::ROOT, What::Inline(bytes), Time(0));
        let picked = Picked { path, what, metadata, modified, link: None };
        Match { source, name: file.name.clone().into_bytes(), picked }
    }
}

impl Selection {
    /// Adds matches, at the place of their source.
    pub(crate) fn add(&mut self, matches: Vec<Match>) {
        self.matches.extend(matches);
        self.matches.sort_by_key(|found| found.source);
    }

    /// Names the selection; its nodes go to `store`, which may be one that forgets.
    pub(crate) fn keep(&self, store: &dyn BlobStore) -> Result<TreeId, StoreError> {
        let mut matches = Vec::new();
        for Match { source: _, name, picked } in &self.matches {
            matches.push((name.clone(), picked.node(store)?));
        }
        keep_matches(matches, store)
    }

    /// The newest time in it.
    pub(crate) fn newest(&self) -> Time {
        self.matches.iter().map(|found| found.picked.newest()).max().unwrap_or_default()
    }
}

impl Picked {
    fn node(&self, store: &dyn BlobStore) -> Result<Node, StoreError> {
        let metadata = self.metadata.clone();
        let file = |blob, size| Node::File(File { blob, size, metadata: metadata.clone() });
        Ok(match &self.what {
            What::Directory(picked) => {
                let mut entries = BTreeMap::new();
                for (name, picked) in picked {
                    entries.insert(name.clone(), picked.node(store)?);
                }
                Node::Directory(Directory { metadata, entries }.keep(store)?)
            }
            What::Leaf(Kind::File { blob, size }) => file(*blob, *size),
            What::Leaf(Kind::Symlink { target }) => {
                Node::Symlink { target: target.clone(), metadata }
            }
            What::Leaf(Kind::Device(device)) => Node::Device { device: *device, metadata },
            What::Leaf(Kind::Directory) => {
                Node::Directory(Directory { metadata, ..Directory::default() }.keep(store)?)
            }
            What::Inline(bytes) => file(BlobId::of(bytes), bytes.len() as u64),
        })
    }

    fn newest(&self) -> Time {
        match &self.what {
            What::Directory(entries) => {
                entries.values().map(Self::newest).max().unwrap_or(self.modified)
            }
            _ => self.modified,
        }
    }
}

#[cfg(test)]
mod tests {
    use strata_cas::MemoryStore;
    use strata_plan::{Op, Request, plan};
    use strata_scan::{ScanRequest, scan};

    use super::*;
    use crate::view::{ContextView, RootView};

    /// The copy that this Dockerfile's last line is.
    fn copy(line: &str) -> CopyOp {
        let text = format!("# syntax=docker/dockerfile:1\nFROM scratch\n{line}\n");
        let parse = strata_dockerfile::parse(text.as_bytes());
        let plan = plan(&Request::new(&parse.tree), &|_| None).expect("a plan");
        match &plan.steps[0].op {
            Op::Copy(copy) => copy.clone(),
            _ => unreachable!("it is a copy"),
        }
    }

    fn context() -> tempfile::TempDir {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for name in ["src/a/b", "src/empty", "lib"] {
            std::fs::create_dir_all(path(name)).expect("create a directory");
        }
        for name in ["a.js", "src/a/b/c.js", "src/a/d", "lib/e"] {
            std::fs::write(path(name), name).expect("write a file");
        }
        symlink("src/a", path("link")).expect("make a link");
        symlink("d", path("src/a/link")).expect("make a link");
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path("src/a/d"), mode(0o4711)).expect("chmod");
        std::fs::set_permissions(path("src"), mode(0o2775)).expect("chmod");
        directory
    }

    #[test]
    fn what_is_before_a_wildcard_must_be_there() {
        let store = MemoryStore::default();
        let root = RootView::new(&store, None, Vec::new());
        let missing = |line: &str| match select(&copy(line), &root) {
            Err(SelectError::NothingFits { above, .. }) => Some(above.to_string()),
            Ok(found) => {
                assert!(found.matches.is_empty(), "{line}");
                None
            }
            Err(_) => unreachable!("{line}"),
        };
        assert_eq!(missing("COPY a/b/*.js /"), Some("a/b".to_owned()));
        assert_eq!(missing("COPY --parents a/./b/*/c /"), Some("a/b".to_owned()));
        assert_eq!(missing("COPY *.js */c /"), None);
    }

    #[test]
    fn a_name_is_what_the_selection_is_called() {
        let directory = context();
        let scanned = scan(&ScanRequest {
            root: directory.path(),
            rules: &IgnoreRules::default(),
            wanted: &[Glob::new(b".").expect("good")],
            stamps: None,
            threads: 1,
        })
        .expect("it can be scanned");
        let store = MemoryStore::default();
        let root = select_path(&ContextView(&scanned), &TreePath::ROOT).expect("the root");
        let Node::Directory(tree) = root.matches[0].picked.node(&store).expect("kept") else {
            unreachable!("the root is a directory")
        };
        let root_view = RootView::new(&store, Some(tree), Vec::new());
        for line in [
            "COPY . /app/",
            "COPY src lib /app/",
            "COPY link /app/",
            "COPY a.js src/a/d /app/",
            "COPY *.js src/* /app/",
            "COPY --chown=1:2 src /app/",
            "COPY --chmod=644 src /app/",
            "COPY --exclude=**/d src /app/",
            "COPY --parents src/a/./b lib /app/",
            "COPY <<EOF a.js /app/\nx\nEOF",
        ] {
            let op = copy(line);
            for view in [&ContextView(&scanned) as &dyn View, &root_view] {
                let kept = select(&op, view).expect("selected").keep(&store).expect("kept");
                assert_eq!(name(&op, view).expect("named"), kept, "{line}");
            }
        }
        for path in ["", "src", "link", "src/a/d"] {
            let path = TreePath::normalise(path.as_bytes());
            for view in [&ContextView(&scanned) as &dyn View, &root_view] {
                let kept = select_path(view, &path).expect("selected").keep(&store).expect("kept");
                assert_eq!(name_path(view, &path).expect("named"), kept, "{path}");
            }
        }
    }
}
