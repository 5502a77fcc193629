//! What can go wrong with tars, layers and images: who did what to which object.

use std::io;
use std::path::PathBuf;

use strata_cas::{BlobId, StoreError, TreePath};
use strata_oci::Digest;

/// Why a layer or an image could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The operating system, or whoever gives or takes the bytes, refused.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted, with its object.
        action: String,
        /// The answer.
        source: io::Error,
    },
    /// The blob store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store does not have a file's bytes.
    #[error("the store has no blob {blob}, the bytes of `{path}`")]
    MissingBlob {
        /// The file.
        path: TreePath,
        /// Its bytes' name.
        blob: BlobId,
    },
    /// An owner that the user namespace does not have.
    #[error("`{path}` is to belong to {kind} {id}, which this user namespace does not have")]
    NoSuchId {
        /// Whose owner it is.
        path: TreePath,
        /// `uid` or `gid`.
        kind: &'static str,
        /// Which.
        id: u32,
    },
    /// A layer that no tar can stand for.
    #[error("`{path}` can not be part of a layer: {reason}")]
    Unrepresentable {
        /// Where in the layer.
        path: TreePath,
        /// What is wrong.
        reason: &'static str,
    },
    /// The bytes are no tar, or a damaged one.
    #[error("not a sound tar archive (at byte {offset}): {reason}")]
    Tar {
        /// Where in the uncompressed stream.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// An entry that is refused.
    #[error("tar entry `{entry}`: {reason}")]
    Entry {
        /// Its name as written.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// A hard link to what the layer does not have.
    #[error("hard link `{entry}`: its target `{target}` is not in the same layer")]
    LinkTarget {
        /// The link's name as written.
        entry: String,
        /// The target's name as written.
        target: String,
    },
    /// More than the caller allows.
    #[error("the archive has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A layout or archive that is not built as it should be.
    #[error("`{}` is not a readable image archive: {reason}", path.display())]
    Layout {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A layout or archive without the image that was asked for.
    #[error("`{}` has no image {wanted}; it has {available}", path.display())]
    NoImage {
        /// The directory or file.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// A JSON document that cannot be read.
    #[error("{what} is not as it should be: {source}")]
    Json {
        /// Which document.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Bytes that are not what their descriptor says.
    #[error("{what} does not match its descriptor: {reason}")]
    Mismatch {
        /// Which blob.
        what: Digest,
        /// What differs.
        reason: String,
    },
}

impl ImageError {
    /// Says what was attempted when the system refused.
    pub fn io<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source: source.into() }
    }
}
