//! A layer compressed piece by piece, so that a layer that changed a little is compressed a
//! little.
//!
//! The tar is cut where its *content* says so and nowhere else: a file larger than
//! [`LARGE_FILE_BYTES`] is cut by itself into pieces of that size; smaller ones are gathered until
//! a path's hash says that a piece ends. So a changed, new or missing file changes the piece that
//! it is in and no other. Each piece is a gzip member or zstd frame of its own, and the compressed
//! layer is all of them in a row, which every reader of these formats takes.
//!
//! A piece is known by what it is made of before it is read: headers, and for content the blobs'
//! names. What was compressed before is neither read nor compressed again.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use rayon::prelude::*;
use strata_cas::{Action, BlobHasher, BlobId, BlobStore, Item, Layer, TreePath};
use strata_oci::{Compression, Digest, DigestHasher};

use crate::compress::{compress_block, level_of};
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

/// A piece of a compressed layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// What it is made of: names of what is in it.
    pub recipe: BlobId,
    /// What it is made of: its bytes, for a piece of a large file.
    pub content: Option<BlobId>,
    /// Its compressed bytes in the store.
    pub blob: BlobId,
    /// Their number.
    pub size: u64,
}

/// A layer, compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressedLayer {
    /// The digest of all pieces in a row.
    pub digest: Digest,
    /// Their size in bytes.
    pub size: u64,
    /// The pieces.
    pub pieces: Vec<Piece>,
    /// Bytes of the tar that were compressed now; the others were before.
    pub fresh_bytes: u64,
    /// Bytes of the tar.
    pub tar_bytes: u64,
}

/// Pieces that were made before, by recipe and by content.
pub type KnownPieces = HashMap<BlobId, BlobId>;

/// Compresses a layer's tar into the store, in pieces. The bytes depend on the layer, the
/// compression and the level alone.
///
/// # Errors
///
/// As [`crate::pack`], and when a piece can not be kept.
pub fn compress_layer(
    layer: &Layer,
    store: &dyn BlobStore,
    compression: Compression,
    level: Option<i32>,
    known: &KnownPieces,
) -> Result<CompressedLayer, ImageError> {
    crate::shape::check(layer)?;
    let level = level_of(compression, level);
    let maker = Maker { store, compression, level, known };
    let mut whole = Whole { hasher: DigestHasher::default(), pieces: Vec::new(), fresh: 0, tar: 0 };
    let window = 2 * rayon::current_num_threads();
    let mut runs: Vec<Run> = Vec::new();
    for unit in units(layer, store) {
        match unit? {
            Unit::Run(run) => {
                runs.push(run);
                if runs.len() >= window {
                    maker.runs(&std::mem::take(&mut runs), &mut whole)?;
                }
            }
            Unit::Large(large) => {
                maker.runs(&std::mem::take(&mut runs), &mut whole)?;
                maker.large(&large, window, &mut whole)?;
            }
        }
    }
    maker.runs(&runs, &mut whole)?;
    let (digest, size) = whole.hasher.finish();
    let (pieces, fresh_bytes, tar_bytes) = (whole.pieces, whole.fresh, whole.tar);
    Ok(CompressedLayer { digest, size, pieces, fresh_bytes, tar_bytes })
}

/// What is gathered in order.
struct Whole {
    hasher: DigestHasher,
    pieces: Vec<Piece>,
    fresh: u64,
    tar: u64,
}

impl Whole {
    fn add(&mut self, made: Made) -> Result<(), ImageError> {
        self.hasher.write_all(&made.bytes).map_err(ImageError::io("hash a layer"))?;
        self.pieces.push(made.piece);
        self.tar += made.tar_bytes;
        self.fresh += if made.is_fresh { made.tar_bytes } else { 0 };
        Ok(())
    }
}

/// A piece with its compressed bytes.
struct Made {
    piece: Piece,
    bytes: Vec<u8>,
    tar_bytes: u64,
    is_fresh: bool,
}

enum Unit {
    Run(Run),
    Large(Large),
}

/// Headers and small files.
#[derive(Default)]
struct Run {
    parts: Vec<Part>,
    bytes: u64,
}

enum Part {
    Bytes(Vec<u8>),
    File { path: TreePath, blob: BlobId, size: u64 },
}

/// A file that is cut by itself.
struct Large {
    head: Vec<u8>,
    path: TreePath,
    blob: BlobId,
    size: u64,
}

/// The layer's tar as units, in order.
fn units<'a>(
    layer: &'a Layer,
    store: &'a dyn BlobStore,
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
        run.parts.push(Part::Bytes(vec![0; 2 * BLOCK]));
        run.bytes += 2 * BLOCK as u64;
        Some(Ok(Unit::Run(std::mem::take(&mut run))))
    })
}

/// Whether a piece may end behind this path: it depends on the path alone, so that pieces end in
/// the same places whatever is between them.
fn ends_piece(path: &TreePath) -> bool {
    BlobId::of(path.as_bytes()).as_bytes()[0].is_multiple_of(ENDING_PATHS)
}

struct Maker<'a> {
    store: &'a dyn BlobStore,
    compression: Compression,
    level: i32,
    known: &'a KnownPieces,
}

impl Maker<'_> {
    /// A hasher that has what all recipes begin with.
    fn recipe(&self, kind: &str) -> BlobHasher {
        let mut hasher = BlobHasher::default();
        let start = format!("strata.piece.1 {kind} {:?} {}\n", self.compression, self.level);
        hasher.update(start.as_bytes());
        hasher
    }

    /// A piece that was made before, if its bytes are there.
    fn known(&self, key: &BlobId) -> Result<Option<(BlobId, Vec<u8>)>, ImageError> {
        let Some(blob) = self.known.get(key) else { return Ok(None) };
        Ok(self.store.get(blob)?.map(|bytes| (*blob, bytes)))
    }

    fn compress(&self, bytes: &[u8]) -> Result<(BlobId, Vec<u8>), ImageError> {
        let compressed = compress_block(bytes, self.compression, self.level);
        let compressed = compressed.map_err(ImageError::io("compress a layer"))?;
        Ok((self.store.put(&compressed)?, compressed))
    }

    fn runs(&self, runs: &[Run], whole: &mut Whole) -> Result<(), ImageError> {
        let made: Vec<Result<Made, ImageError>> =
            runs.par_iter().map(|run| self.run(run)).collect();
        made.into_iter().try_for_each(|made| whole.add(made?))
    }

    fn run(&self, run: &Run) -> Result<Made, ImageError> {
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
        let (blob, bytes, is_fresh) = match self.known(&recipe)? {
            Some((blob, bytes)) => (blob, bytes, false),
            None => {
                let (blob, bytes) = self.compress(&self.read(run)?)?;
                (blob, bytes, true)
            }
        };
        let piece = Piece { recipe, content: None, blob, size: bytes.len() as u64 };
        Ok(Made { piece, bytes, tar_bytes: run.bytes, is_fresh })
    }

    /// The bytes of a run's part of the tar.
    fn read(&self, run: &Run) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::with_capacity(usize::try_from(run.bytes).unwrap_or_default());
        for part in &run.parts {
            match part {
                Part::Bytes(part) => bytes.extend_from_slice(part),
                Part::File { path, blob, size } => {
                    let content = self.store.get(blob)?.ok_or_else(|| missing(path, *blob))?;
                    if content.len() as u64 != *size {
                        return Err(wrong_size(path));
                    }
                    bytes.extend_from_slice(&content);
                    pad(&mut bytes, *size);
                }
            }
        }
        Ok(bytes)
    }

    /// The pieces of a large file. It is read only if one of them is not known.
    fn large(&self, file: &Large, window: usize, whole: &mut Whole) -> Result<(), ImageError> {
        let recipes: Vec<BlobId> = (0..file.size.div_ceil(LARGE_FILE_BYTES))
            .map(|at| self.part_recipe(file, at))
            .collect();
        let is_known = recipes.iter().all(|recipe| self.known.contains_key(recipe));
        let found = recipes.par_iter().map(|recipe| self.known(recipe));
        let before: Option<Vec<(BlobId, Vec<u8>)>> = match is_known {
            true => found.collect::<Result<Option<Vec<_>>, ImageError>>()?,
            false => None,
        };
        if let Some(before) = before.filter(|before| before.len() == recipes.len()) {
            for (at, (blob, bytes)) in before.into_iter().enumerate() {
                let (recipe, size) = (recipes[at], bytes.len() as u64);
                let piece = Piece { recipe, content: None, blob, size };
                let tar_bytes = part_bytes(file, at as u64);
                whole.add(Made { piece, bytes, tar_bytes, is_fresh: false })?;
            }
            return Ok(());
        }
        let found = self.store.open(&file.blob)?;
        let mut reader = found.ok_or_else(|| missing(&file.path, file.blob))?.reader(file.blob);
        for parts in recipes.chunks(window).enumerate() {
            let (number, recipes) = (parts.0 * window, parts.1);
            let read = |at: usize| read_part(file, (number + at) as u64, &mut reader);
            let parts: Vec<Vec<u8>> = (0..recipes.len()).map(read).collect::<Result<_, _>>()?;
            let made: Vec<Result<Made, ImageError>> = parts
                .par_iter()
                .zip(recipes)
                .map(|(part, recipe)| self.part(part, *recipe))
                .collect();
            made.into_iter().try_for_each(|made| whole.add(made?))?;
        }
        // Only at its end is it known whether the bytes are those of the blob.
        let rest = reader.read(&mut [0; 1]).map_err(read_error(&file.path))?;
        if rest == 0 { Ok(()) } else { Err(wrong_size(&file.path)) }
    }

    fn part_recipe(&self, file: &Large, at: u64) -> BlobId {
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

    fn part(&self, part: &[u8], recipe: BlobId) -> Result<Made, ImageError> {
        let mut content = self.recipe("bytes");
        content.update(part);
        let content = content.finish();
        let (blob, bytes, is_fresh) = match self.known(&content)? {
            Some((blob, bytes)) => (blob, bytes, false),
            None => {
                let (blob, bytes) = self.compress(part)?;
                (blob, bytes, true)
            }
        };
        let piece = Piece { recipe, content: Some(content), blob, size: bytes.len() as u64 };
        Ok(Made { piece, bytes, tar_bytes: part.len() as u64, is_fresh })
    }
}

/// Bytes of content in a part of a large file.
fn content_bytes(file: &Large, at: u64) -> u64 {
    (file.size - at * LARGE_FILE_BYTES).min(LARGE_FILE_BYTES)
}

/// Bytes of the tar in a part of a large file: header, content, padding.
fn part_bytes(file: &Large, at: u64) -> u64 {
    let head = if at == 0 { file.head.len() as u64 } else { 0 };
    let is_last = (at + 1) * LARGE_FILE_BYTES >= file.size;
    head + content_bytes(file, at) + if is_last { padding(file.size) } else { 0 }
}

fn read_part(file: &Large, at: u64, reader: &mut impl Read) -> Result<Vec<u8>, ImageError> {
    let mut bytes = if at == 0 { file.head.clone() } else { Vec::new() };
    let wanted = content_bytes(file, at);
    let count = reader.take(wanted).read_to_end(&mut bytes).map_err(read_error(&file.path))?;
    if count as u64 != wanted {
        return Err(wrong_size(&file.path));
    }
    if (at + 1) * LARGE_FILE_BYTES >= file.size {
        pad(&mut bytes, file.size);
    }
    Ok(bytes)
}

fn pad(bytes: &mut Vec<u8>, size: u64) {
    let zeros = usize::try_from(padding(size)).unwrap_or(0);
    bytes.resize(bytes.len() + zeros, 0);
}

fn missing(path: &TreePath, blob: BlobId) -> ImageError {
    ImageError::MissingBlob { path: path.clone(), blob }
}

fn wrong_size(path: &TreePath) -> ImageError {
    let reason = "its blob does not have the size that the layer says";
    ImageError::Unrepresentable { path: path.clone(), reason }
}

fn read_error(path: &TreePath) -> impl FnOnce(io::Error) -> ImageError {
    ImageError::io(format!("read the bytes of `{path}`"))
}

#[cfg(test)]
mod tests {
    use strata_cas::{Change, MemoryStore, Metadata, Time};

    use super::*;
    use crate::Decoder;

    /// Some bytes that compress a little and are like no others.
    fn content(seed: u64, size: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&[state.to_le_bytes()[0] & 0x3f; 2]);
        }
        bytes.truncate(size);
        bytes
    }

    fn file(store: &MemoryStore, path: &str, bytes: &[u8]) -> Change {
        let item = Item::File { blob: store.put(bytes).expect("put"), size: bytes.len() as u64 };
        let action = Action::Set { item, metadata: Metadata::root(0o644), modified: Time(1) };
        Change { path: TreePath::new(path).expect("clean"), action }
    }

    fn files(store: &MemoryStore, count: u64, changed: u64) -> Layer {
        let one = |number: u64| {
            let seed = if number == changed { number + 1_000_000 } else { number };
            file(store, &format!("d{}/f{number}", number % 10), &content(seed, 20_000))
        };
        Layer::new((0..count).map(one).collect())
    }

    fn known(compressed: &CompressedLayer) -> KnownPieces {
        let pieces = compressed.pieces.iter();
        let keys = pieces.flat_map(|piece| {
            [Some(piece.recipe), piece.content].into_iter().flatten().map(|key| (key, piece.blob))
        });
        keys.collect()
    }

    fn compress(layer: &Layer, store: &MemoryStore, known: &KnownPieces) -> CompressedLayer {
        compress_layer(layer, store, Compression::Gzip, None, known).expect("compressed")
    }

    #[test]
    fn the_pieces_in_a_row_are_the_layers_tar() {
        let store = MemoryStore::default();
        let large = content(7, 3_500_000);
        let layer = Layer::new(vec![
            file(&store, "a", b"small"),
            file(&store, "b", &large),
            file(&store, "c", &large[..1 << 20]),
            file(&store, "d", &large[..2 << 20]),
            file(&store, "empty", b""),
        ]);
        let mut tar = Vec::new();
        crate::pack(&layer, &store, &mut tar).expect("packed");
        for compression in [Compression::Gzip, Compression::Zstd] {
            let made = compress_layer(&layer, &store, compression, None, &KnownPieces::new());
            let made = made.expect("compressed");
            let pieces = made.pieces.iter().map(|piece| store.get(&piece.blob));
            let bytes: Vec<u8> =
                pieces.flat_map(|piece| piece.expect("read").expect("there")).collect();
            assert_eq!((made.digest, made.size), (Digest::of(&bytes), bytes.len() as u64));
            let mut read = Vec::new();
            Decoder::new(&bytes[..]).expect("a decoder").read_to_end(&mut read).expect("read");
            assert!(read == tar, "{compression:?}");
            assert_eq!((made.fresh_bytes, made.tar_bytes), (tar.len() as u64, tar.len() as u64));
        }
    }

    #[test]
    fn a_file_that_changed_costs_its_own_piece() {
        let store = MemoryStore::default();
        let first = compress(&files(&store, 2000, u64::MAX), &store, &KnownPieces::new());
        let second = files(&store, 2000, 1234);
        let again = compress(&second, &store, &known(&first));
        let share = again.fresh_bytes as f64 / again.tar_bytes as f64;
        assert!(again.fresh_bytes > 0 && share < 0.05, "{share}");
        assert_eq!(again.digest, compress(&second, &store, &KnownPieces::new()).digest);
        let nothing = compress(&second, &store, &known(&again));
        assert_eq!(nothing.fresh_bytes, 0);
    }

    #[test]
    fn a_file_that_came_or_went_costs_its_own_piece() {
        let store = MemoryStore::default();
        let whole = files(&store, 2000, u64::MAX);
        let first = compress(&whole, &store, &KnownPieces::new());
        let mut changes = whole.changes().to_vec();
        changes.remove(1000);
        changes.push(file(&store, "d3/new", b"new"));
        let again = compress(&Layer::new(changes), &store, &known(&first));
        let share = again.fresh_bytes as f64 / again.tar_bytes as f64;
        assert!(again.fresh_bytes > 0 && share < 0.1, "{share}");
    }

    #[test]
    fn a_change_inside_a_large_file_costs_a_part_of_it() {
        let store = MemoryStore::default();
        let mut bytes = content(3, 64 << 20);
        let layer = |bytes: &[u8]| Layer::new(vec![file(&store, "large", bytes)]);
        let first = compress(&layer(&bytes), &store, &KnownPieces::new());
        bytes[30 << 20] ^= 1;
        let again = compress(&layer(&bytes), &store, &known(&first));
        assert!(again.fresh_bytes <= 2 << 20, "{}", again.fresh_bytes);
        assert_eq!(again.digest, compress(&layer(&bytes), &store, &KnownPieces::new()).digest);
    }
}
