//! Records, kept once each under the BLAKE3 of their bytes; keys and slots point there.
//!
//! So a record that is found under two keys is one record, to drop it is to delete one value, and
//! a record that is damaged is one that does not match its name.

use strata_cas::{BlobId, BuildUse, Claim, Record, RecordKey, RecordStore, Slot, StoreError};

use crate::DiskStore;
use crate::codec::{self, Pointer, Recent};
use crate::database::Table;
use crate::lease::Used;
use crate::wire::Op;

impl RecordStore for DiskStore {
    fn find(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let _inside = self.using(&[Used::Key(*key)])?;
        let Some(value) = self.tables.get(Table::Records, &key.to_bytes())? else {
            return Ok(None);
        };
        match codec::decode::<Pointer>(&value) {
            Some(pointer) => self.record(&pointer.record),
            None => Ok(None),
        }
    }

    fn keep(&self, record: &Record, also: &[RecordKey]) -> Result<(), StoreError> {
        let bytes = codec::encode(record)?;
        let pointer = Pointer { record: BlobId::of(&bytes) };
        let value = codec::encode(&pointer)?;
        self.settle()?;
        let own = [RecordKey::Definition(record.definition), RecordKey::Content(record.content)];
        let used: Vec<Used> = own.iter().chain(also).map(|key| Used::Key(*key)).collect();
        let _inside = self.using(&used)?;
        let mut ops = vec![Op::put(Table::Records, record_key(&pointer.record).to_vec(), bytes)];
        for key in own.iter().chain(also) {
            ops.push(Op::put(Table::Records, key.to_bytes().to_vec(), value.clone()));
        }
        let (slot, definition) = (slot_key(&record.slot), record.definition);
        ops.push(Op::Remember { slot, definition, record: pointer.record });
        self.tables.apply(ops, true)
    }

    fn recent(&self, slot: &Slot) -> Result<Vec<Record>, StoreError> {
        let recent = self.recent_of(slot)?;
        let records = recent.entries.iter().map(|entry| self.record(&entry.record));
        records.filter_map(Result::transpose).collect()
    }

    fn claim(&self, keys: &[RecordKey]) -> Result<Claim, StoreError> {
        self.claim_keys(keys)
    }

    fn finish_build(&self, build: &BuildUse<'_>) -> Result<(), StoreError> {
        self.remember_build(build)
    }
}

impl DiskStore {
    /// Reads a record; `None` when it is gone or damaged.
    fn record(&self, id: &BlobId) -> Result<Option<Record>, StoreError> {
        let value = self.tables.get(Table::Records, &record_key(id))?;
        let whole = value.filter(|bytes| BlobId::of(bytes) == *id);
        Ok(whole.and_then(|bytes| codec::decode(&bytes)))
    }

    fn recent_of(&self, slot: &Slot) -> Result<Recent, StoreError> {
        let value = self.tables.get(Table::Slots, &slot_key(slot))?;
        Ok(value.and_then(|value| codec::decode(&value)).unwrap_or_default())
    }
}

/// Beside the keys of `RecordKey`, which begin with `d` and `c`.
pub(crate) fn record_key(id: &BlobId) -> [u8; 33] {
    let mut key = [b'r'; 33];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

fn slot_key(slot: &Slot) -> [u8; 32] {
    *BlobId::of(slot.0.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use strata_cas::{ContentKey, Cost, DefinitionKey, TreeId};

    use super::*;
    use crate::OpenOptions;

    #[test]
    fn a_damaged_record_is_absent_and_healed() {
        let home = tempfile::tempdir().expect("a directory");
        let store = DiskStore::open(home.path(), OpenOptions::default()).expect("open");
        let record = Record {
            definition: DefinitionKey::from_bytes([1; 32]),
            content: ContentKey::from_bytes([2; 32]),
            facts: Vec::new(),
            inputs: Vec::new(),
            tree: TreeId::from_bytes([3; 32]),
            payload: b"payload".to_vec(),
            cost: Cost::default(),
            slot: Slot("slot".to_owned()),
            created: 1,
        };
        let key = RecordKey::Content(record.content);
        let bytes = codec::encode(&record).expect("encode");
        let body = record_key(&BlobId::of(&bytes));
        let mut other = record.clone();
        other.payload = b"another".to_vec();
        // A whole record in another's place is damage too.
        let other = codec::encode(&other).expect("encode");
        for (at, damage) in [(&body[..], &other[..]), (&body, b"x"), (&key.to_bytes(), b"x")] {
            store.keep(&record, &[]).expect("keep");
            assert_eq!(store.find(&key).expect("find").as_ref(), Some(&record));
            store.tables.put(Table::Records, at, damage).expect("damage");
            assert_eq!(store.find(&key).expect("find"), None);
        }
        store.tables.put(Table::Slots, &slot_key(&record.slot), b"x").expect("damage");
        assert_eq!(store.recent(&record.slot).expect("recent"), []);
        store.keep(&record, &[]).expect("keep");
        assert_eq!(store.recent(&record.slot).expect("recent"), [record]);
    }
}
