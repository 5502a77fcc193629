//! OCI image layouts, as directories or as tars of such (`oci-archive`): finding an image and
//! reading it. Every blob is checked against its digest and size.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use strata_cas::TreePath;
use strata_oci::{Descriptor, Digest, Index, Manifest, ManifestBytes, Platform, media_type};

use crate::members::Members;
use crate::source::{MAX_DOCUMENT_BYTES, parse, read_document};
use crate::verify::Verified;
use crate::{ImageError, ImageSource};

/// The annotation that carries a tag.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation that carries a full name.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

/// Indexes lie in indexes at most this deep.
const MAX_DEPTH: usize = 8;
/// So many indexes are read to find one image.
const MAX_INDEXES: usize = 1000;

/// Which image of a layout or archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The only one.
    Only,
    /// The one of this tag or full name.
    Name(String),
    /// The one with this manifest or index.
    Digest(Digest),
}

impl Selector {
    /// Reads what people write: nothing, a tag or name, or `@sha256:…`.
    pub fn parse(text: &str) -> Self {
        let digest = text.strip_prefix('@').unwrap_or(text).parse();
        match (text, digest) {
            ("", _) => Self::Only,
            (_, Ok(digest)) => Self::Digest(digest),
            (name, Err(_)) => Self::Name(name.to_owned()),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Only => f.write_str("that is its only one"),
            Self::Name(name) => write!(f, "`{name}`"),
            Self::Digest(digest) => write!(f, "`{digest}`"),
        }
    }
}

/// An entry of a layout's own index: its names, what finds it, the platforms that it says.
pub type LayoutEntry = (Vec<String>, Selector, Vec<Platform>);

/// An OCI layout that is open for reading.
#[derive(Debug)]
pub struct OciLayout {
    path: PathBuf,
    members: Members,
    index: Index,
}

/// How what is said about an image lies beside it (BuildKit's
/// `docs/attestations/attestation-storage.md`).
pub mod attestation {
    /// The annotation of a descriptor in an index: the digest of the manifest that it is about.
    pub const ABOUT: &str = "vnd.docker.reference.digest";
    /// The annotation that says what such a descriptor is of.
    pub const KIND: &str = "vnd.docker.reference.type";
    /// The kind of a manifest whose layers are statements.
    pub const MANIFEST: &str = "attestation-manifest";
    /// The annotation of such a layer.
    pub const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
    /// The media type of such a layer.
    pub const STATEMENT: &str = "application/vnd.in-toto+json";
}

/// An image of a layout.
#[derive(Debug)]
pub struct LayoutImage<'a> {
    layout: &'a OciLayout,
    /// The manifest as it lies there.
    pub manifest: ManifestBytes,
    config: Vec<u8>,
    layers: Vec<Descriptor>,
}

impl OciLayout {
    /// Opens a directory, or an uncompressed tar.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let members = Members::open(path)?;
        let layout = Self { path: path.to_owned(), members, index: empty_index() };
        let marker: Marker = parse(&layout.document("oci-layout")?, "`oci-layout`")?;
        if !marker.image_layout_version.starts_with("1.") {
            let version = marker.image_layout_version;
            return Err(layout.wrong(format!("its version is {version} and not 1.0.0")));
        }
        let index = parse(&layout.document("index.json")?, "`index.json`")?;
        Ok(Self { index, ..layout })
    }

    /// What the layout's own index has.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The entries of the layout's own index: full names and tags that they carry, the selector
    /// that finds them, and the platforms that they have images for, where that is said.
    pub fn entries(&self) -> Result<Vec<LayoutEntry>, ImageError> {
        let mut entries: Vec<LayoutEntry> = Vec::new();
        for descriptor in &self.index.manifests {
            let is_attestation = descriptor.platform.as_ref().is_some_and(|it| it.os == "unknown");
            if is_attestation {
                continue;
            }
            let names = [IMAGE_NAME, REF_NAME].iter();
            let name = names.filter_map(|key| descriptor.annotations.get(*key)).next().cloned();
            let selector = Selector::Digest(descriptor.digest);
            match entries.iter_mut().find(|(_, other, _)| *other == selector) {
                Some((names, _, _)) => names.extend(name),
                None => {
                    let platforms = self.platforms(descriptor)?;
                    entries.push((name.into_iter().collect(), selector, platforms));
                }
            }
        }
        Ok(entries)
    }

    fn platforms(&self, descriptor: &Descriptor) -> Result<Vec<Platform>, ImageError> {
        match &*descriptor.media_type {
            media_type::INDEX | media_type::DOCKER_INDEX => {
                let bytes = self.small_blob(descriptor, "an index")?;
                let index: Index = parse(&bytes, &format!("index {}", descriptor.digest))?;
                Ok(index.platforms())
            }
            _ => Ok(descriptor.platform.clone().into_iter().collect()),
        }
    }

    /// Finds an image for a platform.
    pub fn image(
        &self,
        selector: &Selector,
        platform: &Platform,
    ) -> Result<LayoutImage<'_>, ImageError> {
        let missing = || self.missing(format!("{selector} for {platform}"));
        let found = self.find(selector)?;
        let descriptor = self.resolve(found, platform, 0, &mut 0)?.ok_or_else(missing)?;
        let bytes = self.small_blob(&descriptor, "a manifest")?;
        let manifest: Manifest = parse(&bytes, &format!("manifest {}", descriptor.digest))?;
        let config = self.small_blob(&manifest.config, "an image config")?;
        let media_type = manifest.media_type.unwrap_or(descriptor.media_type);
        let manifest_bytes = ManifestBytes { digest: descriptor.digest, media_type, bytes };
        Ok(LayoutImage { layout: self, manifest: manifest_bytes, config, layers: manifest.layers })
    }

    /// What is said about a manifest beside an image that a selector finds, in BuildKit's layout:
    /// in-toto statements with the types of their predicates. One that is larger than a document
    /// may be is left out.
    pub fn statements(
        &self,
        selector: &Selector,
        about: &Digest,
    ) -> Result<Vec<(String, Vec<u8>)>, ImageError> {
        let found = self.find(selector)?;
        let mut descriptors = self.index.manifests.clone();
        if matches!(&*found.media_type, media_type::INDEX | media_type::DOCKER_INDEX) {
            let bytes = self.small_blob(&found, "an index")?;
            let index: Index = parse(&bytes, &format!("index {}", found.digest))?;
            descriptors.extend(index.manifests);
        }
        let is_about = |descriptor: &&Descriptor| {
            let note = |key: &str| descriptor.annotations.get(key).map(String::as_str);
            note(attestation::ABOUT) == Some(&*about.to_string())
                && note(attestation::KIND) == Some(attestation::MANIFEST)
        };
        let mut statements: Vec<(String, Vec<u8>)> = Vec::new();
        for descriptor in descriptors.iter().filter(is_about) {
            let bytes = self.small_blob(descriptor, "an attestation")?;
            let manifest: Manifest = parse(&bytes, &format!("manifest {}", descriptor.digest))?;
            for layer in &manifest.layers {
                let kind = layer.annotations.get(attestation::PREDICATE_TYPE);
                let Some(kind) = kind.filter(|_| layer.media_type == attestation::STATEMENT) else {
                    continue;
                };
                if layer.size <= MAX_DOCUMENT_BYTES && statements.iter().all(|(it, _)| it != kind) {
                    statements.push((kind.clone(), self.small_blob(layer, "a statement")?));
                }
            }
        }
        Ok(statements)
    }

    /// Reads a blob, checked at its end.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, ImageError> {
        let name = blob_path(&descriptor.digest);
        let missing = || self.wrong(format!("blob {} is missing", descriptor.digest));
        let (reader, size) = self.members.get(&name)?.ok_or_else(missing)?;
        if size != descriptor.size {
            let reason = format!("{size} bytes instead of {}", descriptor.size);
            return Err(ImageError::Mismatch { what: descriptor.digest, reason });
        }
        Ok(Box::new(Verified::new(reader, descriptor)))
    }

    fn find(&self, selector: &Selector) -> Result<Descriptor, ImageError> {
        let names = |descriptor: &Descriptor, name: &str| {
            let full = name.parse::<strata_oci::Reference>().ok();
            [REF_NAME, IMAGE_NAME].iter().filter_map(|key| descriptor.annotations.get(*key)).any(
                |value| {
                    value == name || full.as_ref().is_some_and(|full| full.to_string() == *value)
                },
            )
        };
        let found = self.index.manifests.iter().filter(|descriptor| match selector {
            Selector::Only => true,
            Selector::Name(name) => names(descriptor, name),
            Selector::Digest(digest) => descriptor.digest == *digest,
        });
        let found: Vec<&Descriptor> = found.collect();
        let is_nameless = |descriptor: &&Descriptor| {
            let annotations = &descriptor.annotations;
            !annotations.contains_key(REF_NAME) && !annotations.contains_key(IMAGE_NAME)
        };
        match (&found[..], selector) {
            ([], Selector::Digest(digest)) => self.by_digest(digest),
            ([first, others @ ..], _) if others.iter().all(|one| one.digest == first.digest) => {
                Ok((*first).clone())
            }
            // Several entries without a name of their own are one image for several platforms.
            (several, Selector::Only) if several.iter().all(is_nameless) => Ok(self.whole()),
            ([first, ..], Selector::Name(_)) => Ok((*first).clone()),
            _ => Err(self.missing(selector.to_string())),
        }
    }

    /// A descriptor for the layout's own index, which has no digest that counts.
    fn whole(&self) -> Descriptor {
        Descriptor::of(WHOLE, b"")
    }

    /// A manifest that only another index, or nobody, mentions.
    fn by_digest(&self, digest: &Digest) -> Result<Descriptor, ImageError> {
        let missing = || self.missing(format!("`{digest}`"));
        let (_, size) = self.members.get(&blob_path(digest))?.ok_or_else(missing)?;
        let descriptor = Descriptor { digest: *digest, size, ..Descriptor::of("", b"") };
        let kind: Kind = parse(&self.small_blob(&descriptor, "a manifest")?, "a manifest")?;
        Ok(Descriptor { media_type: kind.media_type().to_owned(), ..descriptor })
    }

    /// The manifest for a platform, down through indexes.
    fn resolve(
        &self,
        descriptor: Descriptor,
        platform: &Platform,
        depth: usize,
        read: &mut usize,
    ) -> Result<Option<Descriptor>, ImageError> {
        *read += 1;
        if depth > MAX_DEPTH || *read > MAX_INDEXES {
            return Err(self.wrong("its indexes are nested too deep, or too many".to_owned()));
        }
        let index = match &*descriptor.media_type {
            WHOLE => self.index.clone(),
            media_type::INDEX | media_type::DOCKER_INDEX => {
                let bytes = self.small_blob(&descriptor, "an index")?;
                parse(&bytes, &format!("index {}", descriptor.digest))?
            }
            _ => return Ok(Some(descriptor)),
        };
        if let Some(selected) = index.select(platform) {
            return self.resolve(selected.clone(), platform, depth + 1, read);
        }
        // Indexes in an index usually say no platform.
        let is_index = |descriptor: &&Descriptor| {
            matches!(&*descriptor.media_type, media_type::INDEX | media_type::DOCKER_INDEX)
        };
        for nested in index.manifests.iter().filter(is_index) {
            if let Some(found) = self.resolve(nested.clone(), platform, depth + 1, read)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let missing = || self.wrong(format!("it has no `{name}`"));
        let path = TreePath::normalise(name.as_bytes());
        let (mut reader, _) = self.members.get(&path)?.ok_or_else(missing)?;
        read_document(&mut reader, &format!("`{name}`"))
    }

    fn small_blob(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, ImageError> {
        if descriptor.size > MAX_DOCUMENT_BYTES {
            let what = "bytes in one of its JSON documents";
            return Err(ImageError::Limit { what, limit: MAX_DOCUMENT_BYTES });
        }
        let mut reader = self.blob(descriptor)?;
        read_document(&mut reader, &format!("{what}, {}", descriptor.digest))
    }

    fn wrong(&self, reason: String) -> ImageError {
        ImageError::Layout { path: self.path.clone(), reason }
    }

    fn missing(&self, wanted: String) -> ImageError {
        let name = |descriptor: &Descriptor| {
            let annotations = &descriptor.annotations;
            let name = annotations.get(IMAGE_NAME).or_else(|| annotations.get(REF_NAME));
            let platform = descriptor.platform.as_ref().map(|one| format!(" ({one})"));
            let name = name.cloned().unwrap_or_else(|| descriptor.digest.to_string());
            format!("`{name}`{}", platform.unwrap_or_default())
        };
        let available = some_of(self.index.manifests.iter().map(name));
        ImageError::NoImage { path: self.path.clone(), wanted, available }
    }
}

impl ImageSource for LayoutImage<'_> {
    fn config(&self) -> &[u8] {
        &self.config
    }

    fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    fn open_layer(&self, index: usize) -> Result<Box<dyn Read + Send + '_>, ImageError> {
        match self.layers.get(index) {
            Some(descriptor) => self.layout.blob(descriptor),
            None => Err(self.layout.wrong(format!("the image has no layer {index}"))),
        }
    }
}

/// A media type that stands for the layout's own index.
const WHOLE: &str = "index.json";

/// The content of `oci-layout`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// Enough of a document to tell manifests from indexes.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

impl Kind {
    fn media_type(&self) -> &'static str {
        match self.manifests {
            Some(_) => media_type::INDEX,
            None => media_type::MANIFEST,
        }
    }
}

fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: None,
        manifests: Vec::new(),
        annotations: Default::default(),
    }
}

/// Where a layout keeps a blob.
pub(crate) fn blob_path(digest: &Digest) -> TreePath {
    TreePath::normalise(format!("blobs/sha256/{}", digest.hex()).as_bytes())
}

/// A list for a message, not too long.
pub(crate) fn some_of(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(10);
    names.truncate(10);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}
