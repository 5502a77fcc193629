//! Writing images: OCI archives and directories, and archives that Docker loads. Equal images
//! give equal bytes: sorted names, time 0, nobody's owner.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use strata_cas::{Metadata, Time, TreePath};
use strata_oci::{Descriptor, Digest, Index, ManifestBytes, Platform, Reference};
use tar::EntryType;

use crate::copy::read_up_to;
use crate::docker::Listed;
use crate::header::{BLOCK, Fields, padding};
use crate::layout::{IMAGE_NAME, REF_NAME, blob_path};
use crate::manifest::{self, descriptor, encode};
use crate::source::{MAX_DOCUMENT_BYTES, parse};
use crate::verify::Checked;
use crate::{ImageError, header};

const LAYOUT_MARKER: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";
const OUT_BUFFER_BYTES: usize = 256 << 10;

/// What gives a layer's blob.
pub trait LayerSource: Sync {
    /// Writes the blob, exactly as its descriptor says.
    fn write_to(&self, out: &mut dyn Write) -> Result<(), ImageError>;
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

/// Writes an OCI layout as a tar, as `buildx -o type=oci` does.
pub fn write_oci_archive(
    images: &[OutgoingImage<'_>],
    out: &mut dyn Write,
) -> Result<(), ImageError> {
    let mut files = Files::default();
    let descriptors = files.images(images)?;
    files.layout(descriptors)?;
    write_tar(&files, out)
}

/// Writes an OCI layout into a directory, which is made if it is missing. Images that are there
/// under other names stay; blobs that are there are not written again.
pub fn write_oci_directory(
    images: &[OutgoingImage<'_>],
    directory: &Path,
) -> Result<(), ImageError> {
    let mut files = Files::default();
    let descriptors = files.images(images)?;
    let error = |path: &Path| ImageError::io(format!("write `{}`", path.display()));
    std::fs::create_dir_all(directory.join("blobs/sha256")).map_err(error(directory))?;
    let kept = kept_images(directory, &descriptors)?;
    files.layout([kept, descriptors].concat())?;
    for (name, content) in &files.by_name {
        let path = directory.join(name);
        let is_there = std::fs::metadata(&path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == content.size());
        if is_there && name.starts_with("blobs/") {
            continue;
        }
        // Under its own name only when it is whole.
        let part = directory.join(format!("{name}.part"));
        let mut out =
            BufWriter::with_capacity(OUT_BUFFER_BYTES, File::create(&part).map_err(error(&part))?);
        content.write_to(&mut out)?;
        out.flush().map_err(error(&part))?;
        std::fs::rename(&part, &path).map_err(error(&path))?;
    }
    Ok(())
}

/// Writes an archive that `docker load` and `podman load` read, whatever their age: Docker's
/// `manifest.json` and an OCI layout over the same blobs.
pub fn write_docker_archive(
    image: &OutgoingImage<'_>,
    out: &mut dyn Write,
) -> Result<(), ImageError> {
    let mut files = Files::default();
    let descriptors = files.images(std::slice::from_ref(image))?;
    files.layout(descriptors)?;
    let tags = image.names.iter().filter(|name| name.tag.is_some());
    let tags = tags.map(|name| Reference { digest: None, ..name.clone() }.familiar());
    let listed = Listed {
        config: blob_path(&Digest::of(&image.config)).to_string(),
        repo_tags: Some(tags.collect()),
        layers: image
            .layers
            .iter()
            .map(|layer| blob_path(&layer.descriptor.digest).to_string())
            .collect(),
    };
    files.add("manifest.json", encode("`manifest.json`", &[listed])?);
    write_tar(&files, out)
}

/// A file that goes out.
enum Content<'a> {
    Bytes(Vec<u8>),
    Layer(OutgoingLayer<'a>),
}

impl Content<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Layer(layer) => layer.descriptor.size,
        }
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        match self {
            Self::Bytes(bytes) => out.write_all(bytes).map_err(write_error()),
            Self::Layer(OutgoingLayer { descriptor, source }) => {
                let mut checked = Checked::new(out, descriptor.size);
                source.write_to(&mut checked)?;
                checked.finish(descriptor)
            }
        }
    }
}

/// All files of a layout or archive by name.
#[derive(Default)]
struct Files<'a> {
    by_name: BTreeMap<String, Content<'a>>,
}

impl<'a> Files<'a> {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.by_name.insert(name.to_owned(), Content::Bytes(bytes));
    }

    fn add_blob(&mut self, bytes: Vec<u8>) {
        self.add(&blob_path(&Digest::of(&bytes)).to_string(), bytes);
    }

    /// Adds the blobs of all images and gives the entries of the layout's index.
    fn images(&mut self, images: &[OutgoingImage<'a>]) -> Result<Vec<Descriptor>, ImageError> {
        let mut descriptors = Vec::new();
        let mut rest = images;
        while let Some((first, others)) = rest.split_first() {
            let same = others
                .iter()
                .take_while(|other| !first.names.is_empty() && other.names == first.names);
            let (group, others) = rest.split_at(1 + same.count());
            rest = others;
            group.iter().for_each(|image| self.image(image));
            let named = match group {
                [only] => {
                    let platform = Some(only.platform.clone());
                    Descriptor { platform, ..descriptor(&only.manifest) }
                }
                several => {
                    let several: Vec<(Platform, ManifestBytes)> = several
                        .iter()
                        .map(|image| (image.platform.clone(), image.manifest.clone()))
                        .collect();
                    let index = manifest::index(&several)?;
                    let descriptor = descriptor(&index);
                    self.add_blob(index.bytes);
                    descriptor
                }
            };
            descriptors.extend(under_names(named, &first.names));
        }
        Ok(descriptors)
    }

    fn image(&mut self, image: &OutgoingImage<'a>) {
        self.add_blob(image.manifest.bytes.clone());
        self.add_blob(image.config.clone());
        for layer in &image.layers {
            let name = blob_path(&layer.descriptor.digest).to_string();
            self.by_name.insert(name, Content::Layer(layer.clone()));
        }
    }

    fn layout(&mut self, manifests: Vec<Descriptor>) -> Result<(), ImageError> {
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

fn write_tar(files: &Files<'_>, out: &mut dyn Write) -> Result<(), ImageError> {
    let mut out = BufWriter::with_capacity(OUT_BUFFER_BYTES, out);
    for directory in ["blobs/", "blobs/sha256/"] {
        let bytes = entry(directory, EntryType::Directory, 0o755, 0)?;
        out.write_all(&bytes).map_err(write_error())?;
    }
    for (name, content) in &files.by_name {
        let size = content.size();
        let bytes = entry(name, EntryType::Regular, 0o644, size)?;
        out.write_all(&bytes).map_err(write_error())?;
        content.write_to(&mut out)?;
        let padding = usize::try_from(padding(size)).unwrap_or(0);
        out.write_all(&[0; BLOCK][..padding]).map_err(write_error())?;
    }
    out.write_all(&[0; 2 * BLOCK]).map_err(write_error())?;
    out.flush().map_err(write_error())
}

fn entry(name: &str, kind: EntryType, mode: u32, size: u64) -> Result<Vec<u8>, ImageError> {
    let metadata = Metadata::root(mode);
    let fields = Fields {
        name: name.as_bytes(),
        kind,
        link: b"",
        size,
        metadata: &metadata,
        modified: Time(0),
        device: (0, 0),
    };
    let path = || TreePath::normalise(name.as_bytes());
    header::encode(&fields).map_err(|reason| ImageError::Unrepresentable { path: path(), reason })
}

fn write_error() -> impl FnOnce(std::io::Error) -> ImageError {
    ImageError::io("write an image")
}
