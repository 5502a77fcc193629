//! The blobs of a store, wherever they are: in the database, in files, in snapshots.

use std::io::{self, Read};

use strata_cas::{Arrived, Blob, BlobId, BlobStore, Incoming, LayerId, StoreError};

use crate::budget::Metered;
use crate::codec::{self, Inline, Place};
use crate::database::{Pair, Table};
use crate::files::{INLINE_LIMIT_BYTES, NewFile};
use crate::lease::Used;
use crate::{DiskStore, chunks, snapshots};

/// Where a blob was found.
enum Home {
    Database,
    Pieces,
    File,
    Snapshot(LayerId),
}

impl BlobStore for DiskStore {
    fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        Ok(self.locate(id)?.map(|(blob, _)| blob))
    }

    fn put_from(&self, source: &mut dyn Read) -> Result<BlobId, StoreError> {
        let mut head = Vec::with_capacity(INLINE_LIMIT_BYTES + 1);
        let mut limited = (&mut *source).take(INLINE_LIMIT_BYTES as u64 + 1);
        limited.read_to_end(&mut head).map_err(StoreError::io("read a new blob"))?;
        if head.len() <= INLINE_LIMIT_BYTES {
            return self.put_inline(&head);
        }
        self.reserve(head.len() as u64)?;
        let mut source = Metered::new(source, self);
        let written = self.files.write(&head, &mut source);
        if let Some(error) = source.failed {
            return Err(error);
        }
        let file = written?;
        let id = file.id;
        if !self.has_whole(&id)? {
            self.files.add(file)?;
        }
        Ok(id)
    }

    fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        let has = || -> Result<bool, StoreError> {
            Ok(self.pending.has(id)
                || self.tables.see(Table::Blobs, id.as_bytes(), |_| ())?.is_some()
                || self.tables.see(Table::Chunked, id.as_bytes(), |_| ())?.is_some()
                || self.files.has(id)?
                || self.locate_in_snapshots(id)?.is_some())
        };
        let found = self.look(&[Used::Blob(*id)], || Ok(has()?.then_some(())))?;
        Ok(found.is_some())
    }

    fn size(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        self.look(&[Used::Blob(*id)], || self.glance(id))
    }

    fn glance(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        if let Some(size) = self.pending.size(id) {
            return Ok(Some(size));
        }
        // Its length alone: it is compared with its name when it is read.
        let length = |value: &[u8]| codec::decode(value).map(|Inline { bytes }| bytes.len() as u64);
        if let Some(length) = self.tables.measure(id.as_bytes(), length)? {
            return Ok(Some(length));
        }
        Ok(self.locate(id)?.map(|(blob, _)| blob.size()))
    }

    fn get(&self, id: &BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        // Each turn ends here or forgets one home, so there are few.
        while let Some((blob, home)) = self.locate(id)? {
            let mut bytes = Vec::with_capacity(usize::try_from(blob.size()).unwrap_or_default());
            match blob.reader(*id).read_to_end(&mut bytes) {
                Ok(_) => return Ok(Some(bytes)),
                Err(error) => self.forget_damaged(id, &home, error)?,
            }
        }
        Ok(None)
    }

    fn put(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        if chunks::is_cut(bytes) {
            return self.put_chunked(bytes);
        }
        if bytes.len() <= INLINE_LIMIT_BYTES {
            return self.put_inline(bytes);
        }
        let id = BlobId::of(bytes);
        if !self.has_whole(&id)? {
            self.reserve(bytes.len() as u64)?;
            self.files.add(self.files.write_named(id, bytes)?)?;
        }
        Ok(id)
    }

    fn begin(&self) -> Result<Incoming, StoreError> {
        Ok(Incoming::spilling(self.files.place()?, INLINE_LIMIT_BYTES))
    }

    fn finish(&self, incoming: Incoming) -> Result<BlobId, StoreError> {
        let (id, size) = (incoming.id(), incoming.size());
        match incoming.take() {
            Arrived::Bytes(bytes) => self.put(&bytes),
            Arrived::File(path) => {
                let file = NewFile::at(id, path);
                if !self.has_whole(&id)? {
                    self.reserve(size)?;
                    self.files.add(file)?;
                }
                Ok(id)
            }
        }
    }
}

impl DiskStore {
    pub(crate) fn put_inline(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        let id = BlobId::of(bytes);
        // The database writes it twice: to its log, and to its place.
        self.reserve(2 * (bytes.len() as u64 + 64))?;
        self.pending.put(id, bytes)?;
        Ok(id)
    }

    /// Finds a blob in its first home that has it.
    fn locate(&self, id: &BlobId) -> Result<Option<(Blob, Home)>, StoreError> {
        if let Some(bytes) = self.get_inline(id)? {
            return Ok(Some((Blob::Bytes(bytes), Home::Database)));
        }
        if let Some(bytes) = self.get_chunked(id)? {
            return Ok(Some((Blob::Bytes(bytes), Home::Pieces)));
        }
        if let Some(blob) = self.files.open(id)? {
            return Ok(Some((blob, Home::File)));
        }
        self.locate_in_snapshots(id)
    }

    /// Reads a small blob and compares it with its name.
    pub(crate) fn get_inline(&self, id: &BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(bytes) = self.pending.get(id) {
            return Ok(Some(bytes));
        }
        let right = |value: &[u8]| match codec::decode::<Inline<'_>>(value) {
            Some(Inline { bytes }) if BlobId::of(bytes) == *id => Some(bytes.to_vec()),
            _ => None,
        };
        match self.tables.see(Table::Blobs, id.as_bytes(), right)? {
            Some(None) => {
                self.tables.delete(Table::Blobs, id.as_bytes())?;
                Ok(None)
            }
            found => Ok(found.flatten()),
        }
    }

    fn locate_in_snapshots(&self, id: &BlobId) -> Result<Option<(Blob, Home)>, StoreError> {
        for Pair { key, value, .. } in self.tables.list(Table::Places, id.as_bytes())? {
            let Some(layer) = snapshots::layer_of(&key) else { continue };
            let place: Option<Place> = codec::decode(&value);
            match place.map_or(Ok(None), |place| self.open_place(&layer, &place)) {
                Ok(Some(blob)) => return Ok(Some((blob, Home::Snapshot(layer)))),
                Ok(None) => self.tables.delete(Table::Places, &key)?,
                // It is there, but belongs to a user of the namespace that made the layer.
                Err(StoreError::Io { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether a large blob is there and matches its name. It is read for this: putting what is
    /// there already is rare, and the one chance to heal it.
    fn has_whole(&self, id: &BlobId) -> Result<bool, StoreError> {
        if self.files.is_waiting(id) {
            return Ok(true);
        }
        let noted = self.using(&[Used::Blob(*id)])?;
        if self.locate(id)?.is_none() {
            return Ok(false);
        }
        // From here on it stays; reading it may take a while.
        drop(noted);
        while let Some((blob, home)) = self.locate(id)? {
            match io::copy(&mut blob.reader(*id), &mut io::sink()) {
                Ok(_) => return Ok(true),
                Err(error) => self.forget_damaged(id, &home, error)?,
            }
        }
        Ok(false)
    }

    /// Forgets one home of a blob when `error` says that it is damaged.
    fn forget_damaged(&self, id: &BlobId, home: &Home, error: io::Error) -> Result<(), StoreError> {
        if error.kind() != io::ErrorKind::InvalidData {
            return Err(StoreError::io(format!("read blob {id}"))(error));
        }
        match home {
            Home::Database => self.tables.delete(Table::Blobs, id.as_bytes()),
            Home::Pieces => self.tables.delete(Table::Chunked, id.as_bytes()),
            Home::File => self.files.forget(id),
            Home::Snapshot(layer) => {
                self.tables.delete(Table::Places, &snapshots::place_key(id, layer))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OpenOptions;
    use crate::gate::Gate;

    #[test]
    fn what_is_noted_is_found_while_a_sweep_has_the_gate() {
        let home = tempfile::tempdir().expect("a directory");
        let store = DiskStore::open(home.path(), OpenOptions::default()).expect("open");
        let id = store.put(b"value").expect("put");
        store.settle().expect("settle");
        assert!(store.has(&id).expect("it is noted"));
        let alone = Gate::close(&store.layout).expect("close");
        assert!(store.has(&id).expect("has"));
        assert_eq!(store.size(&id).expect("size"), Some(5));
        drop(alone);
        assert!(!store.has(&BlobId::of(b"other")).expect("has"));
    }

    #[test]
    fn a_damaged_value_is_forgotten_and_healed() {
        let home = tempfile::tempdir().expect("a directory");
        let store = DiskStore::open(home.path(), OpenOptions::default()).expect("open");
        let id = store.put(b"right").expect("put");
        store.settle().expect("settle");
        let wrong = codec::encode(&Inline { bytes: b"wrong" }).expect("encode");
        for damage in [&wrong[..], b"", b"\xff\xff\xff"] {
            store.tables.put(Table::Blobs, id.as_bytes(), damage).expect("damage");
            assert_eq!(store.get(&id).expect("get"), None);
            assert!(!store.has(&id).expect("has"));
            store.put(b"right").expect("put again");
            store.settle().expect("settle");
            assert_eq!(store.get(&id).expect("get"), Some(b"right".to_vec()));
        }
    }
}
