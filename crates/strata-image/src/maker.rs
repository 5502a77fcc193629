//! Makes a layer's pieces: takes those that are known, compresses the others, keeps what was hard.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use strata_cas::{BlobHasher, BlobId, BlobStore, TreePath};

use crate::ImageError;
use crate::compress::{Way, level_of};
use crate::copy::copy;
use crate::in_order::most_underway;
use crate::pieces::{Compressing, Piece};
use crate::units::{LARGE_FILE_BYTES, Large, Part, Run, missing, pad, read_error, wrong_size};

/// A piece with its compressed bytes.
pub(crate) struct Made {
    pub(crate) piece: Piece,
    pub(crate) bytes: Vec<u8>,
    pub(crate) tar_bytes: u64,
    pub(crate) is_fresh: bool,
}

/// What makes the pieces of one layer.
pub(crate) struct Maker<'a> {
    store: &'a dyn BlobStore,
    how: Compressing<'a>,
    level: i32,
    spare: Spare,
}

/// Buffers that were used, to be used again: a new one of a MiB costs the system all its pages.
#[derive(Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < most_underway() {
            buffers.push(buffer);
        }
    }
}

/// A piece's compressed bytes, where they are kept, and whether they were made now and with
/// trouble.
pub(crate) struct Pressed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) blob: Option<BlobId>,
    pub(crate) is_fresh: bool,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(store: &'a dyn BlobStore, how: &Compressing<'a>) -> Self {
        let level = level_of(how.compression, how.level);
        Self { store, how: *how, level, spare: Spare::default() }
    }

    /// An empty buffer.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.spare.take()
    }

    /// Takes a buffer that nobody needs any more.
    pub(crate) fn spare(&self, buffer: Vec<u8>) {
        self.spare.give(buffer);
    }

    /// A hasher that has what all recipes begin with.
    pub(crate) fn recipe(&self, kind: &str) -> BlobHasher {
        let mut hasher = BlobHasher::default();
        let start = format!("strata.piece.3 {kind} {:?} {}\n", self.how.compression, self.level);
        hasher.update(start.as_bytes());
        hasher
    }

    /// A piece that was made before, if its bytes are there.
    pub(crate) fn known(&self, key: &BlobId) -> Result<Option<Pressed>, ImageError> {
        let Some(blob) = self.how.known.get(key) else { return Ok(None) };
        let bytes = self.store.get(blob)?;
        Ok(bytes.map(|bytes| Pressed { bytes, blob: Some(*blob), is_fresh: false }))
    }

    fn compress(&self, bytes: &[u8], way: Way) -> Result<Pressed, ImageError> {
        let compressed = way.compress_into(bytes, self.buffer());
        let compressed = compressed.map_err(ImageError::io("compress a layer"))?;
        let is_cheap = way.was_cheap(bytes.len(), compressed.len());
        let is_kept = self.how.keep_all || !is_cheap;
        let blob = is_kept.then(|| self.keep(&compressed)).transpose()?;
        Ok(Pressed { bytes: compressed, blob, is_fresh: !is_cheap })
    }

    /// Keeps the bytes of a piece.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Result<BlobId, ImageError> {
        Ok(self.store.put(bytes)?)
    }

    pub(crate) fn way(&self, bytes: &[u8]) -> Way {
        Way::of(bytes, self.how.compression, self.level)
    }

    pub(crate) fn run(&self, run: &Run) -> Result<Made, ImageError> {
        let mut recipe = self.recipe("files");
        for part in &run.parts {
            match part {
                Part::Bytes(bytes) => {
                    recipe.update(&(bytes.len() as u64).to_le_bytes());
                    recipe.update(bytes);
                }
                Part::File { blob, size, .. } => {
                    recipe.update(&size.to_le_bytes());
                    recipe.update(blob.as_bytes());
                }
            }
        }
        let recipe = recipe.finish();
        let pressed = match self.known(&recipe)? {
            Some(pressed) => pressed,
            None => {
                let bytes = self.read(run)?;
                let pressed = self.compress(&bytes, self.way(&bytes))?;
                self.spare(bytes);
                pressed
            }
        };
        Ok(pressed.made(recipe, None, run.bytes))
    }

    /// The bytes of a run's part of the tar.
    fn read(&self, run: &Run) -> Result<Vec<u8>, ImageError> {
        let mut bytes = self.buffer();
        bytes.reserve(usize::try_from(run.bytes).unwrap_or_default());
        for part in &run.parts {
            match part {
                Part::Bytes(part) => bytes.extend_from_slice(part),
                Part::File { path, blob, size } => {
                    bytes.extend_from_slice(&self.content(path, blob, *size)?);
                    pad(&mut bytes, *size);
                }
            }
        }
        Ok(bytes)
    }

    /// A small file's bytes.
    pub(crate) fn content(
        &self,
        path: &TreePath,
        blob: &BlobId,
        size: u64,
    ) -> Result<Vec<u8>, ImageError> {
        let content = self.store.get(blob)?.ok_or_else(|| missing(path, *blob))?;
        if content.len() as u64 == size { Ok(content) } else { Err(wrong_size(path)) }
    }

    /// A large file, from its beginning.
    pub(crate) fn open(&self, file: &Large) -> Result<impl Read + use<'a>, ImageError> {
        let found = self.store.open(&file.blob)?;
        Ok(found.ok_or_else(|| missing(&file.path, file.blob))?.reader(file.blob))
    }

    pub(crate) fn part_recipe(&self, file: &Large, at: u64) -> BlobId {
        let mut recipe = self.recipe("part");
        if at == 0 {
            recipe.update(&file.head);
        }
        recipe.update(file.blob.as_bytes());
        for number in [file.size, at] {
            recipe.update(&number.to_le_bytes());
        }
        recipe.finish()
    }

    /// Whether all parts of a file are there, so that it need not be read.
    pub(crate) fn knows_all(&self, file: &Large) -> Result<bool, ImageError> {
        for at in 0..file.parts() {
            match self.how.known.get(&self.part_recipe(file, at)) {
                Some(blob) if self.store.has(blob)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// A part that is known. Is it damaged, the file is read for it.
    pub(crate) fn known_part(&self, file: &Large, at: u64) -> Result<Made, ImageError> {
        let recipe = self.part_recipe(file, at);
        if let Some(pressed) = self.known(&recipe)? {
            return Ok(pressed.made(recipe, None, file.part_bytes(at)));
        }
        let mut reader = self.open(file)?;
        let mut passed = (&mut reader).take(at * LARGE_FILE_BYTES);
        copy(&mut passed, &mut io::sink()).map_err(read_error(&file.path))?;
        let part = file.read_part(at, &mut reader, self.buffer())?;
        copy(&mut reader, &mut io::sink()).map_err(read_error(&file.path))?;
        self.part(part, recipe)
    }

    pub(crate) fn part(&self, part: Vec<u8>, recipe: BlobId) -> Result<Made, ImageError> {
        let tar_bytes = part.len() as u64;
        let way = self.way(&part);
        let content = (way != Way::Stored || self.how.keep_all).then(|| {
            let mut content = self.recipe("bytes");
            content.update(&part);
            content.finish()
        });
        let known = content.map(|content| self.known(&content)).transpose()?.flatten();
        let pressed = match known {
            Some(pressed) => pressed,
            None => self.compress(&part, way)?,
        };
        self.spare(part);
        Ok(pressed.made(recipe, content, tar_bytes))
    }
}

impl Pressed {
    pub(crate) fn made(self, recipe: BlobId, content: Option<BlobId>, tar_bytes: u64) -> Made {
        let Self { bytes, blob, is_fresh } = self;
        let piece = Piece { recipe, content, blob, size: bytes.len() as u64 };
        Made { piece, bytes, tar_bytes, is_fresh }
    }
}
