//! Blobs on their way in: counted and hashed while they come, kept when they are what they were
//! said to be.

use sha2::{Digest as _, Sha256};
use strata_cas::{BlobId, Incoming};
use strata_oci::far::FarName;
use strata_oci::{Digest, blobs};

use super::{Content, Depot};
use crate::access::Caller;
use crate::body::Receiver;
use crate::fault::Fault;
use crate::quota::Share;

/// Bytes on their way in, which nobody will ask for by their SHA-256.
pub(crate) struct Bare {
    incoming: Incoming,
    limit: u64,
    /// What it takes of its namespace's quota, if there is one.
    share: Option<Share>,
}

/// Bytes on their way in.
pub(crate) struct Upload {
    bare: Bare,
    sha256: Sha256,
}

/// A blob that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) digest: Digest,
    pub(crate) id: BlobId,
    pub(crate) size: u64,
}

impl Bare {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let size = self.size().saturating_add(bytes.len() as u64);
        if size > self.limit {
            return Err(Fault::TooLarge { limit: self.limit });
        }
        if let Some(share) = &mut self.share {
            share.cover(size)?;
        }
        Ok(self.incoming.write(bytes)?)
    }

    pub(crate) fn size(&self) -> u64 {
        self.incoming.size()
    }
}

impl Receiver for Bare {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        Self::write(self, bytes)
    }
}

impl Receiver for Upload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        Self::write(self, bytes)
    }
}

impl Upload {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.bare.write(bytes)?;
        self.sha256.update(bytes);
        Ok(())
    }

    pub(crate) fn size(&self) -> u64 {
        self.bare.size()
    }

    /// The BLAKE3 of the bytes so far.
    pub(crate) fn id(&self) -> BlobId {
        self.bare.incoming.id()
    }

    /// The SHA-256 of the bytes so far.
    pub(crate) fn digest(&self) -> Digest {
        Digest::from_bytes(self.sha256.clone().finalize().into())
    }
}

impl Depot {
    /// Begins a caller's blob of at most `limit` bytes; `announced` are said to come.
    ///
    /// # Errors
    ///
    /// When it is too large, or more than the caller's namespace may have.
    pub(crate) fn begin(
        &self,
        caller: &Caller,
        limit: u64,
        announced: Option<u64>,
    ) -> Result<Upload, Fault> {
        Ok(Upload { bare: self.begin_bare(caller, limit, announced)?, sha256: Sha256::new() })
    }

    /// The same for a blob that only its entry will lead to.
    pub(crate) fn begin_bare(
        &self,
        caller: &Caller,
        limit: u64,
        announced: Option<u64>,
    ) -> Result<Bare, Fault> {
        let limit = limit.min(self.body_limit_bytes);
        let announced = announced.unwrap_or(0);
        if announced > limit {
            return Err(Fault::TooLarge { limit });
        }
        let mut share = self.quotas.of(caller.namespace()).map(Share::new);
        if let Some(share) = &mut share {
            share.cover(announced)?;
        }
        Ok(Bare { incoming: self.store.begin()?, limit, share })
    }

    /// Keeps a blob whose bytes are all there; it is found by its SHA-256 from now on, also when
    /// the server is killed. After a power cut it is there where an entry was made since: a client
    /// that has not come to that sends it again, and need not wait for the disk now.
    pub(crate) fn keep(&self, upload: Upload, announced: Option<&Digest>) -> Result<Kept, Fault> {
        let kept = self.keep_near(upload, announced)?;
        let content = Content::of_id(kept.id, kept.size);
        self.pass_on_blob(FarName::Sha256(kept.digest), &content)?;
        Ok(kept)
    }

    /// The same for one that is asked for by its BLAKE3.
    pub(crate) fn keep_by_id(&self, upload: Upload) -> Result<Kept, Fault> {
        let kept = self.keep_near(upload, None)?;
        let content = Content::of_id(kept.id, kept.size);
        self.pass_on_blob(FarName::Blake3(kept.id), &content)?;
        Ok(kept)
    }

    fn keep_near(&self, upload: Upload, announced: Option<&Digest>) -> Result<Kept, Fault> {
        let digest = upload.digest();
        if let Some(announced) = announced.filter(|announced| **announced != digest) {
            let text = format!("the bytes are {digest}, and {announced} was announced");
            return Err(Fault::Mismatch(text));
        }
        let (id, size) = self.keep_bare(upload.bare)?;
        blobs::remember_soon(&*self.store, &digest, &id)?;
        Ok(Kept { digest, id, size })
    }

    /// Keeps a blob that only its entry leads to.
    pub(crate) fn keep_bare(&self, upload: Bare) -> Result<(BlobId, u64), Fault> {
        let size = upload.size();
        let id = self.store.finish(upload.incoming)?;
        if let Some(share) = upload.share {
            share.settle(id, size);
        }
        Ok((id, size))
    }

    /// Keeps small bytes; found by their SHA-256.
    pub(crate) fn keep_bytes(&self, caller: &Caller, bytes: &[u8]) -> Result<Kept, Fault> {
        let mut upload = self.begin(caller, u64::MAX, Some(bytes.len() as u64))?;
        upload.write(bytes)?;
        self.keep_near(upload, None)
    }

    /// The same for what the store has made itself: nobody's quota keeps anybody from reading.
    pub(crate) fn keep_own_bytes(&self, bytes: &[u8]) -> Result<Kept, Fault> {
        let bare = Bare { incoming: self.store.begin()?, limit: u64::MAX, share: None };
        let mut upload = Upload { bare, sha256: Sha256::new() };
        upload.write(bytes)?;
        self.keep(upload, None)
    }

    /// The same for what only its entry will lead to.
    pub(crate) fn keep_bare_bytes(
        &self,
        caller: &Caller,
        bytes: &[u8],
    ) -> Result<(BlobId, u64), Fault> {
        let mut upload = self.begin_bare(caller, u64::MAX, Some(bytes.len() as u64))?;
        upload.write(bytes)?;
        self.keep_bare(upload)
    }
}
