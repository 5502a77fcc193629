//! The files that a walk reads: small ones some at a time, each lot a task, and the huge ones when
//! all else is done.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::Scope;
use rayon::prelude::*;
use strata_cas::TreePath;

use super::{Walk, lock};
use crate::ScanError;
use crate::hash::{Effort, HUGE_BYTES, HashError, hash_file};
use crate::stamp::Stamp;
use crate::walked::Hashed;

/// How much reading is one task.
const BATCH_FILES: usize = 32;
const BATCH_BYTES: u64 = 1 << 20;
/// How many huge files wait until the end, with their directories open.
const HUGE_FILES: usize = 16;

/// A file to be read.
pub(super) struct HashJob {
    pub(super) node: u32,
    pub(super) entry: u32,
    pub(super) directory: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    pub(super) path: TreePath,
    pub(super) stamp: Stamp,
}

/// Files to be read by one task.
#[derive(Default)]
pub(super) struct Batch {
    jobs: Vec<HashJob>,
    bytes: u64,
}

impl Walk<'_> {
    pub(super) fn add_to_batch<'s>(&'s self, scope: &Scope<'s>, batch: &mut Batch, job: HashJob) {
        if job.stamp.size >= HUGE_BYTES {
            let mut huge = lock(&self.huge);
            if huge.len() < HUGE_FILES {
                huge.push(job);
                return;
            }
        }
        batch.bytes += job.stamp.size;
        batch.jobs.push(job);
        if batch.bytes >= BATCH_BYTES || batch.jobs.len() >= BATCH_FILES {
            self.read_batch(scope, std::mem::take(batch));
        }
    }

    pub(super) fn read_batch<'s>(&'s self, scope: &Scope<'s>, batch: Batch) {
        if batch.jobs.is_empty() {
            return;
        }
        scope.spawn(move |_| {
            let read = |job| self.attempt(self.read(job, Effort::Single));
            let hashed: Vec<Hashed> = batch.jobs.into_iter().map_while(read).collect();
            lock(&self.hashed).extend(hashed);
        });
    }

    /// One thread for each if there are many, all threads for one after the other if few.
    pub(super) fn read_huge_files(&self) {
        let jobs = std::mem::take(&mut *lock(&self.huge));
        let hashed: Vec<Hashed> = if jobs.len() < rayon::current_num_threads() {
            let read = |job| self.attempt(self.read(job, Effort::Shared));
            jobs.into_iter().map_while(read).collect()
        } else {
            let read = |job| self.attempt(self.read(job, Effort::Single));
            jobs.into_par_iter().filter_map(read).collect()
        };
        lock(&self.hashed).extend(hashed);
    }

    fn read(&self, job: HashJob, effort: Effort) -> Result<Hashed, ScanError> {
        let HashJob { node, entry, directory, name, path, stamp } = job;
        if self.failed.load(Ordering::Relaxed) {
            // Nobody will ask for it.
            return Err(ScanError::Changing(path));
        }
        match hash_file(directory.as_fd(), &name, stamp, effort) {
            Ok((stamp, blob)) => Ok(Hashed { node, entry, stamp, blob }),
            Err(HashError::Changing) => Err(ScanError::Changing(path)),
            Err(HashError::System(error)) => Err(ScanError::at(&path, "read", error)),
        }
    }
}
