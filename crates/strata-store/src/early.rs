//! What a command writes goes to the disk while the command still runs: the kernel alone would
//! leave it in memory for half a minute, and the commit of what came of it waits for the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sync;

/// So many new bytes are worth being written: less is written quickly at the end, and a command's
/// temporary files are mostly gone before.
const WORTH_WRITING_BYTES: u64 = 128 << 20;

/// When to begin.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// How much was free when it was begun last, or the most since then; 0 before the first look.
    free: AtomicU64,
    is_writing: Arc<AtomicBool>,
}

impl Early {
    /// Has what was written to the file system of a directory, of which so much is free, go to the
    /// disk, if that is worth while and not being done. Waits for nothing, and fails without a
    /// word: whoever needs it on the disk waits for it later.
    pub(crate) fn look(&self, place: &Path, free: u64) {
        if self.is_writing.load(Ordering::SeqCst) || !self.is_worth_writing(free) {
            return;
        }
        self.is_writing.store(true, Ordering::SeqCst);
        let (place, is_writing) = (place.to_owned(), Arc::clone(&self.is_writing));
        let write = move || {
            drop(sync::filesystem(&place));
            is_writing.store(false, Ordering::SeqCst);
        };
        let thread = std::thread::Builder::new().name("write early".to_owned()).spawn(write);
        if thread.is_err() {
            self.is_writing.store(false, Ordering::SeqCst);
        }
    }

    /// Whether so much less is free than when this was last true. The first look only counts.
    fn is_worth_writing(&self, free: u64) -> bool {
        let before = self.free.load(Ordering::SeqCst);
        let is_due = free.saturating_add(WORTH_WRITING_BYTES) <= before;
        if is_due || free > before {
            self.free.store(free, Ordering::SeqCst);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_whenever_enough_was_written() {
        let early = Early::default();
        let mib = |count: u64| count << 20;
        let looks = [
            // The first one, something, enough, right after it.
            (1000, false),
            (900, false),
            (872, true),
            (872, false),
            // Something is removed: it counts from there.
            (950, false),
            (830, false),
            (822, true),
            (100, true),
            (0, false),
        ];
        for (free, expected) in looks {
            assert_eq!(early.is_worth_writing(mib(free)), expected, "{free}");
        }
    }

    #[test]
    fn a_look_waits_for_nothing_and_comes_back_from_nowhere() {
        let early = Early::default();
        let home = tempfile::tempdir().expect("a folder");
        early.free.store(u64::MAX, Ordering::SeqCst);
        early.look(home.path(), 1 << 40);
        // It ends, and the next one may begin.
        while early.is_writing.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        early.look(&home.path().join("nowhere"), 1 << 30);
        while early.is_writing.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }
}
