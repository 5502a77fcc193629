//! Directories beside the store's tables.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use strata_scan::StampFile;

use crate::Context;

/// Directories that builds use.
#[derive(Debug)]
pub struct Places {
    /// Stamp files of contexts.
    pub stamps: StampFiles,
    /// Cache mounts.
    pub caches: PathBuf,
    /// Output of commands.
    pub logs: PathBuf,
    /// What is remembered of builds.
    pub builds: PathBuf,
}

/// The stamp files of contexts.
#[derive(Debug)]
pub struct StampFiles {
    directory: PathBuf,
    /// Those that are being read ahead.
    ahead: Mutex<Vec<Arc<StampFile>>>,
}

impl StampFiles {
    /// Those in a directory, which need not be there yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), ahead: Mutex::default() }
    }

    /// Begins to read what is known of contexts that will be scanned, before there is a store to
    /// build with.
    pub fn read_ahead<'a>(&self, contexts: impl Iterator<Item = &'a Context>) {
        for context in contexts {
            if let Context::Directory { path, .. } = context
                && let Some(file) = self.of(path)
            {
                file.read_ahead();
                self.ahead.lock().unwrap_or_else(PoisonError::into_inner).push(file);
            }
        }
    }

    /// The stamp file of a context: told by where the context lies, which is in no key.
    pub(crate) fn of(&self, context: &Path) -> Option<Arc<StampFile>> {
        use std::os::unix::ffi::OsStrExt;
        let path = context.canonicalize().ok()?;
        let name = strata_cas::BlobId::of(path.as_os_str().as_bytes()).to_string();
        let path = self.directory.join(&name[..32]);
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ahead.iter().find(|file| file.path() == path);
        Some(known.cloned().unwrap_or_else(|| Arc::new(StampFile::new(path))))
    }
}
