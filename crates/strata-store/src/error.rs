//! Why a store does not open. Failures of an open store are `strata_cas::StoreError`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something else than a directory stands at the store's path.
    #[error("`{}` is not a directory", .path.display())]
    NotDirectory {
        /// The store's path.
        path: PathBuf,
    },
    /// The directory holds other things and was never a store: nothing is written into it.
    #[error("`{}` is not empty and not a strata store", .path.display())]
    NotAStore {
        /// The store's path.
        path: PathBuf,
    },
    /// The directory belongs to somebody else.
    #[error("the store `{}` belongs to user {owner}, not to user {user}", .path.display())]
    WrongOwner {
        /// The store's path.
        path: PathBuf,
        /// The numeric id of the user who owns it.
        owner: u32,
        /// The numeric id of the user who opens it.
        user: u32,
    },
    /// The directory can not be written to.
    #[error("the store can not be written to: `{}`: {source}", .path.display())]
    NotWritable {
        /// The store's path, or what is in it.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another version of strata has made the store, in a format that this one does not know.
    #[error(
        "the store `{}` has the format `{found}`; this strata knows `{known}`",
        .path.display()
    )]
    OtherVersion {
        /// The store's path.
        path: PathBuf,
        /// What the directory has.
        found: String,
        /// What this version reads and writes.
        known: &'static str,
    },
    /// Another process kept the store for longer than the limit.
    #[error(
        "another process has been using the store `{}` for {} seconds",
        .path.display(),
        .waited.as_secs()
    )]
    Busy {
        /// The store's path.
        path: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// The database's files do not make a database any more.
    #[error("the store's database `{}` is damaged: {message}", .path.display())]
    Damaged {
        /// The database's directory.
        path: PathBuf,
        /// The database's answer.
        message: String,
    },
    /// The database did not open for another reason, such as a full disk.
    #[error("the store's database `{}` does not open: {message}", .path.display())]
    Database {
        /// The database's directory.
        path: PathBuf,
        /// The database's answer.
        message: String,
    },
    /// The operating system refused.
    #[error("{action} `{}`: {source}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl OpenError {
    /// Says what was attempted when the system refused; a refusal to write is told apart.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { path, source }
            }
            io::ErrorKind::NotADirectory => Self::NotDirectory { path },
            _ => Self::Io { action, path, source },
        }
    }

    /// What the user can do about it, as one sentence without a final full stop.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotDirectory { .. } | Self::NotAStore { .. } => {
                "name an empty or new directory with `--store` or `STRATA_STORE`"
            }
            Self::NotWritable { source, .. }
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                "its file system is mounted read-only: name another store with `--store`"
            }
            Self::WrongOwner { .. } | Self::NotWritable { .. } => {
                "every user has their own store: name one with `--store` or `STRATA_STORE`"
            }
            Self::OtherVersion { .. } => {
                "use the strata that made it, or name another directory with `--store`"
            }
            Self::Busy { .. } => "wait for the other strata process, or end it",
            Self::Damaged { .. } => {
                "move the directory away: what was in it is built or pulled again when needed"
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "name a directory that can be made with `--store` or `STRATA_STORE`"
            }
            Self::Database { .. } | Self::Io { .. } => {
                "see whether the disk is full, then try again"
            }
        }
    }
}
