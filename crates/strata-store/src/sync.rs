//! Making files and directory entries survive a power cut.

use std::fs::File;
use std::path::{Path, PathBuf};

use strata_cas::StoreError;

/// Up to this many paths are synced one by one. Beyond it, one sync of the whole file system is
/// cheaper, even though it writes what others have changed too.
const ONE_BY_ONE: usize = 16;

/// Syncs these files and directories, which are all on the file system of `store`.
pub(crate) fn paths(paths: &[PathBuf], store: &Path) -> Result<(), StoreError> {
    if paths.len() > ONE_BY_ONE {
        return filesystem(store);
    }
    paths.iter().try_for_each(|path| {
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(StoreError::io(format!("sync `{}`", path.display())))
    })
}

/// Syncs the whole file system that holds `store`.
pub(crate) fn filesystem(store: &Path) -> Result<(), StoreError> {
    let action = || format!("sync the file system of `{}`", store.display());
    let directory = File::open(store).map_err(StoreError::io(action()))?;
    rustix::fs::syncfs(&directory).map_err(|error| StoreError::io(action())(error.into()))
}
