//! Clients of the far side: images from and to OCI and Docker registries over the distribution
//! protocol, files from URLs, repositories through `git`, and caches of steps that several machines
//! share, in a registry, in an S3-compatible object store or in a directory.
//!
//! # One door between threads and async
//!
//! strata works with plain threads; HTTP clients are async. The whole async world lives behind
//! one door in this crate: a single thread drives a tokio runtime, callers hand it a request and
//! block. Bytes come back over a short channel, and it is the *caller's* thread that hashes them
//! and writes them to the sink, so a slow disk or a decompressing sink stalls its own download and
//! nobody else's. Retries, mirrors and questions to credential helpers happen on the caller's
//! thread, too, where blocking is allowed.
//!
//! # Two clients, and why
//!
//! `oci-client` streams blobs and does the token dance. It reads a whole manifest into memory
//! whatever its size, drops the media type, and knows no identity tokens; so manifests and the
//! exchange of an identity token go through `reqwest`, the HTTP client that `oci-client` itself
//! stands on, with the limits that we want.
//!
//! # Trust
//!
//! Nothing is believed: a manifest is hashed here and compared with the digest in its name and
//! with what the registry claims; a blob is counted and hashed while it streams. TLS trusts the
//! system's certificates, and those in [`RegistrySettings::extra_certificates`]. Credentials go to
//! the host that they are for and to the token server that it names, and do not follow redirects.
//!
//! What the crate deliberately does not do: read the environment or a home directory (all of it
//! comes in the settings), keep anything on disk, choose a platform, unpack a layer. The one
//! exception: the platform's certificate verifier honours `SSL_CERT_FILE` and `SSL_CERT_DIR`.
//!
//! ```
//! use strata_remote::{Mirror, RegistrySettings, RemoteRegistry};
//!
//! let mut settings = RegistrySettings::default();
//! settings.insecure.insert("registry.lan:5000".to_owned());
//! let mirror = Mirror { endpoint: "https://mirror.lan/hub".to_owned(), plain_http: false };
//! settings.mirrors.insert("docker.io".to_owned(), vec![mirror]);
//! let registry = RemoteRegistry::new(settings)?;
//! # let _: &dyn strata_oci::Registry = &registry;
//! # Ok::<(), strata_oci::RegistryError>(())
//! ```

pub mod authorization;
mod base64;
mod blob;
mod cache_objects;
mod cache_reapi;
mod cache_registry;
mod challenge;
mod checked;
mod clients;
pub mod docker_config;
mod door;
mod endpoint;
mod failure;
mod far_objects;
mod git;
mod http;
mod manifest;
mod network;
mod push;
mod reapi;
mod registry;
mod retry;
mod settings;
mod tags;
mod tls_channel;
mod token;
mod upload;
mod wire;

pub use cache_objects::{ObjectCache, S3Settings};
pub use cache_reapi::ReapiCache;
pub use cache_registry::RegistryCache;
pub use failure::hint;
pub use git::{Checkout, Commit, GitError, Repository};
pub use http::{HttpAnswer, HttpClient, HttpError, HttpRequest};
pub use reapi::{ReapiSettings, check_reapi_url};
pub use registry::RemoteRegistry;
pub use settings::{
    AskCredentials, Credentials, Mirror, ProxySettings, RegistrySettings, Retries, Secret, Timeouts,
};
