//! The tree that a layer makes of another tree, reading only the directories that it touches.

use std::collections::BTreeMap;

use crate::{
    Action, BlobStore, Change, Directory, File, Item, Layer, Metadata, Node, TreeError, TreeId,
    load,
};

/// Lays `layer` over `tree`, keeps the new nodes and names the result. Costs one node for each
/// directory that the layer touches, not a walk over the tree.
///
/// As a union file system does it: a file replaces a directory with all that was in it, a
/// directory joins one that is there, removing what is not there is nothing. Directories that
/// the layer takes for granted and that are missing are root's, `0o755`.
pub fn apply(
    store: &dyn BlobStore,
    tree: Option<&TreeId>,
    layer: &Layer,
) -> Result<TreeId, TreeError> {
    let base = match tree {
        Some(tree) => load(store, tree)?,
        None => Directory::empty_root(),
    };
    let changes: Vec<(Vec<&[u8]>, &Change)> =
        layer.changes().iter().map(|change| (change.path.components().collect(), change)).collect();
    Apply { store, layer }.directory(base, &changes, 0)
}

struct Apply<'a> {
    store: &'a dyn BlobStore,
    layer: &'a Layer,
}

type Changes<'a> = [(Vec<&'a [u8]>, &'a Change)];

impl Apply<'_> {
    /// Applies the changes, all at or below this directory, which is `depth` components deep.
    fn directory(
        &self,
        mut directory: Directory,
        changes: &Changes<'_>,
        depth: usize,
    ) -> Result<TreeId, TreeError> {
        let mut rest = changes;
        if let Some(((path, change), below)) = rest.split_first()
            && path.len() == depth
        {
            if let Action::Set { item: Item::Directory { opaque }, metadata, .. } = &change.action {
                directory.metadata = metadata.clone();
                if *opaque {
                    directory.entries.clear();
                }
            }
            rest = below;
        }
        while let Some((path, _)) = rest.first() {
            let name = path[depth];
            let end = rest.iter().position(|(path, _)| path[depth] != name);
            let (group, others) = rest.split_at(end.unwrap_or(rest.len()));
            self.entry(&mut directory.entries, name, group, depth + 1)?;
            rest = others;
        }
        Ok(directory.keep(self.store)?)
    }

    /// Applies the changes to one entry and below it.
    fn entry(
        &self,
        entries: &mut BTreeMap<Vec<u8>, Node>,
        name: &[u8],
        changes: &Changes<'_>,
        depth: usize,
    ) -> Result<(), TreeError> {
        let Some((path, first)) = changes.first() else { return Ok(()) };
        if path.len() == depth {
            match &first.action {
                Action::Remove => {
                    entries.remove(name);
                }
                Action::Set { item: Item::Directory { .. }, .. } => {}
                Action::Set { item, metadata, .. } => {
                    if let Some(node) = self.leaf(item, metadata) {
                        entries.insert(name.to_vec(), node);
                    }
                    return Ok(());
                }
            }
        }
        let directory = match entries.get(name) {
            Some(Node::Directory(tree)) => load(self.store, tree)?,
            // There is nothing to remove below what is not a directory.
            _ if changes.iter().all(|(_, change)| change.action == Action::Remove) => {
                return Ok(());
            }
            _ => Directory { metadata: Metadata::root(0o755), entries: BTreeMap::new() },
        };
        let tree = self.directory(directory, changes, depth)?;
        entries.insert(name.to_vec(), Node::Directory(tree));
        Ok(())
    }

    /// The tree entry for what is not a directory; none for a hard link that leads nowhere.
    fn leaf(&self, item: &Item, metadata: &Metadata) -> Option<Node> {
        let metadata = metadata.clone();
        match item {
            Item::Directory { .. } => None,
            Item::File { blob, size } => {
                Some(Node::File(File { blob: *blob, size: *size, metadata }))
            }
            Item::Symlink { target } => Some(Node::Symlink { target: target.clone(), metadata }),
            Item::Device(device) => Some(Node::Device { device: *device, metadata }),
            Item::HardLink { to } => match self.layer.get(to)? {
                Action::Set { item: Item::HardLink { .. }, .. } | Action::Remove => None,
                Action::Set { item, metadata, .. } => self.leaf(item, metadata),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlobId, MemoryStore, Time, TreeChange, TreePath, diff};

    fn path(text: &str) -> TreePath {
        TreePath::new(text).expect("clean")
    }

    fn set(at: &str, item: Item, mode: u32) -> Change {
        let metadata = Metadata::root(mode);
        Change { path: path(at), action: Action::Set { item, metadata, modified: Time(0) } }
    }

    fn file(at: &str, content: &str) -> Change {
        let (blob, size) = (BlobId::of(content.as_bytes()), content.len() as u64);
        set(at, Item::File { blob, size }, 0o644)
    }

    fn directory(at: &str, opaque: bool) -> Change {
        set(at, Item::Directory { opaque }, 0o755)
    }

    fn remove(at: &str) -> Change {
        Change { path: path(at), action: Action::Remove }
    }

    /// Lays layers over each other and prints the paths of the result.
    fn paths(layers: &[Vec<Change>]) -> String {
        let store = MemoryStore::default();
        let empty = Directory::empty_root().keep(&store).expect("keep");
        let mut tree = empty;
        for changes in layers {
            tree = apply(&store, Some(&tree), &Layer::new(changes.clone())).expect("apply");
        }
        list(&store, &tree, &TreePath::ROOT).join(" ")
    }

    fn list(store: &MemoryStore, tree: &TreeId, at: &TreePath) -> Vec<String> {
        let mut paths = Vec::new();
        for (name, node) in load(store, tree).expect("load").entries {
            let path = at.child(&name).expect("clean");
            paths.push(path.to_string());
            if let Node::Directory(tree) = node {
                paths.extend(list(store, &tree, &path));
            }
        }
        paths
    }

    #[test]
    fn behaves_as_a_union_file_system() {
        let base = vec![directory("a", false), file("a/x", "1"), file("a/y", "2"), file("b", "3")];
        let check = |changes: Vec<Change>, expected: &str| {
            assert_eq!(paths(&[base.clone(), changes]), expected);
        };
        check(vec![], "a a/x a/y b");
        check(vec![file("a/z", "4")], "a a/x a/y a/z b");
        check(vec![remove("a/x"), remove("nothing")], "a a/y b");
        check(vec![remove("a")], "b");
        check(vec![directory("a", true), file("a/n", "5")], "a a/n b");
        check(vec![file("a", "6")], "a b");
        check(vec![directory("b", false), file("b/c", "7")], "a a/x a/y b b/c");
        check(vec![file("new/deep/file", "8")], "a a/x a/y b new new/deep new/deep/file");
    }

    #[test]
    fn a_hard_link_is_a_file_like_its_target() {
        let link = set("l", Item::HardLink { to: path("f") }, 0o644);
        assert_eq!(paths(&[vec![file("f", "1"), link]]), "f l");
    }

    #[test]
    fn equal_results_have_equal_ids_however_they_came_about() {
        let store = MemoryStore::default();
        let lay = |tree: Option<&TreeId>, changes: Vec<Change>| {
            apply(&store, tree, &Layer::new(changes)).expect("apply")
        };
        let at_once = lay(None, vec![file("a", "1"), file("b", "2")]);
        let detour = lay(None, vec![file("b", "0"), file("c", "3")]);
        let detour = lay(Some(&detour), vec![remove("c"), file("b", "2"), file("a", "1")]);
        assert_eq!(at_once, detour);
        let other = lay(Some(&at_once), vec![file("b", "9"), file("d", "4")]);
        let found = diff(&store, &at_once, &other, 10, 10).expect("diff");
        let changes: Vec<_> =
            found.listed.iter().map(|one| (one.path.clone(), one.change)).collect();
        let expected = [(path("b"), TreeChange::Content), (path("d"), TreeChange::Added)];
        assert_eq!((changes.as_slice(), found.total), (&expected[..], 2));
        let metadata = |one: &Option<crate::Standing>| one.as_ref().map(|it| it.metadata.mode);
        assert_eq!(metadata(&found.listed[1].old), None);
        assert_eq!(metadata(&found.listed[1].new), Some(0o644));
        let bounded = diff(&store, &at_once, &other, 0, 1).expect("diff");
        assert_eq!((bounded.listed.len(), bounded.total), (0, 1));
    }
}
