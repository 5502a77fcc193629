//! A scan from request to answer: follow the wanted paths' links, walk, name the trees, keep the
//! stamps. What can be asked of the answer is in `answer`.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use strata_cas::TreePath;

use crate::answer::{Scan, ScanStats};
use crate::follow::follow;
use crate::name::name_trees;
use crate::stamp::Timestamp;
use crate::stamp_file::StampFile;
use crate::stamps;
use crate::walk::{Walk, open_root};
use crate::walked::{Seen, Walked};
use crate::{Glob, IgnoreRules, keep};

/// What to scan.
#[derive(Debug, Clone, Copy)]
pub struct ScanRequest<'a> {
    /// The context's directory.
    pub root: &'a Path,
    /// What is left out.
    pub rules: &'a IgnoreRules,
    /// The sources of COPY and ADD: nothing else is visited. A match brings all that is below
    /// it, the root's glob everything.
    pub wanted: &'a [Glob],
    /// The stamp file to read and to replace.
    pub stamps: Option<&'a StampFile>,
    /// How many threads work; 0 for as many as there are processors.
    pub threads: usize,
}

/// A context that cannot be scanned.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The context's directory cannot be opened.
    #[error("cannot open the context `{}`", path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something in the context cannot be read.
    #[error("cannot {action} `{path}`")]
    Unreadable {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: TreePath,
        /// Why it did not work.
        source: io::Error,
    },
    /// It was there a moment ago.
    #[error("`{0}` vanished while it was scanned")]
    Vanished(TreePath),
    /// It changed each time that it was read.
    #[error("`{0}` keeps changing while it is scanned")]
    Changing(TreePath),
    /// A wanted path leads through this link again and again.
    #[error("`{0}` leads through too many symlinks")]
    SymlinkLoop(TreePath),
    /// The system gives no threads.
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
}

impl ScanError {
    pub(crate) fn at(path: &TreePath, action: &'static str, error: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        let path = path.clone();
        match error {
            Errno::NOENT => Self::Vanished(path),
            // It was of another type when it was listed.
            Errno::NOTDIR | Errno::LOOP => Self::Changing(path),
            error => Self::Unreadable { action, path, source: error.into() },
        }
    }
}

/// What the caller may want to tell.
#[derive(Debug)]
pub enum Note {
    /// A socket, which no image can hold, was left out.
    Socket(TreePath),
    /// The stamp file could not be replaced: the next scan will take longer.
    StampsNotKept(io::Error),
}

/// Scans a context.
///
/// Nothing outside of the context is read but the stamp file, and nothing but that is written.
/// A wanted path that is not there is no error; a directory that cannot be read, or a file that
/// changes all the time, is one.
pub fn scan(request: &ScanRequest<'_>) -> Result<Scan, ScanError> {
    scan_at(request, Timestamp::now())
}

/// Scans as if the clock said `start`.
pub(crate) fn scan_at(request: &ScanRequest<'_>, start: Timestamp) -> Result<Scan, ScanError> {
    let ScanRequest { root, rules, wanted, stamps, threads } = *request;
    let opened = open_root(root)
        .map_err(|error| ScanError::Root { path: root.to_owned(), source: error.into() })?;
    let followed = follow(opened.as_fd(), rules, wanted)?;
    let globs = [wanted, &followed].concat();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("scan-{number}"))
        .build()
        .map_err(|error| ScanError::Threads(io::Error::other(error)))?;
    let old = stamps.map(StampFile::load).unwrap_or_default();
    let walk = Walk::new(rules, &globs, &old, start);
    let mut walked = pool.install(|| walk.run(opened))?;
    let mut stats = take_hashed(&mut walked);
    let fingerprint = rules.fingerprint();
    name_trees(&mut walked.nodes, &old, old.rules() == Some(fingerprint));
    let mut notes: Vec<Note> = walked.sockets.drain(..).map(Note::Socket).collect();
    if let Some(file) = stamps
        && keep::has_news(&walked, &old, fingerprint, start)
    {
        let kept = keep::encode(&walked, &old, fingerprint, start)
            .and_then(|bytes| stamps::replace(file.path(), &bytes));
        stats.stamps_replaced = kept.is_ok();
        notes.extend(kept.err().map(Note::StampsNotKept));
    }
    Ok(Scan::new(walked.nodes, old, stats, notes))
}

/// Enters what the reading tasks handed in.
fn take_hashed(walked: &mut Walked) -> ScanStats {
    let mut stats = ScanStats::default();
    for hashed in &walked.hashed {
        let entry = &mut walked.nodes[hashed.node as usize].entries[hashed.entry as usize];
        if let Seen::File(file) = &mut entry.seen {
            **file = (hashed.stamp, Some(hashed.blob));
        }
        stats.hashed_files += 1;
        stats.hashed_bytes += hashed.stamp.size;
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_ahead_of_the_clock_is_not_believed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("context");
        std::fs::create_dir(&root).expect("create the context");
        std::fs::write(root.join("a"), "a").expect("write a file");
        let request = ScanRequest {
            root: &root,
            rules: &IgnoreRules::default(),
            wanted: &[Glob::new(b".").expect("good")],
            stamps: Some(&StampFile::new(directory.path().join("stamps"))),
            threads: 1,
        };
        let now = Timestamp::now();
        let read_at = |seconds| {
            let start = Timestamp { seconds: now.seconds + seconds, ..now };
            let stats = scan_at(&request, start).expect("it can be scanned").stats();
            (stats.hashed_files, stats.listed_directories)
        };
        assert_eq!(read_at(100), (1, 1));
        assert_eq!(read_at(100), (0, 0));
        // The clock went back behind the file's times.
        assert_eq!(read_at(-100), (1, 1));
        assert_eq!(read_at(100), (0, 0));
    }
}
