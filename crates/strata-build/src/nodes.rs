//! What the engine takes for its store: tree nodes that are not kept yet in front of it, so that a
//! build that finds everything writes none of them; caches of other machines behind it.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use strata_cas::{
    Blob, BlobId, BlobStore, BuildUse, Claim, Record, RecordKey, RecordStore, Slot, Store,
    StoreError,
};

use crate::shared::Lookups;

/// The store with new nodes in front of it, and shared caches behind it.
pub(crate) struct Nodes<'a> {
    near: Mutex<HashMap<BlobId, Vec<u8>>>,
    far: &'a dyn Store,
    lookups: Lookups<'a>,
}

impl<'a> Nodes<'a> {
    pub(crate) fn new(far: &'a dyn Store, lookups: Lookups<'a>) -> Self {
        Self { near: Mutex::default(), far, lookups }
    }

    fn near(&self, id: &BlobId) -> Option<Vec<u8>> {
        self.near.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Moves all nodes into the store: a record that refers to them is about to be written.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        let mut near = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        for bytes in near.values() {
            self.far.put(bytes)?;
        }
        // Only now: another step may look for one of them at any moment.
        near.clear();
        Ok(())
    }
}

impl BlobStore for Nodes<'_> {
    fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        match self.near(id) {
            Some(bytes) => Ok(Some(Blob::Bytes(bytes))),
            None => self.far.open(id),
        }
    }

    fn put_from(&self, source: &mut dyn Read) -> Result<BlobId, StoreError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map_err(StoreError::io("read a tree node"))?;
        let id = BlobId::of(&bytes);
        self.near.lock().unwrap_or_else(PoisonError::into_inner).insert(id, bytes);
        Ok(id)
    }

    fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(self.near(id).is_some() || self.far.has(id)?)
    }
}

impl RecordStore for Nodes<'_> {
    fn find(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        match self.far.find(key)? {
            Some(record) => Ok(Some(record)),
            None => Ok(self.lookups.find(self.far, key)),
        }
    }

    fn keep(&self, record: &Record, also: &[RecordKey]) -> Result<(), StoreError> {
        self.settle()?;
        self.far.keep(record, also)
    }

    fn recent(&self, slot: &Slot) -> Result<Vec<Record>, StoreError> {
        self.far.recent(slot)
    }

    fn claim(&self, keys: &[RecordKey]) -> Result<Claim, StoreError> {
        self.far.claim(keys)
    }

    fn finish_build(&self, build: &BuildUse<'_>) -> Result<(), StoreError> {
        self.far.finish_build(build)
    }
}
