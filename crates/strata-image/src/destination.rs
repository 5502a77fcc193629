//! A directory that files are made in and never outside of: every step down is an `openat` that
//! follows no symbolic link, every name is a single component.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::{Errno, Result};
use strata_cas::{Device, Item, Metadata, Time, TreePath};

use crate::assembly::Leaf;

/// How a layer is shown as a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverlayForm {
    /// For overlayfs mounted by root: whiteouts are devices 0/0, opaque directories carry
    /// `trusted.overlay.opaque`. Owners, devices and attributes must succeed.
    Privileged,
    /// For overlayfs mounted in a user namespace (`userxattr`): whiteouts are devices 0/0, which
    /// Linux lets everybody make, opaque directories carry `user.overlay.opaque`. Devices and
    /// attributes that the namespace may not set are left out; an owner that it does not have is
    /// a failure, since commands would see another one.
    User,
    /// The same in a namespace with one id only: owners are left out.
    OneId,
    /// For people: no whiteouts. Owners, devices and attributes are left out where the process
    /// may not set them.
    Plain,
    /// The same in a user namespace, whose other ids mean nothing outside: everything belongs to
    /// whoever asked for it.
    Mine,
}

impl OverlayForm {
    /// Whether it is for people, not for overlayfs.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::Plain | Self::Mine)
    }

    /// Whether everything is left to the user that makes it.
    fn is_ownerless(self) -> bool {
        matches!(self, Self::OneId | Self::Mine)
    }
}

/// The deepest path that is walked.
pub(crate) const MAX_DEPTH: usize = 256;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A place in the directory, with the way to it open.
pub(crate) struct Destination {
    root: Arc<OwnedFd>,
    way: Vec<(Vec<u8>, OwnedFd)>,
    form: OverlayForm,
    is_superuser: bool,
}

impl Destination {
    pub(crate) fn open(path: &Path, form: OverlayForm) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Arc::new(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
        let is_superuser = rustix::process::geteuid().is_root();
        Ok(Self { root, way: Vec::new(), form, is_superuser })
    }

    /// The same directory for another thread.
    pub(crate) fn another(&self) -> Self {
        let (form, is_superuser) = (self.form, self.is_superuser);
        Self { root: Arc::clone(&self.root), way: Vec::new(), form, is_superuser }
    }

    /// Bytes that may still be written; all there are, where that can not be told.
    pub(crate) fn free(&self) -> u64 {
        let stat = rustix::fs::fstatvfs(&self.root);
        stat.map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub(crate) fn form(&self) -> OverlayForm {
        self.form
    }

    /// Whether there is a directory at this path.
    pub(crate) fn has_directory(&mut self, path: &TreePath) -> bool {
        self.enter(path).is_ok()
    }

    /// Makes a directory, if there is none. Whatever else is there is removed. Only its owner
    /// can enter it until it is dressed.
    pub(crate) fn make_directory(&mut self, path: &TreePath) -> Result<()> {
        let make = |at: BorrowedFd<'_>, name: &OsStr| {
            rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o700))
        };
        let Some((at, name)) = self.parent(path)? else { return Ok(()) };
        match make(at, name) {
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    return Ok(());
                }
                rustix::fs::unlinkat(at, name, AtFlags::empty())?;
                make(at, name)
            }
            result => result,
        }
    }

    /// Makes an empty file that only its owner can open until it is dressed.
    pub(crate) fn make_file(&mut self, path: &TreePath) -> Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW;
        let file = self.replace(path, |at, name| {
            rustix::fs::openat(at, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
        })?;
        Ok(File::from(file))
    }

    pub(crate) fn make_symlink(
        &mut self,
        path: &TreePath,
        target: &[u8],
        metadata: &Metadata,
        modified: Time,
    ) -> Result<()> {
        self.replace(path, |at, name| rustix::fs::symlinkat(target, at, name))?;
        self.dress_name(path, metadata, modified, None)
    }

    /// Makes a device or fifo, or leaves it out where the form allows that.
    pub(crate) fn make_device(
        &mut self,
        path: &TreePath,
        device: Device,
        metadata: &Metadata,
        modified: Time,
    ) -> Result<()> {
        let (kind, number) = match device {
            Device::Character(major, minor) => {
                (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
            }
            Device::Block(major, minor) => {
                (FileType::BlockDevice, rustix::fs::makedev(major, minor))
            }
            Device::Fifo => (FileType::Fifo, 0),
        };
        let mode = Mode::from_raw_mode(0o600);
        let made = self.replace(path, |at, name| rustix::fs::mknodat(at, name, kind, mode, number));
        match made {
            Err(Errno::PERM) if self.form != OverlayForm::Privileged => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.dress_name(path, metadata, modified, Some(metadata.mode)),
        }
    }

    /// Makes the sign of a removed path.
    pub(crate) fn make_whiteout(&mut self, path: &TreePath) -> Result<()> {
        let mode = Mode::empty();
        self.replace(path, |at, name| {
            rustix::fs::mknodat(at, name, FileType::CharacterDevice, mode, 0)
        })
    }

    /// Makes another name for what is at `to`.
    pub(crate) fn make_link(&mut self, path: &TreePath, to: &TreePath) -> Result<()> {
        let mut other = self.another();
        let Some((target_at, target)) = other.parent(to)? else { return Err(Errno::ISDIR) };
        self.replace(path, |at, name| {
            rustix::fs::linkat(target_at, target, at, name, AtFlags::empty())
        })
    }

    /// Removes whatever is there, with all that is in it.
    pub(crate) fn remove(&mut self, path: &TreePath) -> Result<()> {
        let Some((at, name)) = self.parent(path)? else { return Err(Errno::ISDIR) };
        remove(at, name)
    }

    /// Gives an open file its owner, mode, attributes and time.
    pub(crate) fn dress(&self, file: impl AsFd, metadata: &Metadata, modified: Time) -> Result<()> {
        let Metadata { mode, uid, gid, xattrs } = metadata;
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        let owned = !self.form.is_ownerless()
            && self.owner_result(rustix::fs::fchown(&file, Some(uid), Some(gid)))?;
        for (name, value) in xattrs.iter().filter(|(name, _)| self.takes(name)) {
            let set = rustix::fs::fsetxattr(&file, &name[..], value, XattrFlags::empty());
            self.attribute_result(name, set)?;
        }
        // After the attributes, which need write permission, and after the owner, which takes
        // set-user-id away.
        rustix::fs::fchmod(&file, self.mode(*mode, owned))?;
        rustix::fs::futimens(&file, &times(modified))
    }

    /// Gives a directory its owner, mode, attributes and time, and the sign that it hides what
    /// is below it. The last thing that is done in it.
    pub(crate) fn dress_directory(
        &mut self,
        path: &TreePath,
        metadata: &Metadata,
        modified: Time,
        opaque: bool,
    ) -> Result<()> {
        let at = self.enter(path)?;
        let open = rustix::fs::openat(at, ".", OFlags::RDONLY | DIRECTORY, Mode::empty())?;
        if opaque {
            let name = match self.form {
                OverlayForm::Privileged => "trusted.overlay.opaque",
                OverlayForm::User | OverlayForm::OneId => "user.overlay.opaque",
                OverlayForm::Plain | OverlayForm::Mine => {
                    return self.dress(open, metadata, modified);
                }
            };
            rustix::fs::fsetxattr(&open, name, b"y", XattrFlags::empty())?;
        }
        self.dress(open, metadata, modified)
    }

    /// Gives what was made a moment ago another owner, mode and time.
    pub(crate) fn dress_leaf(&mut self, path: &TreePath, leaf: &Leaf) -> Result<()> {
        let Leaf { item, metadata, modified } = leaf;
        let has_mode = !matches!(item, Item::Symlink { .. });
        self.dress_name(path, metadata, *modified, has_mode.then_some(metadata.mode))
    }

    /// The same for what can not be opened. `mode` is none for symbolic links, which have none.
    fn dress_name(
        &mut self,
        path: &TreePath,
        metadata: &Metadata,
        modified: Time,
        mode: Option<u32>,
    ) -> Result<()> {
        let Metadata { mode: _, uid, gid, xattrs } = metadata;
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let is_ownerless = self.form.is_ownerless();
        let Some((at, name)) = self.parent(path)? else { return Err(Errno::ISDIR) };
        let directory = at.as_raw_fd();
        let owned = if is_ownerless {
            false
        } else {
            let changed = rustix::fs::chownat(at, name, Some(uid), Some(gid), flags);
            self.owner_result(changed)?
        };
        let mode = mode.map(|mode| self.mode(mode, owned));
        let Some((at, name)) = self.parent(path)? else { return Err(Errno::ISDIR) };
        if let Some(mode) = mode {
            // Made a moment ago by us and no symbolic link, so there is nothing to follow.
            rustix::fs::chmodat(at, name, mode, AtFlags::empty())?;
        }
        rustix::fs::utimensat(at, name, &times(modified), flags)?;
        if xattrs.is_empty() {
            return Ok(());
        }
        let way = [format!("/proc/self/fd/{directory}/").as_bytes(), name.as_bytes()].concat();
        for (name, value) in xattrs.iter().filter(|(name, _)| self.takes(name)) {
            let set = rustix::fs::lsetxattr(&way[..], &name[..], value, XattrFlags::empty());
            self.attribute_result(name, set)?;
        }
        Ok(())
    }

    fn mode(&self, mode: u32, owned: bool) -> Mode {
        // A set-user-id program of another owner must not become the caller's.
        let keeps_ids = owned || !self.form.is_plain();
        Mode::from_raw_mode(if keeps_ids { mode & 0o7777 } else { mode & 0o1777 })
    }

    /// Whether the owner was set.
    fn owner_result(&self, result: Result<()>) -> Result<bool> {
        let may_fail = match self.form {
            OverlayForm::Privileged | OverlayForm::User => false,
            OverlayForm::OneId | OverlayForm::Mine => true,
            OverlayForm::Plain => !self.is_superuser,
        };
        match result {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::INVAL) if may_fail => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What only the system may set would be bound to the namespace, and mean nothing outside.
    fn takes(&self, attribute: &[u8]) -> bool {
        self.form != OverlayForm::Mine || attribute.starts_with(b"user.")
    }

    fn attribute_result(&self, name: &[u8], result: Result<()>) -> Result<()> {
        let may_fail = self.form != OverlayForm::Privileged || name.starts_with(b"user.");
        match result {
            Err(Errno::NOTSUP) => Ok(()),
            Err(Errno::PERM) if may_fail => Ok(()),
            result => result,
        }
    }

    /// Makes something new at a path; what was there is removed.
    fn replace<T>(
        &mut self,
        path: &TreePath,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T>,
    ) -> Result<T> {
        let Some((at, name)) = self.parent(path)? else { return Err(Errno::ISDIR) };
        match make(at, name) {
            Err(Errno::EXIST) => {
                remove(at, name)?;
                make(at, name)
            }
            result => result,
        }
    }

    /// The directory that holds a path, and its name there; none for the root.
    fn parent<'a>(&mut self, path: &'a TreePath) -> Result<Option<(BorrowedFd<'_>, &'a OsStr)>> {
        let Some(parent) = path.parent() else { return Ok(None) };
        // The way must not lead through what is about to be replaced.
        let depth = path.components().count();
        if self.way.len() >= depth {
            self.way.truncate(depth - 1);
        }
        Ok(Some((self.enter(&parent)?, OsStr::from_bytes(path.name()))))
    }

    /// Walks to a directory, from where the last walk ended.
    fn enter(&mut self, directory: &TreePath) -> Result<BorrowedFd<'_>> {
        let names: Vec<&[u8]> = directory.components().collect();
        if names.len() > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        let common = self.way.iter().zip(&names).take_while(|((open, _), name)| open == *name);
        let common = common.count();
        self.way.truncate(common);
        for name in &names[common..] {
            let at = self.way.last().map_or(self.root.as_fd(), |(_, open)| open.as_fd());
            let open = rustix::fs::openat(at, *name, OFlags::PATH | DIRECTORY, Mode::empty())?;
            self.way.push((name.to_vec(), open));
        }
        Ok(self.way.last().map_or(self.root.as_fd(), |(_, open)| open.as_fd()))
    }
}

fn times(Time(seconds): Time) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes a file, or a directory with all that is in it.
fn remove(at: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return result,
    }
    let open = rustix::fs::openat(at, name, OFlags::RDONLY | DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&open)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    for name in names {
        remove(open.as_fd(), OsStr::from_bytes(&name))?;
    }
    rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)
}
