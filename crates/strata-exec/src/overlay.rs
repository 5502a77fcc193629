//! Mounts a stack of snapshots with overlayfs. Runs in the child's private mount namespace only.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};

/// What overlayfs takes (`OVL_MAX_STACK`), less the one for mount points that strata adds.
pub(crate) const LOWERS_MAX: usize = 499;

/// What is stacked.
pub(crate) struct Stack<'a> {
    /// Top first.
    pub(crate) lowers: &'a [PathBuf],
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) user_attributes: bool,
    /// Whether device nodes in it can be opened.
    pub(crate) devices: bool,
}

impl Stack<'_> {
    /// Mounts the stack at `target`.
    ///
    /// Directories are named by descriptors: neither the length of their paths nor a colon in
    /// them matters, and 500 of them fit.
    pub(crate) fn mount(&self, target: &Path) -> io::Result<()> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
        };
        let lowers: Vec<OwnedFd> =
            self.lowers.iter().map(|lower| open(lower)).collect::<Result<_, _>>()?;
        let (upper, work) = (open(self.upper)?, open(self.work)?);
        match self.mount_by_steps(&lowers, &upper, &work, target) {
            // Linux before 6.8 does not know `lowerdir+`.
            Err(rustix::io::Errno::INVAL) => self.mount_at_once(&lowers, &upper, &work, target),
            answer => Ok(answer?),
        }
    }

    fn mount_by_steps(
        &self,
        lowers: &[OwnedFd],
        upper: &OwnedFd,
        work: &OwnedFd,
        target: &Path,
    ) -> rustix::io::Result<()> {
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&overlay, "source", "strata")?;
        for lower in lowers {
            fsconfig_set_string(&overlay, "lowerdir+", name(lower))?;
        }
        fsconfig_set_string(&overlay, "upperdir", name(upper))?;
        fsconfig_set_string(&overlay, "workdir", name(work))?;
        for (option, value) in OPTIONS {
            fsconfig_set_string(&overlay, option, value)?;
        }
        for flag in self.flags() {
            fsconfig_set_flag(&overlay, flag)?;
        }
        fsconfig_create(&overlay)?;
        let attributes = match self.devices {
            true => MountAttrFlags::empty(),
            false => MountAttrFlags::MOUNT_ATTR_NODEV,
        };
        let mounted = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        move_mount(&mounted, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }

    fn mount_at_once(
        &self,
        lowers: &[OwnedFd],
        upper: &OwnedFd,
        work: &OwnedFd,
        target: &Path,
    ) -> io::Result<()> {
        let lowers: Vec<String> = lowers.iter().map(name).collect();
        let mut options = format!("lowerdir={}", lowers.join(":"));
        options += &format!(",upperdir={},workdir={}", name(upper), name(work));
        for (option, value) in OPTIONS {
            options += &format!(",{option}={value}");
        }
        for flag in self.flags() {
            options += &format!(",{flag}");
        }
        let flags = if self.devices { MountFlags::empty() } else { MountFlags::NODEV };
        let options = CString::new(options)?;
        Ok(mount("strata", target, "overlay", flags, options.as_c_str())?)
    }

    /// `volatile`: nothing is synced while the process runs. A run that does not end is not
    /// recorded, and the store syncs what it keeps; package managers sync after every file.
    fn flags(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once("volatile").chain(self.user_attributes.then_some("userxattr"))
    }
}

/// The upper directory must say all that changed by itself: no redirects, no files without data.
/// `nofollow` and not `off`, which the kernel refuses in a user namespace.
const OPTIONS: [(&str, &str); 3] =
    [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];

fn name(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}
