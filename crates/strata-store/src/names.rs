//! Names that people choose. A key is the table, a NUL and the name.

use std::io;

use strata_cas::{NameStore, StoreError};

use crate::DiskStore;
use crate::codec::{self, Named};
use crate::database::{Pair, Table};
use crate::wire::Op;

impl NameStore for DiskStore {
    fn name(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables.see_name(&key(table, name)?, decode)?.flatten())
    }

    fn is_name(&self, table: &str, name: &str, value: &[u8]) -> Result<bool, StoreError> {
        let is_same = |found: &[u8]| codec::decode(found) == Some(Named { value });
        Ok(self.tables.see_name(&key(table, name)?, is_same)?.unwrap_or(false))
    }

    fn set_name(&self, table: &str, name: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        match value {
            Some(value) => self.write_name(table, name, value, true),
            None => self.tables.apply(vec![Op::delete(Table::Names, key(table, name)?)], true),
        }
    }

    fn set_name_soon(&self, table: &str, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write_name(table, name, value, false)
    }

    fn names(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let prefix = key(table, "")?;
        let found = self.tables.list(Table::Names, &prefix)?;
        let named = |Pair { key, value, .. }: Pair| {
            let name = String::from_utf8(key.get(prefix.len()..)?.to_vec()).ok()?;
            Some((name, decode(&value)?))
        };
        Ok(found.into_iter().filter_map(named).collect())
    }

    fn each_name(
        &self,
        prefix: &str,
        see: &mut dyn FnMut(&str, &str, &[u8]),
    ) -> Result<(), StoreError> {
        let mut page = |pairs: Vec<Pair>| {
            for pair in pairs {
                // A prefix with a NUL in it would be one of a key; no table has one.
                if let Some((table, name)) = split(&pair.key)
                    && table.starts_with(prefix)
                    && let Some(value) = decode(&pair.value)
                {
                    see(&table, &name, &value);
                }
            }
        };
        self.tables.pages(Table::Names, prefix.as_bytes(), false, &mut page)
    }
}

impl DiskStore {
    fn write_name(
        &self,
        table: &str,
        name: &str,
        value: &[u8],
        sync: bool,
    ) -> Result<(), StoreError> {
        let key = key(table, name)?;
        // A name may lead to what was put before it.
        self.settle()?;
        let value = codec::encode(&Named { value })?;
        self.tables.apply(vec![Op::put(Table::Names, key, value)], sync)
    }
}

/// The table and the name in a key.
pub(crate) fn split(key: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(key).ok()?;
    let (table, name) = text.split_once('\0')?;
    Some((table.to_owned(), name.to_owned()))
}

fn decode(value: &[u8]) -> Option<Vec<u8>> {
    codec::decode::<Named<'_>>(value).map(|named| named.value.to_vec())
}

pub(crate) fn key(table: &str, name: &str) -> Result<Vec<u8>, StoreError> {
    if table.contains('\0') {
        let action = format!("use the table `{}`", table.escape_default());
        return Err(StoreError::io(action)(io::ErrorKind::InvalidInput.into()));
    }
    Ok([table.as_bytes(), b"\0", name.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use strata_cas::BlobStore;

    use super::*;
    use crate::OpenOptions;

    #[test]
    fn what_is_remembered_is_what_others_have_written_last() {
        let home = tempfile::tempdir().expect("a directory");
        let open = || DiskStore::open(home.path(), OpenOptions::default()).expect("open");
        let holder = open();
        holder.set_name("t", "held", Some(b"it holds the database")).expect("set");
        let other = open();
        assert!(holder.tables.is_leader() && !other.tables.is_leader());
        let name = |name: &str| holder.name("t", name).expect("name");
        for value in [&b"one"[..], b"two", b""] {
            assert_eq!(name("a"), None);
            assert_eq!(name("a"), None, "it is remembered");
            other.set_name("t", "a", Some(value)).expect("set");
            assert_eq!(name("a"), Some(value.to_vec()));
            assert_eq!(name("a"), Some(value.to_vec()));
            assert!(holder.is_name("t", "a", value).expect("asked"));
            assert!(!holder.is_name("t", "a", b"other").expect("asked"));
            assert!(!holder.is_name("t", "b", value).expect("asked"));
            other.set_name_soon("t", "a", b"soon").expect("set");
            assert_eq!(name("a"), Some(b"soon".to_vec()));
            other.set_name("t", "a", None).expect("forget");
        }
        let id = other.put(b"a small blob").expect("put");
        assert_eq!(holder.size(&id).expect("size"), None);
        other.settle().expect("settle");
        for _ in 0..2 {
            assert_eq!(holder.size(&id).expect("size"), Some(12));
        }
        other.tables.delete(Table::Blobs, id.as_bytes()).expect("delete");
        assert_eq!(holder.size(&id).expect("size"), None);
    }
}
