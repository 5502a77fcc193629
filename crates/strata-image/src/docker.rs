//! Docker's archives, as `docker save` writes them: `manifest.json`, configs and layers.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strata_cas::TreePath;
use strata_oci::{Compression, Descriptor, Digest, DigestHasher, ImageConfig, Reference};

use crate::compress::{Format, detect};
use crate::layout::{Selector, some_of};
use crate::members::Members;
use crate::source::{parse, read_document};
use crate::verify::Verified;
use crate::{ImageError, ImageSource, copy::copy};

/// One image in `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
}

/// A Docker archive that is open for reading.
#[derive(Debug)]
pub struct DockerArchive {
    path: PathBuf,
    members: Members,
    listed: Vec<Listed>,
}

/// An image of a Docker archive.
#[derive(Debug)]
pub struct DockerImage<'a> {
    archive: &'a DockerArchive,
    config: Vec<u8>,
    layers: Vec<Descriptor>,
    names: Vec<TreePath>,
}

impl DockerArchive {
    /// Opens an archive, or a directory with its content.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let members = Members::open(path)?;
        let mut archive = Self { path: path.to_owned(), members, listed: Vec::new() };
        let bytes = archive.document("manifest.json")?;
        archive.listed = parse(&bytes, "`manifest.json`")?;
        Ok(archive)
    }

    /// The names of its images.
    pub fn names(&self) -> Vec<String> {
        self.listed.iter().flat_map(|listed| listed.repo_tags.clone().unwrap_or_default()).collect()
    }

    /// All of its images with their names.
    pub fn images(&self) -> Result<Vec<(Vec<String>, DockerImage<'_>)>, ImageError> {
        let image = |listed: &Listed| {
            Ok((listed.repo_tags.clone().unwrap_or_default(), self.read(listed)?))
        };
        self.listed.iter().map(image).collect()
    }

    /// Finds an image. A digest is its id, the digest of its config. The digests of layers that
    /// lie there compressed are computed, which reads them.
    pub fn image(&self, selector: &Selector) -> Result<DockerImage<'_>, ImageError> {
        self.read(self.find(selector)?)
    }

    fn read(&self, listed: &Listed) -> Result<DockerImage<'_>, ImageError> {
        let config = self.document(&listed.config)?;
        let parsed: ImageConfig = parse(&config, &format!("`{}`", listed.config))?;
        let diff_ids = parsed.rootfs.diff_ids;
        if diff_ids.len() != listed.layers.len() {
            let (layers, ids) = (listed.layers.len(), diff_ids.len());
            return Err(self.wrong(format!("{layers} layers are listed, its config has {ids}")));
        }
        let names: Vec<TreePath> =
            listed.layers.iter().map(|name| TreePath::normalise(name.as_bytes())).collect();
        let layers = names.iter().zip(diff_ids);
        let layers: Result<_, _> = layers.map(|(name, id)| self.describe(name, id)).collect();
        Ok(DockerImage { archive: self, config, layers: layers?, names })
    }

    fn find(&self, selector: &Selector) -> Result<&Listed, ImageError> {
        let name = |text: &str| text.parse::<Reference>().map(|name| name.to_string()).ok();
        let is_wanted = |listed: &&Listed| match selector {
            Selector::Only => self.listed.len() == 1,
            Selector::Name(wanted) => {
                let tags = listed.repo_tags.iter().flatten();
                let wanted = (wanted, name(wanted));
                tags.into_iter()
                    .any(|tag| tag == wanted.0 || wanted.1.is_some() && name(tag) == wanted.1)
            }
            Selector::Digest(digest) => listed.config.contains(&digest.hex()),
        };
        let available = || {
            some_of(self.listed.iter().map(|listed| {
                let tags = listed.repo_tags.iter().flatten().next();
                format!("`{}`", tags.unwrap_or(&listed.config))
            }))
        };
        self.listed.iter().find(is_wanted).ok_or_else(|| ImageError::NoImage {
            path: self.path.clone(),
            wanted: selector.to_string(),
            available: available(),
        })
    }

    fn describe(&self, name: &TreePath, diff_id: Digest) -> Result<Descriptor, ImageError> {
        let (mut reader, size) = self.member(name)?;
        let mut start = Vec::new();
        let read_error = |error| ImageError::io(format!("read `{name}`"))(error);
        (&mut reader).take(6).read_to_end(&mut start).map_err(read_error)?;
        let compression = match detect(&start) {
            None => Compression::None,
            Some(Format::Gzip) => Compression::Gzip,
            Some(Format::Zstd) => Compression::Zstd,
            Some(Format::Bzip2 | Format::Xz) => {
                return Err(self.wrong(format!("layer `{name}` is neither gzip nor zstd")));
            }
        };
        let mut descriptor = Descriptor::of(compression.layer_media_type(), b"");
        (descriptor.digest, descriptor.size) = match compression {
            Compression::None => (diff_id, size),
            _ => {
                let mut hasher = DigestHasher::default();
                hasher.write_all(&start).map_err(read_error)?;
                copy(&mut reader, &mut hasher).map_err(read_error)?;
                hasher.finish()
            }
        };
        Ok(descriptor)
    }

    fn member(&self, name: &TreePath) -> Result<crate::members::Opened<'_>, ImageError> {
        let missing = || self.wrong(format!("it has no `{name}`"));
        self.members.get(name)?.ok_or_else(missing)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (mut reader, _) = self.member(&TreePath::normalise(name.as_bytes()))?;
        read_document(&mut reader, &format!("`{name}`"))
    }

    fn wrong(&self, reason: String) -> ImageError {
        ImageError::Layout { path: self.path.clone(), reason }
    }
}

impl ImageSource for DockerImage<'_> {
    fn config(&self) -> &[u8] {
        &self.config
    }

    fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    fn open_layer(&self, index: usize) -> Result<Box<dyn Read + Send + '_>, ImageError> {
        let (Some(name), Some(descriptor)) = (self.names.get(index), self.layers.get(index)) else {
            return Err(self.archive.wrong(format!("the image has no layer {index}")));
        };
        let (reader, _) = self.archive.member(name)?;
        Ok(Box::new(Verified::new(reader, descriptor)))
    }
}
