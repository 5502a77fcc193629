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
//! names. What was compressed before is neither read nor compressed again. What nothing makes
//! smaller is stored as it is, which costs no more than reading it from the disk: such pieces are
//! made again each time, and kept only for those who ask for it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rayon::Scope;
use strata_cas::{Action, BlobHasher, BlobId, BlobStore, Item, Layer, TreePath};
use strata_oci::{Compression, Digest, DigestHasher};

use crate::compress::{Way, level_of};
use crate::header::{BLOCK, padding};
use crate::in_order::InOrder;
use crate::{ImageError, copy::copy, pack};

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
    /// Its compressed bytes in the store; none where they are not kept.
    pub blob: Option<BlobId>,
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

/// Pieces that were made before and are kept, by recipe and by content.
pub type KnownPieces = HashMap<BlobId, BlobId>;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy)]
pub struct Compressing<'a> {
    /// Into which format.
    pub compression: Compression,
    /// How hard; the format's own level where none is given.
    pub level: Option<i32>,
    /// What is neither read nor compressed again.
    pub known: &'a KnownPieces,
    /// Whether those pieces are kept, too, that are made again as fast as they are read.
    pub keep_all: bool,
}

/// Compresses a layer's tar, in pieces: into `out`, and what was hard to make into the store.
/// The bytes depend on the layer, the compression and the level alone.
///
/// # Errors
///
/// As [`crate::pack`], when a piece can not be kept, and when `out` can not be written.
pub fn compress_layer(
    layer: &Layer,
    store: &dyn BlobStore,
    how: &Compressing<'_>,
    out: &mut dyn Write,
) -> Result<CompressedLayer, ImageError> {
    crate::shape::check(layer)?;
    let level = level_of(how.compression, how.level);
    let maker = Maker { store, how: *how, level };
    let whole =
        Whole { out, hasher: DigestHasher::default(), pieces: Vec::new(), fresh: 0, tar: 0 };
    let whole = rayon::in_place_scope(|scope| {
        let mut line = Line { maker: &maker, scope, underway: InOrder::default(), whole };
        for unit in units(layer, store) {
            match unit? {
                Unit::Run(run) => line.begin(move |maker| maker.run(&run))?,
                Unit::Large(large) => line.large(large)?,
            }
        }
        line.finish()
    })?;
    let (digest, size) = whole.hasher.finish();
    let (pieces, fresh_bytes, tar_bytes) = (whole.pieces, whole.fresh, whole.tar);
    Ok(CompressedLayer { digest, size, pieces, fresh_bytes, tar_bytes })
}

/// Pieces that are made on many threads and join the layer in order.
struct Line<'l, 'scope, 'o> {
    maker: &'scope Maker<'scope>,
    scope: &'l Scope<'scope>,
    underway: InOrder<Result<Made, ImageError>>,
    whole: Whole<'o>,
}

impl<'o, 'scope> Line<'_, 'scope, 'o> {
    /// Begins a piece behind all others.
    fn begin(
        &mut self,
        make: impl FnOnce(&Maker<'_>) -> Result<Made, ImageError> + Send + 'scope,
    ) -> Result<(), ImageError> {
        let (maker, place) = (self.maker, self.underway.place());
        // Nobody waits for it when another piece failed.
        self.scope.spawn(move |_| drop(place.send(make(maker))));
        while self.underway.is_full() {
            self.join_oldest()?;
        }
        Ok(())
    }

    /// Waits for the oldest piece; false if there is none.
    fn join_oldest(&mut self) -> Result<bool, ImageError> {
        let oldest = self.underway.oldest().map_err(ImageError::io("compress a layer"))?;
        let Some(made) = oldest else { return Ok(false) };
        self.whole.add(made?)?;
        Ok(true)
    }

    fn finish(mut self) -> Result<Whole<'o>, ImageError> {
        while self.join_oldest()? {}
        Ok(self.whole)
    }

    /// The pieces of a large file. It is read only if one of them is not known.
    fn large(&mut self, file: Large) -> Result<(), ImageError> {
        let file = Arc::new(file);
        let parts = file.size.div_ceil(LARGE_FILE_BYTES);
        let maker = self.maker;
        if maker.knows_all(&file, parts)? {
            for at in 0..parts {
                let file = Arc::clone(&file);
                self.begin(move |maker| maker.known_part(&file, at))?;
            }
            return Ok(());
        }
        let found = maker.store.open(&file.blob)?;
        let mut reader = found.ok_or_else(|| missing(&file.path, file.blob))?.reader(file.blob);
        for at in 0..parts {
            let part = read_part(&file, at, &mut reader)?;
            let recipe = maker.part_recipe(&file, at);
            self.begin(move |maker| maker.part(&part, recipe))?;
        }
        // Only at its end is it known whether the bytes are those of the blob.
        let rest = reader.read(&mut [0; 1]).map_err(read_error(&file.path))?;
        if rest == 0 { Ok(()) } else { Err(wrong_size(&file.path)) }
    }
}

/// What is gathered in order.
struct Whole<'o> {
    out: &'o mut dyn Write,
    hasher: DigestHasher,
    pieces: Vec<Piece>,
    fresh: u64,
    tar: u64,
}

impl Whole<'_> {
    fn add(&mut self, made: Made) -> Result<(), ImageError> {
        self.hasher.write_all(&made.bytes).map_err(ImageError::io("hash a layer"))?;
        self.out.write_all(&made.bytes).map_err(ImageError::io("write a layer"))?;
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
    how: Compressing<'a>,
    level: i32,
}

/// A piece's compressed bytes, where they are kept, and whether they were made now and with
/// trouble.
struct Pressed {
    bytes: Vec<u8>,
    blob: Option<BlobId>,
    is_fresh: bool,
}

impl Maker<'_> {
    /// A hasher that has what all recipes begin with.
    fn recipe(&self, kind: &str) -> BlobHasher {
        let mut hasher = BlobHasher::default();
        let start = format!("strata.piece.2 {kind} {:?} {}\n", self.how.compression, self.level);
        hasher.update(start.as_bytes());
        hasher
    }

    /// A piece that was made before, if its bytes are there.
    fn known(&self, key: &BlobId) -> Result<Option<Pressed>, ImageError> {
        let Some(blob) = self.how.known.get(key) else { return Ok(None) };
        let bytes = self.store.get(blob)?;
        Ok(bytes.map(|bytes| Pressed { bytes, blob: Some(*blob), is_fresh: false }))
    }

    fn compress(&self, bytes: &[u8], way: Way) -> Result<Pressed, ImageError> {
        let compressed = way.compress(bytes).map_err(ImageError::io("compress a layer"))?;
        let is_kept = self.how.keep_all || !way.is_cheap();
        let blob = is_kept.then(|| self.store.put(&compressed)).transpose()?;
        Ok(Pressed { bytes: compressed, blob, is_fresh: !way.is_cheap() })
    }

    fn way(&self, bytes: &[u8]) -> Way {
        Way::of(bytes, self.how.compression, self.level)
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
        let pressed = match self.known(&recipe)? {
            Some(pressed) => pressed,
            None => {
                let bytes = self.read(run)?;
                self.compress(&bytes, self.way(&bytes))?
            }
        };
        Ok(pressed.made(recipe, None, run.bytes))
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

    /// Whether all parts of a file are there, so that it need not be read.
    fn knows_all(&self, file: &Large, parts: u64) -> Result<bool, ImageError> {
        for at in 0..parts {
            match self.how.known.get(&self.part_recipe(file, at)) {
                Some(blob) if self.store.has(blob)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// A part that is known. Is it damaged, the file is read for it.
    fn known_part(&self, file: &Large, at: u64) -> Result<Made, ImageError> {
        let recipe = self.part_recipe(file, at);
        if let Some(pressed) = self.known(&recipe)? {
            return Ok(pressed.made(recipe, None, part_bytes(file, at)));
        }
        let found = self.store.open(&file.blob)?;
        let mut reader = found.ok_or_else(|| missing(&file.path, file.blob))?.reader(file.blob);
        let mut passed = (&mut reader).take(at * LARGE_FILE_BYTES);
        copy(&mut passed, &mut io::sink()).map_err(read_error(&file.path))?;
        let part = read_part(file, at, &mut reader)?;
        copy(&mut reader, &mut io::sink()).map_err(read_error(&file.path))?;
        self.part(&part, recipe)
    }

    fn part(&self, part: &[u8], recipe: BlobId) -> Result<Made, ImageError> {
        let tar_bytes = part.len() as u64;
        let way = self.way(part);
        if way.is_cheap() && !self.how.keep_all {
            return Ok(self.compress(part, way)?.made(recipe, None, tar_bytes));
        }
        let mut content = self.recipe("bytes");
        content.update(part);
        let content = content.finish();
        let pressed = match self.known(&content)? {
            Some(pressed) => pressed,
            None => self.compress(part, way)?,
        };
        Ok(pressed.made(recipe, Some(content), tar_bytes))
    }
}

impl Pressed {
    fn made(self, recipe: BlobId, content: Option<BlobId>, tar_bytes: u64) -> Made {
        let Self { bytes, blob, is_fresh } = self;
        let piece = Piece { recipe, content, blob, size: bytes.len() as u64 };
        Made { piece, bytes, tar_bytes, is_fresh }
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
            let keys = [Some(piece.recipe), piece.content].into_iter().flatten();
            keys.filter_map(|key| Some((key, piece.blob?)))
        });
        keys.collect()
    }

    fn compress(layer: &Layer, store: &MemoryStore, known: &KnownPieces) -> CompressedLayer {
        into(layer, store, known, Compression::Gzip, &mut io::sink())
    }

    fn into(
        layer: &Layer,
        store: &MemoryStore,
        known: &KnownPieces,
        compression: Compression,
        out: &mut dyn Write,
    ) -> CompressedLayer {
        let how = Compressing { compression, level: None, known, keep_all: false };
        compress_layer(layer, store, &how, out).expect("compressed")
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
            let mut bytes = Vec::new();
            let made = into(&layer, &store, &KnownPieces::new(), compression, &mut bytes);
            let kept = made.pieces.iter().map(|piece| piece.blob.expect("kept"));
            let kept: Vec<u8> =
                kept.flat_map(|blob| store.get(&blob).expect("read").expect("there")).collect();
            assert!(kept == bytes, "{compression:?}");
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
    fn what_is_stored_is_kept_for_those_who_ask() {
        let store = MemoryStore::default();
        let mut noise = Vec::new();
        let mut next = blake3_noise();
        noise.resize_with(3 << 20, &mut next);
        let soft = content(1, 1 << 20);
        let mixed = [&noise[..2 << 20], &soft[..]].concat();
        let small = &noise[..200_000];
        let layer = Layer::new(vec![
            file(&store, "dense", &noise),
            file(&store, "mixed", &mixed),
            file(&store, "small", small),
        ]);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (mut first, mut again, mut kept) = (Vec::new(), Vec::new(), Vec::new());
            let made = into(&layer, &store, &KnownPieces::new(), compression, &mut first);
            let is_kept: Vec<bool> = made.pieces.iter().map(|piece| piece.blob.is_some()).collect();
            // The last one is the tar's end.
            assert_eq!(is_kept, [false, false, false, false, false, true, false, true]);
            assert_eq!(made.fresh_bytes, (1 << 20) + 2 * BLOCK as u64);
            let next = into(&layer, &store, &known(&made), compression, &mut again);
            assert_eq!((next.digest, next.fresh_bytes), (made.digest, 0));
            let known = known(&made);
            let how = Compressing { compression, level: None, known: &known, keep_all: true };
            let all = compress_layer(&layer, &store, &how, &mut kept).expect("compressed");
            assert!(all.pieces.iter().all(|piece| piece.blob.is_some()));
            assert!(first == again && first == kept);
        }
    }

    /// Bytes that nothing makes smaller.
    fn blake3_noise() -> impl FnMut() -> u8 {
        let (mut count, mut block, mut at) = (0_u64, *BlobId::of(b"").as_bytes(), 0);
        move || {
            if at == block.len() {
                count += 1;
                (block, at) = (*BlobId::of(&count.to_le_bytes()).as_bytes(), 0);
            }
            at += 1;
            block[at - 1]
        }
    }

    #[test]
    fn a_damaged_piece_is_made_again() {
        let store = MemoryStore::default();
        let layer = Layer::new(vec![file(&store, "large", &content(5, 3 << 20))]);
        let made = compress(&layer, &store, &KnownPieces::new());
        let mut damaged = known(&made);
        damaged.insert(made.pieces[1].recipe, BlobId::of(b"gone"));
        assert_eq!(compress(&layer, &store, &damaged).digest, made.digest);
        let how = Compressing {
            compression: Compression::Gzip,
            level: None,
            known: &damaged,
            keep_all: false,
        };
        let maker = Maker { store: &store, how, level: 6 };
        let Some(Ok(Unit::Large(file))) = units(&layer, &store).next() else {
            unreachable!("it is large")
        };
        for (at, expected) in (0..3).zip(&made.pieces) {
            let part = maker.known_part(&file, at).expect("made");
            assert_eq!(part.is_fresh, at == 1 && part.piece.content.is_none());
            assert_eq!(Some(BlobId::of(&part.bytes)), expected.blob);
        }
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
