//! The images in the store: by name and by id, from a root file system, out to a file.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};
use strata_cas::{Action, BlobId, Layer, Store};
use strata_image::{Decoder, UnpackOptions};
use strata_oci::{Digest, History, ImageConfig, Platform, Reference};

use crate::BuildError;
use crate::far::{Far, Nowhere, Shelf};
use crate::layers::{self, ImageLayer, overlay_form};
use crate::time::rfc3339;

pub(crate) use strata_oci::blobs::{
    TABLE as BLOBS, forget as forget_blob, known as known_blob, remember as remember_blob,
};

/// Ids by name and platform.
pub(crate) const NAMES: &str = "image-names-1";
/// Images by id.
pub(crate) const IMAGES: &str = "images-1";
/// What is known of an image's build, by its id.
pub(crate) const NOTES: &str = "build-notes-1";
/// What is said about an image, by its id.
pub(crate) const PREDICATES: &str = "attestations-1";

/// An image in the store.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// The digest of its config.
    pub id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its config, byte for byte.
    pub config_bytes: Vec<u8>,
    /// Its layers, lowest first.
    pub layers: Vec<ImageLayer>,
    /// The manifest that it was pulled by.
    pub manifest: Option<Digest>,
}

/// A name in the store with the image that it stands for.
#[derive(Debug, Clone)]
pub struct NamedImage {
    /// The name.
    pub name: Reference,
    /// One of the platforms that it has an image for.
    pub platform: Platform,
    /// The image.
    pub image: StoredImage,
}

/// What the table of images keeps.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) config: BlobId,
    pub(crate) layers: Vec<ImageLayer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<Digest>,
}

/// What the table of names keeps: image ids by platform.
pub(crate) type Ids = BTreeMap<String, Digest>;

/// The images of a store.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    store: &'a dyn Store,
    far: &'a dyn Far,
}

impl<'a> Images<'a> {
    /// The images of this store.
    pub fn new(store: &'a dyn Store) -> Self {
        Self { store, far: &Nowhere }
    }

    /// The same, where layers that are elsewhere are fetched.
    pub fn with_far(self, far: &'a dyn Far) -> Self {
        Self { far, ..self }
    }

    pub(crate) fn shelf(&self) -> Shelf<'a> {
        Shelf { store: self.store, far: self.far }
    }

    /// All names with their images, sorted.
    pub fn list(&self) -> Result<Vec<NamedImage>, BuildError> {
        let mut list = Vec::new();
        for (name, value) in self.store.names(NAMES)? {
            let Ok(name) = name.parse::<Reference>() else { continue };
            for (platform, id) in ids(&value)? {
                let (Ok(platform), Some(image)) = (platform.parse(), self.by_id(&id)?) else {
                    continue;
                };
                list.push(NamedImage { name: name.clone(), platform, image });
            }
        }
        Ok(list)
    }

    /// The image with this name, or with an id that begins with these digits.
    pub fn find(&self, text: &str, platform: &Platform) -> Result<Option<StoredImage>, BuildError> {
        if let Ok(name) = text.parse::<Reference>()
            && let Some(image) = self.by_name(&name, platform)?
        {
            return Ok(Some(image));
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() < 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let all = self.store.names(IMAGES)?.into_iter().map(|(id, _)| id);
        let mut found =
            all.filter(|id| id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(digits)));
        match (found.next(), found.next()) {
            (Some(id), None) => match id.parse() {
                Ok(id) => self.by_id(&id),
                Err(_) => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The image with this name.
    pub fn by_name(
        &self,
        name: &Reference,
        platform: &Platform,
    ) -> Result<Option<StoredImage>, BuildError> {
        let Some(value) = self.store.name(NAMES, &name.to_string())? else { return Ok(None) };
        let ids = ids(&value)?;
        let serves = ids
            .iter()
            .find(|(there, _)| there.parse::<Platform>().is_ok_and(|there| there.serves(platform)));
        match serves {
            Some((_, id)) => self.by_id(id),
            None => Ok(None),
        }
    }

    fn by_id(&self, id: &Digest) -> Result<Option<StoredImage>, BuildError> {
        let Some(value) = self.store.name(IMAGES, &id.to_string())? else { return Ok(None) };
        let row: Row = serde_json::from_slice(&value).map_err(BuildError::damaged("image"))?;
        let Some(config_bytes) = self.store.get(&row.config)? else { return Ok(None) };
        let config =
            serde_json::from_slice(&config_bytes).map_err(BuildError::damaged("image config"))?;
        let (layers, manifest) = (row.layers, row.manifest);
        Ok(Some(StoredImage { id: *id, config, config_bytes, layers, manifest }))
    }

    /// Keeps an image.
    pub(crate) fn keep(
        &self,
        config: Vec<u8>,
        layers: Vec<ImageLayer>,
        manifest: Option<Digest>,
    ) -> Result<StoredImage, BuildError> {
        let parsed =
            serde_json::from_slice(&config).map_err(BuildError::damaged("image config"))?;
        let id = Digest::of(&config);
        let row = Row { config: BlobId::of(&config), layers: layers.clone(), manifest };
        let value = serde_json::to_vec(&row).map_err(BuildError::damaged("image"))?;
        // A build that finds everything writes nothing.
        if self.store.name(IMAGES, &id.to_string())?.as_deref() != Some(&value[..])
            || self.store.get(&row.config)?.is_none()
        {
            self.store.put(&config)?;
            self.store.set_name(IMAGES, &id.to_string(), Some(&value))?;
        }
        Ok(StoredImage { id, config: parsed, config_bytes: config, layers, manifest })
    }

    /// Gives an image a name, taking it from another one of the same platform.
    pub fn tag(&self, image: &StoredImage, name: &Reference) -> Result<(), BuildError> {
        let key = name.to_string();
        let old = self.store.name(NAMES, &key)?;
        let mut ids = match &old {
            Some(value) => ids(value)?,
            None => Ids::new(),
        };
        ids.insert(image.config.platform().to_string(), image.id);
        let value = serde_json::to_vec(&ids).map_err(BuildError::damaged("image name"))?;
        if old.as_deref() != Some(&value[..]) {
            self.store.set_name(NAMES, &key, Some(&value))?;
        }
        Ok(())
    }

    /// All images of a name, one for each platform.
    pub fn of_name(&self, name: &Reference) -> Result<Vec<StoredImage>, BuildError> {
        let Some(value) = self.store.name(NAMES, &name.to_string())? else {
            return Ok(Vec::new());
        };
        let mut images = Vec::new();
        for id in ids(&value)?.values() {
            images.extend(self.by_id(id)?);
        }
        Ok(images)
    }

    /// Keeps what the program has to say about how an image was built, in its own format.
    pub fn set_notes(&self, id: &Digest, notes: &[u8]) -> Result<(), BuildError> {
        let key = id.to_string();
        if self.store.name(NOTES, &key)?.as_deref() != Some(notes) {
            self.store.set_name(NOTES, &key, Some(notes))?;
        }
        Ok(())
    }

    /// What was kept about how an image was built.
    pub fn notes(&self, id: &Digest) -> Result<Option<Vec<u8>>, BuildError> {
        Ok(self.store.name(NOTES, &id.to_string())?)
    }

    /// Keeps what is said about an image, to go with it wherever it is sent: predicates with their
    /// types. None of them forgets what was said before.
    pub fn set_predicates(
        &self,
        id: &Digest,
        predicates: &[(String, Vec<u8>)],
    ) -> Result<(), BuildError> {
        let key = id.to_string();
        let before = self.store.name(PREDICATES, &key)?;
        let mut kept: Vec<(&str, BlobId)> = Vec::new();
        for (kind, bytes) in predicates {
            kept.push((kind, self.store.put(bytes)?));
        }
        let value = serde_json::to_vec(&kept).map_err(BuildError::damaged("attestations"))?;
        let value = (!kept.is_empty()).then_some(value);
        if before != value {
            self.store.set_name(PREDICATES, &key, value.as_deref())?;
        }
        Ok(())
    }

    /// What is said about an image: predicates with their types.
    pub fn predicates(&self, id: &Digest) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        let Some(value) = self.store.name(PREDICATES, &id.to_string())? else {
            return Ok(Vec::new());
        };
        let mut predicates = Vec::new();
        for (kind, blob) in predicates_in(&value)? {
            let bytes = self.store.get(&blob)?.ok_or_else(|| BuildError::Damaged {
                what: "attestations",
                reason: format!("those of image {id} are gone"),
            })?;
            predicates.push((kind, bytes));
        }
        Ok(predicates)
    }

    /// Forgets a name; says whether there was one.
    pub fn untag(&self, name: &Reference) -> Result<bool, BuildError> {
        let key = name.to_string();
        let was_there = self.store.name(NAMES, &key)?.is_some();
        if was_there {
            self.store.set_name(NAMES, &key, None)?;
        }
        Ok(was_there)
    }

    /// Makes an image of one layer from the tar of a root file system, compressed or not.
    pub fn import(
        &self,
        tar: &mut (dyn Read + Send),
        name: &Reference,
        platform: &Platform,
        epoch: Option<i64>,
    ) -> Result<StoredImage, BuildError> {
        let (layer, newest) = self.import_layer(tar)?;
        let created = Some(rfc3339(epoch.unwrap_or(newest)));
        let mut config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            created: created.clone(),
            history: vec![History {
                created,
                created_by: Some("strata import".to_owned()),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids.push(layer.diff_id);
        let bytes = strata_image::config_bytes(&config)?;
        let image = self.keep(bytes, vec![layer], None)?;
        self.tag(&image, name)?;
        Ok(image)
    }

    /// Brings the tar in as a layer; the second value is the newest time in it.
    fn import_layer(&self, tar: &mut (dyn Read + Send)) -> Result<(ImageLayer, i64), BuildError> {
        let staging = self.store.stage()?;
        let mut decoder =
            Decoder::new(tar).map_err(BuildError::io("read the root file system's tar"))?;
        let options = UnpackOptions::new(overlay_form());
        let unpacked = strata_image::unpack(&mut decoder, &staging.fs(), &options)?;
        let id = self.store.put(&unpacked.layer.encode())?.into();
        self.store.commit(staging, &id, &unpacked.files)?;
        // The tar is not kept: what strata writes for this layer is its own tar of it.
        let (diff_id, bytes) = strata_image::describe(&unpacked.layer, self.store)?;
        let layer = ImageLayer { layer: id, diff_id, bytes, blob: None };
        layers::remember(self.store, &diff_id, &layer)?;
        let times = unpacked.layer.changes().iter().filter_map(|change| match change.action {
            Action::Set { modified, .. } => Some(modified.0),
            Action::Remove => None,
        });
        Ok((layer, times.max().unwrap_or_default()))
    }

    /// The layers of an image as values, lowest first.
    pub(crate) fn layers(
        &self,
        image: &StoredImage,
    ) -> Result<Vec<std::sync::Arc<Layer>>, BuildError> {
        image.layers.iter().map(|layer| layers::load(self.store, &layer.layer)).collect()
    }

    pub(crate) fn store(&self) -> &'a dyn Store {
        self.store
    }
}

/// What a row of the table of images says.
pub(crate) fn row_of(value: &[u8]) -> Option<Row> {
    serde_json::from_slice(value).ok()
}

/// What a row of the table of predicates says.
pub(crate) fn predicates_in(value: &[u8]) -> Result<Vec<(String, BlobId)>, BuildError> {
    serde_json::from_slice(value).map_err(BuildError::damaged("attestations"))
}

pub(crate) fn ids(value: &[u8]) -> Result<Ids, BuildError> {
    serde_json::from_slice(value).map_err(BuildError::damaged("image name"))
}
