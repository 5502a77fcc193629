//! Images to a registry: what is there already is neither read nor sent, the rest goes several
//! blobs at a time, and the name comes last, so that it never stands for a part of an image.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use strata_cas::NameStore;
use strata_exec::Cancel;
use strata_oci::{
    Descriptor, Digest, ManifestBytes, PushRegistry, Pushed, Reference, RegistryError, media_type,
};

use crate::BuildError;
use crate::images::{Images, StoredImage};
use crate::packed_layer::PackedLayer;
use crate::packing::Packed;

/// How many blobs are on their way at a time.
const UPLOADS: usize = 4;
/// How many repositories are remembered for a blob.
const SOURCES: usize = 5;

/// What happens during a push.
#[derive(Debug)]
pub enum PushEvent<'a> {
    /// A blob is sent: bytes so far.
    Sending {
        /// Which.
        blob: &'a Descriptor,
        /// Bytes so far.
        done: u64,
    },
    /// The repository has a blob now.
    Blob {
        /// Which.
        blob: &'a Descriptor,
        /// What it took.
        pushed: Pushed,
    },
    /// The name stands for this image; whether it did before.
    Named {
        /// The name.
        name: &'a Reference,
        /// The digest of its manifest or index.
        digest: Digest,
        /// Whether nothing had to be done.
        was_there: bool,
    },
}

/// Takes events, from several threads.
pub type PushObserver<'a> = &'a (dyn Fn(PushEvent<'_>) + Sync);

/// Where an image is pushed to, and who is told of it.
#[derive(Clone, Copy)]
pub struct Push<'a> {
    /// Its name there; without a tag it gets none.
    pub name: &'a Reference,
    /// The registry.
    pub registry: &'a dyn PushRegistry,
    /// Ends it.
    pub cancel: &'a Cancel,
    /// Is told what happens.
    pub observe: PushObserver<'a>,
}

impl Push<'_> {
    pub(crate) fn failed(&self, source: RegistryError) -> BuildError {
        BuildError::Push { name: self.name.familiar(), source }
    }
}

/// A blob to push.
enum Parcel<'p, 'a> {
    Layer(&'p PackedLayer<'a>),
    Document(&'p Descriptor, &'p [u8]),
}

impl Parcel<'_, '_> {
    fn descriptor(&self) -> &Descriptor {
        match self {
            Self::Layer(layer) => &layer.descriptor,
            Self::Document(descriptor, _) => descriptor,
        }
    }
}

impl Images<'_> {
    /// Pushes a packed image under a name; without a tag, under its digest alone.
    ///
    /// # Errors
    ///
    /// [`BuildError::Push`] when the registry refuses or can not be reached, others when the
    /// store lacks a layer. The name still stands for what it stood for before then.
    pub fn push(&self, packed: &Packed<'_>, push: &Push<'_>) -> Result<(), BuildError> {
        let Push { name, registry, cancel, observe } = *push;
        let digest = packed.root.digest;
        let under = match &name.tag {
            Some(_) => Reference { digest: None, ..name.clone() },
            None => name.with_digest(digest),
        };
        let known = registry.manifest_digest(&under).map_err(|source| push.failed(source))?;
        if known == Some(digest) {
            observe(PushEvent::Named { name, digest, was_there: true });
            return Ok(());
        }
        self.push_blobs(packed, push)?;
        let put = |name: &Reference, manifest: &ManifestBytes| {
            if cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            registry.push_manifest(name, manifest).map_err(|source| push.failed(source))
        };
        for manifest in &packed.manifests {
            put(&Reference { tag: None, ..name.with_digest(manifest.digest) }, manifest)?;
        }
        put(&under, &packed.root)?;
        observe(PushEvent::Named { name, digest, was_there: false });
        Ok(())
    }

    fn push_blobs(&self, packed: &Packed<'_>, push: &Push<'_>) -> Result<(), BuildError> {
        let documents = packed.documents.iter();
        let documents = documents.map(|(descriptor, bytes)| Parcel::Document(descriptor, bytes));
        let all = packed.layers.iter().map(Parcel::Layer).chain(documents);
        let mut parcels: Vec<Parcel<'_, '_>> =
            all.filter(|one| !packed.was_sent(&one.descriptor().digest, push.name)).collect();
        // The largest first: nobody waits for it at the end.
        parcels.sort_by_key(|parcel| std::cmp::Reverse(parcel.descriptor().size));
        in_parallel(&parcels, push.cancel, |parcel| self.push_one(parcel, push))
    }

    /// Pushes an image's config; gives its digest.
    pub(crate) fn push_config(
        &self,
        image: &StoredImage,
        push: &Push<'_>,
    ) -> Result<Digest, BuildError> {
        let config = Descriptor::of(media_type::CONFIG, &image.config_bytes);
        self.push_one(&Parcel::Document(&config, &image.config_bytes), push)?;
        Ok(config.digest)
    }

    fn push_one(&self, parcel: &Parcel<'_, '_>, push: &Push<'_>) -> Result<(), BuildError> {
        let Push { name, registry, cancel, observe } = *push;
        let blob = parcel.descriptor();
        let mut near = sources(self.store(), blob, name)?;
        if let Parcel::Layer(PackedLayer { place: Some(place), .. }) = parcel
            && let Some(Ok(source)) = place.strip_prefix("registry:").map(str::parse)
        {
            near.insert(0, source);
        }
        let lost: Mutex<Option<strata_image::ImageError>> = Mutex::new(None);
        let bytes = |out: &mut dyn io::Write| match parcel {
            Parcel::Document(_, bytes) => out.write_all(bytes),
            Parcel::Layer(layer) => {
                let mut out = Passing { out, broken: None, cancel };
                layer.write(&mut out).map_err(|error| match out.broken.take() {
                    Some(broken) => broken,
                    None => {
                        let text = error.to_string();
                        *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        io::Error::other(text)
                    }
                })
            }
        };
        let progress = &mut |done| observe(PushEvent::Sending { blob, done });
        let pushed = registry.push_blob(name, blob, &near, &bytes, progress);
        let pushed = pushed.map_err(|source| {
            if cancel.is_cancelled() {
                return BuildError::Cancelled;
            }
            match lost.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(error) => error.into(),
                None => push.failed(source),
            }
        })?;
        if matches!(parcel, Parcel::Layer(_)) {
            remember_source(self.store(), &blob.digest, name)?;
        }
        observe(PushEvent::Blob { blob, pushed });
        Ok(())
    }
}

/// Takes these one after the other, on several threads, until one fails.
pub(crate) fn in_parallel<T: Sync>(
    all: &[T],
    cancel: &Cancel,
    take: impl Fn(&T) -> Result<(), BuildError> + Sync,
) -> Result<(), BuildError> {
    let next = AtomicUsize::new(0);
    let broken: Mutex<Option<BuildError>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..UPLOADS.min(all.len()) {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let taken = match cancel.is_cancelled() {
                        true => Err(BuildError::Cancelled),
                        false => take(one),
                    };
                    if let Err(error) = taken {
                        next.store(all.len(), Ordering::Relaxed);
                        let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
                        broken.get_or_insert(error);
                    }
                }
            });
        }
    });
    match broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Passes bytes on, and keeps the error of the sink apart from those of the source.
struct Passing<'a> {
    out: &'a mut dyn io::Write,
    broken: Option<io::Error>,
    cancel: &'a Cancel,
}

impl io::Write for Passing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            self.broken = Some(io::Error::other("cancelled"));
            return Err(io::Error::other("cancelled"));
        }
        self.out.write(bytes).inspect_err(|error| {
            let again = match error.get_ref() {
                Some(inner) => io::Error::new(error.kind(), inner.to_string()),
                None => error.kind().into(),
            };
            self.broken = Some(again);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Repositories that have a blob, by its digest and their registry.
pub(crate) const TABLE: &str = "blob-sources-1";

fn key(digest: &Digest, name: &Reference) -> String {
    format!("{digest} {}", name.registry)
}

/// Repositories of the name's registry that have a blob.
fn sources(
    store: &dyn NameStore,
    blob: &Descriptor,
    name: &Reference,
) -> Result<Vec<Reference>, BuildError> {
    let Some(value) = store.name(TABLE, &key(&blob.digest, name))? else { return Ok(Vec::new()) };
    let repositories: Vec<String> = serde_json::from_slice(&value).unwrap_or_default();
    let reference = |repository| Reference { repository, tag: None, digest: None, ..name.clone() };
    Ok(repositories.into_iter().map(reference).collect())
}

/// Remembers that a repository has a blob.
pub(crate) fn remember_source(
    store: &dyn NameStore,
    digest: &Digest,
    name: &Reference,
) -> Result<(), BuildError> {
    let key = key(digest, name);
    let kept = store.name(TABLE, &key)?;
    let mut repositories: Vec<String> =
        kept.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default();
    if repositories.first() == Some(&name.repository) {
        return Ok(());
    }
    repositories.retain(|repository| *repository != name.repository);
    repositories.insert(0, name.repository.clone());
    repositories.truncate(SOURCES);
    let value = serde_json::to_vec(&repositories).map_err(BuildError::damaged("blob's sources"))?;
    Ok(store.set_name(TABLE, &key, Some(&value))?)
}
