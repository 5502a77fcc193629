//! A blob on its way into a store, in pieces, from whoever has the next one when: an upload that
//! takes an hour holds no thread, and its bytes are written once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::{Advice, fadvise};

use crate::{BlobHasher, BlobId, StoreError};

/// Bytes that become a blob when a store is told that they are all there (see
/// [`crate::BlobStore::finish`]). Dropped before, they are gone.
pub struct Incoming {
    hasher: BlobHasher,
    size: u64,
    /// All bytes, while there is no file.
    head: Vec<u8>,
    spill: Option<Spill>,
}

struct Spill {
    path: PathBuf,
    /// From this size on the bytes go to the file.
    from_bytes: usize,
    file: Option<File>,
    /// So much of it the disk has been told of.
    told: u64,
}

/// After so much more, the disk is told to begin: who waits for it in the end waits less then.
const TELL_BYTES: u64 = 8 << 20;

impl Spill {
    fn tell(&mut self, size: u64) {
        let Some(file) = self.file.as_ref().filter(|_| size - self.told >= TELL_BYTES) else {
            return;
        };
        // The system begins to write what it is told that nobody needs; what is not written yet
        // it keeps in memory all the same, and that is all of it. (`sync_file_range` says it
        // more plainly, and is nowhere but behind `unsafe`.) It is advice: nothing depends on it.
        let length = NonZeroU64::new(size - self.told);
        let _ = fadvise(file, self.told, length, Advice::DontNeed);
        self.told = size;
    }
}

/// The bytes, where they are.
#[derive(Debug)]
pub enum Arrived {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a file, which belongs to the receiver from now on.
    File(PathBuf),
}

impl Incoming {
    /// One that stays in memory.
    pub fn in_memory() -> Self {
        Self { hasher: BlobHasher::default(), size: 0, head: Vec::new(), spill: None }
    }

    /// One that moves to a new file at `path` when it becomes larger than `from_bytes`.
    pub fn spilling(path: PathBuf, from_bytes: usize) -> Self {
        let mut incoming = Self::in_memory();
        incoming.spill = Some(Spill { path, from_bytes, file: None, told: 0 });
        incoming
    }

    /// Reads the bytes so far, by their places; none while they are in memory.
    ///
    /// # Errors
    ///
    /// When the system gives no other handle of the file.
    pub fn reader(&self) -> io::Result<Option<File>> {
        let file = self.spill.as_ref().and_then(|spill| spill.file.as_ref());
        file.map(File::try_clone).transpose()
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    ///
    /// When the system refuses to write; then the upload can not go on.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        let Some(spill) = &mut self.spill else {
            self.head.extend_from_slice(bytes);
            return Ok(());
        };
        if spill.file.is_none() && self.head.len() + bytes.len() <= spill.from_bytes {
            self.head.extend_from_slice(bytes);
            return Ok(());
        }
        let mut written = || -> io::Result<()> {
            let mut file = match spill.file.take() {
                Some(file) => file,
                None => {
                    let mut options = OpenOptions::new();
                    let file = options.read(true).write(true).create_new(true).mode(0o444);
                    let mut file = file.open(&spill.path)?;
                    file.write_all(&std::mem::take(&mut self.head))?;
                    file
                }
            };
            file.write_all(bytes)?;
            spill.file = Some(file);
            spill.tell(self.size);
            Ok(())
        };
        written().map_err(StoreError::io(format!("write `{}`", spill.path.display())))
    }

    /// How many bytes there are so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The name of the bytes so far.
    pub fn id(&self) -> BlobId {
        self.hasher.finish()
    }

    /// Gives the bytes away.
    pub fn take(mut self) -> Arrived {
        match self.spill.take() {
            Some(Spill { path, file: Some(_), .. }) => Arrived::File(path),
            _ => Arrived::Bytes(std::mem::take(&mut self.head)),
        }
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, bytes).map(|()| bytes.len()).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(Spill { path, file: Some(_), .. }) = self.spill.take() {
            // What stays is removed when the store is opened next.
            drop(fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_ones_move_to_their_file_and_dropped_ones_are_gone() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("one");
        let mut small = Incoming::spilling(path.clone(), 4);
        small.write(b"abcd").expect("write");
        assert!(!path.exists());
        assert!(matches!(small.take(), Arrived::Bytes(bytes) if bytes == b"abcd"));

        let mut large = Incoming::spilling(path.clone(), 4);
        for piece in [&b"ab"[..], b"cd", b"e", b""] {
            large.write(piece).expect("write");
        }
        assert_eq!((large.size(), large.id()), (5, BlobId::of(b"abcde")));
        assert!(matches!(large.take(), Arrived::File(file) if file == path));
        assert_eq!(fs::read(&path).expect("read"), b"abcde");
        fs::remove_file(&path).expect("remove");

        let mut dropped = Incoming::spilling(path.clone(), 0);
        dropped.write(b"x").expect("write");
        assert!(path.exists());
        drop(dropped);
        assert!(!path.exists());
    }
}
