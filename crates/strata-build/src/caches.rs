//! Cache mounts: directories that outlive a build and that several builds may want at once.
//!
//! A cache is `<key>.<slot>/` with `fs`, what is mounted, and `name.json`, what it is; beside it
//! stands `<key>.<slot>.lock`. Only `private` sharing makes slots other than 0. The lock is the
//! system's (`flock`): it ends with the last process that holds it, which is the guard of the
//! sandbox, so a cache whose build was killed is free as soon as nothing writes to it any more.

mod archive;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use strata_cas::{FreeCache, StoreError};
use strata_dockerfile::Sharing;

use crate::session::Session;
use crate::{BuildError, Event};

pub use archive::CacheArchiveError;

/// How long a build waits before it looks again whether a cache is free.
const PAUSE: Duration = Duration::from_millis(25);

/// Ends the name of a cache's directory that is being made or removed.
const UNFINISHED: &str = ".new";

/// What tells a cache mount from others: as with BuildKit, also what it began as and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CacheName {
    /// `id`, with the build's namespace before it.
    pub id: String,
    /// The tree id of what an empty one begins as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
    /// Mode of its root when it was made.
    pub mode: u32,
    /// Owner of its root when it was made.
    pub uid: u32,
    /// Group of its root when it was made.
    pub gid: u32,
}

impl CacheName {
    /// The name of its directory, without the slot.
    fn key(&self) -> String {
        let Self { id, seed, mode, uid, gid } = self;
        let seed = seed.as_deref().unwrap_or_default();
        let text = format!("strata cache mount 1\0{id}\0{seed}\0{mode:o}\0{uid}\0{gid}");
        strata_cas::BlobId::of(text.as_bytes()).to_string()[..32].to_owned()
    }
}

/// A cache that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// What it is.
    pub name: CacheName,
    /// What names it in commands: its directory's name.
    pub key: String,
    /// Bytes in its files, each counted once.
    pub bytes: u64,
    /// How many files and directories are in it.
    pub entries: u64,
    /// When a build last asked for it, in seconds since 1970.
    pub last_used: u64,
    /// Whether a build uses it now.
    pub in_use: bool,
}

/// The cache mounts of a store.
#[derive(Debug, Clone)]
pub struct Caches {
    root: PathBuf,
}

/// A cache that is locked for a run.
pub(crate) struct Lease {
    name: CacheName,
    path: PathBuf,
    lock: File,
}

impl Lease {
    pub(crate) fn name(&self) -> &CacheName {
        &self.name
    }

    /// What is to be mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What must stay open as long as anything may write to it.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }
}

/// Makes what a new cache begins as inside of a directory, and says where it stands there;
/// `None` for an empty one.
pub(crate) type Make<'a> = &'a dyn Fn(&Path) -> Result<Option<PathBuf>, BuildError>;

impl Session<'_> {
    /// Locks a cache, making it first if it is not there. Waits for others, says so, and gives up
    /// when the build is cancelled.
    pub(crate) fn lease(
        &self,
        name: &CacheName,
        sharing: Sharing,
        make: Make<'_>,
    ) -> Result<Lease, BuildError> {
        let caches = Caches::new(&self.builder.places.caches);
        let mut said = false;
        loop {
            if let Some(lease) = caches.try_lease(name, sharing, make)? {
                return Ok(lease);
            }
            if self.builder.cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            if !said {
                let note = format!("waiting for the cache mount `{}`, which is in use", name.id);
                (self.observe)(Event::Note(note));
                said = true;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Caches {
    /// The caches in a directory, which is a store's.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// All of them, by id.
    ///
    /// # Errors
    ///
    /// When the directory can not be read.
    pub fn list(&self) -> Result<Vec<CacheEntry>, StoreError> {
        let mut entries = Vec::new();
        for key in self.keys()? {
            entries.extend(self.entry(&key)?);
        }
        entries.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
        Ok(entries)
    }

    /// Removes one, unless a build uses it.
    ///
    /// # Errors
    ///
    /// When it can not be removed.
    pub fn remove(&self, key: &str) -> Result<Removed, StoreError> {
        let (directory, new) = (self.root.join(key), self.unfinished(key));
        if !is_key(key) || !(directory.exists() || new.exists()) {
            return Ok(Removed::Missing);
        }
        let lock = self.open_lock(key)?;
        if lock.try_lock().is_err() || !self.is_current(&lock, key) {
            return Ok(Removed::InUse);
        }
        // What a killed process left at this place.
        discard(&new)?;
        // In one step: half of a cache is worse than none.
        let action = || StoreError::io(format!("remove `{}`", directory.display()));
        match fs::rename(&directory, &new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(action()(error)),
            _ => discard(&new)?,
        }
        drop(fs::remove_file(self.lock_path(key)));
        Ok(Removed::Done)
    }

    /// Those that nobody uses at this moment, and what killed processes left of others.
    pub(crate) fn free(&self) -> Result<Vec<FreeCache>, StoreError> {
        let mut free = Vec::new();
        let mut keys = self.keys()?;
        keys.extend(self.directories()?.into_iter().filter_map(|name| {
            let key = name.strip_suffix(UNFINISHED)?;
            is_key(key).then(|| key.to_owned())
        }));
        keys.sort();
        keys.dedup();
        for key in keys {
            let Ok(lock) = File::open(self.lock_path(&key)) else { continue };
            if lock.try_lock().is_err() {
                continue;
            }
            let text = fs::read(self.root.join(&key).join("name.json")).unwrap_or_default();
            let name = serde_json::from_slice::<CacheName>(&text);
            let title = name.map_or_else(|_| "an unfinished one".to_owned(), |name| name.id);
            let last_used = last_used(&lock);
            free.push(FreeCache { key, title: format!("cache mount {title}"), last_used });
        }
        Ok(free)
    }

    fn keys(&self) -> Result<Vec<String>, StoreError> {
        let mut keys = self.directories()?;
        keys.retain(|name| is_key(name) && self.root.join(name).join("name.json").is_file());
        keys.sort();
        Ok(keys)
    }

    fn directories(&self) -> Result<Vec<String>, StoreError> {
        let action = || StoreError::io(format!("read `{}`", self.root.display()));
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(action())? {
            names.push(entry.map_err(action())?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    /// What is known of one; none if it is gone meanwhile, or is not what strata wrote.
    fn entry(&self, key: &str) -> Result<Option<CacheEntry>, StoreError> {
        let directory = self.root.join(key);
        let Ok(text) = fs::read(directory.join("name.json")) else { return Ok(None) };
        let Ok(name) = serde_json::from_slice(&text) else { return Ok(None) };
        let lock = File::open(self.lock_path(key)).ok();
        let in_use = lock.as_ref().is_some_and(|lock| lock.try_lock().is_err());
        let (bytes, entries) = size_of(&directory.join("fs"));
        let last_used = lock.map_or(0, |lock| last_used(&lock));
        Ok(Some(CacheEntry { name, key: key.to_owned(), bytes, entries, last_used, in_use }))
    }

    /// Locks a cache if it is free for this kind of use.
    fn try_lease(
        &self,
        name: &CacheName,
        sharing: Sharing,
        make: Make<'_>,
    ) -> Result<Option<Lease>, BuildError> {
        let key = name.key();
        if sharing != Sharing::Private {
            return self.try_slot(name, &format!("{key}.0"), sharing, make);
        }
        for slot in 0.. {
            let lease = self.try_slot(name, &format!("{key}.{slot}"), Sharing::Locked, make)?;
            if lease.is_some() {
                return Ok(lease);
            }
        }
        Ok(None)
    }

    fn try_slot(
        &self,
        name: &CacheName,
        key: &str,
        sharing: Sharing,
        make: Make<'_>,
    ) -> Result<Option<Lease>, BuildError> {
        let directory = self.root.join(key);
        let is_there = || directory.join("fs").is_dir();
        let lock = self.open_lock(key)?;
        let shares = sharing == Sharing::Shared;
        let locked = if shares { lock.try_lock_shared() } else { lock.try_lock() };
        if locked.is_err() || !self.is_current(&lock, key) {
            return Ok(None);
        }
        if !is_there() {
            if shares {
                let action = || BuildError::io(format!("lock the cache mount `{}`", name.id));
                lock.unlock().map_err(action())?;
                // Another one may be at making it.
                if lock.try_lock().is_err() || !self.is_current(&lock, key) {
                    return Ok(None);
                }
            }
            if !is_there() {
                self.make(name, key, make)?;
            }
            if shares && (lock.try_lock_shared().is_err() || !is_there()) {
                return Ok(None);
            }
        }
        // When it was last used is of use only for `strata cache ls`.
        drop(lock.set_modified(SystemTime::now()));
        Ok(Some(Lease { name: name.clone(), path: directory.join("fs"), lock }))
    }

    /// Makes a new cache in one step.
    fn make(&self, name: &CacheName, key: &str, make: Make<'_>) -> Result<(), BuildError> {
        let action = || BuildError::io(format!("make the cache mount `{}`", name.id));
        let (directory, new) = (self.root.join(key), self.unfinished(key));
        // What a killed process left; the lock is ours.
        discard(&new)?;
        discard(&directory)?;
        fs::DirBuilder::new().mode(0o700).create(&new).map_err(action())?;
        let (fs, text) = (new.join("fs"), serde_json::to_vec(name).map_err(io::Error::from));
        fs::write(new.join("name.json"), text.map_err(action())?).map_err(action())?;
        let seeds = new.join("seed");
        fs::DirBuilder::new().mode(0o700).create(&seeds).map_err(action())?;
        match make(&seeds)? {
            Some(seeded) if seeded.is_dir() => fs::rename(&seeded, &fs).map_err(action())?,
            Some(_) => {
                let reason = "a cache mount can only begin as a directory";
                return Err(action()(io::Error::other(reason)));
            }
            None => {
                fs::create_dir(&fs).map_err(action())?;
                if name.uid != 0 || name.gid != 0 {
                    chown(&fs, Some(name.uid), Some(name.gid)).map_err(action())?;
                }
                let permissions = fs::Permissions::from_mode(name.mode);
                fs::set_permissions(&fs, permissions).map_err(action())?;
            }
        }
        fs::remove_dir_all(&seeds).map_err(action())?;
        fs::rename(&new, &directory).map_err(action())
    }

    /// Where one is made, and where one goes that is removed.
    fn unfinished(&self, key: &str) -> PathBuf {
        self.root.join(format!("{key}{UNFINISHED}"))
    }

    fn lock_path(&self, key: &str) -> PathBuf {
        self.root.join(format!("{key}.lock"))
    }

    fn open_lock(&self, key: &str) -> Result<File, StoreError> {
        let path = self.lock_path(key);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        file.map_err(StoreError::io(format!("open `{}`", path.display())))
    }

    /// Whether the lock is still the one that others find: it goes when the cache is removed.
    fn is_current(&self, lock: &File, key: &str) -> bool {
        let inode = |metadata: io::Result<fs::Metadata>| {
            metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok()
        };
        let found = inode(fs::metadata(self.lock_path(key)));
        found.is_some() && found == inode(lock.metadata())
    }
}

/// What became of a cache that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done,
    /// A build uses it.
    InUse,
    /// There is none.
    Missing,
}

fn discard(directory: &Path) -> Result<(), StoreError> {
    let action = || StoreError::io(format!("remove `{}`", directory.display()));
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(action()(error)),
        _ => Ok(()),
    }
}

/// When a build last asked for a cache, in seconds since 1970.
fn last_used(lock: &File) -> u64 {
    let used = lock.metadata().and_then(|metadata| metadata.modified()).ok();
    let used = used.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    used.map_or(0, |time| time.as_secs())
}

/// `<32 hexadecimal digits>.<number>`.
fn is_key(name: &str) -> bool {
    name.split_once('.').is_some_and(|(hash, slot)| {
        hash.len() == 32
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !slot.is_empty()
            && slot.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Bytes in files and number of entries below a directory; what can not be read counts nothing.
fn size_of(directory: &Path) -> (u64, u64) {
    let (mut bytes, mut entries) = (0, 0);
    let mut linked = std::collections::HashSet::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            entries += 1;
            if metadata.is_dir() {
                left.push(entry.path());
            } else if metadata.is_file()
                && (metadata.nlink() == 1 || linked.insert((metadata.dev(), metadata.ino())))
            {
                bytes += metadata.len();
            }
        }
    }
    (bytes, entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_drift() {
        let name = CacheName { id: "/a".to_owned(), seed: None, mode: 0o755, uid: 0, gid: 7 };
        let golden = include_str!("../tests/golden/caches-1.txt");
        let json = serde_json::to_string(&name).expect("JSON");
        let seeded = CacheName { seed: Some("0f".to_owned()), ..name.clone() };
        let text = format!("{json}\n{}\n{}\n", name.key(), seeded.key());
        assert_eq!(text, golden);
    }

    #[test]
    fn keys_are_what_directories_are_called() {
        let key = "0123456789abcdef0123456789abcdef";
        let check = |name: &str| is_key(name);
        assert!(check(&format!("{key}.0")) && check(&format!("{key}.12")));
        for name in [key, "x.0", &format!("{key}.new"), &format!("{key}.0.new"), ".."] {
            assert!(!check(name), "{name}");
        }
    }
}
