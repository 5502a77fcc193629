//! Prepares the root file system of a run: its stack of layers, its mount points, its `/etc`.
//!
//! Mount points that the image lacks are made in a directory of their own that is stacked on top
//! of the image and below the upper directory. So they never get into the layer, nothing must be
//! taken out of it afterwards, and a crash leaves nothing behind.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use strata_cas::{Metadata, Staging, TreePath};

use crate::overlay::LOWERS_MAX;
use crate::view::{Found, Resolved, metadata};
use crate::{ExecError, Ids, View, attributes};

/// A stack of snapshots and the place for what changes.
#[derive(Debug)]
pub struct Root<'a> {
    /// The snapshots below, bottom first; none for `FROM scratch`. At most 499.
    pub lowers: Vec<PathBuf>,
    /// What the root directory itself is, whatever the snapshots' own ones are: overlayfs shows
    /// that of the uppermost, which may say nothing of it.
    pub metadata: Metadata,
    /// What changes goes to its `fs()`; its other directories are scratch space of the run.
    pub staging: &'a Staging,
}

impl Root<'_> {
    /// Makes the upper directory's own metadata what the process expects to see at `/`.
    pub(crate) fn prepare_upper(&self) -> Result<(), ExecError> {
        if self.lowers.len() > LOWERS_MAX {
            return Err(ExecError::TooManyLayers { count: self.lowers.len() });
        }
        let mut metadata = self.metadata.clone();
        if Ids::of_process() == Ids::One {
            (metadata.uid, metadata.gid) = (0, 0);
        }
        set_metadata(&self.staging.fs(), &metadata)
            .map_err(ExecError::io("prepare the root directory"))
    }
}

/// What a mount point must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointKind {
    File,
    Directory,
}

/// Makes the mount points that are missing.
pub(crate) struct MountPoints<'a> {
    view: View,
    place: &'a Path,
    made: BTreeSet<TreePath>,
    times: Vec<(PathBuf, Stat)>,
    mounted: Vec<TreePath>,
}

impl<'a> MountPoints<'a> {
    /// Mount points of `view` that are missing are made below `place`, an empty directory.
    pub(crate) fn new(view: View, place: &'a Path) -> io::Result<Self> {
        let (made, times, mounted) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut points = Self { view, place, made, times, mounted };
        points.copy(&TreePath::ROOT)?;
        Ok(points)
    }

    /// Finds the mount point that `target` leads to and makes it if it is missing. What lies
    /// inside of an earlier mount is left to the runtime.
    pub(crate) fn add(&mut self, target: &str, kind: PointKind) -> Result<TreePath, ExecError> {
        let refuse = |reason| ExecError::Mount { target: target.to_owned(), reason };
        let failed = || format!("make the mount point `{target}`");
        let literal = TreePath::normalise(target.as_bytes());
        if literal.is_root() {
            return Err(refuse("it is the root"));
        }
        let resolved = match self.inside(&literal) {
            true => literal,
            false => {
                let resolved = self.resolve(target)?;
                match (&resolved.found, kind) {
                    (Found::Directory, PointKind::Directory) if !resolved.path.is_root() => {}
                    (Found::Directory, PointKind::Directory) => {
                        return Err(refuse("it is the root"));
                    }
                    (Found::Directory, PointKind::File) => {
                        return Err(refuse("it is a directory, and a file is mounted"));
                    }
                    (Found::Other(_, FileType::Directory), _) => {}
                    (Found::Other(..), PointKind::Directory) => {
                        return Err(refuse("it is a file, and a directory is mounted"));
                    }
                    (Found::Other(..), PointKind::File) => {}
                    (Found::Missing { existing }, _) if !self.inside(&resolved.path) => {
                        let make = self.make(&resolved.path, *existing, kind);
                        make.map_err(ExecError::io(failed()))?;
                    }
                    (Found::Missing { .. }, _) => {}
                }
                resolved.path
            }
        };
        self.mounted.push(resolved.clone());
        Ok(resolved)
    }

    /// The permission bits of the directory of the image that a mount on `target` would hide.
    pub(crate) fn mode_of(&self, target: &str) -> Result<Option<u32>, ExecError> {
        let Resolved { path, found: Found::Directory } = self.resolve(target)? else {
            return Ok(None);
        };
        if self.inside(&path) {
            return Ok(None);
        }
        let look = || -> io::Result<Option<u32>> {
            let Some(place) = self.view.directory(&path)? else { return Ok(None) };
            Ok(Some(rustix::fs::lstat(&place)?.st_mode & 0o7777))
        };
        look().map_err(ExecError::io(format!("look at `{target}` in the image")))
    }

    /// Where a target leads in the image.
    fn resolve(&self, target: &str) -> Result<Resolved, ExecError> {
        self.view.resolve(target).map_err(|source| {
            let reason = match Errno::from_io_error(&source) {
                Some(Errno::NOTDIR) => "it is below a file",
                Some(Errno::LOOP) => "it leads through too many symbolic links",
                _ => return ExecError::io(format!("make the mount point `{target}`"))(source),
            };
            ExecError::Mount { target: target.to_owned(), reason }
        })
    }

    /// Whether an earlier mount covers the path.
    fn inside(&self, path: &TreePath) -> bool {
        self.mounted.iter().any(|mounted| path.below(mounted).is_some())
    }

    fn make(&mut self, path: &TreePath, existing: usize, kind: PointKind) -> io::Result<()> {
        let mut directories = path.ancestors();
        directories.extend((kind == PointKind::Directory).then(|| path.clone()));
        for (depth, directory) in directories.iter().enumerate() {
            if depth <= existing {
                self.copy(directory)?;
            } else if self.made.insert(directory.clone()) {
                let place = self.at(directory);
                std::fs::create_dir(&place)?;
                set_metadata(&place, &Metadata::root(0o755))?;
            }
        }
        if kind == PointKind::File && self.made.insert(path.clone()) {
            let place = self.at(path);
            std::fs::File::create_new(&place)?;
            set_metadata(&place, &Metadata::root(0o644))?;
        }
        Ok(())
    }

    /// Makes a directory that the image has: on top of the stack, its metadata is what counts.
    fn copy(&mut self, path: &TreePath) -> io::Result<()> {
        if !self.made.insert(path.clone()) {
            return Ok(());
        }
        let place = self.at(path);
        if !path.is_root() {
            std::fs::create_dir(&place)?;
        }
        match self.view.directory(path)? {
            Some(from) => {
                let (metadata, stat) = metadata(&from)?;
                set_metadata(&place, &metadata)?;
                self.times.push((place, stat));
                Ok(())
            }
            None => set_metadata(&place, &Metadata::root(0o755)),
        }
    }

    fn at(&self, path: &TreePath) -> PathBuf {
        self.place.join(OsStr::from_bytes(path.as_bytes()))
    }

    /// Gives copied directories their times, once nothing is made in them any more.
    pub(crate) fn finish(self) -> io::Result<()> {
        for (place, stat) in self.times.iter().rev() {
            rustix::fs::utimensat(CWD, place, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

fn times(stat: &Stat) -> Timestamps {
    let nanoseconds = |value| i64::try_from(value).unwrap_or_default();
    let (access, modified) = (nanoseconds(stat.st_atime_nsec), nanoseconds(stat.st_mtime_nsec));
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: access },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: modified },
    }
}

fn set_metadata(place: &Path, metadata: &Metadata) -> io::Result<()> {
    let Metadata { mode, uid, gid, xattrs } = metadata;
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    rustix::fs::chown(place, Some(uid), Some(gid))?;
    rustix::fs::chmod(place, Mode::from_raw_mode(*mode))?;
    attributes::write(place, xattrs)
}
