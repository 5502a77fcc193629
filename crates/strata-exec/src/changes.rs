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

use rayon::prelude::*;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use strata_cas::{
    Action, BlobHasher, BlobId, Change, Device, Item, Layer, Metadata, Time, TreePath,
};

use crate::view::metadata;
use crate::{ExecError, Root, attributes};

/// A directory tree can be as deep as the disk allows; what refers to it can not.
const PATH_BYTES_MAX: usize = 1 << 16;

/// How much of a path is opened in one call: below the kernel's limit of 4096.
const STEP_BYTES: usize = 2048;

const READ_BYTES: usize = 256 << 10;

/// What a run changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The changes as a layer.
    pub layer: Layer,
    /// Its regular files, in path order: each blob is there in the staging directory's `fs()`.
    pub files: Vec<(BlobId, TreePath)>,
}

/// Reads what a finished run changed. The root directory is in it only if its own mode, owner or
/// attributes changed.
pub fn changes(root: &Root<'_>) -> Result<Changed, ExecError> {
    let upper = root.staging.fs();
    let reading = || format!("read the changes in `{}`", upper.display());
    let mut entries = walk(&upper).map_err(|error| match error {
        WalkError::Io(source) => ExecError::Io { action: reading(), source },
        WalkError::TooLong(bytes) => ExecError::PathTooLong { bytes },
    })?;
    let top = top(root, &upper).map_err(ExecError::io(reading()))?;
    entries.extend(top);
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    link(&mut entries);
    hash(&upper, &mut entries).map_err(ExecError::io(reading()))?;
    let mut changes = Vec::with_capacity(entries.len());
    let mut files = Vec::new();
    for Entry { path, kind, metadata, modified, .. } in entries {
        let item = match kind {
            Kind::Whiteout => {
                changes.push(Change { path, action: Action::Remove });
                continue;
            }
            Kind::Item(item) => item,
            Kind::Unread => continue,
        };
        if let Item::File { blob, .. } = item {
            files.push((blob, path.clone()));
        }
        changes.push(Change { path, action: Action::Set { item, metadata, modified } });
    }
    Ok(Changed { layer: Layer::new(changes), files })
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

enum Kind {
    Whiteout,
    /// A regular file whose content was not read yet.
    Unread,
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

/// The root directory itself, if it is not as it was before.
fn top(root: &Root<'_>, upper: &Path) -> io::Result<Option<Entry>> {
    let (metadata, stat) = metadata(upper)?;
    if metadata == root.metadata()? {
        return Ok(None);
    }
    let kind = Kind::Item(Item::Directory { opaque: false });
    let modified = Time(stat.st_mtime);
    Ok(Some(Entry { path: TreePath::ROOT, kind, metadata, modified, inode: None }))
}

fn walk(upper: &Path) -> Result<Vec<Entry>, WalkError> {
    let upper = open_directory(upper)?;
    let mut entries = Vec::new();
    let mut pending = vec![TreePath::ROOT];
    while let Some(path) = pending.pop() {
        let directory = descend(&upper, &path)?;
        for name in names(&directory)? {
            let path = path.child(&name).map_err(io::Error::other)?;
            if path.as_bytes().len() > PATH_BYTES_MAX {
                return Err(WalkError::TooLong(path.as_bytes().len()));
            }
            let Some(entry) = entry(&place(&directory, &name), path)? else { continue };
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
    use rustix::fs::ResolveFlags;
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

fn entry(place: &Path, path: TreePath) -> io::Result<Option<Entry>> {
    let (mut metadata, stat) = metadata(place)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        _ if attributes::is_whiteout(place, &stat)? => Kind::Whiteout,
        FileType::Directory => {
            Kind::Item(Item::Directory { opaque: attributes::is_opaque(place)? })
        }
        FileType::RegularFile => Kind::Unread,
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
    let several = matches!(kind, Kind::Unread) && stat.st_nlink > 1;
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

/// Reads and names the files' contents, many at once, directory by directory.
fn hash(upper: &Path, entries: &mut [Entry]) -> io::Result<()> {
    let upper = open_directory(upper)?;
    let mut unread: Vec<&mut Entry> =
        entries.iter_mut().filter(|entry| matches!(entry.kind, Kind::Unread)).collect();
    unread.sort_by_cached_key(|entry| entry.path.parent());
    unread.par_chunk_by_mut(|a, b| a.path.parent() == b.path.parent()).try_for_each(|siblings| {
        let Some(parent) = siblings.first().and_then(|entry| entry.path.parent()) else {
            return Ok(());
        };
        let directory = descend(&upper, &parent)?;
        siblings.par_iter_mut().try_for_each_init(
            || vec![0; READ_BYTES],
            |buffer, entry| {
                let (blob, size) = hash_file(&place(&directory, entry.path.name()), buffer)?;
                entry.kind = Kind::Item(Item::File { blob, size });
                Ok(())
            },
        )
    })
}

fn hash_file(place: &Path, buffer: &mut [u8]) -> io::Result<(BlobId, u64)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(place, flags, Mode::empty())?);
    let (mut hasher, mut size) = (BlobHasher::default(), 0);
    loop {
        let count = file.read(buffer)?;
        if count == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}
