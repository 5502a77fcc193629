//! The layers of steps and images, as the store keeps them.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strata_cas::{
    Action, BlobStore, Directory, Layer, LayerId, Metadata, NameStore, Store, TreeId, TreePath,
};
use strata_exec::Ids;
use strata_image::OverlayForm;
use strata_oci::{Descriptor, Digest};

use crate::BuildError;
use crate::images::known_blob;

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// What it changes.
    pub layer: LayerId,
    /// The digest of its tar.
    pub diff_id: Digest,
    /// The size of its tar in bytes.
    pub bytes: u64,
    /// The blob in which it came, for a layer of a base image that is kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Descriptor>,
}

/// A layer that a step has added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum StepLayer {
    /// As an image has it.
    Described(ImageLayer),
    /// Made here, of a tar that was not hashed yet when the step was recorded: see
    /// [`crate::tars`].
    Made {
        /// What it changes.
        made: LayerId,
    },
}

impl StepLayer {
    /// What it changes.
    pub(crate) fn id(&self) -> LayerId {
        match self {
            Self::Described(layer) => layer.layer,
            Self::Made { made } => *made,
        }
    }
}

/// What a step gives: the layers that it adds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) layers: Vec<StepLayer>,
}

impl Payload {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, BuildError> {
        serde_json::to_vec(self).map_err(BuildError::damaged("step result"))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BuildError> {
        serde_json::from_slice(bytes).map_err(BuildError::damaged("step result"))
    }
}

/// A root file system: the layers from the lowest up, and the tree that they give.
#[derive(Debug, Clone)]
pub(crate) struct StackedRoot {
    pub(crate) layers: Vec<StepLayer>,
    pub(crate) tree: TreeId,
}

/// Layers that came in, by what they lie on and their tars' digests.
pub(crate) const TABLE: &str = "layers-1";

/// What names a layer together with all below it: OCI's chain ID. A layer's value depends on what
/// is below it, where its tar takes directories for granted.
pub(crate) fn chain_of(diff_ids: &[Digest]) -> Digest {
    let chain = |below: Digest, id: &Digest| Digest::of(format!("{below} {id}").as_bytes());
    match diff_ids {
        [] => Digest::of(b""),
        [lowest, above @ ..] => above.iter().fold(*lowest, chain),
    }
}

/// The layer with this chain ID, if it is there.
pub(crate) fn known(store: &dyn Store, chain: &Digest) -> Result<Option<ImageLayer>, BuildError> {
    let Some(bytes) = store.name(TABLE, &chain.to_string())? else { return Ok(None) };
    let layer: ImageLayer =
        serde_json::from_slice(&bytes).map_err(BuildError::damaged("table of layers"))?;
    Ok(is_there(store, &layer)?.then_some(layer))
}

/// Whether what a layer consists of is there: its value, and for one that came from outside its
/// blob and its files. No bytes are read: what is damaged is found out when it is used.
pub(crate) fn is_there(store: &dyn Store, layer: &ImageLayer) -> Result<bool, BuildError> {
    if !store.has(&layer.layer.blob())? {
        return Ok(false);
    }
    match &layer.blob {
        Some(blob) if known_blob(store, &blob.digest)?.is_none() => Ok(false),
        Some(_) => files_are_there(store, &layer.layer),
        None => Ok(true),
    }
}

/// Whether a layer's files are there: all at once in its snapshot, or else one by one.
pub(crate) fn files_are_there(store: &dyn Store, id: &LayerId) -> Result<bool, BuildError> {
    if store.snapshot(id)?.is_some() {
        return Ok(true);
    }
    let Some(bytes) = store.get(&id.blob())? else { return Ok(false) };
    let Ok(layer) = Layer::decode(&bytes) else { return Ok(false) };
    for (blob, _) in layer.blobs() {
        if !store.has(&blob)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Remembers a layer by its chain ID.
pub(crate) fn remember(
    store: &dyn NameStore,
    chain: &Digest,
    layer: &ImageLayer,
) -> Result<(), BuildError> {
    let bytes = serde_json::to_vec(layer).map_err(BuildError::damaged("table of layers"))?;
    Ok(store.set_name(TABLE, &chain.to_string(), Some(&bytes))?)
}

/// Reads a layer.
pub(crate) fn load(store: &dyn BlobStore, id: &LayerId) -> Result<Arc<Layer>, BuildError> {
    let damaged =
        |reason: String| BuildError::Damaged { what: "layer", reason: format!("{id}: {reason}") };
    let bytes = store.get(&id.blob())?.ok_or_else(|| damaged("it is missing".to_owned()))?;
    Ok(Arc::new(Layer::decode(&bytes).map_err(|error| damaged(error.to_string()))?))
}

/// What the root directory itself is in a stack of layers.
pub(crate) fn root_directory(
    store: &dyn BlobStore,
    layers: &[LayerId],
) -> Result<Metadata, BuildError> {
    for layer in layers.iter().rev() {
        if let Some(Action::Set { metadata, .. }) = load(store, layer)?.get(&TreePath::ROOT) {
            return Ok(metadata.clone());
        }
    }
    Ok(Directory::empty_root().metadata)
}

/// Which form of overlay this process mounts.
pub(crate) fn overlay_form() -> OverlayForm {
    match Ids::of_process() {
        Ids::Every => OverlayForm::Privileged,
        Ids::Many => OverlayForm::User,
        Ids::One => OverlayForm::OneId,
    }
}

/// The directories that show a stack of layers, lowest first; missing ones are made.
///
/// A layer that comes twice counts where it is highest: it sets and removes there whatever it
/// did below, and overlayfs refuses a directory that it is given twice.
pub(crate) fn snapshots(store: &dyn Store, layers: &[LayerId]) -> Result<Vec<PathBuf>, BuildError> {
    let mut paths = Vec::new();
    for layer in layers {
        if let Some(path) = snapshot(store, layer)? {
            paths.retain(|lower| *lower != path);
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The directory that shows one layer; none for an empty layer, which shows nothing.
pub(crate) fn snapshot(store: &dyn Store, id: &LayerId) -> Result<Option<PathBuf>, BuildError> {
    if let Some(path) = store.intact(id)? {
        return Ok(Some(path));
    }
    let layer = load(store, id)?;
    if layer.is_empty() {
        return Ok(None);
    }
    let staging = store.stage()?;
    strata_image::materialise(&layer, store, &staging.fs(), overlay_form())?;
    Ok(Some(store.commit(staging, id, &[])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_do_not_drift() {
        let id = |number| LayerId::from_bytes([number; 32]);
        let described =
            ImageLayer { layer: id(1), diff_id: Digest::of(b""), bytes: 1024, blob: None };
        let layers = vec![StepLayer::Described(described), StepLayer::Made { made: id(2) }];
        let payload = Payload { layers };
        let bytes = payload.encode().expect("encoded");
        assert_eq!(Payload::decode(&bytes).expect("decoded"), payload);
        let golden = include_str!("../tests/golden/payload.json");
        assert_eq!(String::from_utf8_lossy(&bytes) + "\n", golden, "older records are not read");
    }
}
