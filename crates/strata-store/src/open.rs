//! Opening and closing a store.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strata_cas::{LayerId, StoreError};

use crate::OpenError;
use crate::budget::{Budget, SizeLimit};
use crate::early::Early;
use crate::files::Files;
use crate::gate::{Gate, Inside};
use crate::layout::{Layout, Part};
use crate::lease::{self, Lease, Used};
use crate::pending::Pending;
use crate::tables::Tables;

/// How a store is opened.
pub struct OpenOptions<'a> {
    /// How long to wait while another process opens or closes the database. Processes that have
    /// it open share it.
    pub wait_limit: Duration,
    /// Called while waiting, again and again, with how long that has been.
    pub on_wait: &'a dyn Fn(Duration),
    /// How much the store may take.
    pub limit: Option<SizeLimit>,
}

impl Default for OpenOptions<'_> {
    /// Waits for ten minutes and says nothing.
    fn default() -> Self {
        Self { wait_limit: Duration::from_secs(600), on_wait: &|_| {}, limit: None }
    }
}

/// A store in a directory, used by this process and any number of others.
#[derive(Debug)]
pub struct DiskStore {
    pub(crate) files: Files,
    pub(crate) pending: Pending,
    pub(crate) tables: Arc<Tables>,
    pub(crate) layout: Layout,
    pub(crate) gate: Arc<Gate>,
    pub(crate) budget: Budget,
    pub(crate) early: Early,
    /// How many removals the gate had counted when this process began to read.
    pub(crate) removals: u64,
    /// Snapshots that were looked at.
    pub(crate) intact: Mutex<HashSet<LayerId>>,
    /// Damage that was met.
    pub(crate) noticed: Mutex<Vec<String>>,
    /// The number of the next staging directory.
    pub(crate) staged: AtomicU64,
    /// Last, so that what was made here is removed when nothing is made any more.
    pub(crate) lease: Arc<Lease>,
}

impl DiskStore {
    /// Opens the store in `root`, making it where there is none. Whoever comes to hold the
    /// database removes what killed processes left behind.
    pub fn open(root: &Path, options: OpenOptions<'_>) -> Result<Self, OpenError> {
        let layout = Layout::claim(root)?;
        layout.fill()?;
        // Before anything is read: what is found later is not swept away meanwhile.
        let lease = Arc::new(Lease::begin(&layout)?);
        let gate = Arc::new(Gate::open(&layout)?);
        let removals = gate.removals().map_err(|error| OpenError::Database {
            path: layout.gate(),
            message: error.to_string(),
        })?;
        let tables = Arc::new(Tables::open(&layout, &options)?);
        if tables.is_leader() {
            let leases = layout.part(Part::Leases);
            lease::clean(&layout).map_err(OpenError::io("clean up beside", &leases))?;
        }
        let files = Files::new(&layout, lease.clone());
        Ok(Self {
            files,
            pending: Pending::new(tables.clone(), gate.clone(), lease.clone()),
            tables,
            gate,
            budget: Budget::new(&layout, options.limit),
            early: Early::default(),
            layout,
            removals,
            intact: Mutex::default(),
            noticed: Mutex::default(),
            staged: AtomicU64::default(),
            lease,
        })
    }

    /// Notes what is looked for, so that what is found stays. Look while the value lives.
    pub(crate) fn using(&self, used: &[Used]) -> Result<Inside<'_>, StoreError> {
        let inside = self.gate.enter()?;
        self.lease.note(used)?;
        if self.tables.is_reader() && self.gate.removals()? != self.removals {
            self.tables.refresh()?;
        }
        Ok(inside)
    }

    /// Looks for what may be noted already. Then nothing of it is taken out, and the gate, which
    /// costs more than most look-ups, is passed by; but it may be moved while it is looked for, so
    /// what is not found is looked for once more inside.
    pub(crate) fn look<T>(
        &self,
        used: &[Used],
        find: impl Fn() -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        if !self.tables.is_reader()
            && self.lease.has_noted(used)
            && let Some(found) = find()?
        {
            return Ok(Some(found));
        }
        let _inside = self.using(used)?;
        find()
    }

    /// What this process looks at from here on stays for `least` at least, also when the process
    /// is killed or ends: a server has told its clients that it is there. `least` is 24 hours at
    /// most. The lease is renewed by itself then, by who looks at something when that time has
    /// gone by, and [`DiskStore::renew_lease`] does nothing before.
    pub fn outlive(&self, least: Duration) {
        self.lease.outlive(least);
    }

    /// Lets go of what this process has looked at before its last renewal and not since, so that
    /// a sweep may remove it. What was looked at after that stays for at least one turn more: a
    /// process that renews every four hours keeps what it has found for four to eight.
    ///
    /// # Errors
    ///
    /// When the system refuses; then everything stays.
    pub fn renew_lease(&self) -> Result<(), StoreError> {
        let _inside = self.gate.enter()?;
        self.lease.renew()
    }

    /// Makes all that was put so far survive a power cut, once a record is written that is
    /// durable itself.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        self.files.settle()?;
        self.pending.flush()
    }

    /// The store's directory, as an absolute path.
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// The directory for what `RUN --mount=type=cache` keeps.
    pub fn caches_dir(&self) -> PathBuf {
        self.layout.part(Part::Caches)
    }

    /// The directory for what steps have printed.
    pub fn logs_dir(&self) -> PathBuf {
        self.layout.part(Part::Logs)
    }

    /// The directory for what is remembered of builds.
    pub fn history_dir(&self) -> PathBuf {
        self.layout.part(Part::History)
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        // What was put and that no record names yet is worth keeping, and worth no complaint.
        drop(self.settle());
    }
}

/// Takes a lock that guards no value of its own: a panic elsewhere leaves nothing half-changed.
pub(crate) fn hold(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
