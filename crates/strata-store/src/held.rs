//! Files that say "somebody is at this": each is locked by its process for as long as it counts.
//!
//! The kernel releases a lock when its holder ends, however that comes about, so what a killed
//! process leaves is told from what a live one holds, whatever became of its process id. A file
//! appears under its name locked and with its content, and is removed before it is unlocked.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What files are called that do not have their name yet.
pub(crate) const UNNAMED: &str = "new-";

/// How much of a file is read to find a process id in it.
const PID_LIMIT_BYTES: u64 = 32;

/// A file that this process holds, gone when dropped.
#[derive(Debug)]
pub(crate) struct HeldFile {
    pub(crate) file: File,
    path: PathBuf,
    stays: bool,
}

/// What came of trying to hold a file.
pub(crate) enum Taken {
    Ours(HeldFile),
    /// By this process, if it has written its id yet.
    Theirs(Option<u32>),
}

impl HeldFile {
    /// Holds the file at `path`, unless somebody else does. It begins with this process's id.
    pub(crate) fn take(path: &Path) -> io::Result<Taken> {
        let new = loop {
            if let Some(new) = Self::unnamed(path)? {
                break new;
            }
        };
        loop {
            match fs::hard_link(&new.path, path) {
                Ok(()) => {
                    fs::remove_file(&new.path)?;
                    return Ok(Taken::Ours(new.renamed(path)));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            if let Some(pid) = held_by(path)? {
                return Ok(Taken::Theirs(pid));
            }
        }
    }

    /// Makes and holds a file that nobody else makes; `None` when somebody has removed it before
    /// it was held. Costs less than [`HeldFile::take`].
    pub(crate) fn begin(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.append(true).read(true).create_new(true).mode(0o600);
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            made => made?,
        };
        file.lock()?;
        if file.metadata()?.nlink() == 0 {
            return Ok(None);
        }
        // Gone again when the disk is too full for what is in it.
        let mut held = Self { file, path: path.to_owned(), stays: false };
        writeln!(held.file, "{}", std::process::id())?;
        Ok(Some(held))
    }

    /// A locked file beside `path`; `None` when somebody has taken it for a killed process's and
    /// removed it before it was locked.
    fn unnamed(path: &Path) -> io::Result<Option<Self>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (pid, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = path.with_file_name(format!("{UNNAMED}{pid}-{number}"));
        // A process with the same id may have been killed here.
        drop(fs::remove_file(&path));
        let mut file =
            OpenOptions::new().append(true).read(true).create_new(true).mode(0o600).open(&path)?;
        file.lock()?;
        if file.metadata()?.nlink() == 0 {
            return Ok(None);
        }
        writeln!(file, "{pid}")?;
        Ok(Some(Self { file, path, stays: false }))
    }

    fn renamed(mut self, path: &Path) -> Self {
        self.path = path.to_owned();
        self
    }

    /// Leaves the file where it is in the end, if `stays`; nobody holds it then.
    pub(crate) fn keep_if(&mut self, stays: bool) {
        self.stays = stays;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        if !self.stays {
            // What can not be removed is not locked any more, and so counts for nothing.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Who holds a file, if anybody does; one that nobody holds is removed.
pub(crate) fn held_by(path: &Path) -> io::Result<Option<Option<u32>>> {
    let file = match OpenOptions::new().read(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {
            // It may have been removed, and made again by another, since it was opened.
            let there = fs::metadata(path);
            let opened = file.metadata()?;
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (opened.dev(), opened.ino())) {
                drop(fs::remove_file(path));
            }
            Ok(None)
        }
        Err(TryLockError::WouldBlock) => Ok(Some(pid_in(&file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn pid_in(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_LIMIT_BYTES).read_to_string(&mut text).ok()?;
    text.lines().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_once_and_free_again_when_its_holder_is_gone() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a");
        let Taken::Ours(first) = HeldFile::take(&path).expect("take") else { panic!("free") };
        match HeldFile::take(&path).expect("take") {
            Taken::Theirs(pid) => assert_eq!(pid, Some(std::process::id())),
            Taken::Ours(_) => panic!("it is held"),
        }
        drop(first);
        assert_eq!(fs::read_dir(home.path()).expect("list").count(), 0);
        // What a killed process leaves is not locked.
        fs::write(&path, "1\n").expect("write");
        assert!(matches!(HeldFile::take(&path).expect("take"), Taken::Ours(_)));
        fs::write(&path, "1\n").expect("write");
        assert_eq!(held_by(&path).expect("look"), None);
        assert!(!path.exists());
    }

    #[test]
    fn many_threads_hold_it_one_after_the_other() {
        let home = tempfile::tempdir().expect("a directory");
        let (path, inside) = (home.path().join("a"), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut done = 0;
                    while done < 50 {
                        if let Taken::Ours(held) = HeldFile::take(&path).expect("take") {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                            drop(held);
                            done += 1;
                        }
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(home.path()).expect("list").count(), 0);
    }

    #[test]
    fn who_looks_for_what_the_killed_have_left_disturbs_nobody() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a");
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                for _ in 0..2000 {
                    match HeldFile::take(&path).expect("take") {
                        Taken::Ours(held) => drop(held),
                        Taken::Theirs(_) => panic!("nobody else holds it"),
                    }
                }
            });
            while !taker.is_finished() {
                for entry in fs::read_dir(home.path()).expect("list").flatten() {
                    held_by(&entry.path()).expect("look");
                }
            }
        });
        assert_eq!(fs::read_dir(home.path()).expect("list").count(), 0);
    }
}
