//! A shared cache in a registry: each record is a manifest of its own under a tag that is the
//! record's key, so that a lookup is one small request, and a registry's garbage collection keeps
//! the blobs that the record's manifest names.

use std::collections::BTreeMap;
use std::io::Write;

use strata_oci::{
    BlobBytes, Descriptor, Digest, Manifest, ManifestBytes, PushRegistry, Reference, Registry,
    RegistryError, SharedCache, media_type,
};

/// The annotation that carries a record.
const RECORD: &str = "dev.strata.record";
/// What the manifest's config says that it is.
const CONFIG_TYPE: &str = "application/vnd.strata.cache.record.v1+json";
/// A registry takes manifests of 4 MiB.
const LARGEST_RECORD_BYTES: usize = 3 << 20;

/// A repository that is a cache.
pub struct RegistryCache<'a, R> {
    registry: &'a R,
    repository: Reference,
}

impl<'a, R: Registry + PushRegistry> RegistryCache<'a, R> {
    /// The repository that a name is of; its tag has no meaning.
    pub fn new(registry: &'a R, name: &Reference) -> Self {
        Self { registry, repository: Reference { tag: None, digest: None, ..name.clone() } }
    }

    fn under(&self, key: &str) -> Reference {
        Reference { tag: Some(key.to_owned()), ..self.repository.clone() }
    }

    fn failed(&self, reason: String) -> RegistryError {
        RegistryError::Failed { registry: self.repository.registry.clone(), reason }
    }
}

impl<R: Registry + PushRegistry> SharedCache for RegistryCache<'_, R> {
    fn record(&self, key: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let manifest = match self.registry.manifest(&self.under(key)) {
            Ok(manifest) => manifest,
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&manifest.bytes) else {
            return Ok(None);
        };
        Ok(manifest.annotations.get(RECORD).map(|record| record.clone().into_bytes()))
    }

    fn keep_record(
        &self,
        keys: &[String],
        record: &str,
        blobs: &[Descriptor],
    ) -> Result<(), RegistryError> {
        if record.len() > LARGEST_RECORD_BYTES {
            return Err(self.failed("a record is larger than a manifest may be".to_owned()));
        }
        let empty = b"{}";
        let config = Descriptor::of(CONFIG_TYPE, empty);
        self.keep_blob(&config, &|out| out.write_all(empty))?;
        let annotations = BTreeMap::from([(RECORD.to_owned(), record.to_owned())]);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            config,
            layers: blobs.to_vec(),
            annotations,
        };
        let bytes =
            serde_json::to_vec(&manifest).map_err(|error| self.failed(error.to_string()))?;
        let media_type = media_type::MANIFEST.to_owned();
        let manifest = ManifestBytes { digest: Digest::of(&bytes), media_type, bytes };
        keys.iter().try_for_each(|key| self.registry.push_manifest(&self.under(key), &manifest))
    }

    fn blob(&self, blob: &Descriptor, sink: &mut dyn Write) -> Result<(), RegistryError> {
        self.registry.blob(&self.repository, blob, sink, &mut |_| {})
    }

    fn keep_blob(&self, blob: &Descriptor, bytes: &BlobBytes<'_>) -> Result<(), RegistryError> {
        self.registry.push_blob(&self.repository, blob, &[], bytes, &mut |_| {}).map(drop)
    }
}
