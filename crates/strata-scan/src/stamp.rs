//! What the file system says about a path without reading it, and when that can be believed to
//! tell one content from another. Keeping stamps is in `stamps`.

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp};

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What changes whenever a file's content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    pub(crate) changed: Timestamp,
    /// With the file type's bits.
    pub(crate) mode: u32,
}

/// Linux stamps files with the time of its last timer tick: up to 10 ms old at 100 Hz.
const TICK_NANOSECONDS: u32 = 20_000_000;

/// What a file system that keeps whole seconds only may be late (FAT keeps even ones).
const COARSE_SECONDS: i64 = 3;

impl Timestamp {
    /// The clock of this machine: a scan asks it once, to know which stamps are too young to
    /// be believed. Nothing else depends on it.
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self { seconds: now.tv_sec, nanoseconds: u32::try_from(now.tv_nsec).unwrap_or(0) }
    }

    /// Whether another change at or after `start` would have given another time than this.
    fn is_before(self, start: Self) -> bool {
        let mut latest = Self { seconds: self.seconds, ..self };
        if self.nanoseconds == 0 {
            latest.seconds = self.seconds.saturating_add(COARSE_SECONDS);
        } else {
            latest.nanoseconds += TICK_NANOSECONDS;
            if latest.nanoseconds >= 1_000_000_000 {
                latest.nanoseconds -= 1_000_000_000;
                latest.seconds = self.seconds.saturating_add(1);
            }
        }
        latest < start
    }
}

impl From<StatxTimestamp> for Timestamp {
    fn from(time: StatxTimestamp) -> Self {
        // A damaged disk may hold more; what counts is that the stamp changes.
        Self { seconds: time.tv_sec, nanoseconds: time.tv_nsec.min(999_999_999) }
    }
}

impl Stamp {
    /// Git's racy rule: a stamp is believed only if both of its times lie before the start of
    /// the scan that took it, since a later change within the same tick would not show. One from
    /// the future (the clock went back) is not believed either.
    pub(crate) fn is_settled(&self, start: Timestamp) -> bool {
        self.modified.is_before(start) && self.changed.is_before(start)
    }

    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// The permission bits.
    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

impl From<&Statx> for Stamp {
    fn from(found: &Statx) -> Self {
        Self {
            device: u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor),
            inode: found.stx_ino,
            size: found.stx_size,
            modified: found.stx_mtime.into(),
            changed: found.stx_ctime.into(),
            mode: u32::from(found.stx_mode),
        }
    }
}

/// Looks at an entry of a directory without following it; at `directory` itself for an empty name.
pub(crate) fn look(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Statx> {
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_older_than_the_start_is_settled() {
        let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        let start = at(100, 500_000_000);
        assert!(at(100, 400_000_000).is_before(start));
        assert!(!at(100, 490_000_000).is_before(start));
        assert!(!at(100, 500_000_000).is_before(start));
        assert!(!at(101, 1).is_before(start));
        assert!(!at(99, 0).is_before(start));
        assert!(at(97, 0).is_before(start));
        assert!(at(99, 999_999_999).is_before(start));
        assert!(!at(99, 999_999_999).is_before(at(100, 10_000_000)));
        assert!(!at(i64::MAX, 999_999_999).is_before(start));
    }
}
