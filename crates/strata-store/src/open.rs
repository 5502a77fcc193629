//! Opening and closing a store.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::database::Database;
use crate::files::Files;
use crate::layout::{Layout, Part};
use crate::lock::StoreLock;
use crate::{OpenError, remove};

/// How a store is opened.
pub struct OpenOptions<'a> {
    /// How long to wait for another process that uses the store.
    pub wait_limit: Duration,
    /// Called while waiting, again and again, with how long that has been.
    pub on_wait: &'a dyn Fn(Duration),
}

impl Default for OpenOptions<'_> {
    /// Waits for ten minutes and says nothing.
    fn default() -> Self {
        Self { wait_limit: Duration::from_secs(600), on_wait: &|_| {} }
    }
}

/// A store in a directory, held by this process until the value is dropped.
#[derive(Debug)]
pub struct DiskStore {
    pub(crate) database: Database,
    pub(crate) files: Files,
    pub(crate) layout: Layout,
    /// Held while a slot's list is read, changed and written.
    pub(crate) slots: Mutex<()>,
    /// Held while a snapshot is moved to its place.
    pub(crate) commits: Mutex<()>,
    /// The number of the next staging directory.
    pub(crate) staged: AtomicU64,
    /// Last, so that the lock is released after the database is closed.
    _lock: StoreLock,
}

impl DiskStore {
    /// Opens the store in `root`, making it where there is none, and removes what a killed
    /// process left behind.
    pub fn open(root: &Path, options: OpenOptions<'_>) -> Result<Self, OpenError> {
        let layout = Layout::claim(root)?;
        let lock = StoreLock::acquire(&layout, &options)?;
        layout.fill()?;
        let staging = layout.part(Part::Staging);
        remove::contents(&staging).map_err(OpenError::io("empty", &staging))?;
        let database = Database::open(&layout)?;
        let files = Files::new(&layout);
        Ok(Self {
            database,
            files,
            layout,
            slots: Mutex::default(),
            commits: Mutex::default(),
            staged: AtomicU64::default(),
            _lock: lock,
        })
    }

    /// The store's directory, as an absolute path.
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// The directory for what is known of files outside the store. Its user names the files in
    /// it with their formats' versions.
    pub fn stamps_dir(&self) -> PathBuf {
        self.layout.part(Part::Stamps)
    }

    /// The directory for what `RUN --mount=type=cache` keeps.
    pub fn caches_dir(&self) -> PathBuf {
        self.layout.part(Part::Caches)
    }

    /// The directory for what steps have printed.
    pub fn logs_dir(&self) -> PathBuf {
        self.layout.part(Part::Logs)
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        // What was put and that no record names yet is worth keeping, and worth no complaint.
        drop(self.files.settle());
        self.database.finish();
    }
}

/// Takes a lock that guards no value of its own: a panic elsewhere leaves nothing half-changed.
pub(crate) fn hold(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
