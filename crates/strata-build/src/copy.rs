//! COPY, ADD and WORKDIR: layers made from tree values, with nothing unpacked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rayon::prelude::*;
use strata_cas::{BlobId, BlobStore, Layer, Time, TreePath};
use strata_engine::Produced;
use strata_exec::{View as Users, passwd};
use strata_image::{Decoder, OverlayForm, UnpackOptions, Unpacked};
use strata_plan::{Chmod, CopyOp, MakeDirectoryOp, RemoteSource, Source};

use crate::lay::{LayError, Laying};
use crate::layers::StackedRoot;
use crate::selection::{Match, Selection, What};
use crate::step::BuildStep;
use crate::view::{HardLink, Kind, View};
use crate::{BuildError, Event};

impl BuildStep<'_> {
    pub(crate) fn copy(&self, op: &CopyOp) -> Result<Produced, BuildError> {
        let parent = self.parent()?;
        let layer = self.lay(op, &parent, &|laying| self.bring(op, laying))?;
        self.produced(&parent, &layer)
    }

    /// The layer that a copy makes over `parent`; `then` sees to the bytes that it names.
    pub(crate) fn lay(
        &self,
        op: &CopyOp,
        parent: &StackedRoot,
        then: &dyn Fn(&Laying<'_>) -> Result<(), BuildError>,
    ) -> Result<Layer, BuildError> {
        let target = self.session.view(parent)?;
        let selection = self.selection(op)?;
        let owner = self.owner(op.chown.as_deref(), parent)?;
        let now = self.made_at(selection.newest());
        // As BuildKit's mkdir with its umask: no write for others, nothing but permissions.
        let mode = match op.chmod {
            Some(Chmod::Octal(mode)) => mode & 0o755,
            _ => 0o755,
        };
        let root = match &op.from {
            // What is fetched is not in the context's directory.
            Source::Context(name) if op.remotes().next().is_none() => {
                self.session.context_path(name)
            }
            _ => None,
        };
        let known = RefCell::default();
        let names = |path: &TreePath| hard_link(root?, path, &known);
        let mut laying = Laying::new(&target, owner, now)
            .with_directory_mode(mode)
            .with_names(&names)
            .with_own_times(op.link)
            .with_one_time(self.session.request.epoch.is_some());
        if op.is_add {
            self.add(op, &selection, &mut laying)?;
        } else {
            laying.selection(&selection, &op.dest).map_err(|error| self.lay_error(error))?;
        }
        then(&laying)?;
        laying.into_layer().map_err(|error| self.lay_error(error))
    }

    fn selection(&self, op: &CopyOp) -> Result<Selection, BuildError> {
        if let Some(selection) = self.session.selection(self.index, 0)? {
            let mut selection = Selection::clone(&selection);
            self.session.select_repositories(self.index, op, &mut selection)?;
            return Ok(selection);
        }
        let root = match &op.from {
            Source::Step(step) => self.session.root(*step)?,
            Source::Context(_) => self.session.root(None)?,
        };
        self.session.select_from(self.index, 0, &self.session.view(&root)?)
    }

    /// When directories that strata makes are said to be made: a function of the inputs.
    fn made_at(&self, newest: Time) -> Time {
        self.session.request.epoch.map_or(newest, Time)
    }

    /// Who gets the files: by number at once, by name as the root's `/etc/passwd` says.
    fn owner(
        &self,
        chown: Option<&str>,
        parent: &StackedRoot,
    ) -> Result<Option<(u32, u32)>, BuildError> {
        let Some(chown) = chown else { return Ok(None) };
        let lowers = self.session.lowers(parent)?;
        let owner = passwd::resolve_owner(&Users::new(&lowers), chown)
            .map_err(|error| BuildError::copy(self.planned().span, error.to_string()))?;
        for name in &owner.unknown {
            let text = format!("`{name}` is no user or group of the image, and counts as none");
            (self.session.observe)(Event::Note(text));
        }
        Ok(Some((owner.uid, owner.gid)))
    }

    fn lay_error(&self, error: LayError) -> BuildError {
        match error {
            LayError::Tree(error) => error.into(),
            LayError::InTheWay { path, message } => {
                BuildError::copy(self.planned().span, format!("`/{path}` {message}"))
            }
        }
    }

    /// Brings the bytes of what was laid into the store.
    fn bring(&self, op: &CopyOp, laying: &Laying<'_>) -> Result<(), BuildError> {
        let store = self.session.builder.store;
        for bytes in &laying.inline {
            store.put(bytes)?;
        }
        self.session.fill(&op.from, laying.blobs.iter().map(|(blob, _)| blob))?;
        let Source::Context(name) = &op.from else { return Ok(()) };
        let Some(root) = self.session.context_path(name) else { return Ok(()) };
        bring_files(store, root, &laying.blobs)
    }

    /// ADD: archives of the context are unpacked, everything else is copied.
    fn add(
        &self,
        op: &CopyOp,
        selection: &Selection,
        laying: &mut Laying<'_>,
    ) -> Result<(), BuildError> {
        for found in &selection.matches {
            match self.archive(op, found)? {
                Some(unpacked) => {
                    let below = laying.destination(&op.dest);
                    let laid = below.and_then(|below| {
                        laying.archive(&unpacked.layer, &unpacked.implied, &below)
                    });
                    laid.map_err(|error| self.lay_error(error))?;
                }
                None => {
                    laying.found(found, &op.dest).map_err(|error| self.lay_error(error))?;
                }
            }
        }
        Ok(())
    }

    /// What is in a source that is an archive; its files' bytes are in the store then.
    fn archive(&self, op: &CopyOp, found: &Match) -> Result<Option<Unpacked>, BuildError> {
        let What::Leaf(Kind::File { blob, .. }) = &found.picked.what else { return Ok(None) };
        let is_wanted = match op.sources.get(found.source).map(|source| &source.remote) {
            Some(None) => op.unpack,
            Some(Some(RemoteSource::Http(source))) => source.unpack,
            Some(Some(RemoteSource::Git(_))) | None => false,
        };
        if !is_wanted {
            return Ok(None);
        }
        let open = || self.open(op, found, blob);
        if !strata_image::is_archive(open()?) {
            return Ok(None);
        }
        let store = self.session.builder.store;
        let staging = store.stage()?;
        let unreadable = |error: String| {
            BuildError::copy(self.planned().span, format!("`{}`: {error}", found.picked.path))
        };
        let mut source = Named { file: open()?, hasher: Default::default() };
        let mut decoder =
            Decoder::new(&mut source).map_err(|error| unreadable(error.to_string()))?;
        // Only the files' contents are taken from there.
        let options = UnpackOptions::new(OverlayForm::Mine);
        let unpacked = strata_image::unpack(&mut decoder, &staging.fs(), &options)
            .map_err(|error| unreadable(error.to_string()))?;
        drop(decoder);
        std::io::copy(&mut source, &mut std::io::sink())
            .map_err(|error| unreadable(error.to_string()))?;
        if source.hasher.finish() != *blob {
            return Err(BuildError::Changed(found.picked.path.clone()));
        }
        bring_files(store, &staging.fs(), &unpacked.files)?;
        Ok(Some(unpacked))
    }

    /// Opens a selected file: in the context's directory, or in the store where it is not of one.
    fn open(
        &self,
        op: &CopyOp,
        found: &Match,
        blob: &BlobId,
    ) -> Result<Box<dyn Read + Send>, BuildError> {
        let is_remote = op.sources.get(found.source).is_some_and(|source| source.remote.is_some());
        if let Source::Context(name) = &op.from
            && !is_remote
            && let Some(root) = self.session.context_path(name)
        {
            let path = root.join(as_path(&found.picked.path));
            let action = format!("read `{}`", path.display());
            return Ok(Box::new(File::open(&path).map_err(BuildError::io(action))?));
        }
        let opened = self.session.builder.store.open(blob)?;
        let opened = opened.ok_or_else(|| BuildError::Damaged {
            what: "context",
            reason: format!("`{}` is gone", found.picked.path),
        })?;
        Ok(Box::new(opened.reader(*blob)))
    }

    pub(crate) fn make_directory(&self, op: &MakeDirectoryOp) -> Result<Produced, BuildError> {
        let parent = self.parent()?;
        let target = self.session.view(&parent)?;
        let user = Some(&*op.user).filter(|user| !user.is_empty());
        let is_there = target.resolve(&TreePath::normalise(op.path.as_bytes()))?.is_some();
        let owner = if is_there { None } else { self.owner(user, &parent)? };
        let mut laying = Laying::new(&target, owner, self.made_at(Time::default()));
        let made = laying.destination(&op.path).and_then(|path| laying.make_directory(&path));
        made.map_err(|error| self.lay_error(error))?;
        let layer = laying.into_layer().map_err(|error| self.lay_error(error))?;
        self.produced(&parent, &layer)
    }
}

/// Names a file while it is read.
struct Named {
    file: Box<dyn Read + Send>,
    hasher: strata_cas::BlobHasher,
}

impl Read for Named {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// What tells the files of a context that have several names from each other. It is looked at
/// only when a layer is made: as times, it is no part of a tree.
fn hard_link(
    root: &Path,
    path: &TreePath,
    known: &RefCell<HashMap<(u64, u64), TreePath>>,
) -> Option<HardLink> {
    let metadata = std::fs::symlink_metadata(root.join(as_path(path))).ok()?;
    if metadata.nlink() < 2 {
        return None;
    }
    let mut known = known.borrow_mut();
    let first = known.entry((metadata.dev(), metadata.ino())).or_insert_with(|| path.clone());
    Some(HardLink { layer: 0, first: first.clone() })
}

/// Puts files into the store whose names were told by a scan: another name now means that
/// somebody changed the file meanwhile.
pub(crate) fn bring_files(
    store: &dyn BlobStore,
    root: &Path,
    files: &[(BlobId, TreePath)],
) -> Result<(), BuildError> {
    files.par_iter().try_for_each(|(blob, path)| {
        if store.has(blob)? {
            return Ok(());
        }
        let full = root.join(as_path(path));
        let action = || BuildError::io(format!("read `{}`", full.display()));
        let mut file = File::open(&full).map_err(action())?;
        if store.put_from(&mut file)? != *blob {
            return Err(BuildError::Changed(path.clone()));
        }
        Ok(())
    })
}

fn as_path(path: &TreePath) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()))
}
