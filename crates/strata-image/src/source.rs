//! An image that lies somewhere on this machine, and reading JSON documents of foreign origin.

use std::io::Read;

use serde::de::DeserializeOwned;
use strata_oci::Descriptor;

use crate::ImageError;
use crate::copy::read_up_to;

/// A manifest, index or config is not longer than this, in bytes (containerd's limit).
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// An image whose layers can be read.
pub trait ImageSource {
    /// The image config, byte for byte; checked.
    fn config(&self) -> &[u8];

    /// The layers as they lie there, lowest first.
    fn layers(&self) -> &[Descriptor];

    /// Reads a layer's blob, compressed or not as it lies there. Fails at its end with
    /// [`std::io::ErrorKind::InvalidData`] when it is not as its descriptor says.
    fn open_layer(&self, index: usize) -> Result<Box<dyn Read + Send + '_>, ImageError>;
}

/// Reads a document whole, if it is not too long.
pub(crate) fn read_document(source: &mut dyn Read, what: &str) -> Result<Vec<u8>, ImageError> {
    let bytes =
        read_up_to(source, MAX_DOCUMENT_BYTES).map_err(ImageError::io(format!("read {what}")))?;
    bytes.ok_or(ImageError::Limit {
        what: "bytes in one of its JSON documents",
        limit: MAX_DOCUMENT_BYTES,
    })
}

/// Reads JSON.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|source| ImageError::Json { what: what.to_owned(), source })
}
