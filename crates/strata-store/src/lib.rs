//! Blobs, records, snapshots and names on this disk.
//!
//! [`DiskStore`] implements the four traits of `strata-cas` in one directory, which belongs to
//! one user and is safe to kill at any instruction. One decision carries the crate: **content is
//! kept where it is cheapest to keep, and only its name says where to look.** A blob has up to
//! three homes:
//!
//! * in RocksDB, when it is small: a file of its own costs about eight times the processor time
//!   of a line in a log, and a context has thousands of small files;
//! * as a file `blobs-1/ab/cdef…`, when it is large: a log writes every byte twice, a file once;
//! * inside a snapshot that is there anyway: a layer that was unpacked or made by a RUN is never
//!   copied, its files are only remembered.
//!
//! **What survives what.** When `keep`, `set_name` or `commit` returns, all that was put before
//! it survives a power cut. Bytes go to disk in one order: content first, then its directory
//! entries, then the record in the write-ahead log. Killing the process loses at most the step in
//! flight; the next `open` removes what it left behind. A blob is compared with its name whenever
//! it is read; one that does not match is forgotten, so that the next `put` heals it.
//!
//! **Who may use it.** Any number of processes of one user at once, without a daemon: the one
//! that holds RocksDB's lock serves the others over a socket while it lives, and another takes
//! over when it ends (`tables`). Steps that are being done, and what running processes use, are
//! files that the kernel unlocks when their process ends (`held`).
//!
//! **What it deliberately does not do.** It knows no Dockerfile, image or policy, prints nothing
//! and reads no environment.
//!
//! ```
//! use strata_cas::BlobStore;
//! use strata_store::{DiskStore, OpenOptions};
//!
//! let directory = tempfile::tempdir()?;
//! let root = directory.path().join("store");
//! let store = DiskStore::open(&root, OpenOptions::default())?;
//! let id = store.put(b"hello")?;
//! drop(store);
//!
//! let store = DiskStore::open(&root, OpenOptions::default())?;
//! assert_eq!(store.get(&id)?.as_deref(), Some(&b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blobs;
mod budget;
mod builds;
mod chunks;
mod claims;
mod codec;
mod database;
mod early;
mod error;
mod files;
mod follow;
mod fsck;
mod gate;
mod held;
mod inventory;
mod layout;
mod lease;
mod lock;
mod memory;
mod names;
mod notes;
mod open;
mod pending;
mod records;
mod remove;
mod seal;
mod serve;
mod snapshots;
mod sweep;
mod sync;
mod tables;
mod usage;
mod wire;

pub use budget::SizeLimit;
pub use error::OpenError;
pub use files::INLINE_LIMIT_BYTES;
pub use fsck::{Checkup, Damage, mend_database};
pub use layout::{history_dir, is_store, stamps_dir};
pub use open::{DiskStore, OpenOptions};
pub use sweep::{Kind, Reason, Removed, SweepRequest, Swept};
pub use usage::{Amount, Share, Usage};
