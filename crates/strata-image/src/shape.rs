//! What every layer must be like before it is written anywhere, and what its changes amount to.

use std::borrow::Cow;

use strata_cas::{Action, Change, Item, Layer, Metadata, Time, TreePath};

use crate::ImageError;

/// What a whiteout's name begins with (OCI image specification, "layer": whiteouts).
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The marker of an opaque directory.
pub(crate) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// Refuses what no tar and no directory can show.
pub(crate) fn check(layer: &Layer) -> Result<(), ImageError> {
    let changes = layer.changes();
    for (change, next) in changes.iter().zip(changes.iter().skip(1).map(Some).chain([None])) {
        let path = &change.path;
        let wrong = |reason| Err(ImageError::Unrepresentable { path: path.clone(), reason });
        if path.components().any(|name| name.starts_with(WHITEOUT_PREFIX)) {
            return wrong("names that begin with `.wh.` stand for removed files");
        }
        let Action::Set { item, .. } = &change.action else {
            if path.is_root() {
                return wrong("the root can not be removed");
            }
            continue;
        };
        if matches!(item, Item::Directory { .. }) {
            continue;
        }
        if path.is_root() {
            return wrong("the root is a directory");
        }
        if next.is_some_and(|next| next.path.below(path).is_some()) {
            return wrong("something is below it and it is not a directory");
        }
        if let Item::HardLink { to } = item
            && (to >= path || linked(layer, to).is_none())
        {
            return wrong("it is a hard link and its target is not set earlier in the layer");
        }
    }
    Ok(())
}

/// Metadata and time of a hard link's target.
pub(crate) fn linked<'a>(layer: &'a Layer, to: &TreePath) -> Option<(&'a Metadata, Time)> {
    match layer.get(to)? {
        Action::Set { item: Item::Directory { .. } | Item::HardLink { .. }, .. } => None,
        Action::Set { metadata, modified, .. } => Some((metadata, *modified)),
        Action::Remove => None,
    }
}

/// What the change at `index` does. Removing a path below which the layer sets something is
/// making an opaque directory: no union file system can show both.
pub(crate) fn action(changes: &[Change], index: usize) -> Cow<'_, Action> {
    let Change { path, action } = &changes[index];
    let below = |next: &Change| next.path.below(path).is_some();
    if *action == Action::Remove && changes.get(index + 1).is_some_and(below) {
        return Cow::Owned(Action::Set {
            item: Item::Directory { opaque: true },
            metadata: Metadata::root(0o755),
            modified: Time(0),
        });
    }
    Cow::Borrowed(action)
}
