//! Which steps are being done, over all processes: one held file for each key.

use strata_cas::{BlobId, Claim, ClaimGuard, LayerId, RecordKey, StoreError};

use crate::DiskStore;
use crate::held::{HeldFile, Taken};
use crate::layout::Part;

/// So often a process asks again that waits for another one to move a snapshot into its place.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

impl DiskStore {
    /// Holds all of these keys or none. In one order everywhere: two processes that want the
    /// same two keys never get one each.
    pub(crate) fn claim_keys(&self, keys: &[RecordKey]) -> Result<Claim, StoreError> {
        let mut names: Vec<String> = keys.iter().map(name_of).collect();
        names.sort();
        names.dedup();
        let mut held = Vec::with_capacity(names.len());
        for name in names {
            match self.hold(&name)? {
                Taken::Ours(file) => held.push(file),
                Taken::Theirs(pid) => return Ok(Claim::Taken { pid }),
            }
        }
        // What was read until now may be older than what the last holder has left.
        self.tables.refresh()?;
        Ok(Claim::Held(ClaimGuard::new(held)))
    }

    /// Waits until nobody else is moving this layer's snapshot.
    pub(crate) fn hold_snapshot(&self, layer: &LayerId) -> Result<HeldFile, StoreError> {
        let name = format!("s{}", &layer.to_string()[..32]);
        loop {
            match self.hold(&name)? {
                Taken::Ours(file) => {
                    self.tables.refresh()?;
                    return Ok(file);
                }
                Taken::Theirs(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn hold(&self, name: &str) -> Result<Taken, StoreError> {
        let path = self.layout.part(Part::Claims).join(name);
        HeldFile::take(&path).map_err(StoreError::io(format!("claim `{}`", path.display())))
    }
}

/// The kind of key and half of it: 128 bits keep keys apart.
fn name_of(key: &RecordKey) -> String {
    let bytes = key.to_bytes();
    let (kind, mut id) = (char::from(bytes[0]), [0; 32]);
    id.copy_from_slice(&bytes[1..]);
    format!("{kind}{}", &BlobId::from_bytes(id).to_string()[..32])
}
