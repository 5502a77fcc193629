//! A store that forgets: for tests and for replays. It keeps no snapshots.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    Blob, BlobId, BlobStore, Claim, ClaimGuard, NameStore, Record, RecordKey, RecordStore, Slot,
    StoreError,
};

/// Blobs, records and names in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
    claims: Arc<Claims>,
}

/// The keys that somebody is at.
#[derive(Debug, Default)]
struct Claims(Mutex<HashSet<RecordKey>>);

impl Claims {
    fn keys(&self) -> MutexGuard<'_, HashSet<RecordKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some of them, given free when dropped.
struct Claimed {
    keys: Vec<RecordKey>,
    claims: Arc<Claims>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut claimed = self.claims.keys();
        claimed.retain(|key| !self.keys.contains(key));
    }
}

#[derive(Debug, Default)]
struct Kept {
    blobs: HashMap<BlobId, Vec<u8>>,
    records: HashMap<RecordKey, Record>,
    slots: HashMap<Slot, Vec<Record>>,
    names: BTreeMap<(String, String), Vec<u8>>,
}

impl MemoryStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Each method leaves the maps whole, so a panic elsewhere does no harm.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the records under these keys, as a sweep would.
    pub fn evict(&self, keys: &[RecordKey]) {
        let mut kept = self.kept();
        for key in keys {
            kept.records.remove(key);
        }
    }
}

impl BlobStore for MemoryStore {
    fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        Ok(self.kept().blobs.get(id).cloned().map(Blob::Bytes))
    }

    fn put_from(&self, source: &mut dyn Read) -> Result<BlobId, StoreError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map_err(StoreError::io("read a new blob"))?;
        let id = BlobId::of(&bytes);
        self.kept().blobs.insert(id, bytes);
        Ok(id)
    }

    fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(self.kept().blobs.contains_key(id))
    }
}

impl RecordStore for MemoryStore {
    fn find(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        Ok(self.kept().records.get(key).cloned())
    }

    fn keep(&self, record: &Record, also: &[RecordKey]) -> Result<(), StoreError> {
        let own = [RecordKey::Definition(record.definition), RecordKey::Content(record.content)];
        let mut kept = self.kept();
        for key in own.iter().chain(also) {
            kept.records.insert(*key, record.clone());
        }
        let slot = kept.slots.entry(record.slot.clone()).or_default();
        slot.retain(|old| old.definition != record.definition);
        slot.insert(0, record.clone());
        slot.truncate(8);
        Ok(())
    }

    fn recent(&self, slot: &Slot) -> Result<Vec<Record>, StoreError> {
        Ok(self.kept().slots.get(slot).cloned().unwrap_or_default())
    }

    fn claim(&self, keys: &[RecordKey]) -> Result<Claim, StoreError> {
        let mut claimed = self.claims.keys();
        if keys.iter().any(|key| claimed.contains(key)) {
            return Ok(Claim::Taken { pid: Some(std::process::id()) });
        }
        claimed.extend(keys);
        let held = Claimed { keys: keys.to_vec(), claims: self.claims.clone() };
        Ok(Claim::Held(ClaimGuard::new(held)))
    }
}

impl NameStore for MemoryStore {
    fn name(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.kept().names.get(&(table.to_owned(), name.to_owned())).cloned())
    }

    fn set_name(&self, table: &str, name: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        let key = (table.to_owned(), name.to_owned());
        match value {
            Some(value) => drop(self.kept().names.insert(key, value.to_vec())),
            None => drop(self.kept().names.remove(&key)),
        }
        Ok(())
    }

    fn names(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let kept = self.kept();
        let of_table = kept.names.iter().filter(|((of, _), _)| of == table);
        Ok(of_table.map(|((_, name), value)| (name.clone(), value.clone())).collect())
    }

    fn each_name(
        &self,
        prefix: &str,
        see: &mut dyn FnMut(&str, &str, &[u8]),
    ) -> Result<(), StoreError> {
        let kept = self.kept();
        let below = kept.names.iter().filter(|((table, _), _)| table.starts_with(prefix));
        below.for_each(|((table, name), value)| see(table, name, value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn conforms() {
        crate::conformance::blobs(&super::MemoryStore::default());
        crate::conformance::incoming(&super::MemoryStore::default());
        crate::conformance::records(&super::MemoryStore::default());
        crate::conformance::names(&super::MemoryStore::default());
        crate::conformance::claims(&super::MemoryStore::default());
    }
}
