//! Layers as values: what one step changed, in order. How they look as tar is `strata-image`'s.

use crate::canonical::{DecodeError, Reader, Writer};
use crate::{BlobId, Device, LayerId, Metadata, TreePath};

const FORMAT: &str = "strata.layer.1";

/// A file's modification time: whole seconds since 1970-01-01T00:00:00Z, as layers carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub i64);

/// What stands at a path after the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A directory. An opaque one hides all that lower layers have below its path.
    Directory {
        /// Whether it hides what is below it.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// Its bytes.
        blob: BlobId,
        /// Their number.
        size: u64,
    },
    /// Another name of a file, symbolic link or device that this layer sets too.
    HardLink {
        /// The path that says what it is; it sorts before this one.
        to: TreePath,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: Vec<u8>,
    },
    /// A device or fifo.
    Device(Device),
}

/// What happens to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The path is made or replaced. For a hard link, metadata and time are its target's.
    Set {
        /// What stands there.
        item: Item,
        /// Mode, owner, extended attributes.
        metadata: Metadata,
        /// Modification time.
        modified: Time,
    },
    /// The path and all below it is gone (a whiteout).
    Remove,
}

/// One path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which path; the root's own metadata can be set too.
    pub path: TreePath,
    /// What happens to it.
    pub action: Action,
}

/// What one step changed: each path once, in [`TreePath`]'s order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    changes: Vec<Change>,
}

impl Layer {
    /// Puts changes in order; of several for one path, the last one counts.
    pub fn new(mut changes: Vec<Change>) -> Self {
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        let mut unique: Vec<Change> = Vec::with_capacity(changes.len());
        for change in changes {
            match unique.last_mut() {
                Some(last) if last.path == change.path => *last = change,
                _ => unique.push(change),
            }
        }
        Self { changes: unique }
    }

    /// The changes, in order, each path once.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether another layer makes the same of every root, times aside.
    pub fn is_same_but_for_times(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&Change, &Change)| {
            one.path == other.path
                && match (&one.action, &other.action) {
                    (
                        Action::Set { item, metadata, modified: _ },
                        Action::Set { item: other_item, metadata: other_metadata, modified: _ },
                    ) => item == other_item && metadata == other_metadata,
                    (one, other) => one == other,
                }
        };
        let count = self.changes.len();
        count == other.changes.len() && self.changes.iter().zip(&other.changes).all(is_same)
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What the layer does to exactly this path.
    pub fn get(&self, path: &TreePath) -> Option<&Action> {
        let at = self.changes.binary_search_by(|change| change.path.cmp(path)).ok()?;
        Some(&self.changes[at].action)
    }

    /// The blobs that the layer's files need, in path order, with their sizes.
    pub fn blobs(&self) -> impl Iterator<Item = (BlobId, u64)> + '_ {
        self.changes.iter().filter_map(|change| match change.action {
            Action::Set { item: Item::File { blob, size }, .. } => Some((blob, size)),
            _ => None,
        })
    }

    /// The canonical bytes, whose BLAKE3 is the layer's id.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::with_format(FORMAT);
        to.count(self.changes.len());
        for Change { path, action } in &self.changes {
            to.bytes(path.as_bytes());
            encode_action(action, &mut to);
        }
        to.into_bytes()
    }

    /// Whether bytes begin as a layer's do.
    pub fn is_begun_by(bytes: &[u8]) -> bool {
        bytes.strip_prefix(FORMAT.as_bytes()).is_some_and(|rest| rest.starts_with(b"\n"))
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::with_format(FORMAT, bytes)?;
        let count = from.count()?;
        let mut changes: Vec<Change> = Vec::new();
        for _ in 0..count {
            let path = decode_path(&mut from)?;
            if changes.last().is_some_and(|last| last.path >= path) {
                return Err(from.error("its paths are not in order"));
            }
            let action = decode_action(&mut from)?;
            changes.push(Change { path, action });
        }
        from.finish()?;
        Ok(Self { changes })
    }

    /// Names the layer.
    pub fn id(&self) -> LayerId {
        BlobId::of(&self.encode()).into()
    }
}

fn encode_action(action: &Action, to: &mut Writer) {
    let Action::Set { item, metadata, modified } = action else {
        to.byte(0);
        return;
    };
    match item {
        Item::Directory { opaque } => {
            to.byte(1);
            to.flag(*opaque);
        }
        Item::File { blob, size } => {
            to.byte(2);
            to.fixed(blob.as_bytes());
            to.u64(*size);
        }
        Item::HardLink { to: path } => {
            to.byte(3);
            to.bytes(path.as_bytes());
        }
        Item::Symlink { target } => {
            to.byte(4);
            to.bytes(target);
        }
        Item::Device(device) => {
            to.byte(5);
            device.encode(to);
        }
    }
    metadata.encode(to);
    to.i64(modified.0);
}

fn decode_action(from: &mut Reader<'_>) -> Result<Action, DecodeError> {
    let item = match from.byte()? {
        0 => return Ok(Action::Remove),
        1 => Item::Directory { opaque: from.flag()? },
        2 => Item::File { blob: BlobId::from_bytes(from.fixed()?), size: from.u64()? },
        3 => Item::HardLink { to: decode_path(from)? },
        4 => Item::Symlink { target: from.bytes()?.to_vec() },
        5 => Item::Device(Device::decode(from)?),
        _ => return Err(from.error("an unknown kind of change")),
    };
    let metadata = Metadata::decode(from)?;
    Ok(Action::Set { item, metadata, modified: Time(from.i64()?) })
}

fn decode_path(from: &mut Reader<'_>) -> Result<TreePath, DecodeError> {
    TreePath::new(from.bytes()?).map_err(|_| from.error("a path is not clean"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> Change {
        let item = Item::File { blob: BlobId::of(content), size: content.len() as u64 };
        let action =
            Action::Set { item, metadata: Metadata::root(0o644), modified: Time(1_000_000_000) };
        Change { path: TreePath::new(path).expect("clean"), action }
    }

    #[test]
    fn sorts_and_keeps_the_last_of_each_path() {
        let layer = Layer::new(vec![file("b", b"1"), file("a", b"2"), file("b", b"3")]);
        assert_eq!(layer.changes(), [file("a", b"2"), file("b", b"3")]);
    }

    #[test]
    fn reads_back_what_it_wrote_and_refuses_the_rest() {
        let removed = Change { path: TreePath::new("c").expect("clean"), action: Action::Remove };
        let layer = Layer::new(vec![file("a/b", b"1"), removed]);
        let bytes = layer.encode();
        assert_eq!(Layer::decode(&bytes), Ok(layer));
        for cut in 0..bytes.len() {
            assert!(Layer::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
