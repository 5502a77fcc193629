//! Writing images: OCI archives and directories, and archives that Docker loads. Equal images
//! give equal bytes: layers in the images' order, then documents by their names, time 0, nobody's
//! owner.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use strata_oci::{Descriptor, Digest, Index, ManifestBytes, Platform, Reference};

use crate::ImageError;
use crate::archive_file::Archive;
use crate::copy::read_up_to;
use crate::docker::Listed;
use crate::layout::{IMAGE_NAME, REF_NAME, blob_path};
use crate::manifest::{self, descriptor, encode};
use crate::source::{MAX_DOCUMENT_BYTES, parse};
use crate::verify::Checked;

const LAYOUT_MARKER: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";
pub(crate) const OUT_BUFFER_BYTES: usize = 256 << 10;

/// What gives a layer's blob.
pub trait LayerSource: Sync {
    /// Writes the blob, exactly as its descriptor says.
    fn write_to(&self, out: &mut dyn Write) -> Result<(), ImageError>;

    /// Whether it compares what it writes with the descriptor's digest, or with names as strong as
    /// that, and fails where they differ. What is not verified so is hashed once more.
    fn is_verified(&self) -> bool {
        false
    }
}

/// A layer's blob that goes out.
#[derive(Clone)]
pub struct OutgoingLayer<'a> {
    /// What it is.
    pub descriptor: Descriptor,
    /// Where its bytes come from.
    pub source: &'a dyn LayerSource,
}

/// An image that goes out. Images with equal names in one list are one image for several
/// platforms.
#[derive(Clone)]
pub struct OutgoingImage<'a> {
    /// Its names; it may have none.
    pub names: Vec<Reference>,
    /// What it is for.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: ManifestBytes,
    /// Its config, as the manifest names it.
    pub config: Vec<u8>,
    /// Its layers, as the manifest names them.
    pub layers: Vec<OutgoingLayer<'a>>,
}

/// What goes out under some names: one image, or an index over several with what belongs to them.
#[derive(Clone)]
pub struct Parcel<'a> {
    /// Its names; it may have none.
    pub names: Vec<Reference>,
    /// The manifest or index that the names stand for.
    pub root: Descriptor,
    /// Manifests, indexes and configs, the root's among them.
    pub documents: Vec<Vec<u8>>,
    /// The blobs of layers.
    pub layers: Vec<OutgoingLayer<'a>>,
    /// The image that Docker's own archives list: its config and its layers.
    pub main: Option<(Digest, Vec<Digest>)>,
}

/// Puts images into parcels: those with equal names that follow each other are one image for
/// several platforms.
pub fn parcels<'a>(images: &[OutgoingImage<'a>]) -> Result<Vec<Parcel<'a>>, ImageError> {
    let mut parcels = Vec::new();
    let mut rest = images;
    while let Some((first, others)) = rest.split_first() {
        let same =
            others.iter().take_while(|other| !first.names.is_empty() && other.names == first.names);
        let (group, others) = rest.split_at(1 + same.count());
        rest = others;
        parcels.push(parcel(first, group)?);
    }
    Ok(parcels)
}

fn parcel<'a>(
    first: &OutgoingImage<'a>,
    group: &[OutgoingImage<'a>],
) -> Result<Parcel<'a>, ImageError> {
    let documents =
        |image: &OutgoingImage<'_>| [image.manifest.bytes.clone(), image.config.clone()];
    let mut documents: Vec<Vec<u8>> = group.iter().flat_map(documents).collect();
    let root = match group {
        [only] => {
            Descriptor { platform: Some(only.platform.clone()), ..descriptor(&only.manifest) }
        }
        several => {
            let several: Vec<(Platform, ManifestBytes)> = several
                .iter()
                .map(|image| (image.platform.clone(), image.manifest.clone()))
                .collect();
            let index = manifest::index(&several)?;
            let root = descriptor(&index);
            documents.push(index.bytes);
            root
        }
    };
    let digests = first.layers.iter().map(|layer| layer.descriptor.digest).collect();
    Ok(Parcel {
        names: first.names.clone(),
        root,
        documents,
        layers: group.iter().flat_map(|image| image.layers.clone()).collect(),
        main: Some((Digest::of(&first.config), digests)),
    })
}

/// Writes an OCI layout as a tar, as `buildx -o type=oci` does.
pub fn write_oci_archive(parcels: &[Parcel<'_>], out: &mut dyn Write) -> Result<(), ImageError> {
    Archive::begin(out)?.finish_oci(parcels)
}

/// Writes an OCI layout into a directory, which is made if it is missing. Images that are there
/// under other names stay; blobs that are there are not written again.
pub fn write_oci_directory(parcels: &[Parcel<'_>], directory: &Path) -> Result<(), ImageError> {
    let mut files = Files::default();
    let descriptors = files.parcels(parcels);
    let error = |path: &Path| ImageError::io(format!("write `{}`", path.display()));
    std::fs::create_dir_all(directory.join("blobs/sha256")).map_err(error(directory))?;
    let kept = kept_images(directory, &descriptors)?;
    files.layout([kept, descriptors].concat())?;
    write_files(&files, directory)
}

fn write_files(files: &Files<'_>, directory: &Path) -> Result<(), ImageError> {
    for layer in &files.layers {
        let name = blob_path(&layer.descriptor.digest).to_string();
        write_file(directory, &name, layer.descriptor.size, |out| layer.write_to(out))?;
    }
    for (name, bytes) in &files.documents {
        let write = |out: &mut dyn Write| out.write_all(bytes).map_err(write_error());
        write_file(directory, name, bytes.len() as u64, write)?;
    }
    Ok(())
}

fn write_file(
    directory: &Path,
    name: &str,
    size: u64,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let error = |path: &Path| ImageError::io(format!("write `{}`", path.display()));
    let path = directory.join(name);
    let is_there =
        std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size);
    if is_there && name.starts_with("blobs/") {
        return Ok(());
    }
    // Under its own name only when it is whole.
    let part = directory.join(format!("{name}.part"));
    let mut out =
        BufWriter::with_capacity(OUT_BUFFER_BYTES, File::create(&part).map_err(error(&part))?);
    write(&mut out)?;
    out.flush().map_err(error(&part))?;
    std::fs::rename(&part, &path).map_err(error(&path))
}

/// Writes an archive that `docker load` and `podman load` read, whatever their age: Docker's
/// `manifest.json` and an OCI layout over the same blobs.
pub fn write_docker_archive(parcels: &[Parcel<'_>], out: &mut dyn Write) -> Result<(), ImageError> {
    Archive::begin(out)?.finish_docker(parcels)
}

/// Writes what Docker's own store needs of an image whose lowest layers it has: the list and the
/// layers from the `known`th on. Docker takes the others from its store, whatever the archive has.
pub fn write_docker_delta(
    parcel: &Parcel<'_>,
    known: usize,
    out: &mut dyn Write,
) -> Result<(), ImageError> {
    let mut files = Files::default();
    let layers = parcel.main.iter().flat_map(|(_, layers)| layers);
    let wanted: Vec<&Digest> = layers.skip(known).collect();
    let layers = parcel.layers.iter();
    let layers = layers.filter(|layer| wanted.contains(&&layer.descriptor.digest)).cloned();
    files.parcels(&[Parcel { layers: layers.collect(), ..parcel.clone() }]);
    files.list(std::slice::from_ref(parcel))?;
    Archive::begin(out)?.finish(&files)
}

impl OutgoingLayer<'_> {
    /// Writes the blob, compared with its descriptor.
    pub(crate) fn write_to(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        let mut checked = Checked::new(out, &self.descriptor, self.source.is_verified());
        self.source.write_to(&mut checked)?;
        checked.finish()
    }
}

/// All files of a layout or archive.
#[derive(Default)]
pub(crate) struct Files<'a> {
    /// Each once, in the order in which they are written.
    pub(crate) layers: Vec<OutgoingLayer<'a>>,
    /// The others by name. They come behind the layers.
    pub(crate) documents: BTreeMap<String, Vec<u8>>,
    seen: BTreeSet<Digest>,
}

impl<'a> Files<'a> {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.documents.insert(name.to_owned(), bytes);
    }

    fn add_blob(&mut self, bytes: Vec<u8>) {
        self.add(&blob_path(&Digest::of(&bytes)).to_string(), bytes);
    }

    /// Adds the blobs of all parcels and gives the entries of the layout's index.
    pub(crate) fn parcels(&mut self, parcels: &[Parcel<'a>]) -> Vec<Descriptor> {
        let mut descriptors = Vec::new();
        for parcel in parcels {
            parcel.documents.iter().for_each(|document| self.add_blob(document.clone()));
            for layer in &parcel.layers {
                if self.seen.insert(layer.descriptor.digest) {
                    self.layers.push(layer.clone());
                }
            }
            descriptors.extend(under_names(parcel.root.clone(), &parcel.names));
        }
        descriptors
    }

    pub(crate) fn layout(&mut self, manifests: Vec<Descriptor>) -> Result<(), ImageError> {
        let index = Index {
            schema_version: 2,
            media_type: Some(strata_oci::media_type::INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
        };
        self.add("index.json", encode("`index.json`", &index)?);
        self.add("oci-layout", LAYOUT_MARKER.to_vec());
        Ok(())
    }

    /// Adds Docker's own list of images.
    pub(crate) fn list(&mut self, parcels: &[Parcel<'_>]) -> Result<(), ImageError> {
        let listed = parcels.iter().filter_map(|parcel| {
            let (config, layers) = parcel.main.as_ref()?;
            let tags = parcel.names.iter().filter(|name| name.tag.is_some());
            let tags = tags.map(|name| Reference { digest: None, ..name.clone() }.familiar());
            Some(Listed {
                config: blob_path(config).to_string(),
                repo_tags: Some(tags.collect()),
                layers: layers.iter().map(|layer| blob_path(layer).to_string()).collect(),
            })
        });
        self.add("manifest.json", encode("`manifest.json`", &listed.collect::<Vec<_>>())?);
        Ok(())
    }
}

/// One entry for each name, with the annotations that containerd, Docker and skopeo look for.
fn under_names(descriptor: Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![descriptor];
    }
    let under = |name: &Reference| {
        let mut named = descriptor.clone();
        let full = Reference { digest: None, ..name.clone() };
        named.annotations.insert(IMAGE_NAME.to_owned(), full.to_string());
        if let Some(tag) = &name.tag {
            named.annotations.insert(REF_NAME.to_owned(), tag.clone());
        }
        named
    };
    names.iter().map(under).collect()
}

/// What an existing layout keeps: entries that no new one takes the place of.
fn kept_images(directory: &Path, new: &[Descriptor]) -> Result<Vec<Descriptor>, ImageError> {
    let path = directory.join("index.json");
    let error = || ImageError::io(format!("read `{}`", path.display()));
    let mut file = match File::open(&path) {
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(error())?,
    };
    let limit = ImageError::Limit { what: "bytes in `index.json`", limit: MAX_DOCUMENT_BYTES };
    let bytes = read_up_to(&mut file, MAX_DOCUMENT_BYTES).map_err(error())?.ok_or(limit)?;
    let index: Index = parse(&bytes, &format!("`{}`", path.display()))?;
    let name = |descriptor: &Descriptor| {
        let annotations = &descriptor.annotations;
        annotations.get(IMAGE_NAME).or_else(|| annotations.get(REF_NAME)).cloned()
    };
    let is_replaced = |old: &Descriptor| {
        new.iter().any(|new| match name(old) {
            Some(old) => name(new) == Some(old),
            None => new.digest == old.digest,
        })
    };
    Ok(index.manifests.into_iter().filter(|old| !is_replaced(old)).collect())
}

pub(crate) fn write_error() -> impl FnOnce(std::io::Error) -> ImageError {
    ImageError::io("write an image")
}
