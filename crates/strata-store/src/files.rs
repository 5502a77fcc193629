//! Large blobs, one file each.
//!
//! A new one is written to the staging directory and waits there, unsynced and readable by this
//! process only, until a record needs it (or many wait): then all that wait are synced together
//! and take their names. So a file that carries a name has been on disk before it got it, and a
//! COPY of thousands of files pays for one sync and not for thousands.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::fs::{Advice, fadvise};
use strata_cas::{Blob, BlobHasher, BlobId, StoreError};

use crate::layout::{Layout, Part};
use crate::lease::Lease;
use crate::open::hold;
use crate::sync;

/// Blobs up to this size are kept in the database. A file of its own costs a blob about 170 µs of
/// processor time and a directory entry; in the database its bytes are written twice, which for
/// 16 KiB costs about 10 µs. Most source files are smaller, most bytes are in larger ones.
pub const INLINE_LIMIT_BYTES: usize = 16 << 10;

/// How many blobs may wait for a sync, so that what is lost by a kill is bounded.
const WAITING_LIMIT: usize = 1024;

const COPY_BUFFER_BYTES: usize = 256 << 10;

/// The disk is told of files that are as large.
const WORTHWHILE_BYTES: u64 = 256 << 10;

/// The large blobs of a store.
#[derive(Debug)]
pub(crate) struct Files {
    layout: Layout,
    lease: Arc<Lease>,
    /// Where the blobs are that have no name yet.
    waiting: RwLock<HashMap<BlobId, PathBuf>>,
    /// Held while waiting blobs are synced and named: who finds none waiting knows that none is
    /// on its way either.
    settling: Mutex<()>,
    written: AtomicU64,
}

impl Files {
    pub(crate) fn new(layout: &Layout, lease: Arc<Lease>) -> Self {
        Self {
            layout: layout.clone(),
            lease,
            waiting: RwLock::default(),
            settling: Mutex::default(),
            written: AtomicU64::default(),
        }
    }

    /// Opens a blob's file; what it holds is not checked.
    pub(crate) fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        // The name is looked for after the waiting ones: a blob goes from there to there.
        if let Some(path) = self.waiting_path(id)
            && let Some(blob) = open_file(&path)?
        {
            return Ok(Some(blob));
        }
        open_file(&self.layout.blob(id))
    }

    /// Whether a blob waits here, written by this process.
    pub(crate) fn is_waiting(&self, id: &BlobId) -> bool {
        self.waiting_path(id).is_some()
    }

    /// Whether a blob has a file.
    pub(crate) fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        let path = self.layout.blob(id);
        Ok(self.is_waiting(id)
            || path
                .try_exists()
                .map_err(StoreError::io(format!("look for `{}`", path.display())))?)
    }

    /// Writes what `head` and then `source` hold to a new file, and names it.
    pub(crate) fn write(&self, head: &[u8], source: &mut dyn Read) -> Result<NewFile, StoreError> {
        let (id, path) = write_new(self.place()?, head, source)?;
        Ok(NewFile { id, path })
    }

    /// Writes bytes whose name is known to a new file.
    pub(crate) fn write_named(&self, id: BlobId, bytes: &[u8]) -> Result<NewFile, StoreError> {
        let path = self.place()?;
        let action = StoreError::io(format!("write `{}`", path.display()));
        let file = create(&path);
        let path = Temporary(Some(path));
        let write = |mut file: File| {
            file.write_all(bytes)?;
            begin_sync(&file, bytes.len() as u64);
            Ok(NewFile { id, path })
        };
        file.and_then(write).map_err(action)
    }

    /// Where the next new file goes.
    pub(crate) fn place(&self) -> Result<PathBuf, StoreError> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        Ok(self.lease.staging()?.join(format!("blob-{number}")))
    }

    /// Keeps a new file.
    pub(crate) fn add(&self, file: NewFile) -> Result<(), StoreError> {
        let mut waiting = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(file.id).or_insert_with(|| file.path.keep());
        let many = waiting.len() >= WAITING_LIMIT;
        drop(waiting);
        if many { self.settle() } else { Ok(()) }
    }

    /// Gives a file that holds a blob a second name, under which it is found as that blob.
    pub(crate) fn link(&self, id: &BlobId, file: &Path) -> io::Result<()> {
        let to = self.layout.blob(id);
        if let Some(shard) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(shard)?;
        }
        match fs::hard_link(file, &to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(_) => self.copy(id, file, &to),
            Ok(()) => Ok(()),
        }
    }

    /// Where a file belongs to another user, or has as many names as it can have.
    fn copy(&self, id: &BlobId, file: &Path, to: &Path) -> io::Result<()> {
        let mut source = File::open(file)?;
        let new = self.write(&[], &mut source).map_err(io::Error::other)?;
        if new.id != *id {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let path = new.path.keep();
        File::open(&path)?.sync_all()?;
        fs::rename(&path, to)
    }

    /// Removes a damaged blob's file.
    pub(crate) fn forget(&self, id: &BlobId) -> Result<(), StoreError> {
        let mut waiting = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        let waited = waiting.remove(id);
        drop(waiting);
        for path in waited.into_iter().chain([self.layout.blob(id)]) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done.map_err(StoreError::io(format!("remove `{}`", path.display())))?,
            }
        }
        Ok(())
    }

    /// Makes all blobs that were added before this call survive a power cut.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        let _one = hold(&self.settling);
        let waiting = self.waiting.read().unwrap_or_else(PoisonError::into_inner);
        let blobs: Vec<(BlobId, PathBuf)> =
            waiting.iter().map(|(id, path)| (*id, path.clone())).collect();
        drop(waiting);
        if blobs.is_empty() {
            return Ok(());
        }
        let paths: Vec<PathBuf> = blobs.iter().map(|(_, path)| path.clone()).collect();
        sync::paths(&paths, self.layout.root())?;
        let mut directories = BTreeSet::from([self.layout.part(Part::Blobs)]);
        for (id, path) in &blobs {
            self.name(id, path)?;
            directories.insert(self.layout.shard(id));
        }
        let directories: Vec<PathBuf> = directories.into_iter().collect();
        sync::paths(&directories, self.layout.root())?;
        let mut waiting = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        blobs.iter().for_each(|(id, _)| drop(waiting.remove(id)));
        Ok(())
    }

    fn waiting_path(&self, id: &BlobId) -> Option<PathBuf> {
        self.waiting.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Moves a synced file to the place where its name leads.
    fn name(&self, id: &BlobId, path: &Path) -> Result<(), StoreError> {
        let to = self.layout.blob(id);
        let mut moved = fs::rename(path, &to);
        if is_missing(&moved) && !to.exists() {
            let shard = self.layout.shard(id);
            match DirBuilder::new().mode(0o700).create(&shard) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(StoreError::io(format!("create `{}`", shard.display())))?,
            }
            moved = fs::rename(path, &to);
        }
        match moved {
            // An earlier attempt failed after this blob had got its name.
            Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => Ok(()),
            moved => moved.map_err(StoreError::io(format!("name `{}`", to.display()))),
        }
    }
}

/// A file in the staging directory with the name of what it holds. Removed unless it is added.
pub(crate) struct NewFile {
    pub(crate) id: BlobId,
    path: Temporary,
}

impl NewFile {
    /// A file of the staging directory that somebody else has written, and named while he did.
    pub(crate) fn at(id: BlobId, path: PathBuf) -> Self {
        Self { id, path: Temporary(Some(path)) }
    }
}

struct Temporary(Option<PathBuf>);

impl Temporary {
    fn keep(mut self) -> PathBuf {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is removed when the store is opened next.
        drop(self.0.take().map(fs::remove_file));
    }
}

fn write_new(
    path: PathBuf,
    head: &[u8],
    source: &mut dyn Read,
) -> Result<(BlobId, Temporary), StoreError> {
    let action = format!("write `{}`", path.display());
    let mut file = create(&path).map_err(StoreError::io(&action))?;
    let path = Temporary(Some(path));
    let mut hasher = BlobHasher::default();
    hasher.update(head);
    file.write_all(head).map_err(StoreError::io(&action))?;
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    let mut size = head.len() as u64;
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => {
                begin_sync(&file, size);
                return Ok((hasher.finish(), path));
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(StoreError::io("read a new blob")(error)),
        };
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(StoreError::io(&action))?;
        size += count as u64;
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)
}

/// Lets the disk begin with a new file, so that who waits for it in the end waits less. It is
/// advice, as in [`strata_cas::Incoming`]: nothing depends on it.
fn begin_sync(file: &File, size: u64) {
    if size >= WORTHWHILE_BYTES {
        let _ = fadvise(file, 0, None, Advice::DontNeed);
    }
}

fn open_file(path: &Path) -> Result<Option<Blob>, StoreError> {
    let opened = File::open(path);
    if is_missing(&opened) {
        return Ok(None);
    }
    let action = || format!("open `{}`", path.display());
    let file = opened.map_err(StoreError::io(action()))?;
    let metadata = file.metadata().map_err(StoreError::io(action()))?;
    Ok(metadata.is_file().then_some(Blob::File { size: metadata.len(), file }))
}

fn is_missing<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
