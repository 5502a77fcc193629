//! A layer as a directory, from its value and its blobs: what a RUN's overlay is stacked of, and
//! what `-o type=local` writes. Files are made in parallel.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use rayon::prelude::*;
use strata_cas::{Action, BlobId, BlobStore, Change, Item, Layer, Metadata, Time, TreePath};

use crate::copy::copy;
use crate::destination::{Destination, OverlayForm};
use crate::unpack::{dress_error, make_error};
use crate::{ImageError, shape};

/// Neighbours are made by one thread, which keeps their directories open.
const CHANGES_PER_TURN: usize = 64;
/// Files up to this size are read as a whole.
const WHOLE_FILE_BYTES: u64 = 1 << 20;

/// Makes the directory that shows the layer. Directories that it takes for granted are made as
/// root's, `0o755`.
///
/// In the forms for overlayfs `into` should be empty. [`OverlayForm::Plain`] joins what is there:
/// files and symbolic links in the way are replaced, never followed, a directory in a file's way
/// is removed with all that is in it; everything else stays, and so do the owner and mode of
/// `into` itself and of directories that the layer does not mention. Removals are ignored then.
pub fn materialise(
    layer: &Layer,
    blobs: &dyn BlobStore,
    into: &Path,
    form: OverlayForm,
) -> Result<(), ImageError> {
    shape::check(layer)?;
    let mut destination = Destination::open(into, form)
        .map_err(ImageError::io(format!("open `{}`", into.display())))?;
    let changes = layer.changes();
    let implied = make_directories(changes, &mut destination)?;
    let turns = changes.par_chunks(CHANGES_PER_TURN).enumerate();
    turns.try_for_each(|(turn, chunk)| {
        let mut site = Site { blobs, destination: destination.another() };
        (0..chunk.len()).try_for_each(|at| site.leaf(changes, turn * CHANGES_PER_TURN + at))
    })?;
    for Change { path, action } in changes {
        if let Action::Set { item: Item::HardLink { to }, .. } = action {
            match destination.make_link(path, to) {
                // A device that the form left out.
                Err(rustix::io::Errno::NOENT) if is_device(layer, to) => {}
                made => made.map_err(make_error(path))?,
            }
        }
    }
    dress_directories(changes, &implied, &mut destination)
}

fn is_device(layer: &Layer, path: &TreePath) -> bool {
    matches!(layer.get(path), Some(Action::Set { item: Item::Device(_), .. }))
}

/// Makes all directories and says which ones the layer did not mention and were not there.
fn make_directories(
    changes: &[Change],
    destination: &mut Destination,
) -> Result<BTreeSet<TreePath>, ImageError> {
    let mut implied = BTreeSet::new();
    let mut known: Option<TreePath> = None;
    for (index, Change { path, .. }) in changes.iter().enumerate() {
        let action = shape::action(changes, index);
        let is_removed = *action == Action::Remove;
        if is_removed && destination.form().is_plain() {
            continue;
        }
        let parent = path.parent().unwrap_or_default();
        if known.as_ref() != Some(&parent) {
            for directory in path.ancestors().into_iter().skip(1) {
                if !destination.has_directory(&directory) {
                    destination.make_directory(&directory).map_err(make_error(&directory))?;
                    implied.insert(directory);
                }
            }
        }
        known = Some(parent);
        if let Action::Set { item: Item::Directory { .. }, .. } = &*action {
            destination.make_directory(path).map_err(make_error(path))?;
            known = Some(path.clone());
        }
    }
    Ok(implied)
}

/// Gives all directories their metadata, the deepest first, so that times stay and directories
/// that nobody may write to are no obstacle.
fn dress_directories(
    changes: &[Change],
    implied: &BTreeSet<TreePath>,
    destination: &mut Destination,
) -> Result<(), ImageError> {
    let mut implied = implied.iter().rev().peekable();
    let root = Metadata::root(0o755);
    for (index, Change { path, .. }) in changes.iter().enumerate().rev() {
        while let Some(directory) = implied.next_if(|directory| *directory > path) {
            let dressed = destination.dress_directory(directory, &root, Time(0), false);
            dressed.map_err(make_error(directory))?;
        }
        if path.is_root() && destination.form().is_plain() {
            continue;
        }
        if let Action::Set { item: Item::Directory { opaque }, metadata, modified } =
            &*shape::action(changes, index)
        {
            let dressed = destination.dress_directory(path, metadata, *modified, *opaque);
            dressed.map_err(dress_error(path, metadata))?;
        }
    }
    for directory in implied {
        let dressed = destination.dress_directory(directory, &root, Time(0), false);
        dressed.map_err(make_error(directory))?;
    }
    Ok(())
}

/// Where one thread works.
struct Site<'a> {
    blobs: &'a dyn BlobStore,
    destination: Destination,
}

impl Site<'_> {
    /// Makes what is neither a directory nor a hard link.
    fn leaf(&mut self, changes: &[Change], index: usize) -> Result<(), ImageError> {
        let path = &changes[index].path;
        let made = match &*shape::action(changes, index) {
            Action::Remove if self.destination.form().is_plain() => Ok(()),
            Action::Remove => self.destination.make_whiteout(path),
            Action::Set { item, metadata, modified } => match item {
                Item::Directory { .. } | Item::HardLink { .. } => Ok(()),
                Item::File { blob, size } => {
                    return self.file(path, *blob, *size, metadata, *modified);
                }
                Item::Symlink { target } => {
                    let made = self.destination.make_symlink(path, target, metadata, *modified);
                    return made.map_err(dress_error(path, metadata));
                }
                Item::Device(device) => {
                    let made = self.destination.make_device(path, *device, metadata, *modified);
                    return made.map_err(dress_error(path, metadata));
                }
            },
        };
        made.map_err(make_error(path))
    }

    fn file(
        &mut self,
        path: &TreePath,
        blob: BlobId,
        size: u64,
        metadata: &Metadata,
        modified: Time,
    ) -> Result<(), ImageError> {
        let written = self.content(path, blob, size, metadata, modified);
        if written.is_err() {
            // Half a file must not stay; the error that is reported is the first one.
            self.destination.remove(path).ok();
        }
        written
    }

    fn content(
        &mut self,
        path: &TreePath,
        blob: BlobId,
        size: u64,
        metadata: &Metadata,
        modified: Time,
    ) -> Result<(), ImageError> {
        let missing = || ImageError::MissingBlob { path: path.clone(), blob };
        let mut file = self.destination.make_file(path).map_err(make_error(path))?;
        let write_error = |error| ImageError::io(format!("write `{path}`"))(error);
        let count = if size <= WHOLE_FILE_BYTES {
            let bytes = self.blobs.get(&blob)?.ok_or_else(missing)?;
            file.write_all(&bytes).map_err(write_error)?;
            bytes.len() as u64
        } else {
            let mut reader = self.blobs.open(&blob)?.ok_or_else(missing)?.reader(blob);
            copy(&mut reader, &mut file).map_err(write_error)?
        };
        if count != size {
            let reason = "its blob does not have the size that the layer says";
            return Err(ImageError::Unrepresentable { path: path.clone(), reason });
        }
        self.destination.dress(&file, metadata, modified).map_err(dress_error(path, metadata))
    }
}
