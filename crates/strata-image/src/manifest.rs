//! Manifests and indexes as bytes: canonical JSON, since their SHA-256 is the image's name. Field
//! order is that of the OCI specifications' own structs, maps are sorted, no white space.

use std::collections::BTreeMap;

use strata_oci::{
    Compression, Descriptor, Digest, ImageConfig, Index, Manifest, ManifestBytes, Platform,
    media_type,
};

use crate::ImageError;

/// Whose media types a manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ManifestFlavour {
    /// The OCI image specification's.
    #[default]
    Oci,
    /// Docker's schema 2, which has no zstd: such layers keep OCI's type.
    Docker,
}

impl ManifestFlavour {
    fn manifest(self) -> &'static str {
        match self {
            Self::Oci => media_type::MANIFEST,
            Self::Docker => media_type::DOCKER_MANIFEST,
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => media_type::CONFIG,
            Self::Docker => media_type::DOCKER_CONFIG,
        }
    }

    /// The media type of a layer compressed so.
    pub fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Docker, Compression::Gzip) => media_type::DOCKER_LAYER_GZIP,
            (Self::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (_, compression) => compression.layer_media_type(),
        }
    }
}

/// An image's config as bytes; their digest is the image's id.
pub fn config_bytes(config: &ImageConfig) -> Result<Vec<u8>, ImageError> {
    encode("an image config", config)
}

/// The manifest of an image: of its config's bytes and its layers, lowest first. Layers whose
/// media type is known get the flavour's; the others keep theirs.
pub fn manifest(
    flavour: ManifestFlavour,
    config: &[u8],
    layers: &[Descriptor],
) -> Result<ManifestBytes, ImageError> {
    annotated_manifest(flavour, config, layers, BTreeMap::new())
}

/// The same, with annotations.
pub fn annotated_manifest(
    flavour: ManifestFlavour,
    config: &[u8],
    layers: &[Descriptor],
    annotations: BTreeMap<String, String>,
) -> Result<ManifestBytes, ImageError> {
    let layer = |layer: &Descriptor| match Compression::of_media_type(&layer.media_type) {
        Some(compression) if !layer.media_type.contains("foreign") => {
            Descriptor { media_type: flavour.layer(compression).to_owned(), ..layer.clone() }
        }
        _ => layer.clone(),
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(flavour.manifest().to_owned()),
        config: Descriptor::of(flavour.config(), config),
        layers: layers.iter().map(layer).collect(),
        annotations,
    };
    named(flavour.manifest(), encode("a manifest", &manifest)?)
}

/// The index over the manifests of one image for several platforms.
pub fn index(manifests: &[(Platform, ManifestBytes)]) -> Result<ManifestBytes, ImageError> {
    let describe = |(platform, manifest): &(Platform, ManifestBytes)| Descriptor {
        platform: Some(platform.clone()),
        ..descriptor(manifest)
    };
    annotated_index(manifests.iter().map(describe).collect(), BTreeMap::new())
}

/// The index over these manifests, with annotations. It is Docker's where all of them are.
pub fn annotated_index(
    manifests: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Result<ManifestBytes, ImageError> {
    let is_docker = !manifests.is_empty()
        && manifests.iter().all(|one| one.media_type == media_type::DOCKER_MANIFEST);
    let media_type = if is_docker { media_type::DOCKER_INDEX } else { media_type::INDEX };
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type.to_owned()),
        manifests,
        annotations,
    };
    named(media_type, encode("an index", &index)?)
}

/// What names a manifest in an index.
pub fn descriptor(manifest: &ManifestBytes) -> Descriptor {
    Descriptor::of(&manifest.media_type, &manifest.bytes)
}

pub(crate) fn encode<T: serde::Serialize>(what: &str, value: &T) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(value).map_err(|source| ImageError::Json { what: what.to_owned(), source })
}

fn named(media_type: &str, bytes: Vec<u8>) -> Result<ManifestBytes, ImageError> {
    let (digest, media_type) = (Digest::of(&bytes), media_type.to_owned());
    Ok(ManifestBytes { digest, media_type, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_flavours_media_types_and_canonical_bytes() {
        let layer = Descriptor::of(media_type::DOCKER_LAYER_GZIP, b"layer");
        let manifest = manifest(ManifestFlavour::Oci, b"{}", &[layer]).expect("a manifest");
        let text = String::from_utf8(manifest.bytes.clone()).expect("text");
        let expected = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\
             \"config\":{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":2}},\
             \"layers\":[{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":5}}]}}",
            media_type::MANIFEST,
            media_type::CONFIG,
            Digest::of(b"{}"),
            "application/vnd.oci.image.layer.v1.tar+gzip",
            Digest::of(b"layer"),
        );
        assert_eq!(text, expected);
        assert_eq!(manifest.digest, Digest::of(&manifest.bytes));
    }
}
