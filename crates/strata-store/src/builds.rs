//! What the latest build of each project has used: a small file for each project, outside of the
//! database, so that a build that finds everything need not hold that.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strata_cas::retention::Rhythm;
use strata_cas::{BlobId, BuildUse, DefinitionKey, StoreError};

use crate::DiskStore;
use crate::codec;
use crate::layout::{Layout, Part};

/// So many of a project's builds are remembered by their times.
const TIMES: usize = 16;

/// What is kept of a project.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProjectBuilds {
    /// The project.
    pub(crate) project: String,
    /// Which of the images that it can give.
    pub(crate) target: String,
    /// When its latest builds ended, in seconds since 1970, latest first.
    pub(crate) ended: Vec<u64>,
    /// The definition keys of what the latest one used.
    pub(crate) steps: Vec<DefinitionKey>,
}

impl ProjectBuilds {
    /// When its next build is to be expected, in seconds since 1970.
    pub(crate) fn next(&self, now: u64) -> u64 {
        let rhythm = Rhythm::of(self.ended.iter().rev().copied());
        rhythm.map_or(u64::MAX, |rhythm| rhythm.next(now))
    }
}

impl DiskStore {
    pub(crate) fn remember_build(&self, build: &BuildUse<'_>) -> Result<(), StoreError> {
        let path = path_of(&self.layout, build);
        let mut kept = read(&path).unwrap_or_default();
        kept.project = build.project.to_owned();
        kept.target = build.target.to_owned();
        kept.ended.insert(0, build.ended);
        kept.ended.truncate(TIMES);
        kept.steps = build.steps.to_vec();
        let new = self.lease.staging()?.join("builds");
        let action = || format!("write `{}`", path.display());
        fs::write(&new, codec::encode(&kept)?).map_err(StoreError::io(action()))?;
        swap_in(&new, &path).map_err(StoreError::io(action()))
    }
}

/// Puts a file in another's place, which is taken away. Some file systems write a file's bytes to
/// the disk before they let it replace another one, but not when the two change places; after a
/// power cut this one may be empty then, and is as good as none.
fn swap_in(new: &std::path::Path, path: &std::path::Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, new, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => fs::remove_file(new),
        // It is not there yet, or the file system can not do this.
        Err(_) => fs::rename(new, path),
    }
}

/// What is kept of all projects. A file that can not be read is none.
pub(crate) fn all(layout: &Layout) -> Result<Vec<ProjectBuilds>, StoreError> {
    let directory = layout.part(Part::Builds);
    let action = || StoreError::io(format!("read `{}`", directory.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).map_err(action())? {
        found.extend(read(&entry.map_err(action())?.path()).ok());
    }
    Ok(found)
}

/// Whether a project's file can be read.
pub(crate) fn is_whole(path: &std::path::Path) -> bool {
    read(path).is_ok()
}

fn read(path: &std::path::Path) -> io::Result<ProjectBuilds> {
    let bytes = fs::read(path)?;
    codec::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn path_of(layout: &Layout, build: &BuildUse<'_>) -> PathBuf {
    let name = format!("{}\0{}", build.project, build.target);
    let name = BlobId::of(name.as_bytes()).to_string();
    layout.part(Part::Builds).join(&name[..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(ended: &[u64], now: u64) -> u64 {
        ProjectBuilds { ended: ended.to_vec(), ..ProjectBuilds::default() }.next(now)
    }

    #[test]
    fn what_was_regular_is_expected_to_go_on() {
        assert_eq!(next(&[1_000, 900, 800], 1_010), 1_100);
        // Once, and since then silent: as long again.
        assert_eq!(next(&[1_000], 1_010), 1_020);
        // Overdue.
        assert_eq!(next(&[1_000, 900, 800], 2_000), 3_000);
        assert!(next(&[1_000, 990, 980], 1_001) < next(&[1_000, 500, 0], 1_001));
        assert_eq!(next(&[], 5), u64::MAX);
    }
}
