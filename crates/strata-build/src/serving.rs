//! Images for others to pull right out of the store: what their documents say, and where the
//! bytes of their layers lie. Nothing is copied; a layer that was compressed once stays in its
//! pieces.

use strata_cas::BlobId;
use strata_oci::{Digest, ManifestBytes, Reference};

use crate::images::{Images, NAMES, known_blob, remember_blob};
use crate::packed_layer;
use crate::packing::Packing;
use crate::{Attestation, BuildError, StoredImage};

/// Compressed layers by their digest: the name of the row that knows their pieces.
pub(crate) const TABLE: &str = "packed-layers-1";

/// An image as a registry would give it.
#[derive(Debug, Clone)]
pub struct Offered {
    /// What its name stands for.
    pub root: ManifestBytes,
    /// The manifests of an index.
    pub manifests: Vec<ManifestBytes>,
}

impl Images<'_> {
    /// What tells whether a name stands for what it stood for before; none where there is no such
    /// image.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn version(&self, name: &Reference) -> Result<Option<String>, BuildError> {
        let value = self.store().name(NAMES, &name.to_string())?;
        Ok(value.map(|value| BlobId::of(&value).to_string()))
    }

    /// All names in the store.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn names(&self) -> Result<Vec<Reference>, BuildError> {
        let names = self.store().names(NAMES)?;
        Ok(names.into_iter().filter_map(|(name, _)| name.parse().ok()).collect())
    }

    /// The documents of the image with this name. From here on, all that they refer to is found
    /// by its digest: documents and layers that came from elsewhere as blobs, layers that strata
    /// made with [`Images::layer_pieces`]. Compresses what was never compressed.
    ///
    /// # Errors
    ///
    /// When the store lacks or fails to give a layer.
    pub fn offer(&self, name: &Reference) -> Result<Option<Offered>, BuildError> {
        let images = self.of_name(name)?;
        if images.is_empty() {
            return Ok(None);
        }
        let packed = self.pack(&images, &Packing::default(), &nothing_to_attest)?;
        let manifests = packed.manifests.iter().chain([&packed.root]);
        let manifests = manifests.map(|manifest| (manifest.digest, &manifest.bytes));
        let documents = packed.documents.iter().map(|(about, bytes)| (about.digest, bytes));
        for (digest, bytes) in manifests.chain(documents) {
            if known_blob(self.store(), &digest)?.is_none() {
                remember_blob(self.store(), &digest, &self.store().put(bytes)?)?;
            }
        }
        packed.layers.iter().try_for_each(|layer| layer.offer())?;
        Ok(Some(Offered { root: packed.root, manifests: packed.manifests }))
    }

    /// The blobs that make up a layer with this digest, one after the other, if it is one that
    /// was offered and is still there.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn layer_pieces(&self, digest: &Digest) -> Result<Option<Vec<BlobId>>, BuildError> {
        let Some(row) = self.store().name(TABLE, &digest.to_string())? else { return Ok(None) };
        packed_layer::pieces(self.store(), &String::from_utf8_lossy(&row), digest)
    }
}

fn nothing_to_attest(
    _: &StoredImage,
    _: &ManifestBytes,
) -> Result<Option<Attestation>, BuildError> {
    Ok(None)
}
