//! What a store can do, as four small traits; [`crate::conformance`] says what each promises.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{
    Arrived, BlobHasher, BlobId, BuildUse, Claim, ClaimGuard, Incoming, LayerId, Record, RecordKey,
    Slot, TreePath,
};

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted, with its object.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The bytes under a name are not the bytes that it names.
    #[error("{what} in the store is damaged")]
    Damaged {
        /// Which object.
        what: String,
    },
    /// There is no room left, even without all that nobody uses at this moment.
    #[error(
        "the store may take {limit_bytes} bytes and takes {used_bytes}, all of it in use: \
         {needed_bytes} more do not fit"
    )]
    NoRoom {
        /// What was to be written.
        needed_bytes: u64,
        /// What the store takes.
        used_bytes: u64,
        /// What it may take.
        limit_bytes: u64,
    },
    /// The database under the store failed.
    #[error("the store's database failed to {action}: {message}")]
    Database {
        /// What was attempted.
        action: &'static str,
        /// The database's answer.
        message: String,
    },
}

impl StoreError {
    /// Says what was attempted when the system refused.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

/// A blob that was found.
#[derive(Debug)]
pub enum Blob {
    /// Its bytes, which match its name.
    Bytes(Vec<u8>),
    /// A file with its bytes; what is read from it must be checked (see [`Blob::reader`]).
    File {
        /// Open for reading, at its start.
        file: File,
        /// Its size in bytes.
        size: u64,
    },
}

impl Blob {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// Reads it, failing with [`io::ErrorKind::InvalidData`] at the end when the bytes do not
    /// match `id`.
    pub fn reader(self, id: BlobId) -> BlobReader {
        let source = match self {
            Self::Bytes(bytes) => Source::Bytes(io::Cursor::new(bytes)),
            Self::File { file, .. } => Source::File { file, hasher: Box::default() },
        };
        BlobReader { id, source }
    }
}

/// Reads a blob and checks it against its name.
pub struct BlobReader {
    id: BlobId,
    source: Source,
}

enum Source {
    Bytes(io::Cursor<Vec<u8>>),
    File { file: File, hasher: Box<BlobHasher> },
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (file, hasher) = match &mut self.source {
            Source::Bytes(bytes) => return bytes.read(buffer),
            Source::File { file, hasher } => (file, hasher),
        };
        let count = file.read(buffer)?;
        hasher.update(&buffer[..count]);
        if count == 0 && !buffer.is_empty() && hasher.finish() != self.id {
            let message = format!("blob {} in the store is damaged", self.id);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

/// Keeps bytes by their BLAKE3. Putting what is there already changes nothing.
pub trait BlobStore: Send + Sync {
    /// Finds a blob; `None` when the store does not have it or found it damaged.
    fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError>;

    /// Keeps all that `source` gives and names it.
    fn put_from(&self, source: &mut dyn Read) -> Result<BlobId, StoreError>;

    /// Whether the store has a blob, without reading it.
    fn has(&self, id: &BlobId) -> Result<bool, StoreError>;

    /// How many bytes a blob has, without reading it; `None` when the store does not have it.
    fn size(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        match self.has(id)? {
            true => Ok(self.open(id)?.map(|blob| blob.size())),
            false => Ok(None),
        }
    }

    /// The same for somebody who only counts: what is looked at so need not stay.
    fn glance(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        self.size(id)
    }

    /// Reads a whole blob, checked; a damaged one is `None`, like a missing one.
    fn get(&self, id: &BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(blob) = self.open(id)? else { return Ok(None) };
        let mut bytes = Vec::new();
        match blob.reader(*id).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(StoreError::io(format!("read blob {id}"))(error)),
        }
    }

    /// Keeps bytes and names them.
    fn put(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        self.put_from(&mut { bytes })
    }

    /// Begins a blob whose bytes come in pieces.
    fn begin(&self) -> Result<Incoming, StoreError> {
        Ok(Incoming::in_memory())
    }

    /// Keeps a blob whose bytes are all there, and names it.
    fn finish(&self, incoming: Incoming) -> Result<BlobId, StoreError> {
        match incoming.take() {
            Arrived::Bytes(bytes) => self.put(&bytes),
            Arrived::File(path) => {
                let failed = || StoreError::io(format!("read `{}`", path.display()));
                let id = self.put_from(&mut File::open(&path).map_err(failed())?)?;
                std::fs::remove_file(&path).map_err(failed())?;
                Ok(id)
            }
        }
    }
}

/// Keeps records by their keys, and the latest ones of each slot.
pub trait RecordStore: Send + Sync {
    /// The record under a key.
    fn find(&self, key: &RecordKey) -> Result<Option<Record>, StoreError>;

    /// Keeps a record under its own two keys and under `also`. When this returns, the record and
    /// all that was put before it survive a crash.
    fn keep(&self, record: &Record, also: &[RecordKey]) -> Result<(), StoreError>;

    /// The latest records of a slot, newest first; at least the last eight are remembered.
    fn recent(&self, slot: &Slot) -> Result<Vec<Record>, StoreError>;

    /// Asks for the right to do the step with these keys, which nobody else gets meanwhile,
    /// in this process or in another one. Never waits. Who holds a key and finds no record under
    /// it runs the step; a store that several evaluations share must not leave this default, and
    /// one that stands in front of another passes the question on.
    fn claim(&self, keys: &[RecordKey]) -> Result<Claim, StoreError> {
        let _ = keys;
        Ok(Claim::Held(ClaimGuard::nothing()))
    }

    /// Remembers what a build has used. Not durable at once, and no reason to fail a build: it
    /// only says what is dropped first when room is needed.
    fn finish_build(&self, build: &BuildUse<'_>) -> Result<(), StoreError> {
        let _ = build;
        Ok(())
    }
}

/// A new private directory on the store's file system, gone when dropped.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    counted: AtomicU64,
    free: AtomicU64,
    /// Directories elsewhere in the store, with what they took at first, once that is known.
    beside: Mutex<Vec<(PathBuf, Option<u64>)>>,
    /// What is being done in it meanwhile.
    begun: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

impl Staging {
    /// Takes over an empty directory that the store has made. `fs` and `work` are made in it.
    pub fn new(path: PathBuf) -> Result<Self, StoreError> {
        let (counted, free) = (AtomicU64::new(0), AtomicU64::new(0));
        let staging =
            Self { path, counted, free, beside: Mutex::default(), begun: Mutex::default() };
        for part in [staging.fs(), staging.work()] {
            std::fs::create_dir(&part)
                .map_err(StoreError::io(format!("create `{}`", part.display())))?;
        }
        Ok(staging)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What becomes the snapshot: an overlay's upper directory, or where a layer is unpacked.
    pub fn fs(&self) -> PathBuf {
        self.path.join("fs")
    }

    /// Scratch space beside it, such as an overlay's work directory.
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Tells the store's own count that so many bytes are in it now; gives what is new of them.
    pub fn count(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.counted.fetch_max(bytes, Ordering::SeqCst))
    }

    /// Says that the same process also writes into a directory elsewhere in the store, which stays:
    /// what it grows by from the first [`Staging::grown_beside`] on is counted with this.
    pub fn write_beside(&self, directory: PathBuf) {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        beside.push((directory, None));
    }

    /// How many bytes those directories have grown by, each measured with `size`.
    pub fn grown_beside(&self, size: impl Fn(&Path) -> u64) -> u64 {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let grown = beside.iter_mut().map(|(directory, before)| {
            let now = size(directory);
            now.saturating_sub(*before.get_or_insert(now))
        });
        grown.sum()
    }

    /// Has something done in it on a thread of its own, before which ends it is not removed. Once;
    /// where no thread can be had, nothing is done.
    pub fn begin(&self, work: impl FnOnce() -> Result<(), StoreError> + Send + 'static) {
        let thread = std::thread::Builder::new().name("staging".to_owned()).spawn(work);
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = thread.ok();
    }

    /// Waits for what was begun. Whether anything was and has succeeded; once.
    pub fn has_ended(&self) -> bool {
        let thread = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.is_some_and(|thread| matches!(thread.join(), Ok(Ok(()))))
    }

    /// Whether at least `least` bytes less are free on its file system than when this was last
    /// true, so that counting is worth while. True the first time.
    pub fn may_have_grown(&self, free: u64, least: u64) -> bool {
        let before = self.free.load(Ordering::SeqCst);
        let is_first = before == 0;
        let has_grown = is_first || free.saturating_add(least) <= before;
        if has_grown || free > before {
            self.free.store(free, Ordering::SeqCst);
        }
        has_grown
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // It would make files in what is being removed.
        self.has_ended();
        // What can not be removed now is removed when the store is opened next.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// Keeps layers as directories that overlayfs can stack.
pub trait SnapshotStore: Send + Sync {
    /// The directory that shows a layer in overlayfs's own form, if there is one.
    fn snapshot(&self, layer: &LayerId) -> Result<Option<PathBuf>, StoreError>;

    /// The same, for those who are to read from it without comparing what they read with its
    /// name: one that is not what it was any more is as good as none.
    fn intact(&self, layer: &LayerId) -> Result<Option<PathBuf>, StoreError> {
        self.snapshot(layer)
    }

    /// A place to make one.
    fn stage(&self) -> Result<Staging, StoreError>;

    /// Asks for room for what has been written there by now, while the writing goes on, and for
    /// what will be until the time that it gives has passed: then it wants to be asked again. A
    /// cheap question: nothing is counted where nothing can have been written.
    fn allow(&self, staging: &Staging) -> Result<Duration, StoreError> {
        let _ = staging;
        Ok(Duration::from_secs(1))
    }

    /// Says that this staging directory is as it is to be committed: what takes long may begin.
    fn expect(&self, _staging: &Staging) {}

    /// Makes `staging.fs()` the layer's snapshot, durably, and says where it is now. `files` are
    /// its regular files: the store may read those blobs from there. A snapshot that is there
    /// already stays.
    fn commit(
        &self,
        staging: Staging,
        layer: &LayerId,
        files: &[(BlobId, TreePath)],
    ) -> Result<PathBuf, StoreError>;
}

/// Keeps small values under names that people choose, in tables: image names, OCI digests.
pub trait NameStore: Send + Sync {
    /// The value under a name.
    fn name(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Whether this is the value under a name.
    fn is_name(&self, table: &str, name: &str, value: &[u8]) -> Result<bool, StoreError> {
        Ok(self.name(table, name)?.is_some_and(|found| found == value))
    }

    /// Sets (`Some`) or forgets (`None`) a name, durably.
    fn set_name(&self, table: &str, name: &str, value: Option<&[u8]>) -> Result<(), StoreError>;

    /// Sets a name so that it outlives this process. Whether it outlives a power cut, too, is
    /// known only when a name has been set durably after it: then it does.
    fn set_name_soon(&self, table: &str, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.set_name(table, name, Some(value))
    }

    /// All names of a table with their values, sorted.
    fn names(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Shows all names of the tables whose own names begin with `prefix`, one after the other:
    /// table, name, value. Nothing may be asked of the store meanwhile.
    fn each_name(
        &self,
        prefix: &str,
        see: &mut dyn FnMut(&str, &str, &[u8]),
    ) -> Result<(), StoreError>;
}

/// All four.
pub trait Store: BlobStore + RecordStore + SnapshotStore + NameStore {}

impl<T: BlobStore + RecordStore + SnapshotStore + NameStore> Store for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_in_a_staging_directory_leaves_nothing_behind() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("1");
        std::fs::create_dir(&path).expect("created");
        let staging = Staging::new(path.clone()).expect("staging");
        assert!(!staging.has_ended(), "nothing was begun");
        let file = path.join("late");
        staging.begin(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            // Also where the directory were gone.
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("created");
            std::fs::write(file, "x").map_err(StoreError::io("write"))
        });
        drop(staging);
        assert!(!path.exists());
    }

    #[test]
    fn what_was_begun_in_a_staging_directory_tells_whether_it_succeeded() {
        let home = tempfile::tempdir().expect("a folder");
        let staging = Staging::new(home.path().to_owned()).expect("staging");
        staging.begin(|| Ok(()));
        assert!(staging.has_ended());
        assert!(!staging.has_ended(), "it is told once");
        staging.begin(|| Err(StoreError::io("fail")(io::ErrorKind::Other.into())));
        assert!(!staging.has_ended());
    }
}
