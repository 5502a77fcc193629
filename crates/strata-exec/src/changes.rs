//! Reads an overlay's upper directory as a layer.
//!
//! Everything is reached from open directories, one component after the other, and no link is
//! followed: what the process left is not trusted, and its paths may be longer than the kernel
//! takes in one call. Sockets are skipped: nobody listens any more.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use strata_cas::{
    Action, BlobHasher, BlobId, Change, Device, Item, Layer, Metadata, Time, TreePath,
};

use crate::view::metadata_of;
use crate::{ExecError, Root, attributes};

/// A directory tree can be as deep as the disk allows; what refers to it can not.
const PATH_BYTES_MAX: usize = 1 << 16;

/// How much of a path is opened in one call: below the kernel's limit of 4096.
const STEP_BYTES: usize = 2048;

const READ_BYTES: usize = 256 << 10;

/// So many entries of a directory are worth another thread.
const LOOK_TOGETHER: usize = 64;

/// What a run changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The changes as a layer.
    pub layer: Layer,
    /// Its regular files, in path order: each blob is there in the staging directory's `fs()`.
    pub files: Vec<(BlobId, TreePath)>,
}

/// Reads what a finished run changed. What it made of the root directory itself is not in it: as
/// with BuildKit, the next run finds that as it was.
pub fn changes(root: &Root<'_>) -> Result<Changed, ExecError> {
    find(root)?.read()
}

/// Finds what a finished run changed, as [`changes`], without reading what is in its files.
pub fn find(root: &Root<'_>) -> Result<Found, ExecError> {
    let upper = root.staging.fs();
    let reading = reading(&upper);
    let top = open_directory(&upper).map_err(ExecError::io(reading.clone()))?;
    let mut entries = walk(&top).map_err(|error| match error {
        WalkError::Io(source) => ExecError::Io { action: reading.clone(), source },
        WalkError::TooLong(bytes) => ExecError::PathTooLong { bytes },
    })?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    link(&mut entries);
    let named = std::iter::repeat_with(OnceLock::new).take(entries.len()).collect();
    Ok(Found { place: upper, top, entries, named })
}

fn reading(upper: &Path) -> String {
    format!("read the changes in `{}`", upper.display())
}

/// What a run changed, before anybody has read what is in its files: they can be read for several
/// purposes at once.
pub struct Found {
    place: PathBuf,
    /// The upper directory, wherever it is moved to.
    top: OwnedFd,
    /// In path order.
    entries: Vec<Entry>,
    /// The blobs of the files among them that were read.
    named: Vec<OnceLock<BlobId>>,
}

impl Found {
    /// The changes as a layer whose files are named by their numbers, which only [`Self::open`]
    /// understands.
    pub fn unread(&self) -> Layer {
        self.layer(|index| Some(numbered(index)))
    }

    /// How many bytes are in the files that are larger than this.
    pub fn bytes_above(&self, size: u64) -> u64 {
        self.entries.iter().filter_map(Entry::unread).filter(|bytes| *bytes > size).sum()
    }

    /// Opens a file of [`Self::unread`]; `None` for what is none.
    pub fn open(&self, id: &BlobId) -> io::Result<Option<File>> {
        self.number(id).map(|index| self.open_entry(index)).transpose()
    }

    /// All bytes of a small file of [`Self::unread`], which is named meanwhile; `None` for what is
    /// none.
    pub fn whole(&self, id: &BlobId) -> io::Result<Option<Vec<u8>>> {
        let Some(index) = self.number(id) else { return Ok(None) };
        let size = self.entries[index].unread().unwrap_or(0);
        // One byte more than there is tells that nothing follows.
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
        self.open_entry(index)?.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(changed());
        }
        // Whoever was first has found the same.
        let _ = self.named[index].set(BlobId::of(&bytes));
        Ok(Some(bytes))
    }

    /// Reads and names what is in the files larger than this, many at once.
    pub fn name_larger(&self, bytes: u64) -> Result<(), ExecError> {
        self.hash(|size| size > bytes).map_err(ExecError::io(reading(&self.place)))
    }

    /// Reads and names what is in the files that have no name yet, many at once.
    pub fn read(&self) -> Result<Changed, ExecError> {
        self.hash(|_| true).map_err(ExecError::io(reading(&self.place)))?;
        let layer = self.layer(|index| self.named[index].get().copied());
        let files = self.entries.iter().zip(&self.named);
        let files = files.filter_map(|(entry, blob)| Some((*blob.get()?, entry.path.clone())));
        Ok(Changed { layer, files: files.collect() })
    }

    /// Which entry a file of [`Self::unread`] is.
    fn number(&self, id: &BlobId) -> Option<usize> {
        let (number, _) = id.as_bytes().split_at(8);
        let index = usize::try_from(u64::from_be_bytes(number.try_into().ok()?)).ok()?;
        self.entries.get(index).filter(|_| numbered(index) == *id)?.unread().map(|_| index)
    }

    fn open_entry(&self, index: usize) -> io::Result<File> {
        let path = &self.entries[index].path;
        if path.as_bytes().len() < STEP_BYTES {
            return open_file(&self.top, path.as_bytes());
        }
        let directory = descend(&self.top, &path.parent().unwrap_or_default())?;
        open_file(&directory, path.name())
    }

    fn layer(&self, name: impl Fn(usize) -> Option<BlobId>) -> Layer {
        let change = |(index, entry): (usize, &Entry)| {
            let item = match &entry.kind {
                Kind::Whiteout => {
                    let path = entry.path.clone();
                    return Some(Change { path, action: Action::Remove });
                }
                Kind::Item(item) => item.clone(),
                Kind::Unread { size } => Item::File { blob: name(index)?, size: *size },
            };
            let Entry { path, metadata, modified, .. } = entry;
            let (metadata, modified) = (metadata.clone(), *modified);
            let action = Action::Set { item, metadata, modified };
            Some(Change { path: path.clone(), action })
        };
        Layer::new(self.entries.iter().enumerate().filter_map(change).collect())
    }

    /// Names the files that have no name yet and are chosen by their size, directory by directory.
    fn hash(&self, is_chosen: impl Fn(u64) -> bool) -> io::Result<()> {
        let size = |index: usize| self.entries[index].unread().filter(|size| is_chosen(*size));
        let unnamed = (0..self.entries.len()).filter(|index| self.named[*index].get().is_none());
        let mut unread: Vec<(usize, u64)> =
            unnamed.filter_map(|index| Some((index, size(index)?))).collect();
        let parent = |index: usize| self.entries[index].path.parent();
        unread.sort_by_cached_key(|(index, _)| parent(*index));
        unread.par_chunk_by(|a, b| parent(a.0) == parent(b.0)).try_for_each(|siblings| {
            let above = siblings.first().and_then(|(index, _)| parent(*index));
            let directory = descend(&self.top, &above.unwrap_or_default())?;
            let hash = |buffer: &mut Vec<u8>, (index, size): &(usize, u64)| {
                let file = open_file(&directory, self.entries[*index].path.name())?;
                let _ = self.named[*index].set(hash_file(file, *size, buffer)?);
                Ok(())
            };
            siblings.par_iter().try_for_each_init(|| vec![0; READ_BYTES], hash)
        })
    }
}

/// What stands for the name of a file that was not read.
fn numbered(index: usize) -> BlobId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(index as u64).to_be_bytes());
    BlobId::from_bytes(bytes)
}

/// What was found at a path.
struct Entry {
    path: TreePath,
    kind: Kind,
    metadata: Metadata,
    modified: Time,
    /// The inode, for regular files with several names.
    inode: Option<(u64, u64)>,
}

impl Entry {
    /// The size of a regular file.
    fn unread(&self) -> Option<u64> {
        match self.kind {
            Kind::Unread { size } => Some(size),
            _ => None,
        }
    }
}

enum Kind {
    Whiteout,
    /// A regular file, whose content was not read yet.
    Unread {
        size: u64,
    },
    Item(Item),
}

enum WalkError {
    Io(io::Error),
    TooLong(usize),
}

impl<E: Into<io::Error>> From<E> for WalkError {
    fn from(error: E) -> Self {
        Self::Io(error.into())
    }
}

fn walk(upper: &OwnedFd) -> Result<Vec<Entry>, WalkError> {
    let mut entries = Vec::new();
    let mut pending = vec![TreePath::ROOT];
    while let Some(path) = pending.pop() {
        let directory = descend(upper, &path)?;
        let look = |name: &Vec<u8>| {
            let path = path.child(name).map_err(io::Error::other)?;
            if path.as_bytes().len() > PATH_BYTES_MAX {
                return Err(WalkError::TooLong(path.as_bytes().len()));
            }
            Ok(entry(&directory, name, path)?)
        };
        let names = names(&directory)?;
        let found: Result<Vec<Option<Entry>>, WalkError> =
            names.par_iter().with_min_len(LOOK_TOGETHER).map(look).collect();
        for entry in found?.into_iter().flatten() {
            if matches!(entry.kind, Kind::Item(Item::Directory { .. })) {
                pending.push(entry.path.clone());
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Opens a directory below another one, in as many steps as its path needs.
fn descend(top: &OwnedFd, path: &TreePath) -> io::Result<OwnedFd> {
    let mut here = top.try_clone()?;
    let mut step: Vec<u8> = Vec::new();
    for name in path.components() {
        if step.len() + name.len() >= STEP_BYTES {
            here = open_below(&here, &step)?;
            step.clear();
        }
        if !step.is_empty() {
            step.push(b'/');
        }
        step.extend_from_slice(name);
    }
    if step.is_empty() { open_below(&here, b".") } else { open_below(&here, &step) }
}

fn open_below(directory: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)?)
}

fn names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// A short path to an entry of an open directory, for calls that take no descriptor.
fn place(directory: &OwnedFd, name: &[u8]) -> PathBuf {
    let base = format!("/proc/self/fd/{}", directory.as_raw_fd());
    Path::new(&base).join(OsStr::from_bytes(name))
}

fn entry(directory: &OwnedFd, name: &[u8], path: TreePath) -> io::Result<Option<Entry>> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let place = &place(directory, name);
    let mut metadata = metadata_of(place, &stat)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        _ if attributes::is_whiteout(place, &stat)? => Kind::Whiteout,
        FileType::Directory => {
            Kind::Item(Item::Directory { opaque: attributes::is_opaque(place)? })
        }
        FileType::RegularFile => Kind::Unread { size: u64::try_from(stat.st_size).unwrap_or(0) },
        FileType::Symlink => {
            metadata.mode = 0o777;
            let target = std::fs::read_link(place)?.into_os_string().into_vec();
            Kind::Item(Item::Symlink { target })
        }
        FileType::CharacterDevice => {
            let (major, minor) = numbers(&stat);
            Kind::Item(Item::Device(Device::Character(major, minor)))
        }
        FileType::BlockDevice => {
            let (major, minor) = numbers(&stat);
            Kind::Item(Item::Device(Device::Block(major, minor)))
        }
        FileType::Fifo => Kind::Item(Item::Device(Device::Fifo)),
        _ => return Ok(None),
    };
    let is_one = !matches!(kind, Kind::Whiteout | Kind::Item(Item::Directory { .. }));
    let several = is_one && stat.st_nlink > 1;
    let inode = several.then_some((stat.st_dev, stat.st_ino));
    Ok(Some(Entry { path, kind, metadata, modified: Time(stat.st_mtime), inode }))
}

fn numbers(stat: &Stat) -> (u32, u32) {
    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

/// Makes all names of a file but the first, in path order, links to it.
fn link(entries: &mut [Entry]) {
    let mut first: HashMap<(u64, u64), TreePath> = HashMap::new();
    for entry in entries {
        let Some(inode) = entry.inode else { continue };
        match first.get(&inode) {
            Some(to) => entry.kind = Kind::Item(Item::HardLink { to: to.clone() }),
            None => drop(first.insert(inode, entry.path.clone())),
        }
    }
}

fn open_file(directory: &OwnedFd, path: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)?.into())
}

fn hash_file(mut file: File, size: u64, buffer: &mut [u8]) -> io::Result<BlobId> {
    let (mut hasher, mut read) = (BlobHasher::default(), 0);
    loop {
        let count = file.read(buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        read += count as u64;
    }
    if read != size {
        return Err(changed());
    }
    Ok(hasher.finish())
}

fn changed() -> io::Error {
    io::Error::other("a file changed while it was read")
}
