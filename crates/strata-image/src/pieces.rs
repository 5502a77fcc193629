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
use std::io::Write;
use std::sync::Arc;

use strata_cas::{BlobId, BlobStore, Layer, StoreError};
use strata_oci::{Compression, Digest, DigestHasher};

use crate::ImageError;
use crate::in_order::Line;
use crate::maker::{Made, Maker};
use crate::units::{Large, Unit, units};

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
    let maker = &Maker::new(store, how);
    let mut whole = Whole::new(out);
    rayon::in_place_scope(|scope| {
        let mut line = Line::new(scope, |made: Made| {
            whole.add(&made)?;
            maker.spare(made.bytes);
            Ok(())
        });
        for unit in units(layer, store, true) {
            match unit? {
                Unit::Run(run) => line.begin(move || maker.run(&run))?,
                Unit::Large(file) => large(&mut line, maker, file)?,
            }
        }
        line.finish()
    })?;
    Ok(whole.finish())
}

/// Writes blobs one after the other, each compared with its name before it is written. They are
/// read ahead, on several threads.
///
/// # Errors
///
/// [`ImageError::Store`] when the store lacks one or has it damaged, and what writing says.
pub fn write_pieces(
    store: &dyn BlobStore,
    pieces: &[BlobId],
    out: &mut dyn Write,
) -> Result<(), ImageError> {
    rayon::in_place_scope(|scope| {
        let write = |bytes: Vec<u8>| out.write_all(&bytes).map_err(ImageError::io("write a layer"));
        let mut line = Line::new(scope, write);
        for piece in pieces {
            line.begin(move || {
                let lost = || StoreError::Damaged { what: format!("blob {piece}") };
                Ok(store.get(piece)?.ok_or_else(lost)?)
            })?;
        }
        line.finish()
    })
}

/// The pieces of a large file. It is read only if one of them is not known.
fn large<'scope>(
    line: &mut Line<'_, 'scope, Made, impl FnMut(Made) -> Result<(), ImageError>>,
    maker: &'scope Maker<'scope>,
    file: Large,
) -> Result<(), ImageError> {
    let file = Arc::new(file);
    if maker.knows_all(&file)? {
        for at in 0..file.parts() {
            let file = Arc::clone(&file);
            line.begin(move || maker.known_part(&file, at))?;
        }
        return Ok(());
    }
    let mut reader = maker.open(&file)?;
    for at in 0..file.parts() {
        let part = file.read_part(at, &mut reader, maker.buffer())?;
        let recipe = maker.part_recipe(&file, at);
        line.begin(move || maker.part(part, recipe))?;
    }
    file.end(&mut reader)
}

/// What is gathered in order.
pub(crate) struct Whole<'o> {
    out: &'o mut dyn Write,
    hasher: DigestHasher,
    pieces: Vec<Piece>,
    /// Bytes of the whole so far.
    pub(crate) bytes: u64,
    fresh: u64,
    tar: u64,
}

impl<'o> Whole<'o> {
    pub(crate) fn new(out: &'o mut dyn Write) -> Self {
        let (hasher, pieces) = (DigestHasher::default(), Vec::new());
        Self { out, hasher, pieces, bytes: 0, fresh: 0, tar: 0 }
    }

    pub(crate) fn add(&mut self, made: &Made) -> Result<(), ImageError> {
        self.write(&made.bytes)?;
        self.pieces.push(made.piece);
        self.tar += made.tar_bytes;
        self.fresh += if made.is_fresh { made.tar_bytes } else { 0 };
        Ok(())
    }

    /// Bytes that are no piece of the layer's.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.hasher.write_all(bytes).map_err(ImageError::io("hash a layer"))?;
        self.out.write_all(bytes).map_err(ImageError::io("write a layer"))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn finish(self) -> CompressedLayer {
        let (digest, size) = self.hasher.finish();
        let (pieces, fresh_bytes, tar_bytes) = (self.pieces, self.fresh, self.tar);
        CompressedLayer { digest, size, pieces, fresh_bytes, tar_bytes }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use strata_cas::{Action, Change, Item, MemoryStore, Metadata, Time, TreePath};

    use super::*;
    use crate::Decoder;
    use crate::header::BLOCK;

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
        let maker = Maker::new(&store, &how);
        let Some(Ok(Unit::Large(file))) = units(&layer, &store, true).next() else {
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
