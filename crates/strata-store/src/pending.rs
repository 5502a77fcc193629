//! Small blobs on their way into the database: they go in batches, since a build puts thousands
//! and each would be a write of its own, or a question to another process.
//!
//! They are readable by this process meanwhile. What is lost with it is what no record names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strata_cas::{BlobId, StoreError};

use crate::codec::{self, Inline};
use crate::database::Table;
use crate::gate::Gate;
use crate::lease::{Lease, Used};
use crate::tables::Tables;
use crate::wire::Op;

/// So much waits at most.
const LIMIT_BYTES: usize = 1 << 20;

/// Small blobs that wait.
#[derive(Debug)]
pub(crate) struct Pending {
    tables: Arc<Tables>,
    gate: Arc<Gate>,
    lease: Arc<Lease>,
    blobs: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    values: HashMap<BlobId, Vec<u8>>,
    /// Values in pieces, by the whole's name.
    lists: HashMap<BlobId, Vec<u8>>,
    bytes: usize,
}

impl Pending {
    pub(crate) fn new(tables: Arc<Tables>, gate: Arc<Gate>, lease: Arc<Lease>) -> Self {
        Self { tables, gate, lease, blobs: Mutex::default() }
    }

    fn blobs(&self) -> MutexGuard<'_, Waiting> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a blob. One that is there already and right is not written again.
    pub(crate) fn put(&self, id: BlobId, bytes: &[u8]) -> Result<(), StoreError> {
        // Where nothing was written so far, nothing is to be written for what is there.
        if self.tables.is_reader() && self.is_kept(&id, bytes)? {
            return Ok(());
        }
        let mut blobs = self.blobs();
        if blobs.values.insert(id, bytes.to_vec()).is_none() {
            blobs.bytes += bytes.len() + size_of::<BlobId>();
        }
        if blobs.bytes < LIMIT_BYTES { Ok(()) } else { self.write(&mut blobs) }
    }

    fn is_kept(&self, id: &BlobId, bytes: &[u8]) -> Result<bool, StoreError> {
        let _inside = self.gate.enter()?;
        self.lease.note(&[Used::Blob(*id)])?;
        let kept = self.tables.get(Table::Blobs, id.as_bytes())?;
        Ok(kept.is_some_and(|value| {
            codec::decode::<Inline<'_>>(&value).is_some_and(|kept| kept.bytes == bytes)
        }))
    }

    /// Takes the list of a value's pieces.
    pub(crate) fn put_list(&self, id: BlobId, list: Vec<u8>) -> Result<(), StoreError> {
        if self.tables.is_reader() {
            let _inside = self.gate.enter()?;
            self.lease.note(&[Used::Blob(id)])?;
            if self.tables.get(Table::Chunked, id.as_bytes())?.as_ref() == Some(&list) {
                return Ok(());
            }
        }
        self.blobs().lists.insert(id, list);
        Ok(())
    }

    /// A list that waits.
    pub(crate) fn list(&self, id: &BlobId) -> Option<Vec<u8>> {
        self.blobs().lists.get(id).cloned()
    }

    /// A blob that waits.
    pub(crate) fn get(&self, id: &BlobId) -> Option<Vec<u8>> {
        self.blobs().values.get(id).cloned()
    }

    /// The size of a blob that waits.
    pub(crate) fn size(&self, id: &BlobId) -> Option<u64> {
        self.blobs().values.get(id).map(|bytes| bytes.len() as u64)
    }

    pub(crate) fn has(&self, id: &BlobId) -> bool {
        let blobs = self.blobs();
        blobs.values.contains_key(id) || blobs.lists.contains_key(id)
    }

    /// Writes all that waits.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.write(&mut self.blobs())
    }

    fn write(&self, blobs: &mut Waiting) -> Result<(), StoreError> {
        if blobs.values.is_empty() && blobs.lists.is_empty() {
            return Ok(());
        }
        let put = |(id, bytes): (&BlobId, &Vec<u8>)| {
            let value = codec::encode(&Inline { bytes })?;
            Ok(Op::put(Table::Blobs, id.as_bytes().to_vec(), value))
        };
        let ops: Result<Vec<Op<'_>>, StoreError> = blobs.values.iter().map(put).collect();
        let mut ops = ops?;
        for (id, list) in &blobs.lists {
            ops.push(Op::put(Table::Chunked, id.as_bytes(), &list[..]));
        }
        let ids = blobs.values.keys().chain(blobs.lists.keys());
        let used: Vec<Used> = ids.map(|id| Used::Blob(*id)).collect();
        let _inside = self.gate.enter()?;
        self.lease.note(&used)?;
        self.tables.apply(ops, false)?;
        *blobs = Waiting::default();
        Ok(())
    }
}
