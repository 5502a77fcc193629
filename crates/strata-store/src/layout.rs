//! Where things are in a store's directory. Formats are versioned by name: a format that changes
//! gets a new name, and what an older or newer strata has written is never misread.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use strata_cas::{BlobId, LayerId};

use crate::OpenError;

/// Only its user may look into a store: it holds what builds have read.
const PRIVATE: u32 = 0o700;

/// The name of the lock file, which is also what makes a directory a store: it is created first.
const LOCK: &str = "strata.lock";

/// Passed by those who use the store, closed by who clears it out.
const GATE: &str = "strata.gate";

/// What the store takes, where that is limited.
const SIZE: &str = "size-1";

/// The socket of the process that holds the database.
const SOCKET: &str = "strata.sock";

/// What the address of a socket can hold (`sun_path` in unix(7)).
const SOCKET_PATH_LIMIT_BYTES: usize = 107;

/// Tells backup programs to leave the store out (<https://bford.info/cachedir/>).
const CACHEDIR_TAG: &str = "CACHEDIR.TAG";

const CACHEDIR_TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This directory is a strata store: build results that can be made again.
";

/// The directories of a store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// RocksDB: small blobs, records, slots, snapshots' files, names.
    Database,
    /// Large blobs, one file each.
    Blobs,
    /// Layers as directories.
    Snapshots,
    /// What is being made, a directory for each process; what dead ones left is removed by
    /// whoever holds the database next.
    Staging,
    /// What is known of files outside the store. Written by others.
    Stamps,
    /// Cache mounts of RUN. Written by others.
    Caches,
    /// What steps have printed. Written by others.
    Logs,
    /// Which steps are being done.
    Claims,
    /// What running processes use.
    Leases,
    /// What the latest build of each project has used.
    Builds,
    /// What is remembered of builds. Written by others.
    History,
}

impl Part {
    const ALL: [Self; 11] = [
        Self::Database,
        Self::Blobs,
        Self::Snapshots,
        Self::Staging,
        Self::Stamps,
        Self::Caches,
        Self::Logs,
        Self::Claims,
        Self::Leases,
        Self::Builds,
        Self::History,
    ];

    /// The directory's name, which carries the version of the format in it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Database => "db-1",
            Self::Blobs => "blobs-1",
            Self::Snapshots => "snapshots-1",
            Self::Staging => "staging",
            Self::Stamps => "stamps-2",
            Self::Caches => "caches-1",
            Self::Logs => "logs-1",
            Self::Claims => "claims",
            Self::Leases => "leases-1",
            Self::Builds => "builds-1",
            Self::History => "history-1",
        }
    }
}

/// The directory for what is remembered of builds, in a store that need not be open.
pub fn history_dir(store: &Path) -> PathBuf {
    store.join(Part::History.name())
}

/// Whether there is a store at a path.
pub fn is_store(path: &Path) -> bool {
    path.join(Part::Database.name()).join("CURRENT").exists()
}

/// The directory for what is known of files outside the store, which need not be open: stamp files
/// of contexts. Its user names the files in it with their formats' versions.
pub fn stamps_dir(store: &Path) -> PathBuf {
    store.join(Part::Stamps.name())
}

/// A store's directory whose owner and kind have been checked.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the root directory where there is none, and refuses one that is not ours to use.
    pub(crate) fn claim(root: &Path) -> Result<Self, OpenError> {
        let root = std::path::absolute(root).map_err(OpenError::io("resolve", root))?;
        let private = |builder: &mut DirBuilder| builder.recursive(true).create(&root);
        match private(DirBuilder::new().mode(PRIVATE)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(OpenError::io("create the store", &root))?,
        }
        let metadata = fs::metadata(&root).map_err(OpenError::io("look at the store", &root))?;
        check_owner(&root, &metadata)?;
        check_entries(&root)?;
        // Before anything else is in it: a store whose maker was killed is known by its lock.
        let lock = root.join(LOCK);
        if !lock.exists() {
            let made = File::options().create(true).append(true).mode(0o600).open(&lock);
            made.map_err(OpenError::io("create the lock", &lock))?;
        }
        if metadata.permissions().mode() & 0o777 != PRIVATE {
            fs::set_permissions(&root, fs::Permissions::from_mode(PRIVATE))
                .map_err(OpenError::io("make private", &root))?;
        }
        Ok(Self { root })
    }

    /// Makes the directories that are missing. Only the lock's holder does this.
    pub(crate) fn fill(&self) -> Result<(), OpenError> {
        for part in Part::ALL {
            let path = self.part(part);
            match DirBuilder::new().mode(PRIVATE).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(OpenError::io("create", &path))?,
            }
        }
        let tag = self.root.join(CACHEDIR_TAG);
        if !tag.exists() {
            fs::write(&tag, CACHEDIR_TAG_TEXT).map_err(OpenError::io("write", &tag))?;
        }
        Ok(())
    }

    /// The store's directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The lock file.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join(LOCK)
    }

    /// The socket of the process that holds the database.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join(SOCKET)
    }

    /// The file that says what the store takes.
    pub(crate) fn size(&self) -> PathBuf {
        self.root.join(SIZE)
    }

    /// The gate of the sweep.
    pub(crate) fn gate(&self) -> PathBuf {
        self.root.join(GATE)
    }

    /// One of the store's directories.
    pub(crate) fn part(&self, part: Part) -> PathBuf {
        self.root.join(part.name())
    }

    /// The 256 directories of large blobs: no directory grows beyond what file systems like.
    pub(crate) fn shard(&self, id: &BlobId) -> PathBuf {
        let name = id.to_string();
        self.part(Part::Blobs).join(&name[..2])
    }

    /// The file of a large blob.
    pub(crate) fn blob(&self, id: &BlobId) -> PathBuf {
        let name = id.to_string();
        self.part(Part::Blobs).join(&name[..2]).join(&name[2..])
    }

    /// The directory around a layer's snapshot. Half of the id names it: 128 bits keep layers
    /// apart, and overlayfs is given many of these paths at once, on one page of memory.
    pub(crate) fn snapshot(&self, layer: &LayerId) -> PathBuf {
        self.part(Part::Snapshots).join(&layer.to_string()[..32])
    }
}

/// A path of the socket that fits into an address, for as long as this value lives.
pub(crate) struct SocketPath {
    path: PathBuf,
    /// The store's directory, where its path is too long.
    _root: Option<File>,
}

impl SocketPath {
    pub(crate) fn new(layout: &Layout) -> io::Result<Self> {
        let path = layout.socket();
        if path.as_os_str().len() <= SOCKET_PATH_LIMIT_BYTES {
            return Ok(Self { path, _root: None });
        }
        let root = File::open(layout.root())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", root.as_raw_fd()));
        Ok(Self { path, _root: Some(root) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn check_owner(root: &Path, metadata: &Metadata) -> Result<(), OpenError> {
    if !metadata.is_dir() {
        return Err(OpenError::NotDirectory { path: root.to_owned() });
    }
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(OpenError::WrongOwner { path: root.to_owned(), owner, user });
    }
    Ok(())
}

/// A directory is a store when the lock file is in it, and may become one when it is empty.
fn check_entries(root: &Path) -> Result<(), OpenError> {
    let mut foreign = false;
    for entry in fs::read_dir(root).map_err(OpenError::io("read", root))? {
        let name = entry.map_err(OpenError::io("read", root))?.file_name();
        let name = name.to_string_lossy();
        let known = Part::Database.name();
        if name.starts_with("db-") && name != known {
            let (path, found) = (root.to_owned(), name.into_owned());
            return Err(OpenError::OtherVersion { path, found, known });
        }
        // A new file system's own directory does not count.
        foreign |= name != "lost+found";
    }
    if foreign && !root.join(LOCK).exists() {
        return Err(OpenError::NotAStore { path: root.to_owned() });
    }
    Ok(())
}
