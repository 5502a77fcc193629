//! Images on their way out: which blobs they consist of, compressed how, under which manifest.
//! What is compressed is compressed once; what came from a registry keeps the bytes that it came
//! with, and is not read before somebody asks for them.

use std::collections::{BTreeMap, BTreeSet};

use strata_image::{ManifestFlavour, Parcel, annotated_index, annotated_manifest, attestation};
use strata_oci::{
    Compression, Descriptor, Digest, Manifest, ManifestBytes, Platform, Reference, media_type,
};

use crate::BuildError;
use crate::annotations::{AnnotationPlace, Annotations};
use crate::images::{Images, StoredImage, known_blob};
use crate::packed_layer::PackedLayer;

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
    /// Layers, each blob once, in the images' order.
    pub(crate) layers: Vec<PackedLayer<'a>>,
    main: Option<(Digest, Vec<Digest>)>,
    /// Layers and configs that were sent already, and where to.
    pub(crate) sent: Vec<(Digest, Reference)>,
}

impl<'a> Packed<'a> {
    /// Whether a blob is in the name's repository already.
    pub(crate) fn was_sent(&self, blob: &Digest, name: &Reference) -> bool {
        self.sent.iter().any(|(digest, to)| {
            digest == blob && to.registry == name.registry && to.repository == name.repository
        })
    }

    /// As a layout or archive takes it.
    pub(crate) fn parcel<'s>(&'s self, names: &[Reference]) -> Parcel<'s> {
        let manifests = self.manifests.iter().chain([&self.root]).map(|one| one.bytes.clone());
        let documents = self.documents.iter().map(|(_, bytes)| bytes.clone());
        Parcel {
            names: names.to_vec(),
            root: self.described.clone(),
            documents: manifests.chain(documents).collect(),
            layers: self.layers.iter().map(PackedLayer::outgoing).collect(),
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
            if let Some(said) = attest(image, &manifest)? {
                packed.attest(&said, &manifest.digest)?;
            }
            members.push((described, manifest));
        }
        members.append(&mut packed.attestations);
        let first = images.first().map(|image| image.id);
        let main = first.map(|id| (id, packed.first_layers.clone()));
        let Gathered { layers, documents, .. } = packed;
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
            if packed.seen.insert(layer.descriptor.digest) {
                packed.layers.push(layer);
            }
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
    /// Each blob once, in the images' order.
    layers: Vec<PackedLayer<'a>>,
    seen: BTreeSet<Digest>,
    first_layers: Vec<Digest>,
    documents: Vec<(Descriptor, Vec<u8>)>,
    attestations: Vec<(Descriptor, ManifestBytes)>,
}

impl Gathered<'_> {
    /// Makes the manifest of an attestation, in BuildKit's layout.
    fn attest(&mut self, said: &Attestation, about: &Digest) -> Result<(), BuildError> {
        let mut layers = Vec::new();
        for (predicate, statement) in &said.statements {
            let mut layer = Descriptor::of(attestation::STATEMENT, statement);
            let kind = attestation::PREDICATE_TYPE.to_owned();
            layer.annotations.insert(kind, predicate.clone());
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
            (attestation::ABOUT.to_owned(), about.to_string()),
            (attestation::KIND.to_owned(), attestation::MANIFEST.to_owned()),
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
