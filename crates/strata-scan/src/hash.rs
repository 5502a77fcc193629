//! Reading one file to its name, exactly as it is between two looks at it. Which files need it
//! is decided in `walk`.
//!
//! Files are read, not mapped: a mapped file that somebody truncates kills the process.

use std::cell::RefCell;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use strata_cas::{BlobHasher, BlobId};

use crate::stamp::{Stamp, look};

/// How often a file that changes under our hands is read.
const ATTEMPTS: u32 = 4;

/// What one read takes at most of a file; smaller files take one read.
const BUFFER_BYTES: usize = 256 << 10;

/// What all threads hash together at a time.
const SHARED_BUFFER_BYTES: usize = 16 << 20;

/// Files of at least this size are worth all threads, if there are few of them.
pub(crate) const HUGE_BYTES: u64 = 64 << 20;

/// Why a file has no name.
#[derive(Debug)]
pub(crate) enum HashError {
    /// It changed each time that it was read.
    Changing,
    /// The system said no.
    System(Errno),
}

impl From<Errno> for HashError {
    fn from(error: Errno) -> Self {
        match error {
            // It was a regular file when we looked.
            Errno::LOOP | Errno::NXIO => Self::Changing,
            error => Self::System(error),
        }
    }
}

/// How many threads work on one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// This one.
    Single,
    /// All of the pool.
    Shared,
}

/// Reads the file that was `seen` and names its content; the stamp returned belongs to exactly
/// that content.
pub(crate) fn hash_file(
    directory: BorrowedFd<'_>,
    name: &[u8],
    seen: Stamp,
    effort: Effort,
) -> Result<(Stamp, BlobId), HashError> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let mut before = seen;
    for _ in 0..ATTEMPTS {
        let (blob, size) = match effort {
            Effort::Single => read_alone(file.as_fd(), before.size)?,
            Effort::Shared => read_together(file.as_fd(), before.size)?,
        };
        let after = Stamp::from(&look(file.as_fd(), b"")?);
        if after.file_type() != FileType::RegularFile {
            break;
        }
        if after == before && size == after.size {
            return Ok((after, blob));
        }
        before = after;
    }
    Err(HashError::Changing)
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn read_alone(file: BorrowedFd<'_>, expected: u64) -> Result<(BlobId, u64), Errno> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(BUFFER_BYTES, 0);
        let first = fill(file, buffer, 0, expected)?;
        if first < buffer.len() {
            return Ok((BlobId::of(&buffer[..first]), first as u64));
        }
        let mut hasher = BlobHasher::default();
        let size = read_all(file, buffer, first, expected, |bytes| hasher.update(bytes))?;
        Ok((hasher.finish(), size))
    })
}

fn read_together(file: BorrowedFd<'_>, expected: u64) -> Result<(BlobId, u64), Errno> {
    let mut buffer = vec![0; SHARED_BUFFER_BYTES];
    let first = fill(file, &mut buffer, 0, expected)?;
    let mut hasher = blake3::Hasher::new();
    let size = read_all(file, &mut buffer, first, expected, |bytes| {
        hasher.update_rayon(bytes);
    })?;
    Ok((BlobId::from_bytes(*hasher.finalize().as_bytes()), size))
}

/// Hands on the first bytes, which are in the buffer already, and all others; returns how many.
fn read_all(
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    first: usize,
    expected: u64,
    mut hand_on: impl FnMut(&[u8]),
) -> Result<u64, Errno> {
    let (mut count, mut size) = (first, 0);
    loop {
        hand_on(&buffer[..count]);
        size += count as u64;
        if count < buffer.len() {
            return Ok(size);
        }
        count = fill(file, buffer, size, expected)?;
    }
}

/// Reads until the buffer is full or the file ends. Behind the expected end it does not ask for
/// more: a file that grew has another stamp.
fn fill(
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: u64,
    expected: u64,
) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset + filled as u64;
        if at == expected && at > 0 {
            break;
        }
        match rustix::io::pread(file, &mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
