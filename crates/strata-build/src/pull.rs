//! Images into the store, without a build: from registries, from archives, and from one registry
//! to another past the store.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

use strata_dockerfile::Span;
use strata_image::{DockerArchive, ImageSource, OciLayout};
use strata_oci::{
    Descriptor, Digest, Index, Manifest, ManifestBytes, Platform, PushRegistry, Reference,
    Registry, media_type,
};
use strata_plan::{ImageName, ImageNeed};

use crate::images::{Images, StoredImage};
use crate::push::{PushEvent, PushObserver};
use crate::resolve::{Incoming, Resolver, check_layers};
use crate::{BaseImageError, BuildError, Builder};

/// Indexes lie in indexes at most this deep.
const MAX_DEPTH: usize = 4;
/// An index that is copied has not more manifests than this, nested ones included.
const MAX_MANIFESTS: usize = 1000;

/// An image that came out of an archive.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: StoredImage,
    /// The names that it has now.
    pub names: Vec<Reference>,
}

impl Builder<'_> {
    /// The platforms that a name has images for in its registry; none, if it is one image alone.
    ///
    /// # Errors
    ///
    /// When the registry does not have it or can not be asked.
    pub fn platforms_of(&self, name: &Reference) -> Result<Vec<Platform>, BuildError> {
        let manifest = self.registry.manifest(name).map_err(|error| failed(name, error))?;
        if !is_index(&manifest) {
            return Ok(Vec::new());
        }
        let index: Index = parsed(name, &manifest)?;
        Ok(index.platforms())
    }

    /// Pulls an image, whether the store has it or not, and gives it its name.
    ///
    /// # Errors
    ///
    /// When the registry does not have it or can not be asked, or the store fails.
    pub fn pull(
        &self,
        name: &Reference,
        platform: &Platform,
        progress: &(dyn Fn(String, u64, u64) + Sync),
    ) -> Result<StoredImage, BuildError> {
        let need = ImageNeed {
            name: ImageName::Reference(name.clone()),
            platform: platform.clone(),
            span: Span::default(),
        };
        let contexts = Default::default();
        let resolver = Resolver {
            store: self.store,
            registry: self.registry,
            contexts: &contexts,
            pull: true,
        };
        let base = resolver.resolve(&need)?;
        let fetched = base.fetch(self.store, self.registry, self.cancel, need.span, progress);
        let (layers, _) = match fetched {
            Err(_) if self.cancel.is_cancelled() => return Err(BuildError::Cancelled),
            fetched => fetched?,
        };
        base.keep(self.store, &need, &layers)?;
        let image = Images::new(self.store).by_name(name, platform)?;
        image
            .ok_or_else(|| BuildError::Damaged { what: "image", reason: format!("{name} is gone") })
    }

    /// Takes all images of an archive or layout into the store, with their names.
    ///
    /// # Errors
    ///
    /// When it is neither, or something of it is not as it says; what came before it is kept.
    pub fn load(&self, path: &Path) -> Result<Vec<Loaded>, BuildError> {
        let not_a_layout = match OciLayout::open(path) {
            Ok(layout) => return self.load_layout(&layout),
            Err(error) => error,
        };
        let Ok(archive) = DockerArchive::open(path) else { return Err(not_a_layout.into()) };
        let images = archive.images()?.into_iter();
        images.map(|(names, image)| self.load_one(&image, None, &names)).collect()
    }

    fn load_layout(&self, layout: &OciLayout) -> Result<Vec<Loaded>, BuildError> {
        let mut loaded = Vec::new();
        for (names, selector, mut platforms) in layout.entries()? {
            if platforms.is_empty() {
                platforms.push(Platform::native());
            }
            for platform in platforms {
                let image = layout.image(&selector, &platform)?;
                let manifest = Some(image.manifest.clone());
                let one = self.load_one(&image, manifest, &names)?;
                let said = layout.statements(&selector, &image.manifest.digest)?;
                let said = said.into_iter();
                let predicates: Vec<(String, Vec<u8>)> = said.filter_map(predicate).collect();
                if !predicates.is_empty() {
                    Images::new(self.store).set_predicates(&one.image.id, &predicates)?;
                }
                loaded.push(one);
            }
        }
        Ok(loaded)
    }

    fn load_one(
        &self,
        image: &dyn ImageSource,
        manifest: Option<ManifestBytes>,
        names: &[String],
    ) -> Result<Loaded, BuildError> {
        let config: strata_oci::ImageConfig = serde_json::from_slice(image.config())
            .map_err(|error| BuildError::Unsound(format!("its config: {error}")))?;
        let diff_ids = &config.rootfs.diff_ids;
        let layers = image.layers();
        check_layers(&config, layers).map_err(|error| BuildError::Unsound(error.to_string()))?;
        let mut incoming = Incoming::new(self.store, self.cancel)?;
        for (number, descriptor) in layers.iter().enumerate() {
            let open = || Ok(Box::new(image.open_layer(number)?) as Box<dyn Read + Send>);
            incoming.layer(diff_ids[number], descriptor, open)?;
        }
        let images = Images::new(self.store);
        let digest = manifest.as_ref().map(|manifest| manifest.digest);
        if let Some(manifest) = &manifest {
            let kept = self.store.put(&manifest.bytes)?;
            crate::images::remember_blob(self.store, &manifest.digest, &kept)?;
        }
        let kept = images.keep(image.config().to_vec(), incoming.layers, digest)?;
        // A bare tag, as layouts may have it, is no name.
        let is_full = |name: &&String| name.contains([':', '/']);
        let names: Vec<Reference> =
            names.iter().filter(is_full).filter_map(|name| name.parse().ok()).collect();
        for name in &names {
            images.tag(&kept, name)?;
        }
        Ok(Loaded { image: kept, names })
    }
}

/// What an in-toto statement says of its subjects, if it is one.
fn predicate((kind, statement): (String, Vec<u8>)) -> Option<(String, Vec<u8>)> {
    let statement: serde_json::Value = serde_json::from_slice(&statement).ok()?;
    Some((kind, statement.get("predicate")?.to_string().into_bytes()))
}

fn is_index(manifest: &ManifestBytes) -> bool {
    matches!(&*manifest.media_type, media_type::INDEX | media_type::DOCKER_INDEX)
}

fn failed(name: &Reference, error: strata_oci::RegistryError) -> BuildError {
    let source = BaseImageError::Registry(error);
    BuildError::BaseImage { image: name.familiar(), span: Span::default(), source }
}

fn parsed<T: serde::de::DeserializeOwned>(
    name: &Reference,
    manifest: &ManifestBytes,
) -> Result<T, BuildError> {
    serde_json::from_slice(&manifest.bytes).map_err(|error| BuildError::BaseImage {
        image: name.familiar(),
        span: Span::default(),
        source: BaseImageError::Malformed { what: "manifest", reason: error.to_string() },
    })
}

/// Copies what a name stands for, with all its platforms and attestations, byte for byte, from
/// one registry to another. What is there already is not read.
///
/// # Errors
///
/// When one of the registries fails. The target's name is set last.
pub fn copy(
    from: (&dyn Registry, &Reference),
    to: (&dyn PushRegistry, &Reference),
    observe: PushObserver<'_>,
) -> Result<Digest, BuildError> {
    let copy = Copy { from, to, observe };
    let root = from.0.manifest(from.1).map_err(|error| failed(from.1, error))?;
    let name = to.1;
    let push_failed = |source| BuildError::Push { name: name.familiar(), source };
    let under = match &name.tag {
        Some(_) => Reference { digest: None, ..name.clone() },
        None => name.with_digest(root.digest),
    };
    let digest = root.digest;
    let was_there = to.0.manifest_digest(&under).map_err(push_failed)? == Some(digest);
    if !was_there {
        let mut count = 0;
        copy.contents(&root, 0, &mut count)?;
        to.0.push_manifest(&under, &root).map_err(push_failed)?;
    }
    observe(PushEvent::Named { name, digest, was_there });
    Ok(digest)
}

struct Copy<'a> {
    from: (&'a dyn Registry, &'a Reference),
    to: (&'a dyn PushRegistry, &'a Reference),
    observe: PushObserver<'a>,
}

impl Copy<'_> {
    /// Copies what a manifest or index refers to.
    fn contents(
        &self,
        manifest: &ManifestBytes,
        depth: usize,
        count: &mut usize,
    ) -> Result<(), BuildError> {
        let name = self.from.1;
        *count += 1;
        if depth > MAX_DEPTH || *count > MAX_MANIFESTS {
            let reason = "its indexes are nested too deep, or too many".to_owned();
            let source = BaseImageError::Malformed { what: "index", reason };
            return Err(BuildError::BaseImage {
                image: name.familiar(),
                span: Span::default(),
                source,
            });
        }
        if is_index(manifest) {
            let index: Index = parsed(name, manifest)?;
            for one in &index.manifests {
                let nested = name.with_digest(one.digest);
                let nested = self.from.0.manifest(&nested).map_err(|error| failed(name, error))?;
                self.contents(&nested, depth + 1, count)?;
                let under = Reference { tag: None, ..self.to.1.with_digest(one.digest) };
                let pushed = self.to.0.push_manifest(&under, &nested);
                pushed.map_err(|source| BuildError::Push { name: under.familiar(), source })?;
            }
            return Ok(());
        }
        let manifest: Manifest = parsed(name, manifest)?;
        manifest.layers.iter().chain([&manifest.config]).try_for_each(|blob| self.blob(blob))
    }

    fn blob(&self, blob: &Descriptor) -> Result<(), BuildError> {
        let lost = Mutex::new(None);
        let bytes = |out: &mut dyn io::Write| {
            let mut broken = None;
            let mut out = Breaking { out, broken: &mut broken };
            let fetched = self.from.0.blob(self.from.1, blob, &mut out, &mut |_| {});
            match (fetched, broken) {
                (Ok(()), _) => Ok(()),
                (Err(_), Some(kind)) => Err(io::Error::from(kind)),
                (Err(error), None) => {
                    let text = error.to_string();
                    if let Ok(mut lost) = lost.lock() {
                        *lost = Some(error);
                    }
                    Err(io::Error::other(text))
                }
            }
        };
        let progress = &mut |done| (self.observe)(PushEvent::Sending { blob, done });
        let near = [self.from.1.clone()];
        let pushed = self.to.0.push_blob(self.to.1, blob, &near, &bytes, progress);
        let pushed = pushed.map_err(|source| match lost.lock().map(|mut lost| lost.take()) {
            Ok(Some(error)) => failed(self.from.1, error),
            _ => BuildError::Push { name: self.to.1.familiar(), source },
        })?;
        (self.observe)(PushEvent::Blob { blob, pushed });
        Ok(())
    }
}

/// Remembers that it was the sink that failed.
struct Breaking<'a> {
    out: &'a mut dyn io::Write,
    broken: &'a mut Option<io::ErrorKind>,
}

impl io::Write for Breaking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).inspect_err(|error| *self.broken = Some(error.kind()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
