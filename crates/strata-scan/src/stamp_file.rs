//! Where a context's stamps are kept. Reading a big one takes as long as some hundred files take
//! to look at, so it can begin before the scan does.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::stamps::Stamps;

/// A stamp file: any path outside of the context. One that is missing, damaged or from another
/// context makes a scan cold, never wrong.
#[derive(Debug)]
pub struct StampFile {
    path: PathBuf,
    /// What is being read for the next scan.
    ahead: Mutex<Option<JoinHandle<Stamps>>>,
}

impl StampFile {
    /// A file that the scan reads.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ahead: Mutex::default() }
    }

    /// Begins to read the file, while the caller does something else. Without a thread for it the
    /// scan reads it, as ever.
    pub fn read_ahead(&self) {
        let path = self.path.clone();
        let reading = thread::Builder::new().name("stamps".to_owned());
        let reading = reading.spawn(move || Stamps::load(&path)).ok();
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = reading;
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says: what was read ahead counts once.
    pub(crate) fn load(&self) -> Stamps {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
        let read = ahead.and_then(|reading| reading.join().ok());
        read.unwrap_or_else(|| Stamps::load(&self.path))
    }
}
