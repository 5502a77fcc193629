//! Layers whose bytes are elsewhere: in a registry, or in a cache that other machines share. They
//! are fetched when somebody needs them, and not before.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strata_cas::{Layer, LayerId, NameStore, Store};
use strata_image::{Decoder, UnpackOptions};
use strata_oci::{Descriptor, RegistryError};

use crate::BuildError;
use crate::images::{known_blob, remember_blob};
use crate::layers::{self, ImageLayer, StepLayer, overlay_form};
use crate::resolve::Lower;
use crate::view::RootView;

/// Fetches blobs from where they are said to be.
pub trait Far: Send + Sync {
    /// Fetches a blob; when it returns without error, size and digest were as described. `place`
    /// is what was remembered with the layer, such as `registry:lan:5000/app`.
    fn fetch(
        &self,
        place: &str,
        blob: &Descriptor,
        sink: &mut dyn Write,
    ) -> Result<(), RegistryError>;
}

/// Has nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

impl Far for Nowhere {
    fn fetch(&self, place: &str, _: &Descriptor, _: &mut dyn Write) -> Result<(), RegistryError> {
        let reason = "nothing is fetched from there by this command".to_owned();
        Err(RegistryError::Failed { registry: place.to_owned(), reason })
    }
}

/// The store, and what it can be filled up from.
#[derive(Clone, Copy)]
pub(crate) struct Shelf<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) far: &'a dyn Far,
}

/// Where a layer's blob can be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Whereabouts {
    /// The blob with its tar.
    pub(crate) blob: Descriptor,
    /// Where it is.
    pub(crate) place: String,
}

/// Whereabouts of layers by their ids.
pub(crate) const TABLE: &str = "far-layers-1";

/// Where a layer can be had, if that was told.
pub(crate) fn whereabouts(
    store: &dyn NameStore,
    layer: &LayerId,
) -> Result<Option<Whereabouts>, BuildError> {
    let Some(value) = store.name(TABLE, &layer.blob().to_string())? else { return Ok(None) };
    Ok(serde_json::from_slice(&value).ok())
}

/// Remembers where a layer can be had.
pub(crate) fn remember(
    store: &dyn NameStore,
    layer: &LayerId,
    whereabouts: &Whereabouts,
) -> Result<(), BuildError> {
    let value = serde_json::to_vec(whereabouts).map_err(BuildError::damaged("far layer"))?;
    let name = layer.blob().to_string();
    if store.name(TABLE, &name)?.as_deref() != Some(&value[..]) {
        store.set_name(TABLE, &name, Some(&value))?;
    }
    Ok(())
}

impl<'a> Shelf<'a> {
    /// Whether a layer is here or can be fetched; its value must be here. `whole` asks for its
    /// files, too: those of a layer that a command made are nowhere else.
    pub(crate) fn is_reachable(&self, layer: &ImageLayer, whole: bool) -> Result<bool, BuildError> {
        let store = self.store;
        if layers::is_there(store, layer)?
            && (!whole || layers::files_are_there(store, &layer.layer)?)
        {
            return Ok(true);
        }
        Ok(store.has(&layer.layer.blob())? && whereabouts(store, &layer.layer)?.is_some())
    }

    /// The same for a layer of a step.
    pub(crate) fn is_reachable_for_step(
        &self,
        layer: &StepLayer,
        whole: bool,
    ) -> Result<bool, BuildError> {
        match layer {
            StepLayer::Described(layer) => self.is_reachable(layer, whole),
            // It is nowhere else.
            StepLayer::Made { made } => {
                Ok(self.store.has(&made.blob())? && layers::files_are_there(self.store, made)?)
            }
        }
    }

    /// Brings the files of all these layers here; the lowest comes first.
    pub(crate) fn bring_all(&self, stack: &[ImageLayer]) -> Result<(), BuildError> {
        (0..stack.len()).try_for_each(|at| self.bring(&stack[..=at]))
    }

    /// Brings the files of the uppermost layer of a stack here, if they are not.
    pub(crate) fn bring(&self, stack: &[ImageLayer]) -> Result<(), BuildError> {
        let Some((layer, below)) = stack.split_last() else { return Ok(()) };
        // What is nowhere else need not be looked for, file by file: whoever reads it will see.
        let Some(found) = whereabouts(self.store, &layer.layer)? else { return Ok(()) };
        if layers::files_are_there(self.store, &layer.layer)? {
            return Ok(());
        }
        let blob = self.fetch_blob(&found)?;
        self.unpack(layer, below, blob)
    }

    /// The blob of a layer that is elsewhere, brought here.
    pub(crate) fn fetch_blob(&self, found: &Whereabouts) -> Result<strata_cas::BlobId, BuildError> {
        if let Some(id) = known_blob(self.store, &found.blob.digest)? {
            return Ok(id);
        }
        let staging = self.store.stage()?;
        let path = staging.path().join("blob");
        let writing = || BuildError::io(format!("write `{}`", path.display()));
        let mut file = BufWriter::new(File::create(&path).map_err(writing())?);
        self.far.fetch(&found.place, &found.blob, &mut file).map_err(BuildError::Far)?;
        file.flush().map_err(writing())?;
        let mut file = File::open(&path).map_err(writing())?;
        let id = self.store.put_from(&mut file)?;
        remember_blob(self.store, &found.blob.digest, &id)?;
        Ok(id)
    }

    fn unpack(
        &self,
        layer: &ImageLayer,
        below: &[ImageLayer],
        blob: strata_cas::BlobId,
    ) -> Result<(), BuildError> {
        let store = self.store;
        let gone = || BuildError::Damaged {
            what: "fetched layer",
            reason: format!("the bytes of {} are gone", layer.diff_id),
        };
        let reader = store.open(&blob)?.ok_or_else(gone)?.reader(blob);
        let reading = BuildError::io(format!("read layer {}", layer.diff_id));
        let mut decoder = Decoder::new(reader).map_err(reading)?;
        let values: Vec<Arc<Layer>> = below
            .iter()
            .map(|layer| layers::load(store, &layer.layer))
            .collect::<Result<_, _>>()?;
        let mut tree = strata_cas::Directory::empty_root().keep(store)?;
        for value in &values {
            tree = strata_cas::apply(store, Some(&tree), value)?;
        }
        let lower = Lower { store, below: RootView::new(store, Some(tree), values) };
        let staging = store.stage()?;
        let options = UnpackOptions { lower: Some(&lower), ..UnpackOptions::new(overlay_form()) };
        let unpacked = strata_image::unpack(&mut decoder, &staging.fs(), &options)?;
        if unpacked.diff_id != layer.diff_id {
            return Err(BuildError::Damaged {
                what: "fetched layer",
                reason: format!("its tar is {}, not {}", unpacked.diff_id, layer.diff_id),
            });
        }
        if LayerId::from(strata_cas::BlobId::of(&unpacked.layer.encode())) == layer.layer {
            store.commit(staging, &layer.layer, &unpacked.files)?;
            return Ok(());
        }
        // Read back, it is another value than the one it was written from: its files are the
        // same, and the snapshot is made of those.
        for (blob, path) in &unpacked.files {
            if store.has(blob)? {
                continue;
            }
            let path = staging.fs().join(path.to_string());
            let reading = BuildError::io(format!("read `{}`", path.display()));
            store.put_from(&mut File::open(&path).map_err(reading)?)?;
        }
        Ok(())
    }
}
