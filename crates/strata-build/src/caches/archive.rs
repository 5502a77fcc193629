//! Cache mounts as a tar, to take them to another machine.
//!
//! The first entry is `strata-caches-1.json`, the names of the caches in order; what is in the
//! cache with number N is below `N/`. A tar from elsewhere, without that entry, is the content of
//! one cache, whose id must be given. Either may be compressed with zstd.
//!
//! What is taken in never leaves its cache: every step of a path is opened below the directory
//! before it and no link is followed, whatever the archive says.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod,
    fchown, futimens, linkat, mkdirat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use strata_cas::StoreError;
use tar::{Archive, Builder, Entry, EntryType, Header};

use super::{CacheName, Caches, discard};

/// The name of the first entry, which carries the version of the format.
const NAMES: &str = "strata-caches-1.json";
const NAMES_BYTES_MAX: u64 = 16 << 20;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why caches could not be exported or imported. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum CacheArchiveError {
    /// A build uses one of the caches.
    #[error("the cache `{id}` is in use")]
    InUse {
        /// Its id.
        id: String,
    },
    /// There is one of that name already.
    #[error("there is a cache `{id}` already")]
    Exists {
        /// Its id.
        id: String,
    },
    /// The archive is a plain tar, and nobody has said which cache it is.
    #[error("the archive does not say which cache it holds")]
    NoName,
    /// The archive has its own names, and another one was given.
    #[error("the archive says itself which caches it holds")]
    HasNames,
    /// The archive has something that no cache can hold.
    #[error("`{path}` in the archive: {reason}")]
    Entry {
        /// Its path there.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The list of names can not be read.
    #[error("`{NAMES}` in the archive can not be read: {0}")]
    Names(String),
    /// The operating system refused, or the archive breaks off.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The caches themselves could not be read.
    #[error(transparent)]
    Caches(#[from] StoreError),
}

type Answer<T> = Result<T, CacheArchiveError>;

fn failed<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> CacheArchiveError {
    let action = action.into();
    move |source| CacheArchiveError::Io { action, source: source.into() }
}

impl Caches {
    /// Writes these caches as one tar.
    ///
    /// # Errors
    ///
    /// When one is in use, or something can not be read or written.
    pub fn export(&self, keys: &[String], out: &mut dyn Write) -> Answer<()> {
        let mut names = Vec::new();
        let mut locks = Vec::new();
        for key in keys {
            let entry = self.entry(key)?;
            let Some(entry) = entry else { continue };
            let lock = self.open_lock(key)?;
            if lock.try_lock_shared().is_err() {
                return Err(CacheArchiveError::InUse { id: entry.name.id });
            }
            locks.push(lock);
            names.push((key, entry.name));
        }
        let action = || failed::<io::Error>("write the archive");
        let mut builder = Builder::new(out);
        builder.sparse(false);
        let list: Vec<&CacheName> = names.iter().map(|(_, name)| name).collect();
        let text = serde_json::to_vec_pretty(&list).map_err(|error| action()(error.into()))?;
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, NAMES, &text[..]).map_err(action())?;
        for (number, (key, _)) in names.iter().enumerate() {
            let mut written = Written { builder: &mut builder, linked: HashMap::new() };
            written.tree(&self.root.join(key).join("fs"), Path::new(&number.to_string()))?;
        }
        builder.finish().map_err(action())
    }

    /// Takes in what [`Caches::export`] wrote, or a tar of one cache's content with its `id`.
    ///
    /// # Errors
    ///
    /// When a cache is there already and is not to be replaced, or is in use; when the archive is
    /// none or has something in it that no cache can hold.
    pub fn import(
        &self,
        source: impl Read,
        id: Option<&str>,
        replace: bool,
    ) -> Answer<Vec<CacheName>> {
        let mut archive = Archive::new(plain(source)?);
        let action = || failed::<io::Error>("read the archive");
        let mut entries = archive.entries().map_err(action())?.peekable();
        let own = match entries.peek() {
            Some(Ok(first)) => first.path_bytes().as_ref() == NAMES.as_bytes(),
            _ => false,
        };
        let names = match (own, id) {
            (true, Some(_)) => return Err(CacheArchiveError::HasNames),
            (false, None) => return Err(CacheArchiveError::NoName),
            (true, None) => names_of(entries.next())?,
            (false, Some(id)) => {
                vec![CacheName { id: id.to_owned(), seed: None, mode: 0o755, uid: 0, gid: 0 }]
            }
        };
        let mut places = Vec::new();
        for name in &names {
            places.push(Place::open(self, name, replace)?);
        }
        for entry in entries {
            let mut entry = entry.map_err(action())?;
            unpack(&mut entry, own, &mut places)?;
        }
        for place in places {
            place.keep()?;
        }
        Ok(names)
    }
}

/// The archive without its compression.
fn plain<'a>(mut source: impl Read + 'a) -> Answer<Box<dyn Read + 'a>> {
    let mut begin = Vec::new();
    let read = source.by_ref().take(4).read_to_end(&mut begin);
    read.map_err(failed("read the archive"))?;
    let is_zstd = begin == ZSTD_MAGIC;
    let whole = io::Cursor::new(begin).chain(source);
    if !is_zstd {
        return Ok(Box::new(whole));
    }
    let decoder = zstd::Decoder::new(whole).map_err(failed("read the archive"))?;
    Ok(Box::new(decoder))
}

fn names_of<R: Read>(entry: Option<io::Result<Entry<'_, R>>>) -> Answer<Vec<CacheName>> {
    let mut text = Vec::new();
    if let Some(Ok(entry)) = entry {
        let read = entry.take(NAMES_BYTES_MAX).read_to_end(&mut text);
        read.map_err(failed("read the archive"))?;
    }
    let names: Vec<CacheName> = serde_json::from_slice(&text)
        .map_err(|error| CacheArchiveError::Names(error.to_string()))?;
    let twice = (1..names.len()).find(|at| names[..*at].contains(&names[*at]));
    match twice {
        Some(at) => Err(CacheArchiveError::Names(format!("`{}` comes twice", names[at].id))),
        None => Ok(names),
    }
}

/// One cache's tree on its way into a tar.
struct Written<'a, 'b> {
    builder: &'a mut Builder<&'b mut dyn Write>,
    /// Where files with several names were written first.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Written<'_, '_> {
    fn tree(&mut self, from: &Path, to: &Path) -> Answer<()> {
        let metadata = from.symlink_metadata().map_err(read(from))?;
        self.one(from, to, &metadata)?;
        if !metadata.is_dir() {
            return Ok(());
        }
        let entries = fs::read_dir(from).map_err(read(from))?;
        let names: Result<Vec<_>, _> = entries.map(|entry| entry.map(|e| e.file_name())).collect();
        let mut names = names.map_err(read(from))?;
        names.sort();
        names.iter().try_for_each(|name| self.tree(&from.join(name), &to.join(name)))
    }

    fn one(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> Answer<()> {
        let mut header = Header::new_gnu();
        header.set_metadata_in_mode(metadata, tar::HeaderMode::Complete);
        header.set_size(0);
        let time = format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec());
        let mut more: Vec<(&str, Vec<u8>)> = Vec::new();
        if metadata.mtime_nsec() != 0 && metadata.mtime() >= 0 {
            more.push(("mtime", time.into_bytes()));
        }
        let inode = (metadata.dev(), metadata.ino());
        let link = match self.linked.get(&inode) {
            Some(first) => Some((EntryType::Link, first.as_os_str().as_bytes().to_vec())),
            None if metadata.is_symlink() => {
                let target = from.read_link().map_err(read(from))?;
                Some((EntryType::Symlink, target.as_os_str().as_bytes().to_vec()))
            }
            None => None,
        };
        if let Some((kind, target)) = &link {
            header.set_entry_type(*kind);
            let fits = &target[..target.len().min(100)];
            header.set_link_name_literal(fits).map_err(read(from))?;
            more.push(("linkpath", target.clone()));
        } else if metadata.is_file() && metadata.nlink() > 1 {
            self.linked.insert(inode, to.to_owned());
        } else if !metadata.is_file() && !metadata.is_dir() {
            // Sockets, pipes and devices mean something only where they are.
            return Ok(());
        }
        let more = more.iter().map(|(name, value)| (*name, &value[..]));
        self.builder.append_pax_extensions(more).map_err(failed("write the archive"))?;
        let written = if metadata.is_file() && link.is_none() {
            let file = File::open(from).map_err(read(from))?;
            header.set_size(metadata.len());
            self.builder.append_data(&mut header, to, file.take(metadata.len()))
        } else {
            self.builder.append_data(&mut header, to, io::empty())
        };
        written.map_err(failed(format!("write `{}` into the archive", to.display())))
    }
}

fn read(path: &Path) -> impl FnOnce(io::Error) -> CacheArchiveError {
    failed(format!("read `{}`", path.display()))
}

/// One cache on its way in; removed when it is dropped before it is kept.
struct Place<'a> {
    caches: &'a Caches,
    key: String,
    name: CacheName,
    root: OwnedFd,
    /// Modes and times of directories, which are set when nothing is made in them any more.
    directories: BTreeMap<PathBuf, Owned>,
    kept: bool,
    _lock: File,
}

impl<'a> Place<'a> {
    fn open(caches: &'a Caches, name: &CacheName, replace: bool) -> Answer<Self> {
        let key = format!("{}.0", name.key());
        let lock = caches.open_lock(&key)?;
        if lock.try_lock().is_err() || !caches.is_current(&lock, &key) {
            return Err(CacheArchiveError::InUse { id: name.id.clone() });
        }
        if caches.root.join(&key).exists() && !replace {
            return Err(CacheArchiveError::Exists { id: name.id.clone() });
        }
        let new = caches.unfinished(&key);
        discard(&new)?;
        let action = || failed::<io::Error>(format!("make the cache `{}`", name.id));
        fs::DirBuilder::new().mode(0o700).create(&new).map_err(action())?;
        fs::create_dir(new.join("fs")).map_err(action())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(new.join("fs"), flags, Mode::empty());
        let root = root.map_err(|error| action()(error.into()))?;
        let owned = Owned { mode: name.mode, uid: name.uid, gid: name.gid, time: None };
        let directories = BTreeMap::from([(PathBuf::new(), owned)]);
        let (name, kept) = (name.clone(), false);
        Ok(Self { caches, key, name, root, directories, kept, _lock: lock })
    }

    fn new_directory(&self) -> PathBuf {
        self.caches.unfinished(&self.key)
    }

    /// Puts it where builds find it.
    fn keep(mut self) -> Answer<()> {
        let action = || failed::<io::Error>(format!("make the cache `{}`", self.name.id));
        for (path, owned) in self.directories.iter().rev() {
            let directory = self.directory(path, OFlags::RDONLY).map_err(|e| action()(e.into()))?;
            owned.give(&directory).map_err(|error| action()(error.into()))?;
        }
        let (new, directory) = (self.new_directory(), self.caches.root.join(&self.key));
        let text = serde_json::to_vec(&self.name).map_err(|error| action()(error.into()))?;
        fs::write(new.join("name.json"), text).map_err(action())?;
        discard(&directory)?;
        fs::rename(&new, &directory).map_err(action())?;
        self.kept = true;
        Ok(())
    }

    /// Opens a directory below the root without following anything.
    fn directory(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if path.as_os_str().is_empty() {
            return openat(&self.root, ".", flags, Mode::empty());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Opens the directory that holds `path`, making what is missing on the way.
    fn parent(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let parent = path.parent().unwrap_or(Path::new(""));
        match self.directory(parent, OFlags::PATH) {
            Err(Errno::NOENT) => {
                let above = self.parent(parent)?;
                let name = parent.file_name().unwrap_or_default();
                mkdirat(above, name, Mode::from_raw_mode(0o755))?;
                self.directory(parent, OFlags::PATH)
            }
            answer => answer,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.kept {
            drop(fs::remove_dir_all(self.new_directory()));
        }
    }
}

/// Whose something is, and since when.
struct Owned {
    mode: u32,
    uid: u32,
    gid: u32,
    time: Option<(i64, i64)>,
}

impl Owned {
    fn of<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Self> {
        let header = entry.header();
        let number = |value: u64| u32::try_from(value).unwrap_or_default();
        let (mode, uid, gid) = (header.mode()?, number(header.uid()?), number(header.gid()?));
        let mut time = (i64::try_from(header.mtime()?).unwrap_or_default(), 0);
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            if let (Ok("mtime"), Ok(text)) = (extension.key(), extension.value()) {
                time = nanoseconds(text).unwrap_or(time);
            }
        }
        Ok(Self { mode: mode & 0o7777, uid, gid, time: Some(time) })
    }

    /// The order matters: a new owner takes the set-id bits away, and writing sets the time.
    fn give(&self, file: impl AsFd) -> rustix::io::Result<()> {
        allow(fchown(&file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid))))?;
        fchmod(&file, Mode::from_raw_mode(self.mode))?;
        self.times().map_or(Ok(()), |times| futimens(&file, &times))
    }

    fn times(&self) -> Option<Timestamps> {
        let (tv_sec, tv_nsec) = self.time?;
        let time = Timespec { tv_sec, tv_nsec };
        Some(Timestamps { last_access: time, last_modification: time })
    }
}

/// An ordinary user's caches are all his own.
fn allow(answer: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match answer {
        Err(Errno::PERM | Errno::INVAL) if !rustix::process::geteuid().is_root() => Ok(()),
        answer => answer,
    }
}

/// `1700000000.123456789`.
fn nanoseconds(text: &str) -> Option<(i64, i64)> {
    let (seconds, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = part.chars().chain("000000000".chars()).take(9).collect();
    Some((seconds.parse().ok()?, digits.parse().ok()?))
}

/// Puts one entry into the cache that it belongs to.
fn unpack<R: Read>(
    entry: &mut Entry<'_, R>,
    numbered: bool,
    places: &mut [Place<'_>],
) -> Answer<()> {
    let whole = entry.path_bytes().into_owned();
    let shown = String::from_utf8_lossy(&whole).into_owned();
    let wrong = |reason| CacheArchiveError::Entry { path: shown.clone(), reason };
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let (number, path) = split(&whole, numbered).ok_or_else(|| wrong(OUTSIDE))?;
    let place = places.get_mut(number).ok_or_else(|| wrong("there is no such cache"))?;
    let action = failed(format!("unpack `{shown}`"));
    let owned = match Owned::of(entry) {
        Ok(owned) => owned,
        Err(error) => return Err(action(error)),
    };
    let done = match kind {
        EntryType::Directory => place.make_directory(path, owned),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            place.make_file(&path, &owned, entry)
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or_else(|| wrong("it has no target"))?;
            place.make_symlink(&path, &owned, &target).map_err(io::Error::from)
        }
        EntryType::Link => {
            let target = entry.link_name_bytes().ok_or_else(|| wrong("it has no target"))?;
            let (other, target) = split(&target, numbered).ok_or_else(|| wrong(OUTSIDE))?;
            if other != number {
                return Err(wrong("it is a link into another cache"));
            }
            place.make_link(&path, &target).map_err(io::Error::from)
        }
        _ => return Err(wrong("no cache can hold this kind of file")),
    };
    done.map_err(action)
}

const OUTSIDE: &str = "it leads out of the cache";

/// The cache's number and the path in it.
fn split(path: &[u8], numbered: bool) -> Option<(usize, PathBuf)> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    if !numbered {
        return Some((0, inside));
    }
    let mut parts = inside.iter();
    let number = parts.next()?.to_str()?.parse().ok()?;
    Some((number, parts.collect()))
}

impl Place<'_> {
    fn make_directory(&mut self, path: PathBuf, owned: Owned) -> io::Result<()> {
        if !path.as_os_str().is_empty() {
            let parent = self.parent(&path)?;
            let name = path.file_name().unwrap_or_default();
            match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {}
                Err(Errno::EXIST) if self.directory(&path, OFlags::PATH).is_ok() => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.directories.insert(path, owned);
        Ok(())
    }

    /// Where a new name goes, with what was there taken away.
    fn spot<'p>(&self, path: &'p Path) -> rustix::io::Result<(OwnedFd, &'p std::ffi::OsStr)> {
        let name = path.file_name().ok_or(Errno::ISDIR)?;
        let parent = self.parent(path)?;
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok((parent, name)),
            Err(error) => Err(error),
        }
    }

    fn make_file(&self, path: &Path, owned: &Owned, content: &mut impl Read) -> io::Result<()> {
        let (parent, name) = self.spot(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
        io::copy(content, &mut file)?;
        Ok(owned.give(&file)?)
    }

    fn make_symlink(&self, path: &Path, owned: &Owned, target: &[u8]) -> rustix::io::Result<()> {
        let (parent, name) = self.spot(path)?;
        symlinkat(target, &parent, name)?;
        let (uid, gid) = (Some(Uid::from_raw(owned.uid)), Some(Gid::from_raw(owned.gid)));
        allow(chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
        match owned.times() {
            Some(times) => utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW),
            None => Ok(()),
        }
    }

    fn make_link(&self, path: &Path, target: &Path) -> rustix::io::Result<()> {
        let old = target.file_name().ok_or(Errno::ISDIR)?;
        let old_parent = self.directory(target.parent().unwrap_or(Path::new("")), OFlags::PATH)?;
        let stat = statat(&old_parent, old, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::PERM);
        }
        let (parent, name) = self.spot(path)?;
        linkat(old_parent, old, parent, name, AtFlags::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar of one entry, with a name that no well-meaning program would write.
    fn tar_of(kind: EntryType, path: &[u8], target: &[u8]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target);
        header.set_cksum();
        builder.append(&header, io::empty()).expect("appended");
        builder.into_inner().expect("a tar")
    }

    fn joined(tars: &[Vec<u8>]) -> Vec<u8> {
        tars.iter().flat_map(|tar| tar[..tar.len() - 1024].iter().copied()).collect()
    }

    #[test]
    fn nothing_leaves_a_cache_whatever_the_archive_says() {
        let home = tempfile::tempdir().expect("a directory");
        let (root, outside) = (home.path().join("caches"), home.path().join("outside"));
        fs::create_dir(&root).expect("made");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("there"), "mine").expect("written");
        let caches = Caches::new(&root);
        let out = outside.as_os_str().as_bytes();
        let link = |path: &[u8]| tar_of(EntryType::Symlink, path, out);
        let up = tar_of(EntryType::Symlink, b"up", b"../../..");
        let cases = [
            tar_of(EntryType::Regular, b"../x", b""),
            tar_of(EntryType::Regular, b"a/../../x", b""),
            tar_of(EntryType::Regular, b"/x", b""),
            joined(&[link(b"l"), tar_of(EntryType::Regular, b"l/x", b"")]),
            joined(&[link(b"l"), tar_of(EntryType::Directory, b"l/x", b"")]),
            joined(&[link(b"l"), tar_of(EntryType::Link, b"x", b"l/there")]),
            joined(&[up, tar_of(EntryType::Regular, b"up/x", b"")]),
            joined(&[link(b"l"), tar_of(EntryType::Link, b"x", b"l")]),
            tar_of(EntryType::Link, b"x", b"../../../outside/there"),
            tar_of(EntryType::Char, b"x", b""),
            tar_of(EntryType::Block, b"x", b""),
            tar_of(EntryType::Fifo, b"x", b""),
        ];
        for (number, case) in cases.iter().enumerate() {
            let answer = caches.import(&case[..], Some("id"), false);
            assert!(answer.is_err(), "case {number}");
            let names: Vec<_> = fs::read_dir(&root).expect("read").flatten().collect();
            let made = names.iter().filter(|name| name.path().is_dir()).count();
            assert_eq!(made, 0, "case {number} leaves nothing");
            assert_eq!(fs::read_dir(&outside).expect("read").count(), 1, "case {number}");
            assert_eq!(fs::read_dir(home.path()).expect("read").count(), 2, "case {number}");
        }
        // A link in the place of a file is replaced, not written through.
        let first = tar_of(EntryType::Symlink, b"x", &[out, b"/there"].concat());
        let tar = joined(&[first, tar_of(EntryType::Regular, b"x", b"")]);
        caches.import(&tar[..], Some("id"), false).expect("taken in");
        assert_eq!(fs::read(outside.join("there")).expect("read"), b"mine");
        let key = caches.list().expect("listed").remove(0).key;
        assert!(root.join(key).join("fs/x").symlink_metadata().expect("there").is_file());
    }

    #[test]
    fn what_is_no_archive_of_ours_needs_a_name_and_broken_ones_change_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        let caches = Caches::new(home.path());
        let tar = tar_of(EntryType::Regular, b"x", b"");
        let answer = caches.import(&tar[..], None, false);
        assert!(matches!(answer, Err(CacheArchiveError::NoName)));
        caches.import(&tar[..], Some("id"), false).expect("taken in");
        let mut archive = Vec::new();
        let key = caches.list().expect("listed").remove(0).key;
        caches.export(&[key], &mut archive).expect("exported");
        let answer = caches.import(&archive[..], Some("id"), true);
        assert!(matches!(answer, Err(CacheArchiveError::HasNames)));
        for length in (0..archive.len()).step_by(100) {
            // Where the cut is between two entries, it is an archive.
            drop(caches.import(&archive[..length], None, true));
            assert_eq!(caches.list().expect("listed").len(), 1, "cut at {length}");
        }
        assert!(caches.import(&[0x28, 0xb5, 0x2f, 0xfd, 1, 2][..], Some("id"), true).is_err());
    }
}
