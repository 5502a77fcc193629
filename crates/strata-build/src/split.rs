//! `layer-split`: an image whose large layers are shipped as several. To a registry a layer is one
//! blob, so a changed file costs a whole one; of a layer that was split it costs a part.
//!
//! Which part a file is in depends on its path alone, and on how many parts there are, which is a
//! power of two: content that changes, files that come and go change their own part. What the
//! layers give together is what the one layer gives.

use std::collections::{BTreeMap, BTreeSet};

use strata_cas::{Action, BlobId, Change, Item, Layer, TreePath};
use strata_oci::{Digest, History, ImageConfig};

use crate::BuildError;
use crate::images::{Images, StoredImage};
use crate::layers::{self, ImageLayer};

/// What is known of layers that are a part of another, by their ids.
pub(crate) const TABLE: &str = "split-1";
/// A layer has at most so many parts by path, and as many large files by themselves.
const MOST_PARTS: u64 = 32;
/// Docker's storage takes no image with more layers.
const MOST_LAYERS: usize = 127;

impl Images<'_> {
    /// The image with each layer that is larger than `bytes` as several of about that size; the
    /// lowest `base_layers` stay as they are.
    ///
    /// # Errors
    ///
    /// When the store lacks a layer or fails, or there would be more layers than engines take.
    pub fn split(
        &self,
        image: &StoredImage,
        bytes: u64,
        base_layers: usize,
    ) -> Result<StoredImage, BuildError> {
        let mut layers: Vec<Vec<ImageLayer>> = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            let is_own = at >= base_layers && layer.blob.is_none();
            layers.push(match is_own && layer.bytes > bytes {
                true => {
                    self.shelf().bring(&image.layers[..=at])?;
                    self.split_layer(layer, bytes)?
                }
                false => vec![layer.clone()],
            });
        }
        let counts: Vec<usize> = layers.iter().map(Vec::len).collect();
        let layers: Vec<ImageLayer> = layers.into_iter().flatten().collect();
        if layers.len() > MOST_LAYERS && layers.len() > image.layers.len() {
            return Err(BuildError::TooManyLayers { count: layers.len(), most: MOST_LAYERS });
        }
        if layers == image.layers {
            return Ok(image.clone());
        }
        let mut config: ImageConfig = image.config.clone();
        config.history = history(&config.history, &counts);
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        self.keep(strata_image::config_bytes(&config)?, layers, None)
    }

    fn split_layer(&self, whole: &ImageLayer, bytes: u64) -> Result<Vec<ImageLayer>, BuildError> {
        let store = self.store();
        let parts = parts(&*layers::load(store, &whole.layer)?, whole.bytes, bytes);
        if parts.len() < 2 {
            return Ok(vec![whole.clone()]);
        }
        parts.iter().map(|part| self.keep_part(part)).collect()
    }

    fn keep_part(&self, part: &Layer) -> Result<ImageLayer, BuildError> {
        let store = self.store();
        let encoded = part.encode();
        let name = BlobId::of(&encoded).to_string();
        if let Some(value) = store.name(TABLE, &name)?
            && let Ok(known) = serde_json::from_slice::<ImageLayer>(&value)
            && layers::is_there(store, &known)?
        {
            return Ok(known);
        }
        let id = store.put(&encoded)?.into();
        let (diff_id, bytes): (Digest, u64) = strata_image::describe(part, store)?;
        let layer = ImageLayer { layer: id, diff_id, bytes, blob: None };
        let value = serde_json::to_vec(&layer).map_err(BuildError::damaged("layer"))?;
        store.set_name(TABLE, &name, Some(&value))?;
        Ok(layer)
    }
}

/// Which part a change is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// One of those for all paths.
    Shared(u64),
    /// A large file's own.
    Own(TreePath),
}

/// The parts of a layer, each with the directories that its files are in: an engine that unpacks
/// it by itself would make others in their place.
fn parts(layer: &Layer, tar_bytes: u64, bytes: u64) -> Vec<Layer> {
    let bytes = bytes.max(1);
    let count = tar_bytes.div_ceil(bytes).next_power_of_two().min(MOST_PARTS);
    let is_large = |change: &Change| match change.action {
        Action::Set { item: Item::File { size, .. }, .. } => size >= bytes,
        _ => false,
    };
    let large = layer.changes().iter().filter(|change| is_large(change)).count();
    let large_alone = large as u64 <= MOST_PARTS;
    let place = |change: &Change| match &change.action {
        _ if large_alone && is_large(change) => Place::Own(change.path.clone()),
        _ => Place::Shared(number(&change.path) % count),
    };
    let mut parts: BTreeMap<Place, BTreeSet<usize>> = BTreeMap::new();
    for (at, change) in layer.changes().iter().enumerate() {
        let place = match &change.action {
            // It is with the file that it is another name of.
            Action::Set { item: Item::HardLink { to }, .. } => find(layer, to)
                .map_or_else(|| place(change), |target| place(&layer.changes()[target])),
            _ => place(change),
        };
        let part = parts.entry(place).or_default();
        part.insert(at);
        let above = std::iter::successors(change.path.parent(), TreePath::parent);
        part.extend(above.filter_map(|directory| find(layer, &directory)));
    }
    // A directory hides what is below it in the part that comes first, and nowhere else.
    let mut seen = BTreeSet::new();
    let part = |members: BTreeSet<usize>| {
        let change = |at: usize| match seen.insert(at) {
            true => layer.changes()[at].clone(),
            false => shown(&layer.changes()[at]),
        };
        Layer::new(members.into_iter().map(change).collect())
    };
    parts.into_values().map(part).collect()
}

fn find(layer: &Layer, path: &TreePath) -> Option<usize> {
    layer.changes().binary_search_by(|change| change.path.cmp(path)).ok()
}

/// A directory once more, with all that is in it already.
fn shown(change: &Change) -> Change {
    let mut change = change.clone();
    if let Action::Set { item: Item::Directory { opaque }, .. } = &mut change.action {
        *opaque = false;
    }
    change
}

/// The path as a number.
fn number(path: &TreePath) -> u64 {
    let id = BlobId::of(path.as_bytes());
    id.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The history of an image whose layers, in order, became so many each.
fn history(of_whole: &[History], counts: &[usize]) -> Vec<History> {
    let mut counts = counts.iter();
    let mut history = Vec::new();
    for entry in of_whole {
        history.push(entry.clone());
        let count = if entry.empty_layer { 1 } else { counts.next().copied().unwrap_or(1) };
        for part in 2..=count {
            let comment = Some(format!("part {part} of {count} (layer-split)"));
            history.push(History { comment, ..entry.clone() });
        }
    }
    history
}

#[cfg(test)]
mod tests {
    use strata_cas::{MemoryStore, Metadata, Time, apply};

    use super::*;

    fn set(path: &str, item: Item, mode: u32) -> Change {
        let path = TreePath::new(path).expect("clean");
        let action = Action::Set { item, metadata: Metadata::root(mode), modified: Time(7) };
        Change { path, action }
    }

    fn file(path: &str, content: &str, size: u64) -> Change {
        set(path, Item::File { blob: BlobId::of(content.as_bytes()), size }, 0o644)
    }

    fn directory(path: &str, opaque: bool) -> Change {
        set(path, Item::Directory { opaque }, 0o750)
    }

    fn sample(changed: &str) -> Vec<Change> {
        let mut changes = vec![
            directory("a", true),
            directory("a/b", false),
            set("zz", Item::HardLink { to: TreePath::new("a/b/f7").expect("clean") }, 0o644),
            Change { path: TreePath::new("gone").expect("clean"), action: Action::Remove },
            file("large", "large", 5_000),
        ];
        for number in 0..40 {
            let name = format!("a/b/f{number}");
            let content = if name == changed { "new" } else { &name };
            changes.push(file(&name, content, 100));
        }
        changes
    }

    #[test]
    fn the_parts_give_together_what_the_whole_gives() {
        let store = MemoryStore::default();
        let lower = Layer::new(vec![
            directory("a", false),
            file("a/hidden", "hidden", 1),
            file("gone", "gone", 1),
        ]);
        let below = apply(&store, None, &lower).expect("applied");
        let whole = Layer::new(sample(""));
        let parts = parts(&whole, 10_000, 1_000);
        assert!(parts.len() > 8, "{}", parts.len());
        let expected = apply(&store, Some(&below), &whole).expect("applied");
        let mut tree = below;
        for part in &parts {
            tree = apply(&store, Some(&tree), part).expect("applied");
        }
        assert_eq!(tree, expected);
        for part in &parts {
            for change in part.changes() {
                let above = std::iter::successors(change.path.parent(), TreePath::parent);
                for directory in above.filter(|path| whole.get(path).is_some()) {
                    assert!(part.get(&directory).is_some(), "{directory} of {}", change.path);
                }
            }
        }
    }

    #[test]
    fn a_change_changes_its_own_part() {
        let differing = |one: &[Layer], other: &[Layer]| {
            one.iter().filter(|part| !other.contains(part)).count()
        };
        let of = |changes: Vec<Change>| parts(&Layer::new(changes), 10_000, 1_000);
        let first = of(sample(""));
        assert_eq!(differing(&of(sample("a/b/f3")), &first), 1);
        let mut more = sample("");
        more.push(file("a/b/one-more", "x", 100));
        assert_eq!(differing(&of(more), &first), 1);
        let mut fewer = sample("");
        fewer.pop();
        assert_eq!(differing(&of(fewer), &first), 1);
    }

    #[test]
    fn history_has_an_entry_for_each_layer() {
        let entry = |empty_layer| History { empty_layer, ..History::default() };
        let whole = [entry(false), entry(true), entry(false), entry(true)];
        let split = history(&whole, &[1, 3]);
        let empty: Vec<bool> = split.iter().map(|entry| entry.empty_layer).collect();
        assert_eq!(empty, [false, true, false, false, false, true]);
        assert_eq!(split[4].comment.as_deref(), Some("part 3 of 3 (layer-split)"));
        assert!(history(&[], &[2]).is_empty());
    }
}
