//! The store's lock: who holds it may open the database. The kernel releases it when its holder
//! ends, however that comes about, so a stale lock can not exist.

use std::fs::{File, OpenOptions as FileOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use crate::layout::Layout;
use crate::{OpenError, OpenOptions};

const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Held for as long as this value lives.
#[derive(Debug)]
pub(crate) struct StoreLock(#[expect(dead_code, reason = "closing the file unlocks")] File);

impl StoreLock {
    /// Waits for the lock, asking again after pauses that grow.
    pub(crate) fn acquire(layout: &Layout, options: &OpenOptions<'_>) -> Result<Self, OpenError> {
        let path = layout.lock();
        let file = FileOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(OpenError::io("open the lock", &path))?;
        let start = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(OpenError::io("lock", &path)(error)),
            }
            let waited = start.elapsed();
            if waited >= options.wait_limit {
                return Err(OpenError::Busy { path: layout.root().to_owned(), waited });
            }
            (options.on_wait)(waited);
            std::thread::sleep(pause.min(options.wait_limit - waited));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
