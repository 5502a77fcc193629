//! Making files and directory entries survive a power cut.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use strata_cas::StoreError;

/// Up to this many paths are synced each by itself. Beyond it, one sync of the whole file system
/// is cheaper, even though it writes and waits for what others have changed too.
const EACH_BY_ITSELF: usize = 256;
/// So many wait for the disk at a time: most of a sync is waiting, and one commit of the file
/// system's journal does for all that came before it.
const AT_A_TIME: usize = 8;

/// Syncs these files and directories, which are all on the file system of `store`.
pub(crate) fn paths(paths: &[PathBuf], store: &Path) -> Result<(), StoreError> {
    match paths {
        [] => Ok(()),
        [only] => one(only),
        many if many.len() > EACH_BY_ITSELF => filesystem(store),
        several => at_once(several),
    }
}

fn at_once(paths: &[PathBuf]) -> Result<(), StoreError> {
    let next = AtomicUsize::new(0);
    let take = || -> Result<(), StoreError> {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            one(path)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..AT_A_TIME.min(paths.len())).map(|_| scope.spawn(take)).collect();
        let all = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        all.fold(take(), Result::and)
    })
}

fn one(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(StoreError::io(format!("sync `{}`", path.display())))
}

/// Syncs the whole file system that holds `store`.
pub(crate) fn filesystem(store: &Path) -> Result<(), StoreError> {
    let action = || format!("sync the file system of `{}`", store.display());
    let directory = File::open(store).map_err(StoreError::io(action()))?;
    rustix::fs::syncfs(&directory).map_err(|error| StoreError::io(action())(error.into()))
}
