//! The store's lock: who holds it may open the database. The kernel releases it when its holder
//! ends, however that comes about, so a stale lock can not exist.

use std::fs::{File, OpenOptions as FileOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;

use crate::OpenError;
use crate::layout::Layout;

/// Held for as long as this value lives.
#[derive(Debug)]
pub(crate) struct StoreLock(#[expect(dead_code, reason = "closing the file unlocks")] File);

impl StoreLock {
    /// Takes the lock if it is free.
    pub(crate) fn take(layout: &Layout) -> Result<Option<Self>, OpenError> {
        let path = layout.lock();
        let file = open(layout)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(OpenError::io("lock", &path)(error)),
        }
    }

    /// Keeps others from taking the lock, if nobody has it.
    pub(crate) fn share(layout: &Layout) -> Option<Self> {
        let file = open(layout).ok()?;
        file.try_lock_shared().ok().map(|()| Self(file))
    }
}

fn open(layout: &Layout) -> Result<File, OpenError> {
    let path = layout.lock();
    FileOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(OpenError::io("open the lock", &path))
}
