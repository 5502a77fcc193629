//! Layers from elsewhere, compressed in another way: their tar is not one that strata would make,
//! so it is read out of the blob that they came in.

use std::io::{self, Write};

use strata_cas::{BlobId, Store};
use strata_image::{Decoder, Encoder, ImageError};
use strata_oci::{Descriptor, DigestHasher};

use crate::BuildError;
use crate::packed_layer::Row;
use crate::packing::Packing;

/// What is kept in one piece, in bytes: a piece is read whole when it is sent.
const PIECE_BYTES: usize = 4 << 20;

/// Compresses the tar in a blob anew, into the store.
pub(crate) fn transcode(
    store: &dyn Store,
    blob: BlobId,
    packing: &Packing,
) -> Result<Row, BuildError> {
    let sink = Sink { store, hasher: DigestHasher::default(), piece: Vec::new(), ids: Vec::new() };
    let mut encoder = Encoder::new(sink, packing.compression, packing.level);
    unpack(store, blob, &mut encoder)?;
    let compressing = BuildError::io("compress a layer".to_owned());
    let sink = encoder.finish().and_then(Sink::finish).map_err(compressing)?;
    let (digest, size) = sink.hasher.finish();
    let media_type = packing.compression.layer_media_type();
    let descriptor = Descriptor { digest, size, ..Descriptor::of(media_type, b"") };
    // Nothing of another layer is equal to a piece but by chance: the piece is all it is made of.
    let pieces = sink.ids.iter().map(|id| (*id, None, Some(*id))).collect();
    Ok(Row { descriptor, pieces })
}

/// Writes the tar in a blob.
pub(crate) fn unpack(
    store: &dyn Store,
    blob: BlobId,
    out: &mut dyn Write,
) -> Result<(), ImageError> {
    let failed = || ImageError::io(format!("read layer {blob}"));
    let missing = || failed()(io::Error::new(io::ErrorKind::InvalidData, "its bytes are gone"));
    let reader = store.open(&blob)?.ok_or_else(missing)?.reader(blob);
    let mut decoder = Decoder::new(reader).map_err(failed())?;
    io::copy(&mut decoder, out).map(drop).map_err(failed())
}

/// Keeps what is written to it, in pieces.
struct Sink<'a> {
    store: &'a dyn Store,
    hasher: DigestHasher,
    piece: Vec<u8>,
    ids: Vec<BlobId>,
}

impl Sink<'_> {
    fn cut(&mut self) -> io::Result<()> {
        self.ids.push(self.store.put(&self.piece).map_err(io::Error::other)?);
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<Self> {
        if !self.piece.is_empty() {
            self.cut()?;
        }
        Ok(self)
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.hasher.write_all(&bytes[..count])?;
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE_BYTES {
            self.cut()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
