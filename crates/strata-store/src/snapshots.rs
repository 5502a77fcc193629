//! Layers as directories, and their files as blobs.
//!
//! A snapshot is `snapshots-1/<half of the layer's id>/fs`. It counts from the moment the
//! database says so, which is after its content is on disk; a directory that the database does
//! not know is what a killed process left, and is replaced.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use strata_cas::{Blob, BlobId, LayerId, SnapshotStore, Staging, StoreError, TreePath};

use crate::budget::Ahead;
use crate::codec::{self, Committed, Place};
use crate::database::Table;
use crate::inventory::size_of_tree;
use crate::layout::Part;
use crate::lease::Used;
use crate::wire::Op;
use crate::{DiskStore, budget, remove, seal, sync};

/// So many places of files are written together: a path has at most 4 KiB.
const PLACES_AT_A_TIME: usize = 4096;

/// What holds the layer's files inside a snapshot's directory.
const FS: &str = "fs";

impl SnapshotStore for DiskStore {
    fn snapshot(&self, layer: &LayerId) -> Result<Option<PathBuf>, StoreError> {
        let _inside = self.using(&[Used::Snapshot(*layer)])?;
        let path = self.layout.snapshot(layer).join(FS);
        let committed = self.tables.get(Table::Snapshots, layer.as_bytes())?.is_some();
        Ok((committed && path.is_dir()).then_some(path))
    }

    fn intact(&self, layer: &LayerId) -> Result<Option<PathBuf>, StoreError> {
        self.intact_snapshot(layer)
    }

    fn stage(&self) -> Result<Staging, StoreError> {
        loop {
            let number = self.staged.fetch_add(1, Ordering::Relaxed);
            let path = self.lease.staging()?.join(number.to_string());
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Staging::new(path),
                // It could not be removed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(StoreError::io(format!("create `{}`", path.display()))(error));
                }
            }
        }
    }

    fn allow(&self, staging: &Staging) -> Result<Duration, StoreError> {
        let Some(free) = free_bytes(self.layout.root()) else { return Ok(budget::SLOWEST) };
        self.early.look(self.layout.root(), free);
        if !self.is_limited() {
            return Ok(budget::SLOWEST);
        }
        let new = match self.budget.is_worth_counting(staging, free) {
            true => staging.count(written(staging)),
            false => 0,
        };
        self.reserve(new)?;
        let Ahead { pause, bytes } = self.budget.ahead(free, new);
        self.reserve(bytes)?;
        self.budget.give_back(bytes);
        Ok(pause)
    }

    /// Seals what is in it and begins to write it to the disk, which the commit then waits for.
    fn expect(&self, staging: &Staging) {
        let path = staging.path().to_owned();
        staging.begin(move || {
            seal::seal(&path)?;
            sync::filesystem(&path)
        });
    }

    fn commit(
        &self,
        staging: Staging,
        layer: &LayerId,
        files: &[(BlobId, TreePath)],
    ) -> Result<PathBuf, StoreError> {
        // Staging can not remove it where overlayfs has left a directory of mode 0 in it.
        remove_tree(&staging.work())?;
        if self.is_limited() {
            self.reserve(staging.count(written(&staging)))?;
        }
        let places = places(&staging.fs(), files)?;
        let there = self.snapshot(layer)?;
        let is_damaged = there.is_some() && !self.is_intact(layer, &places)?;
        if let Some(path) = there.filter(|_| !is_damaged) {
            staging.has_ended();
            remove_tree(staging.path())?;
            return Ok(path);
        }
        self.settle()?;
        // Places of a snapshot that is not there yet lead nowhere: they may come before it.
        let written = || -> Result<(), StoreError> {
            if staging.has_ended() {
                return Ok(());
            }
            seal::seal(staging.path())?;
            sync::filesystem(self.layout.root())
        };
        std::thread::scope(|scope| {
            let places = scope.spawn(|| self.record_places(layer, &places));
            let written = written();
            let places = places.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            written.and(places)
        })?;
        let _one = self.hold_snapshot(layer)?;
        if let Some(path) = self.snapshot(layer)?.filter(|_| !is_damaged) {
            remove_tree(staging.path())?;
            return Ok(path);
        }
        let path = self.move_into_place(&staging, layer)?;
        let committed = codec::encode(&Committed { files: places.len() as u64 })?;
        self.tables.apply(vec![Op::put(Table::Snapshots, layer.as_bytes(), committed)], true)?;
        Ok(path)
    }
}

impl DiskStore {
    /// Moves the staging directory, so that neither owner nor mode of what is in it matter.
    fn move_into_place(&self, staging: &Staging, layer: &LayerId) -> Result<PathBuf, StoreError> {
        let directory = self.layout.snapshot(layer);
        if directory.exists() {
            // A commit of it was killed. It goes by way of a place that is emptied at each start.
            let place = self.stage()?;
            rename(&directory, &place.path().join("left"))?;
            remove_tree(place.path())?;
        }
        rename(staging.path(), &directory)?;
        sync::paths(&[self.layout.part(Part::Snapshots)], self.layout.root())?;
        Ok(directory.join(FS))
    }

    /// Whether a snapshot's files are what they are to be. They are read for this: making a layer
    /// that is there already is rare, and the one chance to heal it.
    fn is_intact(&self, layer: &LayerId, places: &[(BlobId, Place)]) -> Result<bool, StoreError> {
        for (id, place) in places {
            let Some(blob) = self.open_place(layer, place)? else { return Ok(false) };
            match io::copy(&mut blob.reader(*id), &mut io::sink()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
                Err(error) => return Err(StoreError::io(format!("read blob {id}"))(error)),
            }
        }
        Ok(true)
    }

    /// Remembers where a layer's files are, in pieces that fit into a frame.
    fn record_places(&self, layer: &LayerId, places: &[(BlobId, Place)]) -> Result<(), StoreError> {
        let put = |(id, place): &(BlobId, Place)| {
            let key = place_key(id, layer).to_vec();
            Ok(Op::put(Table::Places, key, codec::encode(place)?))
        };
        for places in places.chunks(PLACES_AT_A_TIME) {
            let ops: Result<Vec<Op<'_>>, StoreError> = places.iter().map(put).collect();
            self.tables.apply(ops?, false)?;
        }
        Ok(())
    }

    /// Where a blob in a snapshot lies.
    pub(crate) fn snapshot_file(&self, layer: &LayerId, place: &Place) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let below = std::ffi::OsStr::from_bytes(place.path.as_bytes());
        self.layout.snapshot(layer).join(FS).join(below)
    }

    /// Opens a blob in a snapshot; `None` when it is not there as it was.
    pub(crate) fn open_place(
        &self,
        layer: &LayerId,
        place: &Place,
    ) -> Result<Option<Blob>, StoreError> {
        let root = self.layout.snapshot(layer).join(FS);
        let file = match open_beneath(&root, &place.path) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO) => {
                return Ok(None);
            }
            Err(error) => {
                let action = format!("open `{}` in `{}`", place.path, root.display());
                return Err(StoreError::io(action)(error.into()));
            }
        };
        let metadata =
            file.metadata().map_err(StoreError::io(format!("look at {}", place.path)))?;
        let same = metadata.is_file() && metadata.len() == place.size;
        Ok(same.then_some(Blob::File { file, size: place.size }))
    }
}

/// How much is free on the file system of a directory, as far as that is known.
fn free_bytes(place: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(place).ok()?;
    Some(system.f_bfree.saturating_mul(system.f_frsize))
}

/// What was written there, and beside it by the same process.
fn written(staging: &Staging) -> u64 {
    size_of_tree(&staging.fs()).saturating_add(staging.grown_beside(size_of_tree))
}

/// The key of a blob's place in a snapshot.
pub(crate) fn place_key(id: &BlobId, layer: &LayerId) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(id.as_bytes());
    key[32..].copy_from_slice(layer.as_bytes());
    key
}

/// The snapshot that such a key speaks of.
pub(crate) fn layer_of(key: &[u8]) -> Option<LayerId> {
    key.get(32..)?.try_into().ok().map(LayerId::from_bytes)
}

/// Opens without leaving the root and without following a link: a layer's links are content.
/// A pipe in the file's place does not block.
fn open_beneath(root: &Path, path: &TreePath) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let root = rustix::fs::open(root, flags | OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path.as_bytes(), flags | OFlags::RDONLY, Mode::empty(), resolve)
}

/// The places of the files that are there, with their sizes, in the order of the database.
fn places(fs: &Path, files: &[(BlobId, TreePath)]) -> Result<Vec<(BlobId, Place)>, StoreError> {
    let root = File::open(fs).map_err(StoreError::io(format!("open `{}`", fs.display())))?;
    let place = |(id, path): &(BlobId, TreePath)| {
        let size = size_of(root.as_fd(), path)?;
        Some((*id, Place { size, path: path.clone() }))
    };
    let mut places: Vec<(BlobId, Place)> = files.par_iter().filter_map(place).collect();
    places.par_sort_by_key(|(id, _)| *id);
    Ok(places)
}

/// The size of a regular file; none for what is not one.
fn size_of(root: impl AsFd, path: &TreePath) -> Option<u64> {
    let stat = rustix::fs::statat(root, path.as_bytes(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    u64::try_from(stat.st_size).ok().filter(|_| is_file)
}

fn remove_tree(path: &Path) -> Result<(), StoreError> {
    remove::tree(path).map_err(StoreError::io(format!("remove `{}`", path.display())))
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    let action = || format!("rename `{}` to `{}`", from.display(), to.display());
    std::fs::rename(from, to).map_err(|error| StoreError::io(action())(error))
}
