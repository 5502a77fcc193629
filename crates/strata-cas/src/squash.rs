//! A stack of layers as one: what a container that starts from them sees.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::{Action, Change, Item, Layer, Metadata, Time, TreePath};

/// Merges a stack of layers, lowest first, into one layer without removals.
///
/// Names of one file stay hard links of each other as long as the layer that made them shows
/// through. A hard link whose target its own layer does not set is left out.
pub fn squash<L: Borrow<Layer>>(layers: impl IntoIterator<Item = L>) -> Layer {
    let mut stack = Stack::default();
    for (number, layer) in layers.into_iter().enumerate() {
        let layer = layer.borrow();
        for change in layer.changes() {
            stack.lay(number, layer, change);
        }
    }
    stack.into_layer()
}

/// Names that share one file: the layer that made it and the path that carries it there.
type Group = (usize, TreePath);

struct Seen {
    item: Item,
    metadata: Metadata,
    modified: Time,
    group: Option<Group>,
}

#[derive(Default)]
struct Stack {
    paths: BTreeMap<TreePath, Seen>,
}

impl Stack {
    fn lay(&mut self, number: usize, layer: &Layer, change: &Change) {
        let Change { path, action } = change;
        let Action::Set { item, metadata, modified } = action else {
            self.clear_below(path);
            self.paths.remove(path);
            return;
        };
        let mut seen = Seen {
            item: item.clone(),
            metadata: metadata.clone(),
            modified: *modified,
            group: None,
        };
        match item {
            Item::Directory { opaque } => {
                seen.item = Item::Directory { opaque: false };
                if *opaque || !self.is_directory(path) {
                    self.clear_below(path);
                }
            }
            Item::File { .. } | Item::Device(_) => seen.group = Some((number, path.clone())),
            Item::Symlink { .. } => {}
            Item::HardLink { to } => {
                let Some(Action::Set { item, metadata, modified }) = layer.get(to) else { return };
                if matches!(item, Item::Directory { .. } | Item::HardLink { .. }) {
                    return;
                }
                // As in BuildKit's tars, of a symbolic link each name is one of its own.
                let has_group = !matches!(item, Item::Symlink { .. });
                let group = has_group.then(|| (number, to.clone()));
                let (metadata, modified) = (metadata.clone(), *modified);
                seen = Seen { item: item.clone(), metadata, modified, group };
            }
        }
        if !matches!(seen.item, Item::Directory { .. }) {
            self.clear_below(path);
        }
        self.paths.insert(path.clone(), seen);
    }

    fn is_directory(&self, path: &TreePath) -> bool {
        matches!(self.paths.get(path), Some(Seen { item: Item::Directory { .. }, .. }))
    }

    fn clear_below(&mut self, path: &TreePath) {
        let after = (Bound::Excluded(path.clone()), Bound::Unbounded);
        let below: Vec<TreePath> = self
            .paths
            .range(after)
            .map(|(other, _)| other)
            .take_while(|other| other.below(path).is_some())
            .cloned()
            .collect();
        for path in below {
            self.paths.remove(&path);
        }
    }

    fn into_layer(self) -> Layer {
        let mut carriers: BTreeMap<Group, TreePath> = BTreeMap::new();
        let mut changes = Vec::with_capacity(self.paths.len());
        for (path, Seen { mut item, metadata, modified, group }) in self.paths {
            if let Some(group) = group {
                match carriers.get(&group) {
                    Some(to) => item = Item::HardLink { to: to.clone() },
                    None => drop(carriers.insert(group, path.clone())),
                }
            }
            changes.push(Change { path, action: Action::Set { item, metadata, modified } });
        }
        Layer::new(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlobId, MemoryStore, apply};
    use proptest::prelude::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).expect("clean")
    }

    fn set(at: &str, item: Item) -> Change {
        let metadata = Metadata::root(0o755);
        Change { path: path(at), action: Action::Set { item, metadata, modified: Time(5) } }
    }

    fn file(at: &str, content: &str) -> Change {
        set(at, Item::File { blob: BlobId::of(content.as_bytes()), size: content.len() as u64 })
    }

    fn link(at: &str, to: &str) -> Change {
        set(at, Item::HardLink { to: path(to) })
    }

    #[test]
    fn a_link_outlives_the_path_that_carried_its_content() {
        let lower = Layer::new(vec![file("a", "1"), link("b", "a"), link("c", "a")]);
        let upper = Layer::new(vec![file("a", "2")]);
        let expected = Layer::new(vec![file("a", "2"), file("b", "1"), link("c", "b")]);
        assert_eq!(squash([&lower, &upper]), expected);
    }

    fn change() -> impl Strategy<Value = Change> {
        let name = prop::sample::select(vec!["a", "b", "a/x", "a/y", "a/x/p", "b/x", "c"]);
        let directory = |opaque| Item::Directory { opaque };
        (name, 0..6u8, "[12]").prop_map(move |(at, kind, content)| match kind {
            0 => Change { path: path(at), action: Action::Remove },
            1 => set(at, directory(false)),
            2 => set(at, directory(true)),
            3 => set(at, Item::Symlink { target: content.into_bytes() }),
            _ => file(at, &content),
        })
    }

    /// Makes every parent explicit, as layers of real file systems have them.
    fn layer(changes: Vec<Change>) -> Layer {
        let files = Layer::new(changes);
        let mut all = files.changes().to_vec();
        for change in files.changes() {
            if matches!(change.action, Action::Remove) {
                continue;
            }
            for parent in change.path.ancestors().into_iter().filter(|parent| !parent.is_root()) {
                match files.get(&parent) {
                    Some(Action::Set { item: Item::Directory { .. }, .. }) => {}
                    _ => all.push(set(&parent.to_string(), Item::Directory { opaque: false })),
                }
            }
        }
        Layer::new(all)
    }

    proptest! {
        #[test]
        fn gives_the_tree_that_the_layers_give_one_by_one(
            stack in prop::collection::vec(prop::collection::vec(change(), 0..8), 0..4),
        ) {
            let store = MemoryStore::default();
            let empty = crate::Directory::empty_root().keep(&store).expect("keep");
            let layers: Vec<Layer> = stack.into_iter().map(layer).collect();
            let one_by_one = layers.iter().fold(empty, |tree, layer| {
                apply(&store, Some(&tree), layer).expect("apply")
            });
            let at_once = apply(&store, Some(&empty), &squash(&layers)).expect("apply");
            prop_assert_eq!(one_by_one, at_once);
        }
    }
}
