//! The one facade between the protocols and the store: blobs by digest, entries by namespace and
//! key. Everything here may wait for a disk: it is called on threads that may.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use strata_cas::entry::{self, Entry, Need};
use strata_cas::{BlobId, BlobReader, BlobStore, Incoming, NameStore};
use strata_oci::far::{FarBlob, FarName};
use strata_oci::{Digest, blobs};

use crate::access::Caller;
use crate::body::{Places, Receiver};
use crate::fault::Fault;
use crate::hot::Hot;
use crate::library::Library;
use crate::metrics::FarMetrics;
use crate::quota::{Locks, Quotas, Share};
use crate::server::THREADS;
use crate::tier::{Begun, FarSetup, Follower, Look, Tier};

/// In seconds.
const DAY: u64 = 24 * 60 * 60;

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
    hot: Hot,
}

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

/// What a protocol puts under a key, besides who and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Value {
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) needs: Vec<Need>,
    pub(crate) stays: bool,
    /// Blobs among them that lie here in pieces; elsewhere they are needed whole.
    pub(crate) layers: Vec<Digest>,
    /// Whether it is of no use elsewhere.
    pub(crate) is_local: bool,
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
        let hot = Hot::default();
        Self { store, library, body_limit_bytes, revoked, locks, quotas, places, tier, hot }
    }

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

    /// Finds a blob by its SHA-256 in the store.
    pub(crate) fn find_near(&self, digest: &Digest) -> Result<Option<Content>, Fault> {
        let known = self.store.name(blobs::TABLE, &digest.to_string())?;
        if let Some(id) = known.and_then(|value| blobs::id_of(&value))
            && let Some(content) = self.find_id_near(&id)?
        {
            return Ok(Some(content));
        }
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
            self.hot.keep(*id, bytes);
        }
    }

    /// What reads a blob, checked against its names.
    pub(crate) fn reader(self: &Arc<Self>, content: &Content) -> ContentReader {
        let mut pieces = content.pieces.clone();
        pieces.reverse();
        ContentReader { depot: Arc::clone(self), pieces, open: None }
    }

    /// The same for one that may be far away: the first bytes are here then.
    ///
    /// # Errors
    ///
    /// When it is not there any more, or nobody answers.
    pub(crate) fn reader_of(self: &Arc<Self>, content: &Content) -> Result<ContentReader, Fault> {
        let mut reader = self.reader(content);
        if self.tier.is_some() {
            reader.next()?;
        }
        Ok(reader)
    }

    /// Opens a piece, which may be on its way.
    fn source(self: &Arc<Self>, piece: &Piece) -> Result<Source, Fault> {
        let id = match (&self.tier, piece) {
            (Some(tier), piece) => match self.follow(tier, piece.far())? {
                Begun::Near(id) => id,
                Begun::Coming(follower) => return Ok(Source::Coming(follower)),
                Begun::Gone => return Err(Fault::NotFound),
            },
            (None, piece) => self.bring_piece(piece)?.ok_or(Fault::NotFound)?,
        };
        let blob = self.store.open(&id)?.ok_or(Fault::NotFound)?;
        Ok(Source::Near(blob.reader(id)))
    }

    /// The entry under a key, in the first of the caller's namespaces that has it.
    pub(crate) fn entry(
        &self,
        caller: &Caller,
        space: &str,
        name: &str,
    ) -> Result<Option<Entry>, Fault> {
        for namespace in &caller.namespaces {
            if let Some(entry) = self.own(namespace, space, name)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn own(&self, namespace: &str, space: &str, name: &str) -> Result<Option<Entry>, Fault> {
        let table = table_of(namespace, space);
        let value = self.store.name(&table, name)?;
        let near = value.and_then(|value| Entry::decode(&value));
        let Some(entry) = self.usable(&table, name, near, Look::Lately)? else { return Ok(None) };
        self.touch(&table, name, &entry)?;
        Ok(Some(entry))
    }

    /// The entry under a name, if its writer counts and all that it needs is there. One that has
    /// lost something near is looked for once more far away.
    fn usable(
        &self,
        table: &str,
        name: &str,
        near: Option<Entry>,
        look: Look,
    ) -> Result<Option<Entry>, Fault> {
        let (found, sizes) = match &self.tier {
            Some(tier) => self.entry_of_tiers(tier, (table, name), near, look)?,
            None => (near, Vec::new()),
        };
        let Some(entry) = found else { return Ok(None) };
        if self.revoked.contains(&entry.writer) {
            return Ok(None);
        }
        if self.is_whole(&entry, &sizes)? {
            return Ok(Some(entry));
        }
        match (&self.tier, look) {
            (Some(_), Look::Lately) if sizes.is_empty() => {
                self.usable(table, name, Some(entry), Look::Now)
            }
            _ => Ok(None),
        }
    }

    /// Notes that an entry is of use, once a day.
    fn touch(&self, table: &str, name: &str, entry: &Entry) -> Result<(), Fault> {
        let now = now();
        if entry.stays || now.saturating_sub(entry.used) < DAY {
            return Ok(());
        }
        let _one = self.locks.of(table, name);
        let there = self.store.name(table, name)?.and_then(|value| Entry::decode(&value));
        // Somebody may have replaced it.
        if there.as_ref() == Some(entry) {
            let entry = Entry { used: now, ..entry.clone() };
            self.store.set_name(table, name, Some(&entry.encode()))?;
        }
        Ok(())
    }

    /// Whether all that an entry needs is there; it stays from here on. Its bytes are near then;
    /// what it needs besides may be far away. `sizes`: of blobs that may be.
    fn is_whole(&self, entry: &Entry, sizes: &[FarBlob]) -> Result<bool, Fault> {
        if !self.has_body(entry)? {
            return Ok(false);
        }
        let mut missing = Vec::new();
        for need in &entry.needs {
            match need {
                Need::Blob(id) if self.store.has(id)? => {}
                Need::Blob(id) => missing.push(FarName::Blake3(*id)),
                Need::Name { table, name } if table == blobs::TABLE => match name.parse() {
                    Ok(digest) if self.find_near(&digest)?.is_some() => {}
                    Ok(digest) => missing.push(FarName::Sha256(digest)),
                    Err(_) => return Ok(false),
                },
                Need::Name { table, name } if !self.has_entry(table, name)? => return Ok(false),
                Need::Name { .. } => {}
            }
        }
        match &self.tier {
            _ if missing.is_empty() => Ok(true),
            // Who does not answer has nothing.
            Some(tier) => Ok(self.are_far(tier, &missing, sizes).unwrap_or(false)),
            None => Ok(false),
        }
    }

    fn has_body(&self, entry: &Entry) -> Result<bool, Fault> {
        if self.store.has(&entry.body)? {
            return Ok(true);
        }
        let Some(tier) = &self.tier else { return Ok(false) };
        match self.fetch(tier, FarName::Blake3(entry.body)) {
            Ok(found) => Ok(found.is_some()),
            // Who does not answer has nothing.
            Err(Fault::Busy(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Whether there is an entry under a name, near or far.
    pub(crate) fn has_entry(&self, table: &str, name: &str) -> Result<bool, Fault> {
        if self.store.name(table, name)?.is_some() {
            return Ok(true);
        }
        let Some(tier) = &self.tier else { return Ok(false) };
        let (found, _) = self.entry_of_tiers(tier, (table, name), None, Look::Lately)?;
        Ok(found.is_some())
    }

    /// Puts an entry into the caller's own namespace.
    ///
    /// # Errors
    ///
    /// When what is there was written by somebody who is trusted more, or when something that the
    /// entry needs is not here.
    pub(crate) fn set_entry(
        &self,
        caller: &Caller,
        (space, name): (&str, &str),
        (body, size): (BlobId, u64),
        value: Value,
    ) -> Result<Entry, Fault> {
        let Value { attributes, needs, stays, layers, is_local } = value;
        let (writer, trust, written) = (caller.name.clone(), caller.trust, now());
        let used = written;
        let far = false;
        let entry =
            Entry { body, size, attributes, needs, stays, writer, trust, written, used, far };
        if !self.is_whole(&entry, &[])? {
            return Err(Fault::invalid("something that this refers to is not here"));
        }
        let table = table_of(caller.namespace(), space);
        let _one = self.locks.of(&table, name);
        let entry = match self.more_trusted(caller, &table, name)? {
            // The same once more takes nothing from who is trusted more, and leaves it theirs.
            Some(there) if there.body == entry.body => {
                Entry { stays: there.stays || entry.stays, needs: entry.needs, ..there }
            }
            Some(there) => return Err(denied(caller, &there)),
            None => entry,
        };
        let entry = match is_local {
            true => entry,
            false => self.pass_on_entry((&table, name), entry, &layers)?,
        };
        self.store.set_name(&table, name, Some(&entry.encode()))?;
        if let Some(quota) = self.quotas.of(caller.namespace()) {
            quota.entered();
        }
        Ok(entry)
    }

    /// Takes an entry of the caller's own namespace back; says whether there was one.
    pub(crate) fn remove_entry(
        &self,
        caller: &Caller,
        space: &str,
        name: &str,
    ) -> Result<bool, Fault> {
        let table = table_of(caller.namespace(), space);
        let _one = self.locks.of(&table, name);
        if self.latest(&table, name)?.is_none() {
            return Ok(false);
        }
        if let Some(there) = self.more_trusted(caller, &table, name)? {
            return Err(denied(caller, &there));
        }
        self.pass_on_removal(&table, name)?;
        self.store.set_name(&table, name, None)?;
        Ok(true)
    }

    /// The entry under a name, whoever has written it, near or far.
    fn latest(&self, table: &str, name: &str) -> Result<Option<Entry>, Fault> {
        let near = self.store.name(table, name)?.and_then(|value| Entry::decode(&value));
        match &self.tier {
            Some(tier) => Ok(self.entry_of_tiers(tier, (table, name), near, Look::Now)?.0),
            None => Ok(near),
        }
    }

    /// The entry under a key, if its writer is trusted more than the caller.
    fn more_trusted(
        &self,
        caller: &Caller,
        table: &str,
        name: &str,
    ) -> Result<Option<Entry>, Fault> {
        let there = self.latest(table, name)?;
        Ok(there
            .filter(|there| there.trust > caller.trust && !self.revoked.contains(&there.writer)))
    }

    /// All entries of a space that the caller sees, by name.
    pub(crate) fn entries(
        &self,
        caller: &Caller,
        space: &str,
    ) -> Result<BTreeMap<String, Entry>, Fault> {
        let mut all = BTreeMap::new();
        for namespace in &caller.namespaces {
            let table = table_of(namespace, space);
            if let Some(tier) = &self.tier {
                self.list_of_tiers(tier, &table)?;
            }
            for (name, value) in self.store.names(&table)? {
                let entry = Entry::decode(&value);
                if let Some(entry) = entry.filter(|e| !self.revoked.contains(&e.writer)) {
                    all.entry(name).or_insert(entry);
                }
            }
        }
        Ok(all)
    }
}

fn denied(caller: &Caller, there: &Entry) -> Fault {
    let (writer, name) = (&there.writer, &caller.name);
    Fault::Denied(format!("`{writer}` has written this, and is trusted more than `{name}`"))
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

/// Reads a blob's pieces, one after the other, each checked against its name.
pub(crate) struct ContentReader {
    depot: Arc<Depot>,
    /// Those to come, the next one last.
    pieces: Vec<Piece>,
    open: Option<Source>,
}

/// Where a piece's bytes come from.
enum Source {
    Near(BlobReader),
    Coming(Follower),
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Near(reader) => reader.read(buffer),
            Self::Coming(follower) => follower.read(buffer),
        }
    }
}

impl ContentReader {
    /// Goes on with the next piece; says whether there is one.
    fn next(&mut self) -> Result<bool, Fault> {
        let Some(next) = self.pieces.pop() else { return Ok(false) };
        self.open = Some(self.depot.source(&next)?);
        Ok(true)
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(reader) = &mut self.open {
                let count = reader.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            }
            if !self.next().map_err(|fault| io::Error::other(fault.to_string()))? {
                return Ok(0);
            }
        }
    }
}
