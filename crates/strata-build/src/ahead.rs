//! Layers that were never compressed go to a registry or into a file while they are: what a push
//! would ask about them, by their digests, is known only when they are. All else is pushed and
//! written as it is anywhere.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Mutex;

use strata_cas::Store;
use strata_exec::Cancel;
use strata_image::{Archive, MOST_MADE_BYTES};
use strata_oci::{
    Compression, Descriptor, Digest, ImageConfig, Index, Manifest, Pushed, RegistryError,
};

use crate::BuildError;
use crate::far;
use crate::images::{Images, StoredImage};
use crate::layers::ImageLayer;
use crate::packed_layer::{self, PackedLayer, Row};
use crate::packing::{Attest, Packed, Packing};
use crate::push::{Push, PushEvent, in_parallel, remember_source};

/// A smaller layer is compressed in no time, and then the registry can be asked whether it has it.
const WORTHWHILE_BYTES: u64 = 1 << 20;
/// The largest config that is read, in bytes.
const LARGEST_CONFIG_BYTES: u64 = 8 << 20;

impl<'a> Images<'a> {
    /// Packs images for a push, as [`Images::pack`] does, and sends layers that were never
    /// compressed while they are.
    ///
    /// A layer that the name's image has, by its diff ID, is not sent so: it is likely to be
    /// there.
    ///
    /// # Errors
    ///
    /// As [`Images::pack`] and [`Images::push`].
    pub fn pack_for(
        &self,
        images: &[StoredImage],
        packing: &Packing,
        attest: &Attest<'_>,
        push: &Push<'_>,
    ) -> Result<Packed<'a>, BuildError> {
        let sent = self.send_ahead(images, packing, push)?;
        let mut packed = self.pack(images, packing, attest)?;
        packed.sent = sent.into_iter().map(|digest| (digest, push.name.clone())).collect();
        Ok(packed)
    }

    /// Sends layers while they are compressed; gives the digests of those that are there now.
    fn send_ahead(
        &self,
        images: &[StoredImage],
        packing: &Packing,
        push: &Push<'_>,
    ) -> Result<Vec<Digest>, BuildError> {
        let mut fresh: Vec<&[ImageLayer]> = Vec::new();
        let mut seen = BTreeSet::new();
        for image in images {
            for at in 0..image.layers.len() {
                if seen.insert(image.layers[at].diff_id)
                    && is_fresh(self.store(), &image.layers[at], packing)?
                {
                    fresh.push(&image.layers[..=at]);
                }
            }
        }
        if !fresh.is_empty() {
            let there = diff_ids_of(push, images)?;
            fresh.retain(|stack| stack.last().is_some_and(|top| !there.contains(&top.diff_id)));
        }
        let configs = if fresh.is_empty() { &[][..] } else { images };
        let layers = fresh.into_iter().map(Ahead::Layer);
        let all: Vec<Ahead<'_>> = layers.chain(configs.iter().map(Ahead::Config)).collect();
        let sent = Mutex::new(Vec::new());
        in_parallel(&all, push.cancel, |one| {
            let digest = match one {
                Ahead::Layer(stack) => self.send_one(stack, packing, push)?,
                Ahead::Config(image) => Some(self.push_config(image, push)?),
            };
            sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(digest);
            Ok(())
        })?;
        Ok(sent.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Writes all layers into an archive, those that were never compressed while they are.
    pub(crate) fn write_ahead<'i>(
        &self,
        images: impl Iterator<Item = &'i StoredImage>,
        packing: &Packing,
        archive: &mut Archive<&File>,
    ) -> Result<(), BuildError> {
        let store = self.store();
        for image in images {
            for (at, layer) in image.layers.iter().enumerate() {
                let stack = &image.layers[..=at];
                if layer.bytes > MOST_MADE_BYTES || !is_fresh(store, layer, packing)? {
                    let packed = PackedLayer::of(self.shelf(), stack, packing)?;
                    archive.layer(&packed.outgoing())?;
                    continue;
                }
                self.shelf().bring(stack)?;
                archive.made(|out| {
                    let row = packed_layer::compress(store, layer, packing, false, out)?;
                    Ok::<_, BuildError>(row.descriptor.digest)
                })?;
            }
        }
        Ok(())
    }

    fn send_one(
        &self,
        stack: &[ImageLayer],
        packing: &Packing,
        push: &Push<'_>,
    ) -> Result<Option<Digest>, BuildError> {
        let Some(layer) = stack.last() else { return Ok(None) };
        self.shelf().bring(stack)?;
        let mut made: Option<Result<Row, BuildError>> = None;
        let make = &mut |out: &mut dyn io::Write| -> io::Result<Digest> {
            let mut out = Detachable { out, broken: None, cancel: push.cancel };
            let row = packed_layer::compress(self.store(), layer, packing, false, &mut out);
            let digest = match &row {
                Ok(row) => Ok(row.descriptor.digest),
                Err(error) => Err(io::Error::other(error.to_string())),
            };
            made = Some(row);
            match out.broken {
                Some(broken) => Err(broken),
                None => digest,
            }
        };
        let sent = push.registry.push_made(push.name, make);
        match (sent, made) {
            _ if push.cancel.is_cancelled() => Err(BuildError::Cancelled),
            (_, Some(Err(error))) => Err(error),
            (Ok(()), Some(Ok(row))) => {
                let blob = &row.descriptor;
                remember_source(self.store(), &blob.digest, push.name)?;
                (push.observe)(PushEvent::Blob { blob, pushed: Pushed::Sent });
                Ok(Some(blob.digest))
            }
            // It is compressed now, and goes as all others do: in parts, and again if need be.
            (Err(_), Some(Ok(_))) | (Ok(()), None) => Ok(None),
            (Err(source), None) => Err(push.failed(source)),
        }
    }
}

/// What goes to a registry before an image is packed.
enum Ahead<'i> {
    /// A layer that was never compressed, and those below it.
    Layer(&'i [ImageLayer]),
    /// An image's config, which is known before its layers are compressed.
    Config(&'i StoredImage),
}

/// Whether a layer would have to be compressed for a push.
fn is_fresh(store: &dyn Store, layer: &ImageLayer, packing: &Packing) -> Result<bool, BuildError> {
    Ok(packing.compression != Compression::None
        && layer.bytes >= WORTHWHILE_BYTES
        && layer.blob.is_none()
        && packed_layer::compressed(store, layer, packing)?.is_none()
        && far::whereabouts(store, &layer.layer)?.is_none())
}

/// The diff IDs of what the name stands for in the registry; none where it stands for nothing, or
/// may not be looked at.
fn diff_ids_of(push: &Push<'_>, images: &[StoredImage]) -> Result<BTreeSet<Digest>, BuildError> {
    let Push { name, registry, .. } = push;
    let root = match registry.manifest(name) {
        Ok(root) => root,
        Err(source @ RegistryError::Unreachable { .. }) => return Err(push.failed(source)),
        Err(_) => return Ok(BTreeSet::new()),
    };
    let mut configs: Vec<Descriptor> = Vec::new();
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(&root.bytes) {
        configs.push(manifest.config);
    } else if let Ok(index) = serde_json::from_slice::<Index>(&root.bytes) {
        for image in images {
            let Some(found) = index.select(&image.config.platform()) else { continue };
            let Ok(found) = registry.manifest(&name.with_digest(found.digest)) else { continue };
            let manifest = serde_json::from_slice::<Manifest>(&found.bytes);
            configs.extend(manifest.map(|manifest| manifest.config));
        }
    }
    let mut ids = BTreeSet::new();
    for config in configs.iter().filter(|config| config.size <= LARGEST_CONFIG_BYTES) {
        let mut bytes = Vec::new();
        if registry.blob(name, config, &mut bytes, &mut |_| ()).is_ok()
            && let Ok(config) = serde_json::from_slice::<ImageConfig>(&bytes)
        {
            ids.extend(config.rootfs.diff_ids);
        }
    }
    Ok(ids)
}

/// Passes bytes on as long as they are taken, and then nowhere: what was begun is finished for
/// the store.
struct Detachable<'a> {
    out: &'a mut dyn io::Write,
    broken: Option<io::Error>,
    cancel: &'a Cancel,
}

impl io::Write for Detachable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        if self.broken.is_none()
            && let Err(error) = self.out.write_all(bytes)
        {
            self.broken = Some(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
