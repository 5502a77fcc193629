//! A stack of snapshots read as one tree, without mounting anything and without rights.
//!
//! It follows overlayfs's rules for whiteouts and opaque directories, and symbolic links as a
//! process inside would see them: `/` is the root of the stack and `..` stops there, so no link
//! leads outside. Meant for a few look-ups, not for walking: each costs one `lstat` per layer
//! and component. Snapshots are immutable, so there is no race to lose.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use strata_cas::TreePath;

use crate::{ExecError, attributes};

/// As the kernel: more links than this in one path are a loop.
const LINKS_MAX: usize = 40;

/// The files of a stack of snapshots.
#[derive(Debug, Clone)]
pub struct View {
    /// Top first.
    layers: Vec<PathBuf>,
}

/// A directory in the view: which layers take part in it, top first.
#[derive(Debug, Clone)]
struct Directory {
    path: TreePath,
    layers: Vec<usize>,
}

/// One step of a look-up.
enum Entry {
    Missing,
    Directory(Directory),
    Symlink(Vec<u8>),
    Other(PathBuf, FileType),
}

/// Where a path leads, all links followed.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The path without links.
    pub(crate) path: TreePath,
    /// What is there.
    pub(crate) found: Found,
}

/// What is at the end of a path.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing; the path's first `existing` components are there, as directories.
    Missing { existing: usize },
    /// A directory.
    Directory,
    /// Something else, with its place on this machine.
    Other(PathBuf, FileType),
}

impl View {
    /// Looks at these snapshots, bottom first.
    pub fn new(lowers: &[PathBuf]) -> Self {
        Self { layers: lowers.iter().rev().cloned().collect() }
    }

    /// Reads a regular file of at most `limit` bytes; none if there is no regular file.
    pub fn read(&self, path: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, ExecError> {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let Found::Other(place, FileType::RegularFile) = self.resolve(path)?.found else {
                return Ok(None);
            };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(place, flags, Mode::empty())?);
            let mut bytes = Vec::new();
            if file.take(limit_bytes + 1).read_to_end(&mut bytes)? as u64 > limit_bytes {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            Ok(Some(bytes))
        };
        read().map_err(ExecError::io(format!("read `{path}` of the image")))
    }

    /// Follows a path to its end.
    pub(crate) fn resolve(&self, path: &str) -> io::Result<Resolved> {
        let mut rest: VecDeque<Vec<u8>> = components(path.as_bytes());
        let mut stack = vec![self.root()];
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                stack.truncate(stack.len().saturating_sub(1).max(1));
                continue;
            }
            let Some(here) = stack.last() else { break };
            match self.entry(here, &name)? {
                Entry::Directory(directory) => stack.push(directory),
                Entry::Symlink(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    let mut followed = components(&target);
                    followed.append(&mut rest);
                    rest = followed;
                }
                Entry::Missing => return missing(&stack, &name, &rest),
                Entry::Other(place, kind) if rest.is_empty() => {
                    let path = child(&here.path, &name)?;
                    return Ok(Resolved { path, found: Found::Other(place, kind) });
                }
                Entry::Other(..) => return Err(rustix::io::Errno::NOTDIR.into()),
            }
        }
        let path = stack.pop().map(|directory| directory.path).unwrap_or_default();
        Ok(Resolved { path, found: Found::Directory })
    }

    /// Where the topmost layer that has this directory keeps it: its metadata counts. The path
    /// must be free of links.
    pub(crate) fn directory(&self, path: &TreePath) -> io::Result<Option<PathBuf>> {
        let mut here = self.root();
        for name in path.components() {
            match self.entry(&here, name)? {
                Entry::Directory(directory) => here = directory,
                _ => return Ok(None),
            }
        }
        Ok(here.layers.first().map(|layer| self.place(*layer, &here.path)))
    }

    fn root(&self) -> Directory {
        Directory { path: TreePath::ROOT, layers: (0..self.layers.len()).collect() }
    }

    fn place(&self, layer: usize, path: &TreePath) -> PathBuf {
        self.layers[layer].join(OsStr::from_bytes(path.as_bytes()))
    }

    /// Looks one name up, as overlayfs does: from the top down, until something ends the search.
    fn entry(&self, directory: &Directory, name: &[u8]) -> io::Result<Entry> {
        let path = child(&directory.path, name)?;
        let mut layers = Vec::new();
        for layer in &directory.layers {
            let place = self.place(*layer, &path);
            let stat = match rustix::fs::lstat(&place) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            if attributes::is_whiteout(&place, &stat)? {
                break;
            }
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                layers.push(*layer);
                if attributes::is_opaque(&place)? {
                    break;
                }
            } else if layers.is_empty() {
                return leaf(place, kind);
            } else {
                break;
            }
        }
        if layers.is_empty() {
            return Ok(Entry::Missing);
        }
        Ok(Entry::Directory(Directory { path, layers }))
    }
}

fn leaf(place: PathBuf, kind: FileType) -> io::Result<Entry> {
    if kind == FileType::Symlink {
        return Ok(Entry::Symlink(std::fs::read_link(place)?.into_os_string().into_vec()));
    }
    Ok(Entry::Other(place, kind))
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

fn child(path: &TreePath, name: &[u8]) -> io::Result<TreePath> {
    path.child(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// What is left of the path once a component is missing: it can only be meant literally.
fn missing(stack: &[Directory], name: &[u8], rest: &VecDeque<Vec<u8>>) -> io::Result<Resolved> {
    let mut path = stack.last().map(|directory| directory.path.clone()).unwrap_or_default();
    let mut existing = path.components().count();
    for name in std::iter::once(name).chain(rest.iter().map(Vec::as_slice)) {
        if name == b".." {
            path = path.parent().unwrap_or_default();
            existing = existing.min(path.components().count());
        } else {
            path = child(&path, name)?;
        }
    }
    Ok(Resolved { path, found: Found::Missing { existing } })
}

/// Mode, owner and attributes of what stands at a place on this machine.
pub(crate) fn metadata(place: &std::path::Path) -> io::Result<(strata_cas::Metadata, Stat)> {
    let stat = rustix::fs::lstat(place)?;
    Ok((metadata_of(place, &stat)?, stat))
}

/// The same for what was looked at already.
pub(crate) fn metadata_of(
    place: &std::path::Path,
    stat: &Stat,
) -> io::Result<strata_cas::Metadata> {
    Ok(strata_cas::Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        xattrs: attributes::read(place)?,
    })
}
