//! Images on their way out: which blobs they consist of, compressed how, under which manifest.
//! What is compressed is compressed once; what came from a registry keeps the bytes that it came
//! with, and is not read before somebody asks for them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strata_cas::{BlobId, Layer, Store, StoreError};
use strata_image::{
    Compressing, ImageError, KnownPieces, LayerSource, ManifestFlavour, OutgoingLayer, Parcel,
    annotated_index, annotated_manifest,
};
use strata_oci::{
    Compression, Descriptor, Digest, Manifest, ManifestBytes, Platform, Reference, media_type,
};

use crate::BuildError;
use crate::far::{self, Shelf};
use crate::images::{Images, StoredImage, forget_blob, known_blob, remember_blob};
use crate::layers::{self, ImageLayer};
use crate::serving;
use crate::transcode::{self, transcode};

/// How images are packed.
#[derive(Debug, Clone, Default)]
pub struct Packing {
    /// How layers are compressed that strata makes.
    pub compression: Compression,
    /// How hard.
    pub level: Option<i32>,
    /// Whether layers that came from elsewhere are compressed so, too.
    pub force: bool,
    /// Whose media types manifests have.
    pub flavour: ManifestFlavour,
    /// Notes in manifests and indexes.
    pub annotations: Annotations,
}

/// Notes: which document they are for, which platform, name and value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(pub Vec<Annotation>);

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Where it stands.
    pub place: AnnotationPlace,
    /// Only for this platform's image.
    pub platform: Option<Platform>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where a note stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationPlace {
    /// In the manifest.
    Manifest,
    /// In the index.
    Index,
    /// In the index, with the manifest's description.
    ManifestDescriptor,
    /// With the description of the index.
    IndexDescriptor,
}

impl Annotations {
    /// Whether there is a note in an index.
    pub fn need_index(&self) -> bool {
        let of_index =
            |place| matches!(place, AnnotationPlace::Index | AnnotationPlace::IndexDescriptor);
        self.0.iter().any(|one| of_index(one.place))
    }

    fn of(&self, place: AnnotationPlace, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let is_meant = |one: &&Annotation| {
            one.place == place
                && one
                    .platform
                    .as_ref()
                    .is_none_or(|only| platform.is_some_and(|platform| only.serves(platform)))
        };
        let notes = self.0.iter().filter(is_meant);
        notes.map(|one| (one.name.clone(), one.value.clone())).collect()
    }
}

/// What is said about an image, to go with it in an index.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// The manifest's layers: in-toto statements, each with the type of its predicate.
    pub statements: Vec<(String, Vec<u8>)>,
}

/// Says what there is to say about an image, once its manifest is known.
pub type Attest<'a> =
    dyn Fn(&StoredImage, &ManifestBytes) -> Result<Option<Attestation>, BuildError> + 'a;

/// An image, or one for several platforms, packed.
pub struct Packed<'a> {
    /// What its names stand for.
    pub root: ManifestBytes,
    /// How the root is described in a layout.
    pub described: Descriptor,
    /// The manifests of an index.
    pub manifests: Vec<ManifestBytes>,
    /// Configs, and what else manifests refer to beside layers.
    pub documents: Vec<(Descriptor, Vec<u8>)>,
    /// Layers, each blob once.
    pub(crate) layers: Vec<PackedLayer<'a>>,
    main: Option<(Digest, Vec<Digest>)>,
    /// Layers that were sent already, and where to.
    pub(crate) sent: Vec<(Digest, Reference)>,
}

impl<'a> Packed<'a> {
    /// Whether a layer is in the name's repository already.
    pub(crate) fn was_sent(&self, layer: &Digest, name: &Reference) -> bool {
        self.sent.iter().any(|(digest, to)| {
            digest == layer && to.registry == name.registry && to.repository == name.repository
        })
    }

    /// As a layout or archive takes it.
    pub(crate) fn parcel<'s>(&'s self, names: &[Reference]) -> Parcel<'s> {
        let manifests = self.manifests.iter().chain([&self.root]).map(|one| one.bytes.clone());
        let documents = self.documents.iter().map(|(_, bytes)| bytes.clone());
        let layer = |layer: &'s PackedLayer<'a>| OutgoingLayer {
            descriptor: layer.descriptor.clone(),
            source: layer as &dyn LayerSource,
        };
        Parcel {
            names: names.to_vec(),
            root: self.described.clone(),
            documents: manifests.chain(documents).collect(),
            layers: self.layers.iter().map(layer).collect(),
            main: self.main.clone(),
        }
    }

    /// Bytes of all layers, as they go out.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.descriptor.size).sum()
    }
}

impl<'a> Images<'a> {
    /// Packs one image for each platform, with what is said about each. Compresses what was never
    /// compressed so.
    ///
    /// # Errors
    ///
    /// When the store lacks or fails to give a layer, or no image is given.
    pub fn pack(
        &self,
        images: &[StoredImage],
        packing: &Packing,
        attest: &Attest<'_>,
    ) -> Result<Packed<'a>, BuildError> {
        let mut packed = Gathered::default();
        let mut members = Vec::new();
        for image in images {
            let manifest = self.pack_one(image, packing, &mut packed)?;
            let platform = image.config.platform();
            let notes = &packing.annotations;
            let described = Descriptor {
                annotations: notes.of(AnnotationPlace::ManifestDescriptor, Some(&platform)),
                platform: Some(platform),
                ..strata_image::descriptor(&manifest)
            };
            if let Some(attestation) = attest(image, &manifest)? {
                packed.attest(&attestation, &manifest.digest)?;
            }
            members.push((described, manifest));
        }
        members.append(&mut packed.attestations);
        let first = images.first().map(|image| image.id);
        let main = first.map(|id| (id, packed.first_layers.clone()));
        let Gathered { layers, documents, .. } = packed;
        let layers = layers.into_values().collect();
        if let [(described, root)] = &members[..] {
            let (described, root) = (described.clone(), root.clone());
            let (manifests, sent) = (Vec::new(), Vec::new());
            return Ok(Packed { root, described, manifests, documents, layers, main, sent });
        }
        let descriptors = members.iter().map(|(described, _)| described.clone()).collect();
        let notes = packing.annotations.of(AnnotationPlace::Index, None);
        let root = annotated_index(descriptors, notes)?;
        let described = Descriptor {
            annotations: packing.annotations.of(AnnotationPlace::IndexDescriptor, None),
            ..strata_image::descriptor(&root)
        };
        let manifests = members.into_iter().map(|(_, manifest)| manifest).collect();
        Ok(Packed { root, described, manifests, documents, layers, main, sent: Vec::new() })
    }

    fn pack_one(
        &self,
        image: &StoredImage,
        packing: &Packing,
        packed: &mut Gathered<'a>,
    ) -> Result<ManifestBytes, BuildError> {
        let shelf = self.shelf();
        let mut descriptors = Vec::new();
        for at in 0..image.layers.len() {
            let layer = PackedLayer::of(shelf, &image.layers[..=at], packing)?;
            descriptors.push(layer.descriptor.clone());
            packed.layers.entry(layer.descriptor.digest).or_insert(layer);
        }
        if packed.first_layers.is_empty() {
            packed.first_layers = descriptors.iter().map(|layer| layer.digest).collect();
        }
        let platform = image.config.platform();
        let notes = packing.annotations.of(AnnotationPlace::Manifest, Some(&platform));
        let config = Descriptor::of(media_type::CONFIG, &image.config_bytes);
        packed.documents.push((config, image.config_bytes.clone()));
        if notes.is_empty()
            && let Some(original) = self.original(image, &descriptors, packing)?
        {
            return Ok(original);
        }
        let manifest =
            annotated_manifest(packing.flavour, &image.config_bytes, &descriptors, notes)?;
        Ok(manifest)
    }

    /// The manifest that an image was pulled by, if it says what a new one would say: then the
    /// image keeps its digest.
    fn original(
        &self,
        image: &StoredImage,
        layers: &[Descriptor],
        packing: &Packing,
    ) -> Result<Option<ManifestBytes>, BuildError> {
        let (Some(digest), ManifestFlavour::Oci) = (image.manifest, packing.flavour) else {
            return Ok(None);
        };
        let store = self.store();
        let Some(id) = known_blob(store, &digest)? else { return Ok(None) };
        let Some(bytes) = store.get(&id)? else { return Ok(None) };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(None) };
        let same = manifest.config.digest == image.id
            && manifest.layers.len() == layers.len()
            && manifest.layers.iter().zip(layers).all(|(old, new)| old.digest == new.digest);
        let media_type = manifest.media_type.unwrap_or(media_type::MANIFEST.to_owned());
        Ok(same.then_some(ManifestBytes { digest, media_type, bytes }))
    }
}

/// What all images of one name consist of.
#[derive(Default)]
struct Gathered<'a> {
    layers: BTreeMap<Digest, PackedLayer<'a>>,
    first_layers: Vec<Digest>,
    documents: Vec<(Descriptor, Vec<u8>)>,
    attestations: Vec<(Descriptor, ManifestBytes)>,
}

impl Gathered<'_> {
    /// Makes the manifest of an attestation, in BuildKit's layout (its
    /// `docs/attestations/attestation-storage.md`).
    fn attest(&mut self, attestation: &Attestation, about: &Digest) -> Result<(), BuildError> {
        let mut layers = Vec::new();
        for (predicate, statement) in &attestation.statements {
            let mut layer = Descriptor::of("application/vnd.in-toto+json", statement);
            layer.annotations.insert("in-toto.io/predicate-type".to_owned(), predicate.clone());
            self.documents.push((layer.clone(), statement.clone()));
            layers.push(layer);
        }
        let mut config = strata_oci::ImageConfig {
            architecture: "unknown".to_owned(),
            os: "unknown".to_owned(),
            ..strata_oci::ImageConfig::default()
        };
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.digest).collect();
        let config = strata_image::config_bytes(&config)?;
        let manifest = annotated_manifest(ManifestFlavour::Oci, &config, &layers, BTreeMap::new())?;
        let described = Descriptor::of(media_type::CONFIG, &config);
        self.documents.push((described, config));
        let unknown = "unknown".to_owned();
        let unknown = Platform { architecture: unknown.clone(), os: unknown, variant: None };
        let notes = [
            ("vnd.docker.reference.digest".to_owned(), about.to_string()),
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ];
        let described = Descriptor {
            platform: Some(unknown),
            annotations: notes.into_iter().collect(),
            ..strata_image::descriptor(&manifest)
        };
        self.attestations.push((described, manifest));
        Ok(())
    }
}

/// A layer as it goes out.
pub(crate) struct PackedLayer<'a> {
    shelf: Shelf<'a>,
    pub(crate) descriptor: Descriptor,
    /// Where its bytes are, if they are not here.
    pub(crate) place: Option<String>,
    content: Content,
}

enum Content {
    /// A blob in the store.
    Kept(BlobId),
    /// The layer's own tar, made while it is written.
    Packed(Arc<Layer>),
    /// Pieces, one after the other.
    Pieces(Pieces),
    /// The tar in a blob in the store.
    Compressed(BlobId),
    /// A blob that is elsewhere.
    Far(far::Whereabouts),
}

/// Compressed layers by diff ID, compression and level: each is compressed once, and each of its
/// pieces once for all layers that have it.
pub(crate) const TABLE: &str = "compressed-3";

/// What is known of a compressed layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) descriptor: Descriptor,
    /// Recipe, content and compressed bytes of each piece; those that are not kept are made again
    /// out of the layer.
    pub(crate) pieces: Vec<(BlobId, Option<BlobId>, Option<BlobId>)>,
}

impl Row {
    /// The blobs of all pieces, if all are kept.
    fn blobs(&self) -> Option<Vec<BlobId>> {
        self.pieces.iter().map(|(_, _, blob)| *blob).collect()
    }
}

/// A layer in pieces.
struct Pieces {
    row: Row,
    /// The row's name.
    name: String,
    /// The layer, and what lies below it.
    stack: Vec<ImageLayer>,
    compression: Compression,
    level: Option<i32>,
}

impl<'a> PackedLayer<'a> {
    /// The uppermost layer of a stack.
    pub(crate) fn of(
        shelf: Shelf<'a>,
        stack: &[ImageLayer],
        packing: &Packing,
    ) -> Result<Self, BuildError> {
        let Some(layer) = stack.last() else {
            let reason = "a layer is missing".to_owned();
            return Err(BuildError::Damaged { what: "image", reason });
        };
        let store = shelf.store;
        let far = far::whereabouts(store, &layer.layer)?;
        let is_kept_so = |blob: &Descriptor| {
            !packing.force
                || Compression::of_media_type(&blob.media_type) == Some(packing.compression)
        };
        let original = layer.blob.clone().filter(is_kept_so);
        if let Some(descriptor) = original {
            let place = far.as_ref().map(|far| far.place.clone());
            let content = match (known_blob(store, &descriptor.digest)?, &far) {
                (Some(id), _) => Some(Content::Kept(id)),
                (None, Some(far)) if far.blob.digest == descriptor.digest => {
                    Some(Content::Far(far.clone()))
                }
                (None, _) => None,
            };
            if let Some(content) = content {
                return Ok(Self { shelf, descriptor, place, content });
            }
        }
        if let Some(row) = compressed(store, layer, packing)? {
            return Ok(Self::in_pieces(shelf, stack, layer, packing, row));
        }
        // A layer of another machine's goes out as it is there, where that is as it is wanted.
        if let Some(far) = far
            && packing.level.is_none()
            && Compression::of_media_type(&far.blob.media_type) == Some(packing.compression)
            && !layers::files_are_there(store, &layer.layer)?
        {
            let (descriptor, place) = (far.blob.clone(), Some(far.place.clone()));
            return Ok(Self { shelf, descriptor, place, content: Content::Far(far) });
        }
        shelf.bring(stack)?;
        if let Some(blob) = &layer.blob {
            match known_blob(store, &blob.digest)? {
                Some(id) => return Self::transcode(shelf, stack, layer, packing, id),
                None => check_own_tar(store, layer)?,
            }
        }
        if packing.compression == Compression::None {
            let (digest, size) = (layer.diff_id, layer.bytes);
            let media_type = packing.compression.layer_media_type();
            let descriptor = Descriptor { digest, size, ..Descriptor::of(media_type, b"") };
            let content = Content::Packed(layers::load(store, &layer.layer)?);
            return Ok(Self { shelf, descriptor, place: None, content });
        }
        let row = compress(store, layer, packing, false, &mut io::sink())?;
        Ok(Self::in_pieces(shelf, stack, layer, packing, row))
    }

    /// A layer from elsewhere, compressed in another way than it came.
    fn transcode(
        shelf: Shelf<'a>,
        stack: &[ImageLayer],
        layer: &ImageLayer,
        packing: &Packing,
        blob: BlobId,
    ) -> Result<Self, BuildError> {
        if packing.compression == Compression::None {
            let (digest, size) = (layer.diff_id, layer.bytes);
            let media_type = packing.compression.layer_media_type();
            let descriptor = Descriptor { digest, size, ..Descriptor::of(media_type, b"") };
            let content = Content::Compressed(blob);
            return Ok(Self { shelf, descriptor, place: None, content });
        }
        let row = transcode(shelf.store, blob, packing)?;
        remember_row(shelf.store, &compressed_name(layer, packing), &row)?;
        Ok(Self::in_pieces(shelf, stack, layer, packing, row))
    }

    fn in_pieces(
        shelf: Shelf<'a>,
        stack: &[ImageLayer],
        layer: &ImageLayer,
        packing: &Packing,
        row: Row,
    ) -> Self {
        let Packing { compression, level, .. } = *packing;
        let descriptor = row.descriptor.clone();
        let (name, stack) = (compressed_name(layer, packing), stack.to_vec());
        let content = Content::Pieces(Pieces { row, name, stack, compression, level });
        Self { shelf, descriptor, place: None, content }
    }

    /// Writes the blob's bytes.
    pub(crate) fn write(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        let store = self.shelf.store;
        let fail = |error: BuildError| {
            let action = format!("get layer {}", self.descriptor.digest);
            ImageError::io(action)(io::Error::other(error.to_string()))
        };
        let id = match &self.content {
            Content::Packed(layer) => return strata_image::pack(layer, store, out),
            Content::Compressed(blob) => return transcode::unpack(store, *blob, out),
            Content::Pieces(pieces) => return self.write_pieces(pieces, out),
            Content::Far(found) => &self.shelf.fetch_blob(found).map_err(fail)?,
            Content::Kept(id) => id,
        };
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the blob is gone");
        let read = || -> io::Result<()> {
            let blob = store.open(id).map_err(io::Error::other)?.ok_or_else(missing)?;
            io::copy(&mut blob.reader(*id), out).map(drop)
        };
        let digest = &self.descriptor.digest;
        let mut read = read;
        read().map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
                drop(forget_blob(store, digest));
                ImageError::from(StoreError::Damaged { what: format!("layer {digest}") })
            }
            _ => ImageError::io(format!("read layer {digest}"))(error),
        })
    }
}

impl PackedLayer<'_> {
    /// Sees to it that the layer's bytes are found by their digest.
    pub(crate) fn offer(&self) -> Result<(), BuildError> {
        let (store, digest) = (self.shelf.store, &self.descriptor.digest);
        match &self.content {
            Content::Kept(_) => {}
            Content::Far(found) => drop(self.shelf.fetch_blob(found)?),
            Content::Pieces(pieces) => {
                if pieces.row.blobs().is_none() {
                    self.shelf.bring(&pieces.stack)?;
                    self.again(pieces, true, &mut io::sink())?;
                }
                let (table, name) = (serving::TABLE, digest.to_string());
                let row = pieces.name.as_bytes();
                if store.name(table, &name)?.as_deref() != Some(row) {
                    store.set_name(table, &name, Some(row))?;
                }
            }
            Content::Packed(layer) => {
                let mut tar = store.begin()?;
                strata_image::pack(layer, store, &mut tar)?;
                remember_blob(store, digest, &store.finish(tar)?)?;
            }
            Content::Compressed(blob) => {
                let mut tar = store.begin()?;
                transcode::unpack(store, *blob, &mut tar)?;
                remember_blob(store, digest, &store.finish(tar)?)?;
            }
        }
        Ok(())
    }

    fn write_pieces(&self, pieces: &Pieces, out: &mut dyn Write) -> Result<(), ImageError> {
        let digest = &self.descriptor.digest;
        let damaged = || ImageError::from(StoreError::Damaged { what: format!("layer {digest}") });
        let Some(blobs) = pieces.row.blobs() else {
            let fail = |error: BuildError| match error {
                BuildError::Image(error) => error,
                other => ImageError::io(format!("get layer {digest}"))(io::Error::other(
                    other.to_string(),
                )),
            };
            self.shelf.bring(&pieces.stack).map_err(fail)?;
            return self.again(pieces, false, out).map_err(fail);
        };
        for piece in &blobs {
            let bytes = self.shelf.store.get(piece)?.ok_or_else(damaged)?;
            out.write_all(&bytes).map_err(ImageError::io(format!("write layer {digest}")))?;
        }
        Ok(())
    }

    /// Makes the pieces that are not kept once more, and takes the others.
    fn again(
        &self,
        pieces: &Pieces,
        keep_all: bool,
        out: &mut dyn Write,
    ) -> Result<(), BuildError> {
        let Pieces { compression, level, .. } = *pieces;
        let packing = Packing { compression, level, ..Packing::default() };
        let Some(layer) = pieces.stack.last() else { return Ok(()) };
        let row = compress(self.shelf.store, layer, &packing, keep_all, out)?;
        if row.descriptor.digest == self.descriptor.digest {
            return Ok(());
        }
        Err(StoreError::Damaged { what: format!("layer {}", self.descriptor.digest) }.into())
    }
}

fn compressed_name(layer: &ImageLayer, packing: &Packing) -> String {
    let level = packing.level.map_or_else(String::new, |level| format!(" {level}"));
    format!("{} {}{level}", layer.diff_id, packing.compression.layer_media_type())
}

/// A layer that came from outside and whose blob is lost can go out as strata's own tar of it,
/// but only where that is the tar that the image's config names.
fn check_own_tar(store: &dyn Store, layer: &ImageLayer) -> Result<(), BuildError> {
    let (own, _) = strata_image::describe(&*layers::load(store, &layer.layer)?, store)?;
    if own == layer.diff_id {
        return Ok(());
    }
    let reason = format!("the bytes of {} are gone", layer.diff_id);
    Err(BuildError::Damaged { what: "pulled layer", reason })
}

/// The layer as it was compressed before, if what was kept of it is there.
pub(crate) fn compressed(
    store: &dyn Store,
    layer: &ImageLayer,
    packing: &Packing,
) -> Result<Option<Row>, BuildError> {
    let Some(bytes) = store.name(TABLE, &compressed_name(layer, packing))? else {
        return Ok(None);
    };
    let Ok(row) = serde_json::from_slice::<Row>(&bytes) else { return Ok(None) };
    for blob in row.pieces.iter().filter_map(|(_, _, blob)| blob.as_ref()) {
        if !store.has(blob)? {
            return Ok(None);
        }
    }
    Ok(Some(row))
}

/// Compresses a layer's tar, but for the pieces that are there from other layers, and remembers
/// it.
pub(crate) fn compress(
    store: &dyn Store,
    layer: &ImageLayer,
    packing: &Packing,
    keep_all: bool,
    out: &mut dyn Write,
) -> Result<Row, BuildError> {
    let value = layers::load(store, &layer.layer)?;
    let known = &known_pieces(store)?;
    let Packing { compression, level, .. } = *packing;
    let how = Compressing { compression, level, known, keep_all };
    let made = strata_image::compress_layer(&value, store, &how, out)?;
    let media_type = compression.layer_media_type();
    let descriptor =
        Descriptor { digest: made.digest, size: made.size, ..Descriptor::of(media_type, b"") };
    let pieces = made.pieces.iter().map(|piece| (piece.recipe, piece.content, piece.blob));
    let row = Row { descriptor, pieces: pieces.collect() };
    remember_row(store, &compressed_name(layer, packing), &row)?;
    Ok(row)
}

pub(crate) fn remember_row(store: &dyn Store, name: &str, row: &Row) -> Result<(), BuildError> {
    let bytes = serde_json::to_vec(row).map_err(BuildError::damaged("compressed layer"))?;
    if store.name(TABLE, name)?.as_deref() != Some(&bytes[..]) {
        store.set_name(TABLE, name, Some(&bytes))?;
    }
    Ok(())
}

/// The pieces that a row of the table knows of the layer with this digest, if all are there.
pub(crate) fn pieces(
    store: &dyn Store,
    row: &str,
    digest: &Digest,
) -> Result<Option<Vec<BlobId>>, BuildError> {
    let Some(value) = store.name(TABLE, row)? else { return Ok(None) };
    let row = serde_json::from_slice::<Row>(&value).ok();
    let row = row.filter(|row| row.descriptor.digest == *digest);
    let Some(blobs) = row.and_then(|row| row.blobs()) else { return Ok(None) };
    for blob in &blobs {
        if !store.has(blob)? {
            return Ok(None);
        }
    }
    Ok(Some(blobs))
}

/// All pieces of all layers that were compressed, however.
pub(crate) fn known_pieces(store: &dyn Store) -> Result<KnownPieces, BuildError> {
    let mut known = KnownPieces::new();
    for (_, value) in store.names(TABLE)? {
        let Ok(row) = serde_json::from_slice::<Row>(&value) else { continue };
        for (recipe, content, blob) in row.pieces {
            let Some(blob) = blob else { continue };
            known.insert(recipe, blob);
            known.extend(content.map(|content| (content, blob)));
        }
    }
    Ok(known)
}

impl LayerSource for PackedLayer<'_> {
    fn write_to(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        self.write(out)
    }
}
