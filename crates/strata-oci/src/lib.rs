//! The OCI specifications as strata uses them: names, descriptors, manifests, image configs, and
//! the registry as one small trait.
//!
//! The types are plain serde structs with public fields, not the builders of a general crate:
//! the bytes that we write must be canonical (equal values, equal bytes, since their SHA-256 is
//! the image's name), and a base image's config carries Docker's own fields (`Healthcheck`,
//! `OnBuild`, `Shell`) and fields that nobody here has heard of, which must survive.
//!
//! What the crate deliberately does not do: no network (`strata-remote`), no tar and no layout
//! directories (`strata-image`), no decision about which image to take.
//!
//! ```
//! let reference: strata_oci::Reference = "node:18-alpine".parse()?;
//! assert_eq!(reference.to_string(), "docker.io/library/node:18-alpine");
//! assert_eq!(reference.familiar(), "node:18-alpine");
//! # Ok::<(), strata_oci::InvalidReference>(())
//! ```

pub mod blobs;
mod cache;
mod config;
mod digest;
pub mod far;
mod manifest;
mod platform;
mod reference;
mod registry;

pub use cache::SharedCache;
pub use config::{Healthcheck, History, ImageConfig, RootFs, RuntimeConfig};
pub use digest::{Digest, DigestHasher, InvalidDigest};
pub use manifest::{Compression, Descriptor, Index, Manifest, media_type};
pub use platform::{InvalidPlatform, Platform};
pub use reference::{InvalidReference, Reference};
pub use registry::{
    BlobBytes, BlobMaking, ManifestBytes, PushRegistry, Pushed, Registry, RegistryError,
};
