//! What a COPY, ADD or mount selects of a context, named without walking what did not change.
//! The rules are the build's: strata-scan's globs and ignore rules, the plan's `--chmod`.

use std::collections::HashMap;
use std::sync::Arc;

use strata_cas::{BlobId, TreeId, TreePath, Writer};
use strata_plan::{Chmod, CopyOp};
use strata_scan::{Glob, IgnoreRules, Selection};

use crate::context::{Change, Directory, Node, diff};
use crate::history::History;
use crate::model::Reads;

/// Names of filtered directories that are kept for the next commit.
const MEMO_MAX: usize = 1 << 17;

/// What is looked at of the files that are selected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) chmod: Option<Chmod>,
    pub(crate) exclude: IgnoreRules,
    pub(crate) reads: Reads,
}

impl Filter {
    fn is_trivial(&self) -> bool {
        self.chmod.is_none() && self.exclude.is_empty() && self.reads == Reads::Everything
    }
}

/// One use of a context's files.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Patterns with the base that `--parents` keeps above.
    patterns: Vec<(TreePath, Glob)>,
    parents: bool,
    filter: Filter,
}

impl Wanted {
    /// What a COPY or ADD copies; `Err` says what is no pattern.
    pub(crate) fn of_copy(op: &CopyOp) -> Result<Self, String> {
        let exclude = op.exclude.iter().filter(|pattern| !pattern.starts_with('/'));
        let exclude = IgnoreRules::new(exclude).map_err(|error| error.to_string())?;
        let mut patterns = Vec::new();
        for source in op.sources.iter().filter(|source| source.remote.is_none()) {
            let (base, pattern) = match source.pattern.split_once("/./") {
                Some((base, pattern)) if op.parents => {
                    (TreePath::normalise(base.as_bytes()), format!("{base}/{pattern}"))
                }
                _ => (TreePath::ROOT, source.pattern.clone()),
            };
            let glob = Glob::new(pattern.as_bytes()).map_err(|error| error.to_string())?;
            patterns.push((base, glob));
        }
        let filter = Filter { chmod: op.chmod.clone(), exclude, reads: Reads::Everything };
        Ok(Self { patterns, parents: op.parents, filter })
    }

    /// What a mount shows.
    pub(crate) fn of_path(path: &TreePath) -> Self {
        let patterns = vec![(TreePath::ROOT, Glob::literal(path))];
        Self { patterns, parents: false, filter: Filter::default() }
    }

    /// The same files, but only what a command of some kind looks at.
    pub(crate) fn reading(&self, reads: Reads) -> Self {
        Self { filter: Filter { reads, ..self.filter.clone() }, ..self.clone() }
    }

    /// Tells filters apart.
    pub(crate) fn filter_name(&self) -> String {
        let Filter { chmod, exclude, reads } = &self.filter;
        format!("{chmod:?} {exclude:?} {reads:?}")
    }

    /// The paths that are named as such, so that leaving one out breaks the build; but the root.
    pub(crate) fn literals(&self) -> Vec<TreePath> {
        let literals = self.patterns.iter().filter_map(|(_, glob)| glob.is_literal());
        literals.filter(|path| !path.is_root()).collect()
    }
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// In order: the path as matched, where links lead, and the node there.
    nodes: Vec<(TreePath, TreePath, Node)>,
    /// Patterns without wildcard that lead nowhere.
    pub(crate) missing: Vec<String>,
}

impl Found {
    /// Files and bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        let sizes = self.nodes.iter().map(|(_, _, node)| match node {
            Node::Directory(directory) => (directory.files, directory.bytes),
            Node::File { bytes, .. } => (1, *bytes),
            Node::Link { .. } | Node::Module { .. } => (1, 0),
        });
        sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }
}

/// Looks into the contexts of one history.
pub(crate) struct Selector<'a> {
    history: &'a History,
    /// Names of directories under a filter: by the filter's number, the directory, its place.
    memo: HashMap<(usize, TreeId, TreePath), TreeId>,
}

impl<'a> Selector<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        Self { history, memo: HashMap::new() }
    }

    /// Where an existing path leads when links are followed.
    fn resolve(&self, root: &Arc<Directory>, path: &TreePath) -> Option<(TreePath, Node)> {
        if let Some(node) = root.at(path)
            && !matches!(node, Node::Link { .. })
        {
            return Some((path.clone(), node));
        }
        let at = strata_scan::resolve(path, |path| match root.at(path)? {
            Node::Link { blob } => Some(self.history.bytes(blob).ok()??.to_vec()),
            _ => None,
        })?;
        root.at(&at).map(|node| (at, node))
    }

    /// What is selected.
    pub(crate) fn find(&self, root: &Arc<Directory>, wanted: &Wanted) -> Found {
        let mut found = Found::default();
        for (_, glob) in &wanted.patterns {
            match glob.is_literal() {
                Some(path) => match self.resolve(root, &path) {
                    Some((at, node)) => found.nodes.push((path, at, node)),
                    None => found.missing.push(path.to_string()),
                },
                None => self.wildcard(root, glob, &mut found),
            }
        }
        found
    }

    fn wildcard(&self, root: &Arc<Directory>, glob: &Glob, found: &mut Found) {
        let Some((prefix, _)) = self.resolve(root, &glob.literal_prefix()) else { return };
        let glob = glob.moved(&prefix);
        let globs = [glob];
        let mut paths = Vec::new();
        visit(root, &TreePath::ROOT, &globs, &Selection::of_root(&globs), &mut paths);
        paths.sort();
        for path in paths {
            if let Some((at, node)) = self.resolve(root, &path) {
                found.nodes.push((path, at, node));
            }
        }
    }

    /// Names a selection as the step sees it. `number` stands for the filter: equal numbers,
    /// equal filters.
    pub(crate) fn id(&mut self, found: &Found, wanted: &Wanted, number: usize) -> TreeId {
        if self.memo.len() > MEMO_MAX {
            self.memo.clear();
        }
        let mut to = Writer::with_format("selection");
        for (index, (path, at, node)) in found.nodes.iter().enumerate() {
            if wanted.parents {
                let base = wanted.patterns.get(index).map(|(base, _)| base.clone());
                let below = path.below(&base.unwrap_or_default());
                to.bytes(below.unwrap_or_default().as_bytes());
            }
            let named = self.node(node, at, &TreePath::ROOT, &wanted.filter, number, &mut to);
            // A directory's name does not count, a file's does: it may be its name there.
            if named && !matches!(node, Node::Directory(_)) {
                to.bytes(path.name());
            }
        }
        for path in &found.missing {
            to.text(path);
        }
        TreeId::from(BlobId::of(to.as_bytes()))
    }

    /// Feeds one node; false if the filter leaves nothing of it.
    fn node(
        &mut self,
        node: &Node,
        at: &TreePath,
        relative: &TreePath,
        filter: &Filter,
        number: usize,
        to: &mut Writer,
    ) -> bool {
        let excluded = !relative.is_root() && filter.exclude.excludes(relative);
        match node {
            Node::Directory(directory) if !filter.is_trivial() => {
                if excluded && !filter.exclude.may_include_below(relative) {
                    return false;
                }
                match self.directory(directory, at, relative, filter, number) {
                    Some(id) => {
                        to.byte(3);
                        to.fixed(id.as_bytes());
                        true
                    }
                    None => !excluded && filter.reads == Reads::Everything,
                }
            }
            _ if excluded || !filter.reads.look_at(at) => false,
            node => {
                let mode = |mode: u32, is_directory: bool| match &filter.chmod {
                    Some(chmod) => chmod.apply(mode, is_directory),
                    None => mode,
                };
                node.feed(mode, to);
                true
            }
        }
    }

    /// The name of a directory under a filter; none if nothing of it is left.
    fn directory(
        &mut self,
        directory: &Arc<Directory>,
        at: &TreePath,
        relative: &TreePath,
        filter: &Filter,
        number: usize,
    ) -> Option<TreeId> {
        let key = (number, directory.id, at.clone());
        let nothing = TreeId::from_bytes([0; 32]);
        if let Some(id) = self.memo.get(&key) {
            return (*id != nothing).then_some(*id);
        }
        let mut to = Writer::default();
        let mut left = false;
        for entry in &directory.entries {
            let (Ok(at), Ok(relative)) = (at.child(&entry.name), relative.child(&entry.name))
            else {
                continue;
            };
            let mut own = Writer::default();
            if self.node(&entry.node, &at, &relative, filter, number, &mut own) {
                to.bytes(&entry.name);
                to.bytes(own.as_bytes());
                left = true;
            }
        }
        let id = TreeId::from(BlobId::of(to.as_bytes()));
        self.memo.insert(key, if left { id } else { nothing });
        left.then_some(id)
    }
}

fn visit(
    directory: &Arc<Directory>,
    at: &TreePath,
    globs: &[Glob; 1],
    selection: &Selection,
    paths: &mut Vec<TreePath>,
) {
    for entry in &directory.entries {
        let below = selection.of_entry(globs, &entry.name);
        if below.is_empty() {
            continue;
        }
        let Ok(path) = at.child(&entry.name) else { continue };
        if globs[0].matches(&path) {
            paths.push(path.clone());
        }
        if let Node::Directory(directory) = &entry.node
            && (!below.everything || globs[0].crosses_directories())
        {
            visit(directory, &path, globs, &below, paths);
        }
    }
}

/// The files that differ between two selections of one step, at most `limit` of them, and how
/// many there are in all, counted up to `most`.
pub(crate) fn changes(
    old: &Found,
    new: &Found,
    wanted: &Wanted,
    limit: usize,
    most: usize,
) -> (Vec<(TreePath, Change)>, usize) {
    let (mut listed, mut total) = (Vec::new(), 0);
    let mut pairs: Vec<(TreePath, TreePath, Option<&Node>, Option<&Node>)> = Vec::new();
    for (path, at, node) in &old.nodes {
        pairs.push((path.clone(), at.clone(), Some(node), None));
    }
    for (path, at, node) in &new.nodes {
        match pairs.iter_mut().find(|pair| pair.0 == *path) {
            Some(pair) => pair.3 = Some(node),
            None => pairs.push((path.clone(), at.clone(), None, Some(node))),
        }
    }
    for (path, at, old, new) in pairs {
        let whole = diff(old, new, &at, &mut |changed, change, _| {
            let relative = changed.below(&at).unwrap_or_default();
            let excluded = !relative.is_root() && wanted.filter.exclude.excludes(&relative);
            if excluded || listed.iter().any(|(path, _)| path == changed) {
                return true;
            }
            total += 1;
            if listed.len() < limit {
                listed.push((changed.clone(), change));
            }
            total < most
        });
        if !whole {
            break;
        }
        let _ = path;
    }
    listed.sort();
    (listed, total)
}
