//! A layer's tar in units: where it is cut, and what each unit is made of. A unit is known before
//! any content is read.

use std::io::{self, Read};

use strata_cas::{Action, BlobId, BlobStore, Item, Layer, TreePath};

use crate::header::{BLOCK, padding};
use crate::{ImageError, pack};

/// A file that is larger is cut by itself, into pieces of this size.
pub const LARGE_FILE_BYTES: u64 = 1 << 20;
/// A piece of small files is not larger than about this, in bytes.
const MOST_BYTES: u64 = 2 << 20;
/// And not smaller than this, unless the layer ends or a large file comes.
const LEAST_BYTES: u64 = 128 << 10;
/// One path in so many ends a piece that is large enough.
const ENDING_PATHS: u8 = 16;

/// A part of the tar.
pub(crate) enum Unit {
    Run(Run),
    Large(Large),
}

/// Headers and small files.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) parts: Vec<Part>,
    pub(crate) bytes: u64,
}

/// A part of a run.
pub(crate) enum Part {
    Bytes(Vec<u8>),
    File { path: TreePath, blob: BlobId, size: u64 },
}

/// A file that is cut by itself.
pub(crate) struct Large {
    pub(crate) head: Vec<u8>,
    pub(crate) path: TreePath,
    pub(crate) blob: BlobId,
    pub(crate) size: u64,
}

/// The layer's tar as units, in order, with the blocks that end it or without.
pub(crate) fn units<'a>(
    layer: &'a Layer,
    store: &'a dyn BlobStore,
    with_end: bool,
) -> impl Iterator<Item = Result<Unit, ImageError>> + 'a {
    let mut index = 0;
    let mut run = Run::default();
    let mut waiting: Option<Large> = None;
    let mut ended = false;
    std::iter::from_fn(move || {
        if let Some(large) = waiting.take() {
            return Some(Ok(Unit::Large(large)));
        }
        while let Some(change) = layer.changes().get(index) {
            let head = match pack::head(layer, store, index) {
                Ok(head) => head,
                Err(error) => return Some(Err(error)),
            };
            index += 1;
            let path = change.path.clone();
            match &change.action {
                Action::Set { item: Item::File { blob, size }, .. } if *size > LARGE_FILE_BYTES => {
                    let large = Large { head, path, blob: *blob, size: *size };
                    if run.parts.is_empty() {
                        return Some(Ok(Unit::Large(large)));
                    }
                    waiting = Some(large);
                    return Some(Ok(Unit::Run(std::mem::take(&mut run))));
                }
                Action::Set { item: Item::File { blob, size }, .. } => {
                    run.bytes += head.len() as u64 + size + padding(*size);
                    run.parts.push(Part::Bytes(head));
                    run.parts.push(Part::File { path: path.clone(), blob: *blob, size: *size });
                }
                _ => {
                    run.bytes += head.len() as u64;
                    run.parts.push(Part::Bytes(head));
                }
            }
            if run.bytes >= MOST_BYTES || (run.bytes >= LEAST_BYTES && ends_piece(&path)) {
                return Some(Ok(Unit::Run(std::mem::take(&mut run))));
            }
        }
        if std::mem::replace(&mut ended, true) {
            return None;
        }
        if with_end {
            run.parts.push(Part::Bytes(vec![0; 2 * BLOCK]));
            run.bytes += 2 * BLOCK as u64;
        } else if run.parts.is_empty() {
            return None;
        }
        Some(Ok(Unit::Run(std::mem::take(&mut run))))
    })
}

/// Whether a piece may end behind this path: it depends on the path alone, so that pieces end in
/// the same places whatever is between them.
fn ends_piece(path: &TreePath) -> bool {
    BlobId::of(path.as_bytes()).as_bytes()[0].is_multiple_of(ENDING_PATHS)
}

impl Large {
    /// How many pieces it becomes.
    pub(crate) fn parts(&self) -> u64 {
        self.size.div_ceil(LARGE_FILE_BYTES)
    }

    /// Bytes of content in a piece.
    pub(crate) fn content_bytes(&self, at: u64) -> u64 {
        (self.size - at * LARGE_FILE_BYTES).min(LARGE_FILE_BYTES)
    }

    /// Bytes of the tar in a piece: header, content, padding.
    pub(crate) fn part_bytes(&self, at: u64) -> u64 {
        let head = if at == 0 { self.head.len() as u64 } else { 0 };
        let is_last = at + 1 >= self.parts();
        head + self.content_bytes(at) + if is_last { padding(self.size) } else { 0 }
    }

    /// The next piece of the tar, its content out of a reader that stands where it begins, in a
    /// buffer that was empty.
    pub(crate) fn read_part(
        &self,
        at: u64,
        reader: &mut impl Read,
        mut bytes: Vec<u8>,
    ) -> Result<Vec<u8>, ImageError> {
        bytes.reserve(usize::try_from(self.part_bytes(at)).unwrap_or_default());
        if at == 0 {
            bytes.extend_from_slice(&self.head);
        }
        let wanted = self.content_bytes(at);
        let count = reader.take(wanted).read_to_end(&mut bytes).map_err(read_error(&self.path))?;
        if count as u64 != wanted {
            return Err(wrong_size(&self.path));
        }
        if at + 1 >= self.parts() {
            pad(&mut bytes, self.size);
        }
        Ok(bytes)
    }

    /// Only at its end is it known whether a blob's bytes are those of its name: reads that.
    pub(crate) fn end(&self, reader: &mut impl Read) -> Result<(), ImageError> {
        let rest = reader.read(&mut [0; 1]).map_err(read_error(&self.path))?;
        if rest == 0 { Ok(()) } else { Err(wrong_size(&self.path)) }
    }
}

pub(crate) fn pad(bytes: &mut Vec<u8>, size: u64) {
    let zeros = usize::try_from(padding(size)).unwrap_or(0);
    bytes.resize(bytes.len() + zeros, 0);
}

pub(crate) fn missing(path: &TreePath, blob: BlobId) -> ImageError {
    ImageError::MissingBlob { path: path.clone(), blob }
}

pub(crate) fn wrong_size(path: &TreePath) -> ImageError {
    let reason = "its blob does not have the size that the layer says";
    ImageError::Unrepresentable { path: path.clone(), reason }
}

pub(crate) fn read_error(path: &TreePath) -> impl FnOnce(io::Error) -> ImageError {
    ImageError::io(format!("read the bytes of `{path}`"))
}
