//! The one facade between the protocols and the store: blobs by digest, entries by namespace and
//! key. Everything here may wait for a disk: it is called on threads that may.

mod entries;
mod reader;
mod uploads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use strata_cas::entry::{self, Entry, Need};
use strata_cas::{BlobId, BlobStore, NameStore};
use strata_oci::far::{FarBlob, FarName};
use strata_oci::{Digest, blobs};

use crate::body::Places;
use crate::fault::Fault;
use crate::hot::Hot;
use crate::library::Library;
use crate::metrics::FarMetrics;
use crate::quota::{Locks, Quotas};
use crate::server::THREADS;
use crate::tier::{FarSetup, Tier};

pub(crate) use entries::{Glance, Value};
pub(crate) use uploads::{Kept, Upload};

/// Of small blobs that are in memory.
const HOT_BYTES: usize = 64 << 20;

/// What a server needs of a store.
pub trait Served: BlobStore + NameStore {}

impl<T: BlobStore + NameStore> Served for T {}

/// What is kept, for all protocols.
pub(crate) struct Depot {
    pub(crate) store: Arc<dyn Served>,
    pub(crate) library: Arc<dyn Library>,
    pub(crate) body_limit_bytes: u64,
    /// Writers whose entries count for nothing.
    revoked: Vec<String>,
    pub(crate) locks: Arc<Locks>,
    pub(crate) quotas: Quotas,
    /// For looks into the store by threads that answer.
    pub(crate) places: Places,
    /// What lies behind the store.
    pub(crate) tier: Option<Tier>,
    /// Small blobs by their ids: bytes that were compared with their names.
    hot: Hot<BlobId, Bytes>,
}

/// A blob that was found: its bytes lie in these blobs, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) size: u64,
}

/// A blob by the name that it was found by. It may be far away only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    Id(BlobId),
    Sha256(Digest),
}

impl Content {
    /// One blob of the store.
    pub(crate) fn of_id(id: BlobId, size: u64) -> Self {
        Self { pieces: vec![Piece::Id(id)], size }
    }

    /// An entry's bytes.
    pub(crate) fn of_entry(entry: &Entry) -> Self {
        Self::of_id(entry.body, entry.size)
    }
}

impl Piece {
    /// What an entry needs that needs this.
    pub(crate) fn need(&self) -> Need {
        match self {
            Self::Id(id) => Need::Blob(*id),
            Self::Sha256(digest) => need_of(digest),
        }
    }

    fn far(&self) -> FarName {
        match self {
            Self::Id(id) => FarName::Blake3(*id),
            Self::Sha256(digest) => FarName::Sha256(*digest),
        }
    }
}

impl Depot {
    pub(crate) fn new(
        store: Arc<dyn Served>,
        library: Arc<dyn Library>,
        body_limit_bytes: u64,
        revoked: Vec<String>,
        far: Option<(FarSetup, FarMetrics)>,
        quotas: &BTreeMap<String, u64>,
    ) -> Self {
        let tier = far.map(|(far, metrics)| Tier::new(far, &store, metrics));
        let locks = Arc::<Locks>::default();
        let quotas = Quotas::new(quotas, &store, &locks, tier.as_ref().map(|tier| &tier.queue));
        // All but one.
        let places = Places::new(THREADS - 1);
        let hot = Hot::new(HOT_BYTES);
        Self { store, library, body_limit_bytes, revoked, locks, quotas, places, tier, hot }
    }

    /// Finds a blob by its SHA-256. From here on it stays for as long as the store's lease says.
    pub(crate) fn find(&self, digest: &Digest) -> Result<Option<Content>, Fault> {
        self.find_sized(digest, None)
    }

    /// The same for one that comes again where it is not: who does not answer has nothing.
    pub(crate) fn find_if_answered(&self, digest: &Digest) -> Result<Option<Content>, Fault> {
        match self.find(digest) {
            Err(Fault::Busy(_)) => Ok(None),
            found => found,
        }
    }

    /// The same for one whose size is known, which some far tiers can not do without.
    pub(crate) fn find_sized(
        &self,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Option<Content>, Fault> {
        match self.find_near(digest)? {
            Some(content) => Ok(Some(content)),
            None => self.find_far(Piece::Sha256(*digest), size),
        }
    }

    /// Finds a blob by its BLAKE3.
    pub(crate) fn find_id(&self, id: &BlobId, size: Option<u64>) -> Result<Option<Content>, Fault> {
        match self.find_id_near(id)? {
            Some(content) => Ok(Some(content)),
            None => self.find_far(Piece::Id(*id), size),
        }
    }

    fn find_far(&self, piece: Piece, size: Option<u64>) -> Result<Option<Content>, Fault> {
        let Some(tier) = &self.tier else { return Ok(None) };
        let sizes = tier.sizes(&[FarBlob { name: piece.far(), size }])?;
        let size = sizes.first().copied().flatten();
        Ok(size.map(|size| Content { pieces: vec![piece], size }))
    }

    /// Finds out about many blobs at once which of them are far away, so that they are found
    /// without asking for each.
    pub(crate) fn ask_far(&self, blobs: &[FarBlob]) {
        if let Some(tier) = self.tier.as_ref().filter(|_| !blobs.is_empty()) {
            // Who does not answer has nothing.
            drop(tier.sizes(blobs));
        }
    }

    /// Where a piece is near, if it is.
    pub(crate) fn id_near(&self, piece: &Piece) -> Result<Option<BlobId>, Fault> {
        Ok(match piece {
            Piece::Id(id) => self.store.has(id)?.then_some(*id),
            Piece::Sha256(digest) => blobs::known(&*self.store, digest)?,
        })
    }

    /// Where a piece is near; fetched, if it is far away.
    fn bring_piece(&self, piece: &Piece) -> Result<Option<BlobId>, Fault> {
        match (&self.tier, piece) {
            (Some(tier), piece) => self.fetch(tier, piece.far()),
            // What is gone says so itself.
            (None, Piece::Id(id)) => Ok(Some(*id)),
            (None, piece) => self.id_near(piece),
        }
    }

    /// Whether there is a blob with this SHA-256 and size. It stays as one that is found does.
    pub(crate) fn has(&self, digest: &Digest, size: u64) -> Result<bool, Fault> {
        if let Some((_, found)) = self.whole_near(digest)? {
            return Ok(found == size);
        }
        let found = match self.layer_near(digest)? {
            Some(content) => Some(content),
            None => self.find_far(Piece::Sha256(*digest), Some(size))?,
        };
        Ok(found.is_some_and(|content| content.size == size))
    }

    /// Finds a blob by its SHA-256 in the store.
    pub(crate) fn find_near(&self, digest: &Digest) -> Result<Option<Content>, Fault> {
        match self.whole_near(digest)? {
            Some((id, size)) => Ok(Some(Content::of_id(id, size))),
            None => self.layer_near(digest),
        }
    }

    /// One that lies in the store under that name, and its size.
    fn whole_near(&self, digest: &Digest) -> Result<Option<(BlobId, u64)>, Fault> {
        let known = self.store.name(blobs::TABLE, &blobs::name(digest))?;
        let Some(id) = known.and_then(|value| blobs::id_of(&value)) else { return Ok(None) };
        Ok(self.store.size(&id)?.map(|size| (id, size)))
    }

    /// One that is an image's layer, in pieces.
    fn layer_near(&self, digest: &Digest) -> Result<Option<Content>, Fault> {
        let Some(pieces) = self.library.layer(digest)? else { return Ok(None) };
        let mut size = 0;
        for piece in &pieces {
            let Some(found) = self.find_id_near(piece)? else { return Ok(None) };
            size += found.size;
        }
        Ok(Some(Content { pieces: pieces.into_iter().map(Piece::Id).collect(), size }))
    }

    /// Finds a blob by its BLAKE3 in the store.
    pub(crate) fn find_id_near(&self, id: &BlobId) -> Result<Option<Content>, Fault> {
        let size = self.store.size(id)?;
        Ok(size.map(|size| Content::of_id(*id, size)))
    }

    /// Reads all of a blob that is known to be small; `None` where it is gone or damaged.
    pub(crate) fn read(&self, content: &Content) -> Result<Option<Bytes>, Fault> {
        if let Some(bytes) = self.hot(content) {
            return Ok(Some(bytes));
        }
        let mut all = Vec::new();
        for piece in &content.pieces {
            let Some(id) = self.bring_piece(piece)? else { return Ok(None) };
            let Some(bytes) = self.store.get(&id)? else { return Ok(None) };
            match all.is_empty() {
                true => all = bytes,
                false => all.extend_from_slice(&bytes),
            }
        }
        let all = Bytes::from(all);
        self.keep_hot(content, &all);
        Ok(Some(all))
    }

    /// A blob's bytes, if they are in memory. That it is there was seen when it was found.
    pub(crate) fn hot(&self, content: &Content) -> Option<Bytes> {
        match &content.pieces[..] {
            [Piece::Id(id)] => self.hot.get(id),
            _ => None,
        }
    }

    /// Keeps a blob's bytes in memory, which were compared with its name.
    pub(crate) fn keep_hot(&self, content: &Content, bytes: &Bytes) {
        if let [Piece::Id(id)] = &content.pieces[..] {
            self.hot.keep(*id, bytes.clone(), bytes.len());
        }
    }
}

/// The table of a namespace's entries for one protocol.
pub(crate) fn table_of(namespace: &str, space: &str) -> String {
    format!("{}{namespace}/{space}", entry::PREFIX)
}

/// What an entry needs that needs the blob with this SHA-256.
pub(crate) fn need_of(digest: &Digest) -> Need {
    Need::Name { table: blobs::TABLE.to_owned(), name: digest.to_string() }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
