//! `compression=estargz` and `zstd:chunked`: an image whose own layers are such that single files
//! of them can be fetched. What is made goes out as a layer that came from elsewhere does: its
//! blob as it is.

use strata_image::Compressing;
use strata_oci::{Compression, Descriptor, ImageConfig};

use crate::BuildError;
use crate::images::{Images, StoredImage, known_blob, remember_blob};
use crate::layers::{self, ImageLayer};
use crate::packed_layer::{Row, known_pieces, remember_row};
use crate::packing::Packing;

/// What is known of layers that were made so, by the layer, the format and its level.
pub(crate) const TABLE: &str = "chunked-1";

impl Images<'_> {
    /// The image with its own layers as eStargz ([`Compression::Gzip`]), whose tars and so whose
    /// diff IDs are others than the layers', or as zstd:chunked ([`Compression::Zstd`]). Layers
    /// that came from elsewhere stay as they came.
    ///
    /// # Errors
    ///
    /// When the store lacks a layer or fails, or a TOC can not say a file's name.
    pub fn in_chunks(
        &self,
        image: &StoredImage,
        packing: &Packing,
    ) -> Result<StoredImage, BuildError> {
        let mut layers = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            layers.push(match &layer.blob {
                Some(_) => layer.clone(),
                None => self.chunked(&image.layers[..=at], layer, packing)?,
            });
        }
        if layers == image.layers {
            return Ok(image.clone());
        }
        let is_same = layers.iter().zip(&image.layers).all(|(new, old)| new.diff_id == old.diff_id);
        if is_same {
            return Ok(StoredImage { layers, manifest: None, ..image.clone() });
        }
        let mut config: ImageConfig = image.config.clone();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        self.keep(strata_image::config_bytes(&config)?, layers, None)
    }

    fn chunked(
        &self,
        stack: &[ImageLayer],
        layer: &ImageLayer,
        packing: &Packing,
    ) -> Result<ImageLayer, BuildError> {
        let store = self.store();
        let Packing { compression, level, .. } = *packing;
        let format = if compression == Compression::Zstd { "zstd:chunked" } else { "estargz" };
        let level_text = level.map_or_else(String::new, |level| format!(" {level}"));
        let name = format!("{} {format}{level_text}", layer.layer);
        if let Some(known) = self.known_chunked(&name)? {
            return Ok(known);
        }
        self.shelf().bring(stack)?;
        let value = layers::load(store, &layer.layer)?;
        let known = &known_pieces(store)?;
        let how = Compressing { compression, level, known, keep_all: false };
        let mut out = store.begin()?;
        let made = strata_image::compress_chunked(&value, store, &how, &mut out)?;
        let blob = store.finish(out)?;
        let (digest, size) = (made.layer.digest, made.layer.size);
        remember_blob(store, &digest, &blob)?;
        let descriptor = Descriptor {
            digest,
            size,
            annotations: made.annotations,
            ..Descriptor::of(compression.layer_media_type(), b"")
        };
        let pieces = made.layer.pieces.iter().map(|it| (it.recipe, it.content, it.blob));
        let row = Row { descriptor: descriptor.clone(), pieces: pieces.collect() };
        remember_row(store, &name, &row)?;
        let diff_id = made.diff_id.unwrap_or(layer.diff_id);
        let bytes = made.layer.tar_bytes;
        let made = ImageLayer { layer: layer.layer, diff_id, bytes, blob: Some(descriptor) };
        let value = serde_json::to_vec(&made).map_err(BuildError::damaged("layer"))?;
        store.set_name(TABLE, &name, Some(&value))?;
        Ok(made)
    }

    fn known_chunked(&self, name: &str) -> Result<Option<ImageLayer>, BuildError> {
        let store = self.store();
        let Some(value) = store.name(TABLE, name)? else { return Ok(None) };
        let Ok(known) = serde_json::from_slice::<ImageLayer>(&value) else { return Ok(None) };
        let Some(descriptor) = &known.blob else { return Ok(None) };
        let is_there = match known_blob(store, &descriptor.digest)? {
            Some(blob) => store.has(&blob)? && store.has(&known.layer.blob())?,
            None => false,
        };
        Ok(is_there.then_some(known))
    }
}
