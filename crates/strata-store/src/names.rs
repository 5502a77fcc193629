//! Names that people choose. A key is the table, a NUL and the name.

use std::io;

use strata_cas::{NameStore, StoreError};

use crate::DiskStore;
use crate::codec::{self, Named};
use crate::database::{Pair, Table};
use crate::wire::Op;

impl NameStore for DiskStore {
    fn name(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables.see(Table::Names, &key(table, name)?, decode)?.flatten())
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
