//! Names values and keeps them.
//!
//! Everything that strata remembers is a value with a name that follows from the value itself:
//! bytes are a [`BlobId`], a file tree is a [`TreeId`], what a step changed is a [`LayerId`].
//! One decision carries the crate: **a tree node and a layer are blobs**. Their canonical bytes
//! begin with the name and version of their format, so the BLAKE3 of those bytes names them, any
//! store that keeps blobs keeps trees and layers too, and there is one rule for all of them:
//! bytes that do not match their name are never returned.
//!
//! What the crate deliberately does not do: it reads no file system, knows no tar, no OCI name
//! (those are SHA-256 and live in `strata-oci`) and no Dockerfile. What a full store drops first
//! is decided in [`retention`]; dropping it is the store's matter.
//!
//! A tree has no times in it and a layer has: two layers that differ only in a file's time give
//! equal trees, which is what lets a rebuilt step count as unchanged.
//!
//! ```
//! use strata_cas::{BlobStore, MemoryStore};
//!
//! let store = MemoryStore::default();
//! let id = store.put(b"hello")?;
//! assert_eq!(store.get(&id)?.as_deref(), Some(&b"hello"[..]));
//! assert_eq!(id, strata_cas::BlobId::of(b"hello"));
//! # Ok::<(), strata_cas::StoreError>(())
//! ```

pub mod canonical;
mod claim;
pub mod conformance;
pub mod entry;
mod id;
mod incoming;
mod layer;
mod links;
mod memory;
mod path;
mod record;
pub mod retention;
mod squash;
mod store;
mod tree;
mod update;

pub use canonical::{DecodeError, Fingerprint, Writer};
pub use claim::{Claim, ClaimGuard};
pub use id::{BlobHasher, BlobId, ContentKey, DefinitionKey, LayerId, ParseIdError, TreeId};
pub use incoming::{Arrived, Incoming};
pub use layer::{Action, Change, Item, Layer, Time};
pub use links::{BuildUse, FreeCache, Link, Links, Named};
pub use memory::MemoryStore;
pub use path::{InvalidPath, TreePath};
pub use record::{Cost, Fact, FactValue, Record, RecordKey, Slot};
pub use squash::squash;
pub use store::{
    Blob, BlobReader, BlobStore, NameStore, RecordStore, SnapshotStore, Staging, Store, StoreError,
};
pub use tree::{
    Device, Diff, Difference, Directory, DirectoryWriter, File, Metadata, Node, Standing,
    TreeChange, TreeError, diff, load,
};
pub use update::apply;
