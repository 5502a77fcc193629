//! A layer on its way out: its bytes as they are kept, as they came, or made anew.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strata_cas::{BlobId, Layer, Store, StoreError};
use strata_image::{Compressing, ImageError, KnownPieces, LayerSource, OutgoingLayer};
use strata_oci::{Compression, Descriptor, Digest};

use crate::BuildError;
use crate::far::{self, Shelf};
use crate::images::{forget_blob, known_blob, remember_blob};
use crate::layers::{self, ImageLayer};
use crate::packing::Packing;
use crate::serving;
use crate::transcode::{self, transcode};

/// A layer as it goes out.
pub(crate) struct PackedLayer<'a> {
    shelf: Shelf<'a>,
    pub(crate) descriptor: Descriptor,
    /// Where its bytes are, if they are not here.
    pub(crate) place: Option<String>,
    content: Content,
}

enum Content {
    /// A blob in the store.
    Kept(BlobId),
    /// The layer's own tar, made while it is written.
    Packed(Arc<Layer>),
    /// Pieces, one after the other.
    Pieces(Pieces),
    /// The tar in a blob in the store.
    Compressed(BlobId),
    /// A blob that is elsewhere.
    Far(far::Whereabouts),
}

/// Compressed layers by diff ID, compression and level: each is compressed once, and each of its
/// pieces once for all layers that have it.
pub(crate) const TABLE: &str = "compressed-3";

/// What is known of a compressed layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) descriptor: Descriptor,
    /// Recipe, content and compressed bytes of each piece; those that are not kept are made again
    /// out of the layer.
    pub(crate) pieces: Vec<(BlobId, Option<BlobId>, Option<BlobId>)>,
}

impl Row {
    /// The blobs of all pieces, if all are kept.
    fn blobs(&self) -> Option<Vec<BlobId>> {
        self.pieces.iter().map(|(_, _, blob)| *blob).collect()
    }
}

/// A layer in pieces.
struct Pieces {
    row: Row,
    /// The row's name.
    name: String,
    /// The layer, and what lies below it.
    stack: Vec<ImageLayer>,
    compression: Compression,
    level: Option<i32>,
}

impl<'a> PackedLayer<'a> {
    /// The uppermost layer of a stack.
    pub(crate) fn of(
        shelf: Shelf<'a>,
        stack: &[ImageLayer],
        packing: &Packing,
    ) -> Result<Self, BuildError> {
        let Some(layer) = stack.last() else {
            let reason = "a layer is missing".to_owned();
            return Err(BuildError::Damaged { what: "image", reason });
        };
        let store = shelf.store;
        let far = far::whereabouts(store, &layer.layer)?;
        let is_kept_so = |blob: &Descriptor| {
            !packing.force
                || Compression::of_media_type(&blob.media_type) == Some(packing.compression)
        };
        let original = layer.blob.clone().filter(is_kept_so);
        if let Some(descriptor) = original {
            let place = far.as_ref().map(|far| far.place.clone());
            let content = match (known_blob(store, &descriptor.digest)?, &far) {
                (Some(id), _) => Some(Content::Kept(id)),
                (None, Some(far)) if far.blob.digest == descriptor.digest => {
                    Some(Content::Far(far.clone()))
                }
                (None, _) => None,
            };
            if let Some(content) = content {
                return Ok(Self { shelf, descriptor, place, content });
            }
        }
        if let Some(row) = compressed(store, layer, packing)? {
            return Ok(Self::in_pieces(shelf, stack, layer, packing, row));
        }
        // A layer of another machine's goes out as it is there, where that is as it is wanted.
        if let Some(far) = far
            && packing.level.is_none()
            && Compression::of_media_type(&far.blob.media_type) == Some(packing.compression)
            && !layers::files_are_there(store, &layer.layer)?
        {
            let (descriptor, place) = (far.blob.clone(), Some(far.place.clone()));
            return Ok(Self { shelf, descriptor, place, content: Content::Far(far) });
        }
        shelf.bring(stack)?;
        if let Some(blob) = &layer.blob {
            match known_blob(store, &blob.digest)? {
                Some(id) => return Self::transcode(shelf, stack, layer, packing, id),
                None => check_own_tar(store, layer)?,
            }
        }
        if packing.compression == Compression::None {
            let (digest, size) = (layer.diff_id, layer.bytes);
            let media_type = packing.compression.layer_media_type();
            let descriptor = Descriptor { digest, size, ..Descriptor::of(media_type, b"") };
            let content = Content::Packed(layers::load(store, &layer.layer)?);
            return Ok(Self { shelf, descriptor, place: None, content });
        }
        let row = compress(store, layer, packing, false, &mut io::sink())?;
        Ok(Self::in_pieces(shelf, stack, layer, packing, row))
    }

    /// A layer from elsewhere, compressed in another way than it came.
    fn transcode(
        shelf: Shelf<'a>,
        stack: &[ImageLayer],
        layer: &ImageLayer,
        packing: &Packing,
        blob: BlobId,
    ) -> Result<Self, BuildError> {
        if packing.compression == Compression::None {
            let (digest, size) = (layer.diff_id, layer.bytes);
            let media_type = packing.compression.layer_media_type();
            let descriptor = Descriptor { digest, size, ..Descriptor::of(media_type, b"") };
            let content = Content::Compressed(blob);
            return Ok(Self { shelf, descriptor, place: None, content });
        }
        let row = transcode(shelf.store, blob, packing)?;
        remember_row(shelf.store, &compressed_name(layer, packing), &row)?;
        Ok(Self::in_pieces(shelf, stack, layer, packing, row))
    }

    fn in_pieces(
        shelf: Shelf<'a>,
        stack: &[ImageLayer],
        layer: &ImageLayer,
        packing: &Packing,
        row: Row,
    ) -> Self {
        let Packing { compression, level, .. } = *packing;
        let descriptor = row.descriptor.clone();
        let (name, stack) = (compressed_name(layer, packing), stack.to_vec());
        let content = Content::Pieces(Pieces { row, name, stack, compression, level });
        Self { shelf, descriptor, place: None, content }
    }

    /// Writes the blob's bytes.
    pub(crate) fn write(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        let store = self.shelf.store;
        let fail = |error: BuildError| {
            let action = format!("get layer {}", self.descriptor.digest);
            ImageError::io(action)(io::Error::other(error.to_string()))
        };
        let id = match &self.content {
            Content::Packed(layer) => return strata_image::pack(layer, store, out),
            Content::Compressed(blob) => return transcode::unpack(store, *blob, out),
            Content::Pieces(pieces) => return self.write_pieces(pieces, out),
            Content::Far(found) => &self.shelf.fetch_blob(found).map_err(fail)?,
            Content::Kept(id) => id,
        };
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the blob is gone");
        let read = || -> io::Result<()> {
            let blob = store.open(id).map_err(io::Error::other)?.ok_or_else(missing)?;
            strata_image::copy(&mut blob.reader(*id), out).map(drop)
        };
        let digest = &self.descriptor.digest;
        let mut read = read;
        read().map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
                drop(forget_blob(store, digest));
                ImageError::from(StoreError::Damaged { what: format!("layer {digest}") })
            }
            _ => ImageError::io(format!("read layer {digest}"))(error),
        })
    }
}

impl PackedLayer<'_> {
    /// Sees to it that the layer's bytes are found by their digest.
    pub(crate) fn offer(&self) -> Result<(), BuildError> {
        let (store, digest) = (self.shelf.store, &self.descriptor.digest);
        match &self.content {
            Content::Kept(_) => {}
            Content::Far(found) => drop(self.shelf.fetch_blob(found)?),
            Content::Pieces(pieces) => {
                if pieces.row.blobs().is_none() {
                    self.shelf.bring(&pieces.stack)?;
                    self.again(pieces, true, &mut io::sink())?;
                }
                let (table, name) = (serving::TABLE, digest.to_string());
                let row = pieces.name.as_bytes();
                if store.name(table, &name)?.as_deref() != Some(row) {
                    store.set_name(table, &name, Some(row))?;
                }
            }
            Content::Packed(layer) => {
                let mut tar = store.begin()?;
                strata_image::pack(layer, store, &mut tar)?;
                remember_blob(store, digest, &store.finish(tar)?)?;
            }
            Content::Compressed(blob) => {
                let mut tar = store.begin()?;
                transcode::unpack(store, *blob, &mut tar)?;
                remember_blob(store, digest, &store.finish(tar)?)?;
            }
        }
        Ok(())
    }

    fn write_pieces(&self, pieces: &Pieces, out: &mut dyn Write) -> Result<(), ImageError> {
        let digest = &self.descriptor.digest;
        let damaged = || ImageError::from(StoreError::Damaged { what: format!("layer {digest}") });
        let Some(blobs) = pieces.row.blobs() else {
            let fail = |error: BuildError| match error {
                BuildError::Image(error) => error,
                other => ImageError::io(format!("get layer {digest}"))(io::Error::other(
                    other.to_string(),
                )),
            };
            self.shelf.bring(&pieces.stack).map_err(fail)?;
            return self.again(pieces, false, out).map_err(fail);
        };
        let store = self.shelf.store;
        strata_image::write_pieces(store, &blobs, out).map_err(|error| match error {
            ImageError::Store(StoreError::Damaged { .. }) => damaged(),
            other => other,
        })
    }

    /// As an archive takes it.
    pub(crate) fn outgoing(&self) -> OutgoingLayer<'_> {
        OutgoingLayer { descriptor: self.descriptor.clone(), source: self }
    }

    /// Makes the pieces that are not kept once more, and takes the others.
    fn again(
        &self,
        pieces: &Pieces,
        keep_all: bool,
        out: &mut dyn Write,
    ) -> Result<(), BuildError> {
        let Pieces { compression, level, .. } = *pieces;
        let packing = Packing { compression, level, ..Packing::default() };
        let Some(layer) = pieces.stack.last() else { return Ok(()) };
        let row = compress(self.shelf.store, layer, &packing, keep_all, out)?;
        if row.descriptor.digest == self.descriptor.digest {
            return Ok(());
        }
        Err(StoreError::Damaged { what: format!("layer {}", self.descriptor.digest) }.into())
    }
}

fn compressed_name(layer: &ImageLayer, packing: &Packing) -> String {
    let level = packing.level.map_or_else(String::new, |level| format!(" {level}"));
    format!("{} {}{level}", layer.diff_id, packing.compression.layer_media_type())
}

/// A layer that came from outside and whose blob is lost can go out as strata's own tar of it,
/// but only where that is the tar that the image's config names.
fn check_own_tar(store: &dyn Store, layer: &ImageLayer) -> Result<(), BuildError> {
    let (own, _) = strata_image::describe(&*layers::load(store, &layer.layer)?, store)?;
    if own == layer.diff_id {
        return Ok(());
    }
    let reason = format!("the bytes of {} are gone", layer.diff_id);
    Err(BuildError::Damaged { what: "pulled layer", reason })
}

/// The layer as it was compressed before, if what was kept of it is there.
pub(crate) fn compressed(
    store: &dyn Store,
    layer: &ImageLayer,
    packing: &Packing,
) -> Result<Option<Row>, BuildError> {
    let Some(bytes) = store.name(TABLE, &compressed_name(layer, packing))? else {
        return Ok(None);
    };
    let Ok(row) = serde_json::from_slice::<Row>(&bytes) else { return Ok(None) };
    for blob in row.pieces.iter().filter_map(|(_, _, blob)| blob.as_ref()) {
        if !store.has(blob)? {
            return Ok(None);
        }
    }
    Ok(Some(row))
}

/// Compresses a layer's tar, but for the pieces that are there from other layers, and remembers
/// it.
pub(crate) fn compress(
    store: &dyn Store,
    layer: &ImageLayer,
    packing: &Packing,
    keep_all: bool,
    out: &mut dyn Write,
) -> Result<Row, BuildError> {
    let value = layers::load(store, &layer.layer)?;
    let known = &known_pieces(store)?;
    let Packing { compression, level, .. } = *packing;
    let how = Compressing { compression, level, known, keep_all };
    let made = strata_image::compress_layer(&value, store, &how, out)?;
    let media_type = compression.layer_media_type();
    let descriptor =
        Descriptor { digest: made.digest, size: made.size, ..Descriptor::of(media_type, b"") };
    let pieces = made.pieces.iter().map(|piece| (piece.recipe, piece.content, piece.blob));
    let row = Row { descriptor, pieces: pieces.collect() };
    remember_row(store, &compressed_name(layer, packing), &row)?;
    Ok(row)
}

pub(crate) fn remember_row(store: &dyn Store, name: &str, row: &Row) -> Result<(), BuildError> {
    let bytes = serde_json::to_vec(row).map_err(BuildError::damaged("compressed layer"))?;
    if store.name(TABLE, name)?.as_deref() != Some(&bytes[..]) {
        store.set_name(TABLE, name, Some(&bytes))?;
    }
    Ok(())
}

/// The pieces that a row of the table knows of the layer with this digest, if all are there.
pub(crate) fn pieces(
    store: &dyn Store,
    row: &str,
    digest: &Digest,
) -> Result<Option<Vec<BlobId>>, BuildError> {
    let Some(value) = store.name(TABLE, row)? else { return Ok(None) };
    let row = serde_json::from_slice::<Row>(&value).ok();
    let row = row.filter(|row| row.descriptor.digest == *digest);
    let Some(blobs) = row.and_then(|row| row.blobs()) else { return Ok(None) };
    for blob in &blobs {
        if !store.has(blob)? {
            return Ok(None);
        }
    }
    Ok(Some(blobs))
}

/// All pieces of all layers that were compressed, however.
pub(crate) fn known_pieces(store: &dyn Store) -> Result<KnownPieces, BuildError> {
    let mut known = KnownPieces::new();
    for (_, value) in store.names(TABLE)? {
        let Ok(row) = serde_json::from_slice::<Row>(&value) else { continue };
        for (recipe, content, blob) in row.pieces {
            let Some(blob) = blob else { continue };
            known.insert(recipe, blob);
            known.extend(content.map(|content| (content, blob)));
        }
    }
    Ok(known)
}

impl LayerSource for PackedLayer<'_> {
    fn write_to(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        self.write(out)
    }

    /// A blob is compared with its name, and the table that says which blob a digest means is
    /// checked by the database; what is made again is hashed where it is made. The tar of a layer
    /// is made from files, and whether it is the one that the image's config names shows its
    /// digest alone.
    fn is_verified(&self) -> bool {
        !matches!(self.content, Content::Packed(_))
    }
}
