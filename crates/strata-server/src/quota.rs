//! How many bytes a namespace may have: those of its entries and of all that they need, each blob
//! once, and what its clients have brought that no entry needs yet.
//!
//! What comes is counted while it comes. Entries are counted anew when the sum is over the quota:
//! then the least recently used ones that are a cache's go, until a tenth is free; where that is
//! not enough, what comes is refused.
//!
//! Blobs are everybody's, so one that two namespaces need counts in both.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use strata_cas::BlobId;
use strata_cas::entry::{self, Entry, Need};
use strata_oci::blobs;

use crate::depot::Served;
use crate::fault::Fault;
use crate::tier::Queue;

/// Entries are changed one at a time for each of so many parts of their keys.
const LOCKS: usize = 64;
/// What an entry or a blob takes besides its bytes, so that empty ones are not for nothing.
pub(crate) const OVERHEAD_BYTES: u64 = 1 << 10;
/// Brought, and needed by nothing for so long: it is the sweep's.
const LOOSE: Duration = Duration::from_secs(4 * 60 * 60);
/// Counting takes no more than one part in so many of the time.
const COUNT_PART: u32 = 10;
/// For so long somebody who brings something waits for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where entries go, they go until there is no more than so much of the quota.
const KEEP_PERCENT: u64 = 90;

/// Held while an entry is changed.
#[derive(Debug)]
pub(crate) struct Locks([Mutex<()>; LOCKS]);

impl Default for Locks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Locks {
    /// The one for this entry, and for some others.
    pub(crate) fn of(&self, table: &str, name: &str) -> MutexGuard<'_, ()> {
        let hash = BlobId::of(format!("{table}\0{name}").as_bytes());
        let lock = &self.0[usize::from(hash.as_bytes()[0]) % LOCKS];
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The quotas, by their namespaces.
#[derive(Default)]
pub(crate) struct Quotas(BTreeMap<String, Arc<Quota>>);

impl Quotas {
    pub(crate) fn new(
        limits: &BTreeMap<String, u64>,
        store: &Arc<dyn Served>,
        locks: &Arc<Locks>,
        queue: Option<&Arc<Queue>>,
    ) -> Self {
        let quota = |(namespace, limit): (&String, &u64)| {
            let quota = Quota {
                namespace: namespace.clone(),
                limit_bytes: *limit,
                store: Arc::clone(store),
                locks: Arc::clone(locks),
                queue: queue.map(Arc::clone),
                count: Mutex::default(),
                counting: Mutex::default(),
            };
            (namespace.clone(), Arc::new(quota))
        };
        Self(limits.iter().map(quota).collect())
    }

    /// Whether no namespace has one.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A namespace's, if it has one.
    pub(crate) fn of(&self, namespace: &str) -> Option<Arc<Quota>> {
        self.0.get(namespace).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Quota>> {
        self.0.values()
    }
}

/// One namespace's.
pub(crate) struct Quota {
    pub(crate) namespace: String,
    pub(crate) limit_bytes: u64,
    store: Arc<dyn Served>,
    locks: Arc<Locks>,
    /// What is still to be sent to the far tier: it is nowhere else.
    queue: Option<Arc<Queue>>,
    count: Mutex<Count>,
    /// When it was counted last, and how long that took; held while it is counted.
    counting: Mutex<Option<(Instant, Duration)>>,
}

#[derive(Default)]
struct Count {
    /// Of entries, when they were counted, and of those that came since.
    entries: u64,
    /// Blobs that no entry was known to need.
    loose: HashMap<BlobId, (u64, Instant)>,
    loose_bytes: u64,
    /// Of bytes that come at this moment.
    coming: u64,
}

impl Count {
    fn bytes(&self) -> u64 {
        self.entries.saturating_add(self.loose_bytes).saturating_add(self.coming)
    }
}

impl Quota {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted now, in bytes.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.count().bytes()
    }

    /// Counts bytes that come, if they fit.
    fn take(&self, bytes: u64) -> bool {
        let mut count = self.count();
        let fits = count.bytes().saturating_add(bytes) <= self.limit_bytes;
        if fits {
            count.coming += bytes;
        }
        fits
    }

    /// Counts an entry that came; what it needs was counted when it came itself.
    pub(crate) fn entered(&self) {
        let mut count = self.count();
        count.entries = count.entries.saturating_add(OVERHEAD_BYTES);
    }

    /// Counts anew, if the last time is long enough ago, and lets entries go so that so many
    /// bytes more fit.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(crate) fn recount(&self, more: u64) -> Result<(), Fault> {
        let Some(mut last) = self.turn() else { return Ok(()) };
        // Whoever had the turn before may have made room.
        if more > 0 && self.used_bytes().saturating_add(more) <= self.limit_bytes {
            return Ok(());
        }
        if let Some((ended, took)) = *last {
            let pause = (took * COUNT_PART).saturating_sub(ended.elapsed());
            if pause > PATIENCE {
                return Ok(());
            }
            std::thread::sleep(pause);
        }
        let start = Instant::now();
        let done = Stock::take(self).and_then(|mut stock| {
            let others = self.loose(&stock);
            let room = self.limit_bytes.checked_sub(others.saturating_add(more));
            if let Some(room) = room.filter(|room| stock.bytes > *room) {
                // Whoever waits needs room at once, and the next ones soon.
                let keep = (self.limit_bytes / 100 * KEEP_PERCENT).saturating_sub(others);
                stock.shrink(self, keep.min(room))?;
            }
            self.count().entries = stock.bytes;
            Ok(())
        });
        *last = Some((Instant::now(), start.elapsed()));
        done
    }

    /// Waits for the turn to count, but not for long: others need the thread.
    fn turn(&self) -> Option<MutexGuard<'_, Option<(Instant, Duration)>>> {
        let start = Instant::now();
        loop {
            match self.counting.try_lock() {
                Ok(turn) => return Some(turn),
                Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
                Err(TryLockError::WouldBlock) if start.elapsed() > PATIENCE => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(PATIENCE / 100),
            }
        }
    }

    /// What no entry needs and what comes, in bytes.
    fn loose(&self, stock: &Stock) -> u64 {
        let mut count = self.count();
        let is_loose = |id: &BlobId| !stock.blobs.contains_key(id);
        count.loose.retain(|id, (_, came)| came.elapsed() < LOOSE && is_loose(id));
        count.loose_bytes = count.loose.values().map(|(bytes, _)| bytes).sum();
        count.loose_bytes.saturating_add(count.coming)
    }
}

/// An entry of a namespace.
struct Stocked {
    table: String,
    name: String,
    entry: Entry,
    blobs: Vec<BlobId>,
}

/// All entries of a namespace, and what they need.
struct Stock {
    entries: Vec<Stocked>,
    /// Sizes, and how many entries need them.
    blobs: HashMap<BlobId, (u64, u64)>,
    bytes: u64,
}

impl Stock {
    fn take(quota: &Quota) -> Result<Self, Fault> {
        let store = &*quota.store;
        let mut found = Vec::new();
        let prefix = format!("{}{}/", entry::PREFIX, quota.namespace);
        store.each_name(&prefix, &mut |table, name, value| {
            if let Some(entry) = Entry::decode(value) {
                found.push((table.to_owned(), name.to_owned(), entry));
            }
        })?;
        let (mut blobs, mut bytes) = (HashMap::<BlobId, (u64, u64)>::new(), 0_u64);
        let mut entries = Vec::with_capacity(found.len());
        for (table, name, entry) in found {
            let mut needed = vec![entry.body];
            for need in &entry.needs {
                needed.extend(blob_of(store, need)?);
            }
            needed.sort_unstable();
            needed.dedup();
            for id in &needed {
                if let Some((_, uses)) = blobs.get_mut(id) {
                    *uses += 1;
                    continue;
                }
                // Not looked up in the way that makes it stay: it is only counted.
                let size = store.glance(id)?.unwrap_or(0);
                blobs.insert(*id, (size, 1));
                bytes = bytes.saturating_add(size);
            }
            bytes = bytes.saturating_add(OVERHEAD_BYTES);
            entries.push(Stocked { table, name, entry, blobs: needed });
        }
        Ok(Self { entries, blobs, bytes })
    }

    /// Lets entries go that are a cache's, those first that were not of use for longest, until no
    /// more is left than this.
    fn shrink(&mut self, quota: &Quota, keep_bytes: u64) -> Result<(), Fault> {
        let (mut entries, store) = (std::mem::take(&mut self.entries), &quota.store);
        entries.sort_by_key(|one| (one.entry.used, one.entry.written));
        for Stocked { table, name, entry, blobs } in entries {
            if self.bytes <= keep_bytes {
                break;
            }
            if entry.stays {
                continue;
            }
            let _one = quota.locks.of(&table, &name);
            let there = store.name(&table, &name)?.and_then(|value| Entry::decode(&value));
            let waits = quota.queue.as_ref().is_some_and(|queue| queue.holds(&table, &name));
            // Somebody may have replaced it, or found a use for it.
            if waits || there.as_ref() != Some(&entry) {
                continue;
            }
            store.set_name(&table, &name, None)?;
            self.bytes = self.bytes.saturating_sub(OVERHEAD_BYTES);
            for id in blobs {
                let Some((size, uses)) = self.blobs.get_mut(&id) else { continue };
                *uses -= 1;
                if *uses == 0 {
                    self.bytes = self.bytes.saturating_sub(*size);
                }
            }
        }
        Ok(())
    }
}

/// The blob that a need leads to; other entries count for themselves.
fn blob_of(store: &dyn Served, need: &Need) -> Result<Option<BlobId>, Fault> {
    match need {
        Need::Blob(id) => Ok(Some(*id)),
        Need::Name { table, name } if table == blobs::TABLE => {
            let value = store.name(table, name)?;
            Ok(value.and_then(|value| blobs::id_of(&value)))
        }
        Need::Name { .. } => Ok(None),
    }
}

/// What an upload has taken of a quota; given back when it is dropped.
pub(crate) struct Share {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Share {
    pub(crate) fn new(quota: Arc<Quota>) -> Self {
        Self { quota, bytes: 0 }
    }

    /// Takes as much as an upload of this size needs; makes room where there is none.
    ///
    /// # Errors
    ///
    /// When it does not fit even so.
    pub(crate) fn cover(&mut self, size: u64) -> Result<(), Fault> {
        let more = size.saturating_add(OVERHEAD_BYTES).saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        if !self.quota.take(more) {
            self.quota.recount(more)?;
            if !self.quota.take(more) {
                let Quota { namespace, limit_bytes, .. } = &*self.quota;
                return Err(Fault::Quota(format!(
                    "the namespace `{namespace}` may have {limit_bytes} bytes, and {more} more do \
                     not fit"
                )));
            }
        }
        self.bytes += more;
        Ok(())
    }

    /// The upload is a blob now, of this size.
    pub(crate) fn settle(self, id: BlobId, size: u64) {
        let mut count = self.quota.count();
        let bytes = size.saturating_add(OVERHEAD_BYTES);
        let before = count.loose.insert(id, (bytes, Instant::now()));
        count.loose_bytes += bytes - before.map_or(0, |(before, _)| before);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut count = self.quota.count();
        count.coming = count.coming.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use strata_cas::{BlobStore as _, MemoryStore, NameStore as _};

    use super::*;

    fn quota(limit_bytes: u64) -> (Arc<MemoryStore>, Arc<Quota>) {
        let store = Arc::<MemoryStore>::default();
        let served: Arc<dyn Served> = store.clone();
        let limits = BTreeMap::from([("main".to_owned(), limit_bytes)]);
        let quotas = Quotas::new(&limits, &served, &Arc::default(), None);
        assert!(quotas.of("other").is_none());
        (store, quotas.of("main").expect("a quota"))
    }

    fn enter(store: &MemoryStore, name: &str, body: &[u8], needs: &[&[u8]], used: u64) {
        let body_id = store.put(body).expect("put");
        let needs = needs.iter().map(|bytes| Need::Blob(store.put(bytes).expect("put")));
        let entry = Entry {
            body: body_id,
            size: body.len() as u64,
            attributes: BTreeMap::new(),
            needs: needs.collect(),
            stays: name.starts_with("stays"),
            writer: "w".to_owned(),
            trust: 0,
            written: used,
            used,
            far: false,
        };
        let table = "entries-1/main/values/x";
        store.set_name(table, name, Some(&entry.encode())).expect("set");
    }

    const BIG: u64 = 100 << 10;

    #[test]
    fn what_comes_counts_until_it_is_given_up_or_needed() {
        let (store, quota) = quota(BIG);
        let mut share = Share::new(Arc::clone(&quota));
        share.cover(60 << 10).expect("it fits");
        let refused = Share::new(Arc::clone(&quota)).cover(50 << 10);
        assert!(matches!(refused, Err(Fault::Quota(_))));
        share.cover(20 << 10).expect("that is covered");
        assert_eq!(quota.used_bytes(), (60 << 10) + OVERHEAD_BYTES);
        drop(share);
        assert_eq!(quota.used_bytes(), 0);
        let bytes = vec![7; 30 << 10];
        let id = store.put(&bytes).expect("put");
        for _ in 0..2 {
            let mut share = Share::new(Arc::clone(&quota));
            share.cover(bytes.len() as u64).expect("it fits");
            share.settle(id, bytes.len() as u64);
        }
        // The same blob twice, and then an entry that needs it.
        assert_eq!(quota.used_bytes(), (30 << 10) + OVERHEAD_BYTES);
        enter(&store, "a", b"body", &[&bytes], 1);
        quota.recount(0).expect("counted");
        assert_eq!(quota.used_bytes(), (30 << 10) + 4 + OVERHEAD_BYTES);
    }

    #[test]
    fn the_oldest_entries_of_a_cache_make_room() {
        let (store, quota) = quota(BIG);
        let shared = vec![1; 20 << 10];
        let own = |number: u8| vec![number; 24 << 10];
        enter(&store, "stays", b"pushed", &[&own(5)], 1);
        enter(&store, "old", b"old", &[&shared, &own(6)], 2);
        enter(&store, "older than new", b"b", &[&shared], 3);
        enter(&store, "new", b"new", &[&own(7)], 4);
        quota.recount(0).expect("counted");
        assert_eq!(quota.used_bytes(), (20 + 3 * 24 + 4) * 1024 + 13);
        let mut share = Share::new(Arc::clone(&quota));
        share.cover(200 << 10).expect_err("it never fits, so nothing goes for it");
        share.cover(10 << 10).expect("it fits when something goes");
        let left: Vec<String> = store
            .names("entries-1/main/values/x")
            .expect("names")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(left, ["new", "older than new", "stays"]);
        assert_eq!(quota.used_bytes(), (20 + 2 * 24 + 3 + 11) * 1024 + 10);
    }
}
