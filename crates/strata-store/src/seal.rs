//! Whether a snapshot still is what it was: commands read from it without anybody comparing what
//! they read with its name.
//!
//! Beside a snapshot stands its seal, the BLAKE3 of what the file system says of each of its files:
//! path, type, size, owner, and when it was changed. Nothing that writes to a file leaves all of
//! that alone. Where the seal is broken, the bytes are compared.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rayon::prelude::*;
use strata_cas::{
    Action, BlobId, Item, LayerId, Link, SnapshotStore, StoreError, TreeId, TreePath,
};

use crate::DiskStore;

/// So many entries of a directory are worth another thread.
const LOOK_TOGETHER: usize = 64;

/// The name of the seal, beside the snapshot's files.
const SEAL: &str = "seal-1";

impl DiskStore {
    /// A layer's snapshot as [`strata_cas::SnapshotStore::snapshot`] gives it, after a look at
    /// whether it still is what it was. One that is not is removed, and noticed.
    pub(crate) fn intact_snapshot(&self, layer: &LayerId) -> Result<Option<PathBuf>, StoreError> {
        let Some(path) = self.snapshot(layer)? else { return Ok(None) };
        let mut intact = self.intact.lock().unwrap_or_else(PoisonError::into_inner);
        if intact.contains(layer) {
            return Ok(Some(path));
        }
        let directory = self.layout.snapshot(layer);
        let seal = seal_of(&path);
        let kept = fs::read_to_string(directory.join(SEAL)).ok();
        if kept.is_none() || kept != seal.as_ref().ok().cloned() {
            if let Some(problem) = self.differs_from_layer(layer)? {
                drop(intact);
                let what = format!("snapshot {}: {problem}", &layer.to_string()[..12]);
                self.noticed.lock().unwrap_or_else(PoisonError::into_inner).push(what);
                self.drop_snapshot(layer)?;
                return Ok(None);
            }
            // Somebody has touched it, and it is what it was.
            if let Ok(seal) = seal {
                drop(fs::write(directory.join(SEAL), seal));
            }
        }
        intact.insert(*layer);
        Ok(Some(path))
    }

    /// Damage that was met, and mended, since this was asked last.
    pub fn noticed(&self) -> Vec<String> {
        std::mem::take(&mut *self.noticed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// In what a snapshot is not what its layer says; `None` when it is as it should be, or when
    /// the layer itself is not known any more. Compares types, sizes and contents.
    pub(crate) fn differs_from_layer(&self, id: &LayerId) -> Result<Option<String>, StoreError> {
        let Some(layer) = self.layer(id)? else { return Ok(None) };
        let root = self.layout.snapshot(id).join("fs");
        let mut hashed: HashMap<(u64, u64), BlobId> = HashMap::new();
        for change in layer.changes() {
            let Action::Set { item, .. } = &change.action else { continue };
            let problem = differs(&root, &change.path, item, &mut hashed);
            match problem {
                Ok(None) => {}
                Ok(Some(problem)) => return Ok(Some(format!("`{}`: {problem}", change.path))),
                // It belongs to another user of the namespace that made it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Ok(Some(format!("`{}`: {error}", change.path))),
            }
        }
        Ok(None)
    }

    /// The directories in a directory; `None` when it is not there.
    pub(crate) fn trees_below(&self, id: &TreeId) -> Result<Option<Vec<Link>>, StoreError> {
        use strata_cas::{BlobStore, Directory, Node};
        let bytes = self.get(&id.blob())?;
        let node = bytes.and_then(|bytes| Directory::decode(&bytes).ok());
        Ok(node.map(|node| {
            let tree = |node: Node| match node {
                Node::Directory(tree) => Some(Link::Tree(tree)),
                _ => None,
            };
            node.entries.into_values().filter_map(tree).collect()
        }))
    }
}

/// Seals what is about to become a snapshot.
pub(crate) fn seal(staging: &Path) -> Result<(), StoreError> {
    let action = || StoreError::io(format!("seal `{}`", staging.display()));
    let seal = seal_of(&staging.join("fs")).map_err(action())?;
    fs::write(staging.join(SEAL), seal).map_err(action())
}

/// What is in a directory, in the order of its names.
type Listed = Vec<(PathBuf, fs::Metadata)>;

fn list(directory: &Path) -> io::Result<Listed> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // It belongs to another user of the namespace that made it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries: Vec<fs::DirEntry> = entries.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    // By its directory's descriptor, and of a link itself.
    let look = |entry: &fs::DirEntry| Ok((entry.path(), entry.metadata()?));
    entries.par_iter().with_min_len(LOOK_TOGETHER).map(look).collect()
}

/// What is in a directory and in all below it, many at once.
fn list_all(root: &Path) -> io::Result<HashMap<PathBuf, Listed>> {
    let mut all = HashMap::new();
    let mut level = vec![root.to_owned()];
    while !level.is_empty() {
        let look = |directory: PathBuf| list(&directory).map(|listed| (directory, listed));
        let found: Vec<(PathBuf, Listed)> =
            level.into_par_iter().map(look).collect::<io::Result<_>>()?;
        let entries = found.iter().flat_map(|(_, listed)| listed);
        level = entries.filter(|(_, seen)| seen.is_dir()).map(|(path, _)| path.clone()).collect();
        all.extend(found);
    }
    Ok(all)
}

/// The seal of what is below a directory now.
fn seal_of(root: &Path) -> io::Result<String> {
    use std::os::unix::ffi::OsStrExt;
    let mut hasher = strata_cas::BlobHasher::default();
    let mut all = list_all(root)?;
    let mut rest = vec![root.to_owned()];
    while let Some(directory) = rest.pop() {
        for (path, found) in all.remove(&directory).unwrap_or_default() {
            let name = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_bytes();
            let is_directory = found.is_dir();
            // A directory's own size and times say nothing that its entries do not.
            let (size, changed, nanos) = if is_directory {
                (0, 0, 0)
            } else {
                (found.size(), found.ctime(), found.ctime_nsec())
            };
            let owner = [found.uid(), found.gid()];
            add(&mut hasher, name, found.mode(), owner, size, [changed, nanos]);
            if is_directory {
                rest.push(path);
            }
        }
    }
    Ok(format!("{}\n", hasher.finish()))
}

/// Counts one entry into a seal: seconds and nanoseconds say when it was changed.
fn add(
    hasher: &mut strata_cas::BlobHasher,
    name: &[u8],
    mode: u32,
    owner: [u32; 2],
    size: u64,
    changed: [i64; 2],
) {
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name);
    for number in [mode, owner[0], owner[1]] {
        hasher.update(&u64::from(number).to_le_bytes());
    }
    hasher.update(&size.to_le_bytes());
    for number in changed {
        hasher.update(&number.to_le_bytes());
    }
}

fn differs(
    root: &Path,
    path: &TreePath,
    item: &Item,
    hashed: &mut HashMap<(u64, u64), BlobId>,
) -> io::Result<Option<&'static str>> {
    use std::os::unix::ffi::OsStrExt;
    let full = root.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let metadata = match fs::symlink_metadata(&full) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("it is gone")),
        Err(error) => return Err(error),
    };
    let kind = metadata.file_type();
    Ok(match item {
        Item::Directory { .. } if !kind.is_dir() => Some("it is no directory"),
        Item::Symlink { .. } if !kind.is_symlink() => Some("it is no symbolic link"),
        Item::Symlink { target } => {
            let there = fs::read_link(&full)?;
            (there.as_os_str().as_bytes() != &target[..]).then_some("it leads elsewhere")
        }
        Item::Device(_) => {
            let is_one = kind.is_char_device() || kind.is_block_device() || kind.is_fifo();
            (!is_one).then_some("it is no device")
        }
        Item::File { .. } if !kind.is_file() => Some("it is no file"),
        Item::File { size, .. } if metadata.len() != *size => Some("it has another size"),
        Item::File { blob, .. } => {
            let node = (metadata.dev(), metadata.ino());
            let there = match hashed.get(&node) {
                Some(there) => *there,
                None => hash(&full)?,
            };
            hashed.insert(node, there);
            (there != *blob).then_some("its bytes are others")
        }
        Item::HardLink { .. } | Item::Directory { .. } => None,
    })
}

fn hash(path: &Path) -> io::Result<BlobId> {
    let mut hasher = strata_cas::BlobHasher::default();
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drift would cost a comparison of all bytes, once for each snapshot.
    #[test]
    fn seals_do_not_drift() {
        let mut hasher = strata_cas::BlobHasher::default();
        add(&mut hasher, b"usr", 0o040_755, [0, 0], 0, [0, 0]);
        add(&mut hasher, b"usr/x", 0o104_755, [1000, 7], 70_000, [1_700_000_000, 123_456_789]);
        let golden = include_str!("../tests/golden/seal-1.txt");
        assert_eq!(format!("{}\n", hasher.finish()), golden);
    }
}
