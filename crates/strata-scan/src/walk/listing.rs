//! Directories: how they are opened, what is in them, and whether their stamps say when that
//! changes.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom};
use strata_cas::TreePath;

use crate::ScanError;
use crate::stamp::{Stamp, look};
use crate::stamps::Kind;
use crate::walked::{Entry, Seen};

/// How often a directory that changes under our hands is read.
const ATTEMPTS: u32 = 4;

/// How directories are opened: a link in their place is refused.
pub(super) const DIRECTORY_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the root, which may be named through links.
pub(crate) fn open_root(root: &std::path::Path) -> rustix::io::Result<OwnedFd> {
    let flags = DIRECTORY_FLAGS.difference(OFlags::NOFOLLOW);
    rustix::fs::open(root, flags, Mode::empty())
}

/// Reads a directory as it is between two looks at it, sorted by name.
pub(super) fn read_directory(
    directory: &OwnedFd,
    path: &TreePath,
    mut before: Stamp,
) -> Result<(Stamp, Vec<Entry>), ScanError> {
    let failed = |error| ScanError::at(path, "list", error);
    for _ in 0..ATTEMPTS {
        let mut entries = read_entries(directory).map_err(failed)?;
        let after = Stamp::from(&look(directory.as_fd(), b"").map_err(failed)?);
        if after == before {
            entries.sort_unstable_by(|a, b| a.own_name.cmp(&b.own_name));
            return Ok((after, entries));
        }
        before = after;
        rustix::fs::seek(directory, SeekFrom::Start(0)).map_err(failed)?;
    }
    Err(ScanError::Changing(path.clone()))
}

fn read_entries(directory: &OwnedFd) -> rustix::io::Result<Vec<Entry>> {
    let mut buffer = [MaybeUninit::uninit(); 32 << 10];
    let mut listing = RawDir::new(directory, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            FileType::Unknown => Kind::Unknown,
            _ => Kind::Other,
        };
        entries.push(Entry::new(name, kind, Seen::Unwanted));
    }
    Ok(entries)
}

/// Whether the file system is known to stamp a directory when an entry comes or goes. Some that
/// are kept by a process or a server do not.
pub(super) fn stamps_directories(directory: BorrowedFd<'_>) -> bool {
    const EXT: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683e;
    const TMPFS: i64 = 0x0102_1994;
    const OVERLAY: i64 = 0x794c_7630;
    const F2FS: i64 = 0xf2f5_2010;
    const ZFS: i64 = 0x2fc1_2fc1;
    const BCACHEFS: i64 = 0xca45_1a4e;
    let known = [EXT, XFS, BTRFS, TMPFS, OVERLAY, F2FS, ZFS, BCACHEFS];
    rustix::fs::fstatfs(directory).is_ok_and(|found| known.contains(&found.f_type))
}
