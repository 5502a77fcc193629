//! The gate between those who use what is in the store and the one who clears it out.
//!
//! A process first notes in its lease what it is going to look for, and then looks, both with the
//! gate held in common. A sweep removes in small pieces, each with the gate to itself, after
//! reading the notes. So whatever somebody has found was noted before it could be removed. The
//! gate is held for microseconds by the former and for milliseconds by the latter.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Mutex, PoisonError};

use strata_cas::StoreError;

use crate::OpenError;
use crate::layout::Layout;

/// The gate, as this process passes it.
#[derive(Debug)]
pub(crate) struct Gate {
    /// How many pieces were ever removed, as `u64` little-endian.
    file: File,
    /// How many threads of this process are inside: the first one locks, the last one unlocks.
    inside: Mutex<usize>,
}

/// Held in common with others.
pub(crate) struct Inside<'a>(&'a Gate);

/// Held alone.
pub(crate) struct Alone(File);

impl Gate {
    pub(crate) fn open(layout: &Layout) -> Result<Self, OpenError> {
        let path = layout.gate();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(OpenError::io("open", &path))?;
        Ok(Self { file, inside: Mutex::default() })
    }

    /// Enters. Nothing is removed until the value is dropped.
    pub(crate) fn enter(&self) -> Result<Inside<'_>, StoreError> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if *inside == 0 {
            self.file.lock_shared().map_err(StoreError::io("lock the store's gate"))?;
        }
        *inside += 1;
        Ok(Inside(self))
    }

    /// How many pieces were ever removed: reads that are older than a change see what is gone.
    pub(crate) fn removals(&self) -> Result<u64, StoreError> {
        read(&self.file).map_err(StoreError::io("read the store's gate"))
    }

    /// Keeps everybody out for as long as a piece takes, and counts it.
    pub(crate) fn close(layout: &Layout) -> Result<Alone, StoreError> {
        let action = || StoreError::io("lock the store's gate");
        let file = OpenOptions::new().read(true).write(true).open(layout.gate());
        let file = file.map_err(action())?;
        file.lock().map_err(action())?;
        let removals = read(&file).map_err(action())? + 1;
        file.write_all_at(&removals.to_le_bytes(), 0).map_err(action())?;
        Ok(Alone(file))
    }
}

fn read(file: &File) -> io::Result<u64> {
    let mut bytes = [0; 8];
    match file.read_at(&mut bytes, 0)? {
        8 => Ok(u64::from_le_bytes(bytes)),
        _ => Ok(0),
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut inside = self.0.inside.lock().unwrap_or_else(PoisonError::into_inner);
        *inside -= 1;
        if *inside == 0 {
            // It can not fail for an open file.
            drop(self.0.file.unlock());
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}
