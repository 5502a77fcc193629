//! What a running process uses: a file that it holds, and a directory to make things in.
//!
//! Both have the same name. The file comes first and goes last, so a directory whose file nobody
//! holds is what a dead process left.
//!
//! A server promises more: what it has told its clients of stays also when it is killed. Its notes
//! go to files that say in their names until when they count, held or not.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use strata_cas::{BlobId, LayerId, RecordKey, StoreError};

use crate::held::{self, HeldFile};
use crate::layout::{Layout, Part};
use crate::{OpenError, remove};

/// This process's lease.
#[derive(Debug)]
pub(crate) struct Lease {
    held: HeldFile,
    layout: Layout,
    staging: OnceLock<PathBuf>,
    noted: Mutex<Noted>,
}

/// What was noted, and where. A process that runs for long begins a new file now and then, and
/// lets go of the one before the last.
#[derive(Debug, Default)]
struct Noted {
    used: HashSet<Used>,
    /// None before the first renewal: then the lease's own file has the notes.
    current: Option<HeldFile>,
    previous: Option<HeldFile>,
    /// For how long at least what is noted stays, whatever becomes of this process.
    outlives: Option<Duration>,
    /// When the current file was begun, since 1970.
    begun: Option<Duration>,
}

impl Noted {
    /// Whether this is not the time for which the current file's name makes its promise: what
    /// is noted now would go too early. Also when a clock that was ahead was set back, whose
    /// promise nobody believes.
    fn is_due(&self, now: Duration) -> bool {
        let Some(turn) = self.outlives else { return false };
        self.begun.is_none_or(|begun| !(begun..begun.saturating_add(turn)).contains(&now))
    }

    fn renew(&mut self, lease: &Lease, now: Duration) -> io::Result<()> {
        let new = new_file(&lease.layout, self.outlives)?;
        self.begun = Some(now);
        self.used.clear();
        let last = self.current.replace(new);
        if last.is_some() {
            // What the lease's own file says is from before the last renewal. A sweep that reads
            // it at this moment has seen it, or finds what it says too old.
            lease.held.file.set_len(0)?;
        }
        let is_swept = is_swept(&lease.layout);
        if let Some(mut gone) = std::mem::replace(&mut self.previous, last) {
            gone.keep_if(is_swept || self.outlives.is_some());
        }
        if self.outlives.is_some() && !is_swept {
            // What resists goes with the next sweep.
            drop(clean_leases(&lease.layout));
        }
        Ok(())
    }
}

impl Lease {
    /// Begins one.
    pub(crate) fn begin(layout: &Layout) -> Result<Self, OpenError> {
        let leases = layout.part(Part::Leases);
        let held = new_file(layout, None).map_err(OpenError::io("write in", &leases))?;
        let (layout, staging) = (layout.clone(), OnceLock::new());
        Ok(Self { held, layout, staging, noted: Mutex::default() })
    }

    /// What is noted from here on stays for `least` at least, whatever becomes of this process.
    pub(crate) fn outlive(&self, least: Duration) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.outlives = Some(least.min(LONGEST / 2));
        // The next note begins a file.
        noted.begun = None;
    }

    /// Lets go of what was noted before the last renewal and not since. With a promise to keep,
    /// only when it is time.
    pub(crate) fn renew(&self) -> Result<(), StoreError> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = since_1970();
        if noted.outlives.is_some() && !noted.is_due(now) {
            return Ok(());
        }
        noted.renew(self, now).map_err(renewing())
    }

    /// The directory for what this process makes.
    pub(crate) fn staging(&self) -> Result<PathBuf, StoreError> {
        if let Some(path) = self.staging.get() {
            return Ok(path.clone());
        }
        let name = self.held.path().file_name().unwrap_or_default();
        let path = self.layout.part(Part::Staging).join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(StoreError::io(format!("create `{}`", path.display()))(error))
            }
            _ => Ok(self.staging.get_or_init(|| path).clone()),
        }
    }

    /// Whether all of this is noted, where that is promised for long enough: then no sweep takes
    /// it out, the gate open or not.
    pub(crate) fn has_noted(&self, used: &[Used]) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter().all(|used| noted.used.contains(used))
            && !(noted.outlives.is_some() && noted.is_due(since_1970()))
    }

    /// Says what is used from now on, before it is looked for. The gate must be held.
    pub(crate) fn note(&self, used: &[Used]) -> Result<(), StoreError> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = noted.outlives.map(|_| since_1970());
        if let Some(now) = now.filter(|now| noted.is_due(*now)) {
            noted.renew(self, now).map_err(renewing())?;
        }
        let mut lines = String::new();
        for used in used.iter().filter(|used| !noted.used.contains(used)) {
            lines.push_str(&used.line());
        }
        if lines.is_empty() {
            return Ok(());
        }
        let held = noted.current.as_ref().unwrap_or(&self.held);
        let action = || format!("write `{}`", held.path().display());
        (&held.file).write_all(lines.as_bytes()).map_err(StoreError::io(action()))?;
        noted.used.extend(used);
        Ok(())
    }
}

/// Begins the name of a file that counts also when nobody holds it, before the second at which
/// that ends.
const UNTIL: &str = "until-";

/// A file that is to count for longer is from a clock that went wrong.
const LONGEST: Duration = Duration::from_secs(48 * 60 * 60);

fn renewing() -> impl FnOnce(io::Error) -> StoreError {
    StoreError::io("renew the store's lease")
}

/// What is noted twice is written once, so a file may have been relied on until it was followed
/// by the next one, a turn after it was begun, and counts for one turn more from there.
fn new_file(layout: &Layout, outlives: Option<Duration>) -> io::Result<HeldFile> {
    loop {
        // After the moment that the turn is counted from.
        let now = since_1970();
        let prefix = outlives.map_or_else(String::new, |turn| {
            format!("{UNTIL}{}-", now.saturating_add(turn * 2).as_secs().saturating_add(1))
        });
        let name = format!("{prefix}{}-{:x}", std::process::id(), now.as_nanos());
        if let Some(held) = HeldFile::begin(&layout.part(Part::Leases).join(name))? {
            return Ok(held);
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The second since 1970 until which a file of this name counts, if it does so by itself.
fn until(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_prefix(UNTIL)?.split_once('-')?.0.parse().ok()
}

/// How many processes have a lease, this one among them.
pub(crate) fn count(layout: &Layout) -> io::Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(layout.part(Part::Leases))? {
        count += u64::from(until(&entry?.file_name()).is_none());
    }
    Ok(count)
}

/// What a process can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Used {
    /// The record under a key, with all that it leads to.
    Key(RecordKey),
    /// A blob, and where it is a layer or a tree, what that leads to.
    Blob(BlobId),
    /// A layer's snapshot.
    Snapshot(LayerId),
}

impl Used {
    /// A letter, the id in hexadecimal, and a newline.
    fn line(self) -> String {
        match self {
            Self::Key(RecordKey::Definition(key)) => format!("d{key}\n"),
            Self::Key(RecordKey::Content(key)) => format!("c{key}\n"),
            Self::Blob(id) => format!("b{id}\n"),
            Self::Snapshot(layer) => format!("s{layer}\n"),
        }
    }

    /// Reads a line; `None` for one that is none, or not whole yet.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (kind, id) = (line.get(..1)?, line.get(1..)?);
        Some(match kind {
            "d" => Self::Key(RecordKey::Definition(id.parse().ok()?)),
            "c" => Self::Key(RecordKey::Content(id.parse().ok()?)),
            "b" => Self::Blob(id.parse().ok()?),
            "s" => Self::Snapshot(id.parse().ok()?),
            _ => return None,
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(path) = self.staging.get() {
            // What stays is removed by who holds the database next.
            drop(remove::tree(path));
        }
        // What a sweep that is at work has to know of is left to it.
        let is_swept = is_swept(&self.layout);
        self.held.keep_if(is_swept);
        let noted = self.noted.get_mut().unwrap_or_else(PoisonError::into_inner);
        let stays = is_swept || noted.outlives.is_some();
        for held in noted.current.iter_mut().chain(&mut noted.previous) {
            held.keep_if(stays);
        }
    }
}

/// The name of the claim that a sweep holds for as long as it lasts.
pub(crate) const SWEEP: &str = "sweep";

fn is_swept(layout: &Layout) -> bool {
    let claim = layout.part(Part::Claims).join(SWEEP);
    held::held_by(&claim).is_ok_and(|holder| holder.is_some())
}

/// Removes what dead processes left.
pub(crate) fn clean(layout: &Layout) -> io::Result<()> {
    if is_swept(layout) {
        return Ok(());
    }
    for entry in fs::read_dir(layout.part(Part::Staging))? {
        let entry = entry?;
        let lease = layout.part(Part::Leases).join(entry.file_name());
        if held::held_by(&lease)?.is_none() {
            // What can not be removed belongs to another user of the user namespace that made it.
            drop(remove::tree(&entry.path()));
        }
    }
    for entry in fs::read_dir(layout.part(Part::Claims))? {
        held::held_by(&entry?.path())?;
    }
    clean_leases(layout)
}

/// Removes the leases of dead processes, but for those that outlive them.
pub(crate) fn clean_leases(layout: &Layout) -> io::Result<()> {
    let now = since_1970();
    let counts = now.as_secs()..now.saturating_add(LONGEST).as_secs().saturating_add(2);
    for entry in fs::read_dir(layout.part(Part::Leases))? {
        let entry = entry?;
        if !until(&entry.file_name()).is_some_and(|until| counts.contains(&until)) {
            held::held_by(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_notes_for_half_of_the_time_for_which_it_counts() {
        let at = Duration::from_secs;
        let noted = |begun| Noted { outlives: Some(at(4)), begun, ..Noted::default() };
        assert!(noted(None).is_due(at(0)));
        let due = |now| noted(Some(at(10))).is_due(at(now));
        // The clock was set back; it is; it was set forward.
        let all = [0, 9, 10, 13, 14, 1000].map(due);
        assert_eq!(all, [true, true, false, false, true, true]);
        assert!(!Noted { outlives: None, ..noted(Some(at(10))) }.is_due(at(14)));
    }

    #[test]
    fn notes_do_not_drift() {
        let used = [
            Used::Key(RecordKey::from_parts(b'd', [1; 32]).expect("a kind")),
            Used::Key(RecordKey::from_parts(b'c', [2; 32]).expect("a kind")),
            Used::Blob(BlobId::from_bytes([3; 32])),
            Used::Snapshot(LayerId::from_bytes([4; 32])),
        ];
        let golden = include_str!("../tests/golden/leases-1.txt");
        assert_eq!(used.map(Used::line).concat(), golden);
        assert_eq!(golden.lines().map(Used::parse).collect::<Vec<_>>(), used.map(Some));
    }

    #[test]
    fn names_say_until_when_they_count() {
        let all = ["until-12-3-4f", "until--3-4f", "until-x-3-4f", "until-12", "12-4f"];
        assert_eq!(all.map(|name| until(name.as_ref())), [Some(12), None, None, None, None]);
    }
}
