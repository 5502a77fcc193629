//! Blobs of a store by the names that OCI and other tools give them: their SHA-256. A blob is kept
//! once, under its BLAKE3; a name in [`TABLE`] leads there. Whoever sets one has read the bytes
//! and knows that both names are theirs.

use strata_cas::{BlobId, BlobStore, NameStore, StoreError};

use crate::Digest;

/// The table: `sha256:…` → the blob's id in hexadecimal.
pub const TABLE: &str = "oci-blobs-1";

/// Remembers under which id the store keeps a blob.
///
/// # Errors
///
/// When the store fails.
pub fn remember(store: &dyn NameStore, digest: &Digest, blob: &BlobId) -> Result<(), StoreError> {
    store.set_name(TABLE, &name(digest), Some(blob.to_string().as_bytes()))
}

/// The same for a blob that is easily had again: it is remembered after this process has ended,
/// and after a power cut where something has been made durable since.
///
/// # Errors
///
/// When the store fails.
pub fn remember_soon(
    store: &dyn NameStore,
    digest: &Digest,
    blob: &BlobId,
) -> Result<(), StoreError> {
    store.set_name_soon(TABLE, &name(digest), blob.to_string().as_bytes())
}

/// Forgets where a blob lies, since it is not what it was: it is fetched or made again.
///
/// # Errors
///
/// When the store fails.
pub fn forget(store: &dyn NameStore, digest: &Digest) -> Result<(), StoreError> {
    store.set_name(TABLE, &name(digest), None)
}

/// The blob with this SHA-256, if the store has it.
///
/// # Errors
///
/// When the store fails.
pub fn known<S>(store: &S, digest: &Digest) -> Result<Option<BlobId>, StoreError>
where
    S: BlobStore + NameStore + ?Sized,
{
    let Some(value) = store.name(TABLE, &name(digest))? else { return Ok(None) };
    match id_of(&value) {
        Some(id) if store.has(&id)? => Ok(Some(id)),
        _ => Ok(None),
    }
}

/// A blob's name in the table.
pub fn name(digest: &Digest) -> String {
    let mut name = String::with_capacity("sha256:".len() + 64);
    name.push_str("sha256:");
    name.push_str(&digest.hex());
    name
}

/// The id in a value of the table.
pub fn id_of(value: &[u8]) -> Option<BlobId> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok())
}
