//! Images out of the store: archives, directories, root file systems.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use strata_cas::{BlobId, Layer, Store, StoreError};
use strata_image::{
    Encoder, ImageError, LayerSource, ManifestFlavour, OutgoingImage, OutgoingLayer, OverlayForm,
};
use strata_oci::{Compression, Descriptor, DigestHasher, Reference};

use crate::BuildError;
use crate::images::{Images, StoredImage, forget_blob, known_blob, remember_blob};
use crate::layers::{self, ImageLayer};

/// What an image is written as, and where to.
#[derive(Debug, Clone)]
pub struct Export {
    /// In which form.
    pub kind: ExportKind,
    /// Where to.
    pub dest: ExportDest,
    /// How layers are compressed that strata makes, in the forms that hold layers.
    pub compression: Compression,
    /// How hard.
    pub compression_level: Option<i32>,
}

/// In which form an image is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportKind {
    /// An OCI layout, as a tar or a directory.
    Oci,
    /// What `docker load` and `podman load` take.
    Docker,
    /// The files themselves, in a directory.
    Local,
    /// The files themselves, as a tar.
    Tar,
}

/// Where an image is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportDest {
    /// A file; it is there only when it is complete.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// A directory.
    Directory(PathBuf),
}

impl Images<'_> {
    /// Writes an image.
    pub fn export(
        &self,
        image: &StoredImage,
        names: &[Reference],
        export: &Export,
    ) -> Result<(), BuildError> {
        match (&export.kind, &export.dest) {
            (ExportKind::Local, ExportDest::Directory(path)) => self.lay_out(image, path),
            (ExportKind::Oci, ExportDest::Directory(path)) => {
                self.outgoing(image, names, export, |image| {
                    Ok(strata_image::write_oci_directory(&[image], path)?)
                })
            }
            (kind, ExportDest::File(path)) => {
                let kind = *kind;
                into_file(path, |out| self.write(image, names, export, kind, out))
            }
            (kind, ExportDest::Stdout) => {
                let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
                self.write(image, names, export, *kind, &mut out)?;
                out.flush().map_err(BuildError::io("write to standard output"))
            }
            (_, ExportDest::Directory(path)) => Err(BuildError::Io {
                action: format!("write `{}`", path.display()),
                source: io::ErrorKind::IsADirectory.into(),
            }),
        }
    }

    fn write(
        &self,
        image: &StoredImage,
        names: &[Reference],
        export: &Export,
        kind: ExportKind,
        out: &mut dyn Write,
    ) -> Result<(), BuildError> {
        match kind {
            ExportKind::Oci => self.outgoing(image, names, export, |image| {
                Ok(strata_image::write_oci_archive(&[image], out)?)
            }),
            ExportKind::Docker => self.outgoing(image, names, export, |image| {
                Ok(strata_image::write_docker_archive(&image, out)?)
            }),
            ExportKind::Tar | ExportKind::Local => {
                Ok(strata_image::pack(&self.squashed(image)?, self.store(), out)?)
            }
        }
    }

    fn squashed(&self, image: &StoredImage) -> Result<Layer, BuildError> {
        Ok(strata_cas::squash(self.layers(image)?.iter().map(|layer| &**layer)))
    }

    fn lay_out(&self, image: &StoredImage, path: &Path) -> Result<(), BuildError> {
        std::fs::create_dir_all(path)
            .map_err(BuildError::io(format!("create `{}`", path.display())))?;
        let layer = self.squashed(image)?;
        let form = match strata_exec::in_user_namespace() {
            true => OverlayForm::Mine,
            false => OverlayForm::Plain,
        };
        Ok(strata_image::materialise(&layer, self.store(), path, form)?)
    }

    /// Gathers an image with the blobs of its layers, compressing what was never compressed.
    fn outgoing(
        &self,
        image: &StoredImage,
        names: &[Reference],
        export: &Export,
        write: impl FnOnce(OutgoingImage<'_>) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let store = self.store();
        let blobs: Vec<LayerBlob<'_>> = image
            .layers
            .iter()
            .map(|layer| LayerBlob::of(store, layer, export))
            .collect::<Result<_, _>>()?;
        let descriptors: Vec<Descriptor> =
            blobs.iter().map(|blob| blob.descriptor.clone()).collect();
        let flavour = match export.kind {
            ExportKind::Docker => ManifestFlavour::Docker,
            _ => ManifestFlavour::Oci,
        };
        let manifest = strata_image::manifest(flavour, &image.config_bytes, &descriptors)?;
        let layers = blobs
            .iter()
            .map(|blob| OutgoingLayer { descriptor: blob.descriptor.clone(), source: blob })
            .collect();
        write(OutgoingImage {
            names: names.to_vec(),
            platform: image.config.platform(),
            manifest,
            config: image.config_bytes.clone(),
            layers,
        })
    }
}

/// A layer as it goes out.
struct LayerBlob<'a> {
    store: &'a dyn Store,
    descriptor: Descriptor,
    content: Content,
}

enum Content {
    /// A blob in the store.
    Kept(BlobId),
    /// The layer's own tar, made while it is written.
    Packed(std::sync::Arc<Layer>),
}

/// Compressed layers by diff ID, compression and level: each is compressed once.
pub(crate) const TABLE: &str = "compressed-1";

impl<'a> LayerBlob<'a> {
    fn of(store: &'a dyn Store, layer: &ImageLayer, export: &Export) -> Result<Self, BuildError> {
        if let Some(descriptor) = &layer.blob
            && let Some(id) = known_blob(store, &descriptor.digest)?
        {
            let (descriptor, content) = (descriptor.clone(), Content::Kept(id));
            return Ok(Self { store, descriptor, content });
        }
        if layer.blob.is_some() {
            check_own_tar(store, layer)?;
        }
        let media_type = export.compression.layer_media_type();
        if export.compression == Compression::None {
            let descriptor = Descriptor {
                digest: layer.diff_id,
                size: layer.bytes,
                ..Descriptor::of(media_type, b"")
            };
            let content = Content::Packed(layers::load(store, &layer.layer)?);
            return Ok(Self { store, descriptor, content });
        }
        let level = export.compression_level.map_or_else(String::new, |level| format!(" {level}"));
        let name = format!("{} {media_type}{level}", layer.diff_id);
        if let Some(bytes) = store.name(TABLE, &name)?
            && let Ok(descriptor) = serde_json::from_slice::<Descriptor>(&bytes)
            && let Some(id) = known_blob(store, &descriptor.digest)?
        {
            return Ok(Self { store, descriptor, content: Content::Kept(id) });
        }
        let (descriptor, id) = compress(store, layer, export)?;
        let bytes = serde_json::to_vec(&descriptor).map_err(BuildError::damaged("descriptor"))?;
        remember_blob(store, &descriptor.digest, &id)?;
        store.set_name(TABLE, &name, Some(&bytes))?;
        Ok(Self { store, descriptor, content: Content::Kept(id) })
    }
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

/// Compresses a layer's tar into the store.
fn compress(
    store: &dyn Store,
    layer: &ImageLayer,
    export: &Export,
) -> Result<(Descriptor, BlobId), BuildError> {
    let value = layers::load(store, &layer.layer)?;
    let staging = store.stage()?;
    let path = staging.path().join("compressed");
    let writing = || BuildError::io(format!("write `{}`", path.display()));
    let file = File::create(&path).map_err(writing())?;
    let out =
        Tee { file: BufWriter::with_capacity(1 << 18, file), hasher: DigestHasher::default() };
    let mut encoder = Encoder::new(out, export.compression, export.compression_level);
    strata_image::pack(&value, store, &mut encoder)?;
    let mut out = encoder.finish().map_err(writing())?;
    out.file.flush().map_err(writing())?;
    let (digest, size) = out.hasher.finish();
    let media_type = export.compression.layer_media_type();
    let descriptor = Descriptor { digest, size, ..Descriptor::of(media_type, b"") };
    let mut file = File::open(&path).map_err(writing())?;
    Ok((descriptor, store.put_from(&mut file)?))
}

/// Writes and names what is written.
struct Tee {
    file: BufWriter<File>,
    hasher: DigestHasher,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl LayerSource for LayerBlob<'_> {
    fn write_to(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        let id = match &self.content {
            Content::Packed(layer) => return strata_image::pack(layer, self.store, out),
            Content::Kept(id) => id,
        };
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the blob is gone");
        let mut read = || -> io::Result<()> {
            let blob = self.store.open(id).map_err(io::Error::other)?.ok_or_else(missing)?;
            io::copy(&mut blob.reader(*id), out).map(drop)
        };
        let digest = &self.descriptor.digest;
        read().map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
                drop(forget_blob(self.store, digest));
                ImageError::from(StoreError::Damaged { what: format!("layer {digest}") })
            }
            _ => ImageError::io(format!("read layer {digest}"))(error),
        })
    }
}

/// Writes a file that has its name only when it is complete; what is no file is written to as it
/// is.
fn into_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let action = || BuildError::io(format!("write `{}`", path.display()));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    if path.is_dir() {
        return Err(action()(io::ErrorKind::IsADirectory.into()));
    }
    let metadata = std::fs::metadata(path);
    if metadata.is_ok_and(|metadata| !metadata.is_file()) {
        // A device or a pipe is written to: nothing may take its place.
        let file = File::options().write(true).open(path).map_err(action())?;
        let mut out = BufWriter::with_capacity(1 << 18, file);
        return write(&mut out).and_then(|()| out.flush().map_err(action()));
    }
    let partial = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let file = File::create(&partial).map_err(action())?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    let written = write(&mut out).and_then(|()| out.flush().map_err(action()));
    let renamed = written.and_then(|()| std::fs::rename(&partial, path).map_err(action()));
    if renamed.is_err() {
        drop(std::fs::remove_file(&partial));
    }
    renamed
}
