//! The images of the store, as somebody offers them who knows what an image is.

use strata_cas::BlobId;
use strata_oci::{Digest, ManifestBytes, Reference};

/// Why an image can not be offered.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LibraryError(pub String);

/// An image as a registry gives it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What its name stands for.
    pub root: ManifestBytes,
    /// The manifests of an index.
    pub manifests: Vec<ManifestBytes>,
}

/// Images with names, which are pulled as if they had been pushed.
pub trait Library: Send + Sync {
    /// All names.
    fn names(&self) -> Result<Vec<Reference>, LibraryError>;

    /// What tells whether a name stands for what it stood for before.
    fn version(&self, name: &Reference) -> Result<Option<String>, LibraryError>;

    /// The documents of an image. Afterwards the blobs that they refer to are in the store, by
    /// digest or as a layer in pieces.
    fn offer(&self, name: &Reference) -> Result<Option<Offer>, LibraryError>;

    /// The blobs that make up a layer, one after the other.
    fn layer(&self, digest: &Digest) -> Result<Option<Vec<BlobId>>, LibraryError>;
}

/// No images at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoImages;

impl Library for NoImages {
    fn names(&self) -> Result<Vec<Reference>, LibraryError> {
        Ok(Vec::new())
    }

    fn version(&self, _: &Reference) -> Result<Option<String>, LibraryError> {
        Ok(None)
    }

    fn offer(&self, _: &Reference) -> Result<Option<Offer>, LibraryError> {
        Ok(None)
    }

    fn layer(&self, _: &Digest) -> Result<Option<Vec<BlobId>>, LibraryError> {
        Ok(None)
    }
}
