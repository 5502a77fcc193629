//! Small blobs that were given out lately, in memory: what many ask for is neither read nor hashed
//! for each. Only checked bytes come in here, under their name; whether a blob is there, and stays,
//! is asked of the store each time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use strata_cas::BlobId;

/// Of all together.
const MOST_BYTES: usize = 64 << 20;
/// Larger ones are not kept.
const LARGEST_BYTES: usize = 64 << 10;
/// Besides the bytes of each.
const OVERHEAD_BYTES: usize = 128;
/// So that threads seldom wait for each other.
const PARTS: usize = 16;

/// Those that are in memory.
#[derive(Default)]
pub(crate) struct Hot([Mutex<Part>; PARTS]);

/// When the younger half is full, the elder one is forgotten but for what was asked for since.
#[derive(Default)]
struct Part {
    young: HashMap<BlobId, Bytes>,
    old: HashMap<BlobId, Bytes>,
    young_bytes: usize,
}

impl Hot {
    fn part(&self, id: &BlobId) -> MutexGuard<'_, Part> {
        let part = &self.0[usize::from(id.as_bytes()[0]) % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &BlobId) -> Option<Bytes> {
        let mut part = self.part(id);
        if let Some(bytes) = part.young.get(id) {
            return Some(bytes.clone());
        }
        let bytes = part.old.remove(id)?;
        part.keep(*id, bytes.clone());
        Some(bytes)
    }

    /// Keeps bytes that were compared with their name.
    pub(crate) fn keep(&self, id: BlobId, bytes: &Bytes) {
        if bytes.len() <= LARGEST_BYTES {
            self.part(&id).keep(id, bytes.clone());
        }
    }
}

impl Part {
    fn keep(&mut self, id: BlobId, bytes: Bytes) {
        let size = bytes.len() + OVERHEAD_BYTES;
        if self.young.insert(id, bytes).is_some() {
            return;
        }
        self.young_bytes += size;
        if self.young_bytes > MOST_BYTES / PARTS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_no_more_than_they_may_be_and_what_is_used_stays() {
        let hot = Hot::default();
        let bytes = |number: u32| Bytes::from(vec![number.to_le_bytes()[0]; 10_000]);
        let id = |number: u32| BlobId::of(&number.to_le_bytes());
        for number in 0..20_000 {
            hot.keep(id(number), &bytes(number));
            // One that somebody asks for again and again.
            assert_eq!(hot.get(&id(0)), Some(bytes(0)), "{number}");
        }
        let held = (0..20_000).filter(|number| hot.get(&id(*number)).is_some()).count();
        assert!(held > 2000 && held * 10_000 <= MOST_BYTES, "{held}");
        assert_eq!(hot.get(&id(1)), None);
        hot.keep(id(1), &Bytes::from(vec![0; LARGEST_BYTES + 1]));
        assert_eq!(hot.get(&id(1)), None);
    }
}
