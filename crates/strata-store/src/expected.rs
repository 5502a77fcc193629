//! Staging directories that are as they are to be committed, which is known before the layer's
//! name is: they are sealed and written to the disk while their files are still being read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use strata_cas::StoreError;

use crate::{seal, sync};

/// The directories, each with what is being done for it.
#[derive(Debug, Default)]
pub(crate) struct Expected(Mutex<HashMap<PathBuf, JoinHandle<Result<(), StoreError>>>>);

impl Expected {
    /// Begins. Where no thread can be had, the commit does it.
    pub(crate) fn begin(&self, staging: &Path) {
        let path = staging.to_owned();
        let work = move || {
            seal::seal(&path)?;
            sync::filesystem(&path)
        };
        let thread = std::thread::Builder::new().name("write-early".to_owned()).spawn(work);
        if let Ok(thread) = thread {
            self.threads().insert(staging.to_owned(), thread);
        }
    }

    /// Waits for it. Whether it was begun and has succeeded.
    pub(crate) fn has_ended(&self, staging: &Path) -> bool {
        let thread = self.threads().remove(staging);
        thread.is_some_and(|thread| matches!(thread.join(), Ok(Ok(()))))
    }

    fn threads(&self) -> MutexGuard<'_, HashMap<PathBuf, JoinHandle<Result<(), StoreError>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
