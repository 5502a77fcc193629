//! How two images differ: in their configs, in their layers, in the files of their roots.

use std::collections::BTreeMap;

use serde_json::Value;
use strata_cas::{Action, Change, Item, Layer, Metadata, Time, TreePath};
use strata_oci::Digest;

use crate::BuildError;
use crate::images::{Images, StoredImage};

/// All differences of two images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageDifference {
    /// Fields of the config, by their path in it, with the old and the new value.
    pub config: Vec<FieldChange>,
    /// Layers that are not the same, by their place from the bottom.
    pub layers: Vec<LayerChange>,
    /// How many layers are the same in both, from the bottom.
    pub common_layers: usize,
    /// Paths of the roots that are not the same, in order.
    pub paths: Vec<PathChange>,
}

impl ImageDifference {
    /// Whether there is none: the images have the same id.
    pub fn is_empty(&self) -> bool {
        self.config.is_empty() && self.layers.is_empty() && self.paths.is_empty()
    }
}

/// A field that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// Where it is, such as `config.Env[0]`.
    pub field: String,
    /// What it was.
    pub old: Option<Value>,
    /// What it is.
    pub new: Option<Value>,
}

/// A layer that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerChange {
    /// Its place, 0 for the lowest.
    pub place: usize,
    /// The digest of its tar in the first image.
    pub old: Option<Digest>,
    /// The digest of its tar in the second one.
    pub new: Option<Digest>,
    /// Whether only times differ.
    pub only_times: bool,
}

/// A path that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// The path.
    pub path: TreePath,
    /// What about it.
    pub kinds: Vec<PathChangeKind>,
}

/// What is not the same about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathChangeKind {
    /// Only the second image has it.
    Added,
    /// Only the first image has it.
    Removed,
    /// It is something else: what it was and what it is.
    Type(&'static str, &'static str),
    /// A file's bytes: their number before and after.
    Content(u64, u64),
    /// Where a symbolic or hard link leads.
    Target(String, String),
    /// The permissions, before and after.
    Mode(u32, u32),
    /// User and group, before and after.
    Owner((u32, u32), (u32, u32)),
    /// Extended attributes.
    Attributes,
    /// The modification time, in seconds since 1970, before and after.
    Time(i64, i64),
}

impl Images<'_> {
    /// Compares two images.
    ///
    /// # Errors
    ///
    /// When the store lacks what a layer changes.
    pub fn compare(
        &self,
        old: &StoredImage,
        new: &StoredImage,
    ) -> Result<ImageDifference, BuildError> {
        let mut difference = ImageDifference::default();
        if old.id == new.id {
            difference.common_layers = old.layers.len();
            return Ok(difference);
        }
        difference.config = fields(&old.config_bytes, &new.config_bytes)?;
        let (old_layers, new_layers) = (self.layers(old)?, self.layers(new)?);
        for place in 0..old.layers.len().max(new.layers.len()) {
            let ids = (old.layers.get(place), new.layers.get(place));
            let (old_id, new_id) =
                (ids.0.map(|layer| layer.diff_id), ids.1.map(|layer| layer.diff_id));
            if old_id == new_id {
                difference.common_layers += usize::from(difference.layers.is_empty());
                continue;
            }
            let only_times = match (old_layers.get(place), new_layers.get(place)) {
                (Some(old), Some(new)) => {
                    let changes = paths(old, new);
                    !changes.is_empty()
                        && changes
                            .iter()
                            .all(|change| matches!(change.kinds[..], [PathChangeKind::Time(..)]))
                }
                _ => false,
            };
            let change = LayerChange { place, old: old_id, new: new_id, only_times };
            difference.layers.push(change);
        }
        let root = |layers: &[std::sync::Arc<Layer>]| {
            strata_cas::squash(layers.iter().map(|layer| &**layer))
        };
        difference.paths = paths(&root(&old_layers), &root(&new_layers));
        Ok(difference)
    }
}

/// The fields of two configs that are not the same. Layers have their own list.
fn fields(old: &[u8], new: &[u8]) -> Result<Vec<FieldChange>, BuildError> {
    let flat = |bytes: &[u8]| -> Result<BTreeMap<String, Value>, BuildError> {
        let mut value: Value =
            serde_json::from_slice(bytes).map_err(BuildError::damaged("image config"))?;
        if let Some(root) = value.get_mut("rootfs").and_then(Value::as_object_mut) {
            root.remove("diff_ids");
        }
        let mut flat = BTreeMap::new();
        flatten("", value, &mut flat);
        Ok(flat)
    };
    let (mut old, new) = (flat(old)?, flat(new)?);
    let mut changes = Vec::new();
    for (field, value) in new {
        let before = old.remove(&field);
        if before.as_ref() != Some(&value) {
            changes.push(FieldChange { field, old: before, new: Some(value) });
        }
    }
    let gone =
        old.into_iter().map(|(field, value)| FieldChange { field, old: Some(value), new: None });
    changes.extend(gone);
    changes.sort_by(|a, b| a.field.cmp(&b.field));
    Ok(changes)
}

fn flatten(at: &str, value: Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let at = if at.is_empty() { name } else { format!("{at}.{name}") };
                flatten(&at, value, flat);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (number, value) in items.into_iter().enumerate() {
                flatten(&format!("{at}[{number:03}]"), value, flat);
            }
        }
        value => drop(flat.insert(at.to_owned(), value)),
    }
}

/// The paths of two layers that are not the same.
fn paths(old: &Layer, new: &Layer) -> Vec<PathChange> {
    let mut changes = Vec::new();
    let (mut left, mut right) = (old.changes().iter().peekable(), new.changes().iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return changes,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(left), Some(right)) => left.path.cmp(&right.path),
        };
        let (path, kinds) = match order {
            std::cmp::Ordering::Less => (&left.next().map(path_of), vec![PathChangeKind::Removed]),
            std::cmp::Ordering::Greater => {
                (&right.next().map(path_of), vec![PathChangeKind::Added])
            }
            std::cmp::Ordering::Equal => {
                let (Some(left), Some(right)) = (left.next(), right.next()) else {
                    return changes;
                };
                (&Some(path_of(left)), kinds(&left.action, &right.action))
            }
        };
        if let Some(path) = path
            && !kinds.is_empty()
        {
            changes.push(PathChange { path: path.clone(), kinds });
        }
    }
}

fn path_of(change: &Change) -> TreePath {
    change.path.clone()
}

fn kinds(old: &Action, new: &Action) -> Vec<PathChangeKind> {
    let (old, new) = match (old, new) {
        (Action::Remove, Action::Remove) => return Vec::new(),
        (Action::Remove, Action::Set { .. }) => return vec![PathChangeKind::Added],
        (Action::Set { .. }, Action::Remove) => return vec![PathChangeKind::Removed],
        (old, new) => (old, new),
    };
    let mut kinds = Vec::new();
    let (
        Action::Set { item: old_item, metadata: old_metadata, modified: Time(old_time) },
        Action::Set { item: new_item, metadata: new_metadata, modified: Time(new_time) },
    ) = (old, new)
    else {
        return kinds;
    };
    match (old_item, new_item) {
        (Item::File { blob: a, size: before }, Item::File { blob: b, size: after }) if a != b => {
            kinds.push(PathChangeKind::Content(*before, *after));
        }
        (Item::Symlink { target: a }, Item::Symlink { target: b }) if a != b => {
            let text = |target: &[u8]| String::from_utf8_lossy(target).into_owned();
            kinds.push(PathChangeKind::Target(text(a), text(b)));
        }
        (Item::HardLink { to: a }, Item::HardLink { to: b }) if a != b => {
            kinds.push(PathChangeKind::Target(a.to_string(), b.to_string()));
        }
        (a, b) if name(a) != name(b) => kinds.push(PathChangeKind::Type(name(a), name(b))),
        (Item::Device(a), Item::Device(b)) if a != b => {
            kinds.push(PathChangeKind::Type("a device", "another device"));
        }
        _ => {}
    }
    metadata_kinds(old_metadata, new_metadata, &mut kinds);
    if old_time != new_time {
        kinds.push(PathChangeKind::Time(*old_time, *new_time));
    }
    kinds
}

fn metadata_kinds(old: &Metadata, new: &Metadata, kinds: &mut Vec<PathChangeKind>) {
    if old.mode != new.mode {
        kinds.push(PathChangeKind::Mode(old.mode, new.mode));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        kinds.push(PathChangeKind::Owner((old.uid, old.gid), (new.uid, new.gid)));
    }
    if old.xattrs != new.xattrs {
        kinds.push(PathChangeKind::Attributes);
    }
}

fn name(item: &Item) -> &'static str {
    match item {
        Item::Directory { .. } => "a directory",
        Item::File { .. } => "a file",
        Item::HardLink { .. } => "a hard link",
        Item::Symlink { .. } => "a symbolic link",
        Item::Device(_) => "a device",
    }
}

#[cfg(test)]
mod tests {
    use strata_cas::BlobId;

    use super::*;

    fn file(path: &str, content: &[u8], mode: u32, time: i64) -> Change {
        let item = Item::File { blob: BlobId::of(content), size: content.len() as u64 };
        let action = Action::Set { item, metadata: Metadata::root(mode), modified: Time(time) };
        Change { path: TreePath::new(path).expect("clean"), action }
    }

    #[test]
    fn says_what_about_each_path_is_not_the_same() {
        let old = Layer::new(vec![
            file("a", b"1", 0o644, 1),
            file("b", b"1", 0o644, 1),
            file("c", b"1", 0o644, 1),
            file("same", b"1", 0o644, 1),
        ]);
        let new = Layer::new(vec![
            file("a", b"22", 0o755, 1),
            file("b", b"1", 0o644, 2),
            file("d", b"1", 0o644, 1),
            file("same", b"1", 0o644, 1),
        ]);
        let found: Vec<(String, Vec<PathChangeKind>)> =
            paths(&old, &new).into_iter().map(|it| (it.path.to_string(), it.kinds)).collect();
        let expected = [
            ("a", vec![PathChangeKind::Content(1, 2), PathChangeKind::Mode(0o644, 0o755)]),
            ("b", vec![PathChangeKind::Time(1, 2)]),
            ("c", vec![PathChangeKind::Removed]),
            ("d", vec![PathChangeKind::Added]),
        ];
        assert_eq!(found, expected.map(|(path, kinds)| (path.to_owned(), kinds)));
        assert!(paths(&old, &old).is_empty());
    }

    #[test]
    fn says_which_fields_are_not_the_same() {
        let old = br#"{"os":"linux","config":{"Env":["A=1","B=2"]},"rootfs":{"diff_ids":["x"]}}"#;
        let new = br#"{"os":"linux","config":{"Env":["A=1"],"User":"u"},"rootfs":{"diff_ids":[]}}"#;
        let found = fields(old, new).expect("configs");
        let found: Vec<(&str, bool, bool)> =
            found.iter().map(|f| (f.field.as_str(), f.old.is_some(), f.new.is_some())).collect();
        assert_eq!(found, [("config.Env[001]", true, false), ("config.User", false, true)]);
    }
}
