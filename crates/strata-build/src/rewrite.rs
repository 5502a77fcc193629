//! `rewrite-timestamp`: an image whose own files are no younger than an epoch, as BuildKit's
//! exporters make it. Layers of the base image keep their bytes.

use strata_cas::{Action, Time};
use strata_oci::ImageConfig;

use crate::BuildError;
use crate::export::with_times;
use crate::images::{Images, StoredImage};
use crate::layers::{self, ImageLayer};

/// Rewritten layers by the layer's id and the epoch.
pub(crate) const TABLE: &str = "clamped-1";

impl Images<'_> {
    /// The image with the times of its files limited to `epoch`, in seconds since 1970. The
    /// lowest `base_layers` layers stay as they are.
    ///
    /// # Errors
    ///
    /// When the store lacks a layer or fails.
    pub fn clamp(
        &self,
        image: &StoredImage,
        epoch: i64,
        base_layers: usize,
    ) -> Result<StoredImage, BuildError> {
        let mut layers = image.layers.clone();
        for (at, layer) in layers.iter_mut().enumerate().skip(base_layers) {
            self.shelf().bring(&image.layers[..=at])?;
            *layer = self.clamp_layer(layer, epoch)?;
        }
        if layers == image.layers {
            return Ok(image.clone());
        }
        let mut config: ImageConfig = image.config.clone();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        self.keep(strata_image::config_bytes(&config)?, layers, None)
    }

    fn clamp_layer(&self, layer: &ImageLayer, epoch: i64) -> Result<ImageLayer, BuildError> {
        let store = self.store();
        let name = format!("{} {epoch}", layer.layer.blob());
        if let Some(value) = store.name(TABLE, &name)?
            && let Ok(known) = serde_json::from_slice::<ImageLayer>(&value)
            && layers::is_there(store, &known)?
        {
            return Ok(known);
        }
        let value = layers::load(store, &layer.layer)?;
        let is_young = |action: &Action| match action {
            Action::Set { modified, .. } => modified.0 > epoch,
            Action::Remove => false,
        };
        if !value.changes().iter().any(|change| is_young(&change.action)) {
            return Ok(layer.clone());
        }
        let clamped = with_times(&value, |time| Time(time.0.min(epoch)));
        let id = store.put(&clamped.encode())?.into();
        let (diff_id, bytes) = strata_image::describe(&clamped, store)?;
        let clamped = ImageLayer { layer: id, diff_id, bytes, blob: None };
        let value = serde_json::to_vec(&clamped).map_err(BuildError::damaged("layer"))?;
        store.set_name(TABLE, &name, Some(&value))?;
        Ok(clamped)
    }
}
