//! Base images: what a name means at the moment, and how its layers come into the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use strata_cas::{Directory, Layer, Staging, Store, TreeId, TreePath};
use strata_dockerfile::Span;
use strata_exec::Cancel;
use strata_image::{
    Decoder, DockerArchive, ImageError, ImageSource, LowerItem, LowerLayers, OciLayout, Selector,
    UnpackOptions,
};
use strata_oci::{
    Descriptor, Digest, ImageConfig, Index, Manifest, ManifestBytes, Platform, Reference, Registry,
    media_type,
};
use strata_plan::{ImageName, ImageNeed, ResolvedImage};

use crate::far::{Nowhere, Shelf};
use crate::images::{Images, StoredImage, remember_blob};
use crate::layers::{self, ImageLayer, overlay_form};
use crate::view::{Kind, RootView, Seen, View};
use crate::{BaseImageError, BuildError, Context};

/// How many layers come in at a time.
const DOWNLOADS: usize = 3;
/// So many layers an image from elsewhere may have; Docker itself makes at most 127.
const MAX_LAYERS: usize = 2000;

/// A base image that was looked up.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) resolved: ResolvedImage,
    config_bytes: Vec<u8>,
    /// The manifest as it came.
    manifest: Option<Vec<u8>>,
    from: From,
}

#[derive(Debug)]
enum From {
    Store(Box<StoredImage>),
    Registry { reference: Reference, layers: Vec<Descriptor> },
    Archive { path: std::path::PathBuf, name: Option<String>, platform: Platform },
}

/// Looks images up.
pub(crate) struct Resolver<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) registry: &'a dyn Registry,
    pub(crate) contexts: &'a BTreeMap<String, Context>,
    /// Whether the registry is asked although the store has the image.
    pub(crate) pull: bool,
}

impl Resolver<'_> {
    /// What an image is at the moment.
    pub(crate) fn resolve(&self, need: &ImageNeed) -> Result<Base, BuildError> {
        let failed = |source| BuildError::BaseImage {
            image: need.name.to_string(),
            span: need.span,
            source,
        };
        let reference = match &need.name {
            ImageName::Reference(reference) => reference,
            ImageName::Context(name) => match self.contexts.get(name) {
                Some(Context::Image(reference)) => reference,
                Some(Context::Archive { path, name }) => {
                    return archive(path, name.as_deref(), &need.platform).map_err(failed);
                }
                _ => return Err(BuildError::copy(need.span, format!("no context `{name}`"))),
            },
        };
        if !self.pull
            && let Some(image) = self.stored(reference, &need.platform)?
        {
            return Ok(image);
        }
        self.ask_registry(reference, &need.platform).map_err(failed)
    }

    fn stored(&self, name: &Reference, platform: &Platform) -> Result<Option<Base>, BuildError> {
        let Some(image) = Images::new(self.store).by_name(name, platform)? else {
            return Ok(None);
        };
        let shelf = Shelf { store: self.store, far: &Nowhere };
        for layer in &image.layers {
            if !shelf.is_reachable(layer, false)? {
                return Ok(None);
            }
        }
        let digest = image.manifest.unwrap_or(image.id);
        let resolved = ResolvedImage { digest, config: image.config.clone() };
        let config_bytes = image.config_bytes.clone();
        let from = From::Store(Box::new(image));
        Ok(Some(Base { resolved, config_bytes, manifest: None, from }))
    }

    fn ask_registry(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Base, BaseImageError> {
        let mut manifest = self.registry.manifest(reference)?;
        let is_index = |bytes: &ManifestBytes| {
            matches!(&*bytes.media_type, media_type::INDEX | media_type::DOCKER_INDEX)
        };
        if is_index(&manifest) {
            let index: Index = document("index", &manifest.bytes)?;
            let chosen = index.select(platform).ok_or_else(|| BaseImageError::Platform {
                wanted: platform.to_string(),
                there: index.platforms().iter().map(Platform::to_string).collect(),
            })?;
            manifest = self.registry.manifest(&reference.with_digest(chosen.digest))?;
            if is_index(&manifest) {
                let reason = "an index in an index".to_owned();
                return Err(BaseImageError::Malformed { what: "manifest", reason });
            }
        }
        let digest = manifest.digest;
        let manifest_bytes = Some(manifest.bytes);
        let manifest: Manifest =
            document("manifest", manifest_bytes.as_deref().unwrap_or_default())?;
        let mut config_bytes = Vec::new();
        let pinned = reference.with_digest(digest);
        self.registry.blob(&pinned, &manifest.config, &mut config_bytes, &mut |_| {})?;
        let config: ImageConfig = document("config", &config_bytes)?;
        check_layers(&config, &manifest.layers)?;
        check_platform(&config, platform)?;
        let from = From::Registry { reference: pinned, layers: manifest.layers };
        let resolved = ResolvedImage { digest, config };
        Ok(Base { resolved, config_bytes, manifest: manifest_bytes, from })
    }
}

fn document<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, BaseImageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| BaseImageError::Malformed { what, reason: error.to_string() })
}

/// Config and manifest must name as many layers, and not too many.
pub(crate) fn check_layers(
    config: &ImageConfig,
    layers: &[Descriptor],
) -> Result<(), BaseImageError> {
    let (names, blobs) = (config.rootfs.diff_ids.len(), layers.len());
    let reason = if names != blobs {
        format!("it names {names} layers, the manifest {blobs}")
    } else if names > MAX_LAYERS {
        format!("it names {names} layers, and {MAX_LAYERS} are the most that are taken")
    } else {
        return Ok(());
    };
    Err(BaseImageError::Malformed { what: "config", reason })
}

/// An image that says what it is for must be for the right thing.
fn check_platform(config: &ImageConfig, wanted: &Platform) -> Result<(), BaseImageError> {
    let there = config.platform();
    if there.architecture.is_empty() || there.serves(wanted) {
        return Ok(());
    }
    let there = vec![there.to_string()];
    Err(BaseImageError::Platform { wanted: wanted.to_string(), there })
}

/// An OCI layout or a Docker archive: the latter where the former is not.
fn with_archive<T>(
    path: &std::path::Path,
    name: Option<&str>,
    platform: &Platform,
    work: impl FnOnce(&dyn ImageSource, Digest) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let selector = name.map_or(Selector::Only, Selector::parse);
    match OciLayout::open(path) {
        Ok(layout) => {
            let image = layout.image(&selector, platform)?;
            let digest = image.manifest.digest;
            work(&image, digest)
        }
        Err(not_a_layout) => {
            let Ok(archive) = DockerArchive::open(path) else { return Err(not_a_layout.into()) };
            let image = archive.image(&selector)?;
            let digest = Digest::of(image.config());
            work(&image, digest)
        }
    }
}

fn archive(
    path: &std::path::Path,
    name: Option<&str>,
    platform: &Platform,
) -> Result<Base, BaseImageError> {
    let read = |image: &dyn ImageSource, digest| {
        let config_bytes = image.config().to_vec();
        let layers = image.layers().to_vec();
        let from = From::Archive {
            path: path.to_owned(),
            name: name.map(str::to_owned),
            platform: platform.clone(),
        };
        let config = serde_json::from_slice(&config_bytes).unwrap_or_default();
        let resolved = ResolvedImage { digest, config };
        Ok((layers, Base { resolved, config_bytes, manifest: None, from }))
    };
    let (layers, base) = with_archive(path, name, platform, read).map_err(|error| match error {
        BuildError::Image(error) => BaseImageError::Image(error),
        other => BaseImageError::Malformed { what: "layout", reason: other.to_string() },
    })?;
    check_layers(&document("config", &base.config_bytes)?, &layers)?;
    check_platform(&base.resolved.config, platform)?;
    Ok(base)
}

impl Base {
    /// Whether the image came from its registry, so that others can fetch it there.
    pub(crate) fn is_of_registry(&self) -> bool {
        match &self.from {
            From::Registry { .. } => true,
            From::Store(image) => image.manifest.is_some(),
            From::Archive { .. } => false,
        }
    }

    /// Brings the image's layers into the store, where they are not there, and says what they
    /// are and which tree they give. `progress` gets a name for what comes in, bytes so far and
    /// in all.
    pub(crate) fn fetch(
        &self,
        store: &dyn Store,
        registry: &dyn Registry,
        cancel: &Cancel,
        span: Span,
        progress: &(dyn Fn(String, u64, u64) + Sync),
    ) -> Result<(Vec<ImageLayer>, TreeId), BuildError> {
        let diff_ids = &self.resolved.config.rootfs.diff_ids;
        let mut incoming = Incoming::new(store, cancel)?;
        match &self.from {
            From::Store(image) => {
                for layer in &image.layers {
                    incoming.stack(layer.clone())?;
                }
            }
            From::Archive { path, name, platform } => {
                let bring = |image: &dyn ImageSource, _| {
                    for (number, descriptor) in image.layers().iter().enumerate() {
                        let open =
                            || Ok(Box::new(image.open_layer(number)?) as Box<dyn Read + Send>);
                        incoming.layer(diff_ids[number], descriptor, open)?;
                    }
                    Ok(())
                };
                with_archive(path, name.as_deref(), platform, bring)?;
            }
            From::Registry { reference, layers } => {
                let download =
                    Download { store, registry, cancel, reference, layers, diff_ids, progress };
                download.run(&mut incoming).map_err(|error| match error {
                    DownloadError::Build(error) => error,
                    DownloadError::Registry(source) => BuildError::BaseImage {
                        image: reference.familiar(),
                        span,
                        source: source.into(),
                    },
                })?;
            }
        }
        Ok((incoming.layers, incoming.tree))
    }

    /// Remembers the image under its name, once its layers are there.
    pub(crate) fn keep(
        &self,
        store: &dyn Store,
        need: &ImageNeed,
        layers: &[ImageLayer],
    ) -> Result<(), BuildError> {
        let (From::Registry { .. }, ImageName::Reference(name)) = (&self.from, &need.name) else {
            return Ok(());
        };
        let images = Images::new(store);
        for blob in layers.iter().filter_map(|layer| layer.blob.as_ref()) {
            crate::push::remember_source(store, &blob.digest, name)?;
        }
        let manifest = Some(self.resolved.digest);
        if let Some(bytes) = &self.manifest
            && crate::images::known_blob(store, &self.resolved.digest)?.is_none()
        {
            remember_blob(store, &self.resolved.digest, &store.put(bytes)?)?;
        }
        let image = images.keep(self.config_bytes.clone(), layers.to_vec(), manifest)?;
        images.tag(&image, name)
    }
}

enum DownloadError {
    Registry(strata_oci::RegistryError),
    Build(BuildError),
}

/// Layers on their way in: several are fetched at a time, one after the other is unpacked.
struct Download<'a> {
    store: &'a dyn Store,
    registry: &'a dyn Registry,
    cancel: &'a Cancel,
    reference: &'a Reference,
    layers: &'a [Descriptor],
    diff_ids: &'a [Digest],
    progress: &'a (dyn Fn(String, u64, u64) + Sync),
}

type Slot = Option<Result<Option<Staging>, DownloadError>>;

impl Download<'_> {
    fn run(&self, incoming: &mut Incoming<'_>) -> Result<(), DownloadError> {
        let slots: Mutex<Vec<Slot>> = Mutex::new(self.layers.iter().map(|_| None).collect());
        let (next, arrived) = (Mutex::new(0..self.layers.len()), Condvar::new());
        std::thread::scope(|scope| {
            for _ in 0..DOWNLOADS.min(self.layers.len()) {
                scope.spawn(|| {
                    loop {
                        let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(number) = taken else { break };
                        let fetched = self.fetch(number);
                        if fetched.is_err() {
                            let mut rest = next.lock().unwrap_or_else(PoisonError::into_inner);
                            *rest = 0..0;
                        }
                        let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
                        slots[number] = Some(fetched);
                        arrived.notify_all();
                    }
                });
            }
            let take = |number: usize| {
                let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
                loop {
                    if let Some(fetched) = slots[number].take() {
                        return fetched;
                    }
                    // A later one's failure ends the downloads: this one will not come.
                    let failed = slots.iter().position(|slot| matches!(slot, Some(Err(_))));
                    if let Some(Some(failed)) = failed.map(|at| slots[at].take()) {
                        return failed;
                    }
                    slots = arrived.wait(slots).unwrap_or_else(PoisonError::into_inner);
                }
            };
            (0..self.layers.len())
                .try_for_each(|number| self.unpack(number, take(number)?, incoming))
        })
    }

    /// Fetches one layer's blob into a file; nothing, if the layer is known.
    fn fetch(&self, number: usize) -> Result<Option<Staging>, DownloadError> {
        let descriptor = &self.layers[number];
        let chain = layers::chain_of(&self.diff_ids[..=number]);
        if layers::known(self.store, &chain).map_err(DownloadError::Build)?.is_some() {
            return Ok(None);
        }
        let store_error = |error| DownloadError::Build(BuildError::Store(error));
        let staging = self.store.stage().map_err(store_error)?;
        let path = staging.path().join("blob");
        let action = format!("write `{}`", path.display());
        let inner = File::create(&path)
            .map_err(|error| DownloadError::Build(BuildError::io(action)(error)))?;
        let mut file = UntilCancelled { inner, cancel: self.cancel };
        let (name, total) = (descriptor.digest.short(), descriptor.size);
        self.registry
            .blob(self.reference, descriptor, &mut file, &mut |done| {
                (self.progress)(name.clone(), done, total);
            })
            .map_err(DownloadError::Registry)?;
        Ok(Some(staging))
    }

    fn unpack(
        &self,
        number: usize,
        fetched: Option<Staging>,
        incoming: &mut Incoming<'_>,
    ) -> Result<(), DownloadError> {
        let (diff_id, descriptor) = (self.diff_ids[number], &self.layers[number]);
        let open = || {
            let staging = fetched.as_ref().ok_or_else(|| BuildError::Damaged {
                what: "table of layers",
                reason: format!("layer {diff_id} vanished"),
            })?;
            let path = staging.path().join("blob");
            let file =
                File::open(&path).map_err(BuildError::io(format!("read `{}`", path.display())))?;
            Ok(Box::new(file) as Box<dyn Read + Send>)
        };
        incoming.layer(diff_id, descriptor, open).map_err(DownloadError::Build)
    }
}

/// Layers that come into the store one on top of the other.
pub(crate) struct Incoming<'a> {
    store: &'a dyn Store,
    cancel: &'a Cancel,
    pub(crate) layers: Vec<ImageLayer>,
    values: Vec<Arc<Layer>>,
    diff_ids: Vec<Digest>,
    tree: TreeId,
}

impl<'a> Incoming<'a> {
    pub(crate) fn new(store: &'a dyn Store, cancel: &'a Cancel) -> Result<Self, BuildError> {
        let tree = Directory::empty_root().keep(store)?;
        let (layers, values, diff_ids) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { store, cancel, layers, values, diff_ids, tree })
    }

    /// Puts a layer that is in the store on top.
    fn stack(&mut self, layer: ImageLayer) -> Result<(), BuildError> {
        let value = layers::load(self.store, &layer.layer)?;
        self.tree = strata_cas::apply(self.store, Some(&self.tree), &value)?;
        self.diff_ids.push(layer.diff_id);
        self.values.push(value);
        self.layers.push(layer);
        Ok(())
    }

    /// Brings one layer into the store, from its blob, if it is not there.
    pub(crate) fn layer<'b>(
        &mut self,
        diff_id: Digest,
        descriptor: &Descriptor,
        open: impl Fn() -> Result<Box<dyn Read + Send + 'b>, BuildError>,
    ) -> Result<(), BuildError> {
        let store = self.store;
        let chain = layers::chain_of(&[&self.diff_ids[..], &[diff_id]].concat());
        if let Some(layer) = layers::known(store, &chain)? {
            return self.stack(layer);
        }
        let cancel = self.cancel;
        let open = || open().map(|inner| UntilCancelled { inner, cancel });
        let staging = store.stage()?;
        let reading = || BuildError::io(format!("read layer {}", descriptor.digest));
        let mut decoder = Decoder::new(open()?).map_err(reading())?;
        let below = RootView::new(store, Some(self.tree), self.values.clone());
        let lower = Lower { store, below };
        let options = UnpackOptions { lower: Some(&lower), ..UnpackOptions::new(overlay_form()) };
        let unpacked = strata_image::unpack(&mut decoder, &staging.fs(), &options)?;
        if unpacked.diff_id != diff_id {
            let there = unpacked.diff_id;
            let reason = format!("the tar of a layer is {there}, the config says {diff_id}");
            return Err(BuildError::Unsound(reason));
        }
        // The blob is kept as it came: an export gives base layers their original bytes.
        let blob = store.put_from(&mut open()?)?;
        remember_blob(store, &descriptor.digest, &blob)?;
        let layer = store.put(&unpacked.layer.encode())?.into();
        store.commit(staging, &layer, &unpacked.files)?;
        let blob = Some(Descriptor { annotations: BTreeMap::new(), ..descriptor.clone() });
        let layer = ImageLayer { layer, diff_id, bytes: unpacked.size, blob };
        layers::remember(store, &chain, &layer)?;
        self.stack(layer)
    }
}

/// A file or stream that ends with an error as soon as the build is cancelled.
struct UntilCancelled<'a, T> {
    inner: T,
    cancel: &'a Cancel,
}

impl<T> UntilCancelled<'_, T> {
    fn check(&self) -> io::Result<()> {
        if self.cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) }
    }
}

impl<T: Read> Read for UntilCancelled<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.read(buffer)
    }
}

impl<T: Write> Write for UntilCancelled<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What is below a layer that comes in.
pub(crate) struct Lower<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) below: RootView<'a>,
}

impl LowerLayers for Lower<'_> {
    fn look(&self, path: &TreePath) -> Result<Option<LowerItem>, ImageError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            let action = format!("look for `/{path}` in the layers below");
            ImageError::io(action)(io::Error::other(error))
        };
        let seen = self.below.get(path).map_err(|error| failed(error.into()))?;
        let Some(Seen { kind, metadata, modified }) = seen else { return Ok(None) };
        Ok(Some(match kind {
            Kind::Directory => LowerItem::Directory { metadata, modified },
            Kind::Symlink { target } => LowerItem::Symlink { target },
            Kind::Device(_) => LowerItem::Other,
            Kind::File { blob, .. } => {
                let found = self.store.open(&blob).map_err(|error| failed(error.into()))?;
                let found = found.ok_or_else(|| failed("its bytes are gone".into()))?;
                let content = Box::new(found.reader(blob));
                LowerItem::File { metadata, modified, content }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_when_the_build_is_cancelled() {
        let cancel = Cancel::new().expect("a switch");
        let mut stream = UntilCancelled { inner: io::Cursor::new(vec![1; 8]), cancel: &cancel };
        assert_eq!(stream.read(&mut [0; 4]).expect("bytes"), 4);
        assert_eq!(stream.write(&[2; 2]).expect("written"), 2);
        cancel.cancel();
        assert!(stream.read(&mut [0; 4]).is_err() && stream.write(&[2]).is_err());
    }
}
