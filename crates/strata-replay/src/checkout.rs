//! A commit's files on disk, for builds that really run: the one place that writes a checkout.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::TreeRefIter;
use gix::objs::tree::EntryKind;
use strata_cas::TreePath;

use crate::history::{Commit, History, HistoryError};
use crate::replay::Request;

/// Why a commit can not be checked out.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// Git's objects.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A file is not in the repository, as in a partial clone.
    #[error("`{path}` is not in the repository")]
    Missing {
        /// Which.
        path: TreePath,
    },
    /// A path that could lead elsewhere.
    #[error("`{name}` is no name for a file")]
    BadName {
        /// As git has it.
        name: String,
    },
    /// The disk.
    #[error("write `{path}`: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Writes a commit's files into a new directory. Submodules are empty directories, as after a
/// plain clone.
pub fn check_out(history: &History, commit: &Commit, to: &Path) -> Result<(), CheckoutError> {
    std::fs::create_dir(to).map_err(io(to))?;
    directory(history, commit.tree, to, &TreePath::ROOT)
}

/// Makes a counterfactual true in a commit's checkout: writes the Dockerfile and the ignore file
/// that the replay took in place of the commit's own. `dockerfile` is the commit's, below `root`.
pub fn apply(request: &Request, root: &Path, dockerfile: &Path) -> Result<(), CheckoutError> {
    let what_if = &request.what_if;
    let file = root.join(dockerfile);
    let own = std::fs::read(&file).map_err(io(&file))?;
    replace(&file, &own, &what_if.text(&own, &request.asked))?;
    let mut ignore = file.into_os_string();
    ignore.push(".dockerignore");
    let mut ignore = PathBuf::from(ignore);
    if !ignore.exists() {
        ignore = root.join(&request.context).join(".dockerignore");
    }
    let own = match std::fs::read(&ignore) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(io(&ignore))?,
    };
    replace(&ignore, &own, &what_if.ignore_text(&own))
}

/// A link is replaced and not followed: a checkout may have one that leads anywhere.
fn replace(file: &Path, old: &[u8], new: &[u8]) -> Result<(), CheckoutError> {
    if old == new {
        return Ok(());
    }
    match std::fs::remove_file(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed.map_err(io(file))?,
    }
    write(file, EntryKind::Blob, new)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckoutError {
    let path = path.to_path_buf();
    move |source| CheckoutError::Io { path, source }
}

fn directory(
    history: &History,
    tree: ObjectId,
    to: &Path,
    at: &TreePath,
) -> Result<(), CheckoutError> {
    let missing = |path: &TreePath| CheckoutError::Missing { path: path.clone() };
    let bytes = history.bytes(tree)?.ok_or_else(|| missing(at))?;
    for entry in TreeRefIter::from_bytes(&bytes, tree.kind()) {
        let entry = entry.map_err(|error| HistoryError::Object {
            id: tree.to_string(),
            reason: error.to_string(),
        })?;
        let bad = || CheckoutError::BadName { name: entry.filename.to_string() };
        let path = at.child(entry.filename).map_err(|_| bad())?;
        if entry.filename.eq_ignore_ascii_case(b".git") {
            return Err(bad());
        }
        let file = to.join(std::ffi::OsStr::from_bytes(entry.filename));
        let id = entry.oid.to_owned();
        match entry.mode.kind() {
            EntryKind::Tree => {
                std::fs::create_dir(&file).map_err(io(&file))?;
                directory(history, id, &file, &path)?;
            }
            EntryKind::Commit => std::fs::create_dir(&file).map_err(io(&file))?,
            kind => {
                let content = history.bytes(id)?.ok_or_else(|| missing(&path))?;
                write(&file, kind, &content)?;
            }
        }
    }
    Ok(())
}

fn write(file: &Path, kind: EntryKind, content: &[u8]) -> Result<(), CheckoutError> {
    if kind == EntryKind::Link {
        return symlink(std::ffi::OsStr::from_bytes(content), file).map_err(io(file));
    }
    let mode = if kind == EntryKind::BlobExecutable { 0o755 } else { 0o644 };
    let mut options = std::fs::OpenOptions::new();
    let mut opened =
        options.write(true).create_new(true).mode(mode).open(file).map_err(io(file))?;
    std::io::Write::write_all(&mut opened, content).map_err(io(file))
}
