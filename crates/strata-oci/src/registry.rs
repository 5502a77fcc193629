//! The registry as the rest of strata sees it.

use std::io::Write;

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
