//! What a running process uses: a file that it holds, and a directory to make things in.
//!
//! Both have the same name. The file comes first and goes last, so a directory whose file nobody
//! holds is what a dead process left.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

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
}

impl Lease {
    /// Begins one.
    pub(crate) fn begin(layout: &Layout) -> Result<Self, OpenError> {
        let leases = layout.part(Part::Leases);
        let held = new_file(layout).map_err(OpenError::io("write in", &leases))?;
        let (layout, staging) = (layout.clone(), OnceLock::new());
        Ok(Self { held, layout, staging, noted: Mutex::default() })
    }

    /// Lets go of what was noted before the last renewal and not since.
    pub(crate) fn renew(&self) -> Result<(), StoreError> {
        let action = || StoreError::io("renew the store's lease");
        let new = new_file(&self.layout).map_err(action())?;
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let Noted { used, current, previous } = &mut *noted;
        used.clear();
        let last = current.replace(new);
        if last.is_some() {
            // What the lease's own file says is from before the last renewal. A sweep that reads
            // it at this moment has seen it, or finds what it says too old.
            self.held.file.set_len(0).map_err(action())?;
        }
        if let Some(mut gone) = std::mem::replace(previous, last) {
            gone.keep_if(is_swept(&self.layout));
        }
        Ok(())
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

    /// Whether all of this is noted: then no sweep takes it out, the gate open or not.
    pub(crate) fn has_noted(&self, used: &[Used]) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter().all(|used| noted.used.contains(used))
    }

    /// Says what is used from now on, before it is looked for. The gate must be held.
    pub(crate) fn note(&self, used: &[Used]) -> Result<(), StoreError> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
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

fn new_file(layout: &Layout) -> io::Result<HeldFile> {
    loop {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{}-{:x}", std::process::id(), nanos.as_nanos());
        if let Some(held) = HeldFile::begin(&layout.part(Part::Leases).join(name))? {
            return Ok(held);
        }
    }
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
        for held in noted.current.iter_mut().chain(&mut noted.previous) {
            held.keep_if(is_swept);
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

/// Removes the leases of dead processes.
pub(crate) fn clean_leases(layout: &Layout) -> io::Result<()> {
    for entry in fs::read_dir(layout.part(Part::Leases))? {
        held::held_by(&entry?.path())?;
    }
    Ok(())
}
