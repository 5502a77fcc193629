//! A cache of steps that several machines share, as the rest of strata sees it: small records by
//! key, and the blobs that they need.

use std::io::Write;

use crate::{BlobBytes, Descriptor, RegistryError};

/// Keeps records and blobs for other machines. Who may write decides what the others build with:
/// a record is found by a key, and nothing proves that it is the right one. Blobs are proven by
/// their digests.
pub trait SharedCache: Send + Sync {
    /// The record under a key of letters, digits and `-`, 128 at most.
    fn record(&self, key: &str) -> Result<Option<Vec<u8>>, RegistryError>;

    /// Keeps a record, which is UTF-8, under all these keys. The blobs that it needs were kept
    /// before.
    fn keep_record(
        &self,
        keys: &[String],
        record: &str,
        blobs: &[Descriptor],
    ) -> Result<(), RegistryError>;

    /// Fetches a blob. When it returns without error, size and digest were as described.
    fn blob(&self, blob: &Descriptor, sink: &mut dyn Write) -> Result<(), RegistryError>;

    /// Keeps a blob. `bytes` is called only where it is not there yet.
    fn keep_blob(&self, blob: &Descriptor, bytes: &BlobBytes<'_>) -> Result<(), RegistryError>;
}
