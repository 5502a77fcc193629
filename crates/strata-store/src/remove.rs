//! Removing what builds leave behind: trees of any depth, with directories that nobody may enter
//! (overlayfs's `work/work` has mode 0). Symbolic links are removed, never followed.
//!
//! Depth costs neither stack nor open files nor long paths: a directory that is not empty moves
//! up to a flat place beside the tree, and is emptied from there.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Removes a tree, if it is there. Its directories are moved into its parent on the way, which
/// must be one that is emptied at every start.
pub(crate) fn tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let name = CString::new(name.as_encoded_bytes())?;
    let place = open_directory(rustix::fs::CWD, parent)?;
    match remove_or_move(place.as_fd(), &name, place.as_fd(), &name) {
        Err(Errno::NOENT) => return Ok(()),
        Ok(Removed::Gone) => return Ok(()),
        Ok(Removed::Moved) => {}
        Err(error) => return Err(error.into()),
    }
    let mut emptier = Emptier { place, prefix: name.clone(), moved: 0, rest: vec![name] };
    Ok(emptier.run()?)
}

enum Removed {
    Gone,
    Moved,
}

struct Emptier {
    /// Where directories that are not empty are moved.
    place: OwnedFd,
    /// What their names there begin with.
    prefix: CString,
    moved: u64,
    /// Their names there.
    rest: Vec<CString>,
}

impl Emptier {
    fn run(&mut self) -> Result<(), Errno> {
        while let Some(name) = self.rest.pop() {
            let directory = open_directory(&self.place, name.as_c_str())?;
            for (entry, kind) in entries(directory.as_fd())? {
                self.entry(directory.as_fd(), &entry, kind)?;
            }
            rustix::fs::unlinkat(&self.place, name.as_c_str(), AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    fn entry(&mut self, at: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<(), Errno> {
        if kind != FileType::Directory {
            match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
                // A file system that does not tell types in its listings.
                Err(Errno::ISDIR) if kind == FileType::Unknown => {}
                done => return done,
            }
        }
        loop {
            let number = self.moved.to_string();
            self.moved += 1;
            let to = [self.prefix.as_bytes(), b".", number.as_bytes()].concat();
            let to = CString::new(to).map_err(|_| Errno::INVAL)?;
            match remove_or_move(at, name, self.place.as_fd(), &to) {
                Ok(Removed::Gone) => return Ok(()),
                Ok(Removed::Moved) => {
                    self.rest.push(to);
                    return Ok(());
                }
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Removes an entry if it is a file or an empty directory; else moves it, open to its owner.
fn remove_or_move(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
) -> Result<Removed, Errno> {
    match rustix::fs::unlinkat(from, name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(Removed::Gone),
        Err(Errno::NOTDIR) => {
            rustix::fs::unlinkat(from, name, AtFlags::empty())?;
            return Ok(Removed::Gone);
        }
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    // It is a directory, so no link is followed here.
    rustix::fs::chmodat(from, name, Mode::RWXU, AtFlags::empty())?;
    rustix::fs::renameat(from, name, to, new_name)?;
    Ok(Removed::Moved)
}

fn open_directory<P: rustix::path::Arg>(at: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// The names in a directory with what they are. Read before anything is removed, since removing
/// while reading skips entries on some file systems.
fn entries(directory: BorrowedFd<'_>) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            found.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn removes_what_nobody_may_enter_and_follows_no_link() {
        let home = tempfile::tempdir().expect("a directory");
        let kept = home.path().join("kept");
        fs::create_dir(&kept).expect("create");
        fs::write(kept.join("file"), "x").expect("write");
        let place = home.path().join("place");
        let top = place.join("top");
        fs::create_dir_all(top.join("work/work/inner")).expect("create");
        symlink(&kept, top.join("link")).expect("link");
        fs::set_permissions(top.join("work/work"), Permissions::from_mode(0o000)).expect("chmod");
        tree(&top).expect("remove");
        tree(&top).expect("remove again");
        assert_eq!(fs::read_dir(&place).expect("list").count(), 0);
        assert!(kept.join("file").exists());
    }

    #[test]
    fn removes_a_tree_that_is_deeper_than_any_path() {
        let home = tempfile::tempdir().expect("a directory");
        let mut at = open_directory(rustix::fs::CWD, home.path()).expect("open");
        for _ in 0..5_000 {
            rustix::fs::mkdirat(&at, "a-long-name", Mode::RWXU).expect("create");
            at = open_directory(&at, c"a-long-name").expect("open");
        }
        tree(&home.path().join("a-long-name")).expect("remove");
        assert_eq!(fs::read_dir(home.path()).expect("list").count(), 0);
    }
}
