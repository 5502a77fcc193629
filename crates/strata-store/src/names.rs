//! Names that people choose. A key is the table, a NUL and the name.

use std::io;

use strata_cas::{NameStore, StoreError};

use crate::DiskStore;
use crate::codec::{self, Named};
use crate::database::{Pair, Table};

impl NameStore for DiskStore {
    fn name(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.database.get(Table::Names, &key(table, name)?)?;
        Ok(value.and_then(|value| decode(&value)))
    }

    fn set_name(&self, table: &str, name: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        let key = key(table, name)?;
        match value {
            Some(value) => {
                // A name may lead to what was put before it.
                self.files.settle()?;
                self.database.put(Table::Names, &key, &codec::encode(&Named { value })?)?;
            }
            None => self.database.delete(Table::Names, &key)?,
        }
        self.database.sync()
    }

    fn names(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let prefix = key(table, "")?;
        let found = self.database.list(Table::Names, &prefix)?;
        let named = |(key, value): Pair| {
            let name = String::from_utf8(key.get(prefix.len()..)?.to_vec()).ok()?;
            Some((name, decode(&value)?))
        };
        Ok(found.into_iter().filter_map(named).collect())
    }
}

fn decode(value: &[u8]) -> Option<Vec<u8>> {
    codec::decode::<Named<'_>>(value).map(|named| named.value.to_vec())
}

fn key(table: &str, name: &str) -> Result<Vec<u8>, StoreError> {
    if table.contains('\0') {
        let action = format!("use the table `{}`", table.escape_default());
        return Err(StoreError::io(action)(io::ErrorKind::InvalidInput.into()));
    }
    Ok([table.as_bytes(), b"\0", name.as_bytes()].concat())
}
