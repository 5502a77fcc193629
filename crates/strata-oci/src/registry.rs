//! The registry as the rest of strata sees it.

use std::io::{self, Write};

use crate::{Descriptor, Digest, Reference};

/// A manifest or index as a registry gave it.
#[derive(Debug, Clone)]
pub struct ManifestBytes {
    /// The digest of `bytes`, checked against the name that was asked for.
    pub digest: Digest,
    /// What it is.
    pub media_type: String,
    /// The document, byte for byte.
    pub bytes: Vec<u8>,
}

/// Why a registry did not answer as hoped.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answered.
    #[error("registry `{registry}` can not be reached: {reason}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// What the network said.
        reason: String,
    },
    /// The registry does not have it.
    #[error("`{reference}` is not in the registry `{registry}`")]
    NotFound {
        /// What was asked for.
        reference: String,
        /// Who was asked.
        registry: String,
    },
    /// The registry wants other credentials, or hides what does not exist behind that.
    #[error("registry `{registry}` denies access to `{reference}`")]
    Denied {
        /// What was asked for.
        reference: String,
        /// Who was asked.
        registry: String,
    },
    /// The bytes are not what their name says.
    #[error("registry `{registry}` sent wrong bytes for {what}: {reason}")]
    Wrong {
        /// Who sent them.
        registry: String,
        /// What they should have been.
        what: String,
        /// What is wrong with them.
        reason: String,
    },
    /// Any other answer.
    #[error("registry `{registry}`: {reason}")]
    Failed {
        /// Who was asked.
        registry: String,
        /// What it said.
        reason: String,
    },
}

/// Where images are pulled from.
pub trait Registry: Send + Sync {
    /// Fetches the manifest or index under a name, checked against a digest in that name.
    fn manifest(&self, reference: &Reference) -> Result<ManifestBytes, RegistryError>;

    /// The digest of what a name stands for at this moment. Where registries count pulls, this is
    /// none.
    fn current(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        self.manifest(reference).map(|manifest| manifest.digest)
    }

    /// The tags of the name's repository.
    fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError>;

    /// Fetches a blob of the name's repository into `sink`, calling `progress` with the bytes so
    /// far. When it returns without error, size and digest were as described.
    fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        sink: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), RegistryError>;
}

/// What it took for a repository to have a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Present,
    /// The registry took it over from another repository of its own.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

/// Gives a blob's bytes, from the first to the last, each time it is called.
pub type BlobBytes<'a> = dyn Fn(&mut dyn Write) -> io::Result<()> + 'a;

/// Makes a blob's bytes while they are sent, and names them at the end.
pub type BlobMaking<'a> = dyn FnMut(&mut dyn Write) -> io::Result<Digest> + 'a;

/// Where images are pushed to.
pub trait PushRegistry: Registry {
    /// The digest of the manifest under a name, if there is one; its bytes are not fetched.
    fn manifest_digest(&self, name: &Reference) -> Result<Option<Digest>, RegistryError>;

    /// Sees to it that the name's repository has a blob. `near` are other repositories of the
    /// same registry that may have it. `bytes` is called only where it has to be sent, and again
    /// after a failure; `progress` gets the bytes so far. What is not as described is not pushed.
    fn push_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        near: &[Reference],
        bytes: &BlobBytes<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Pushed, RegistryError>;

    /// Sends a blob while it is made, so before anybody can know whether the registry has it.
    /// `make` is called once, or not at all where no upload can begin. What was made and not sent
    /// is the caller's to send in the other way.
    fn push_made(&self, name: &Reference, make: &mut BlobMaking<'_>) -> Result<(), RegistryError>;

    /// Puts a manifest or index under a name: its tag, or its digest where it has none.
    fn push_manifest(
        &self,
        name: &Reference,
        manifest: &ManifestBytes,
    ) -> Result<(), RegistryError>;
}
