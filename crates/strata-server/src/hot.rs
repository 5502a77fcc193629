//! What was given out lately, in memory: what many ask for is neither read nor made again for each.
//! Only what was checked comes in here; whether it is still right is asked of the store each time.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Larger values are not kept.
pub(crate) const LARGEST_BYTES: usize = 64 << 10;
/// Besides the bytes of each.
const OVERHEAD_BYTES: usize = 128;
/// So that threads seldom wait for each other.
const PARTS: usize = 16;

/// Values that are in memory.
pub(crate) struct Hot<K, V> {
    parts: [Mutex<Part<K, V>>; PARTS],
    state: RandomState,
    most_bytes: usize,
}

/// When the younger half is full, the elder one is forgotten but for what was asked for since.
struct Part<K, V> {
    /// Each with what it takes.
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_bytes: usize,
}

impl<K, V> Default for Part<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0 }
    }
}

impl<K: Hash + Eq, V: Clone> Hot<K, V> {
    /// Values of so many bytes at most, all together.
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { parts: Default::default(), state: RandomState::new(), most_bytes }
    }

    fn part<Q: Hash + ?Sized>(&self, key: &Q) -> MutexGuard<'_, Part<K, V>> {
        let part = usize::try_from(self.state.hash_one(key) % PARTS as u64).unwrap_or(0);
        self.parts[part].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut part = self.part(key);
        if let Some((value, _)) = part.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, size)) = part.old.remove_entry(key)?;
        part.keep(key, value.clone(), size - OVERHEAD_BYTES, self.most_bytes);
        Some(value)
    }

    /// Keeps a value of so many bytes.
    pub(crate) fn keep(&self, key: K, value: V, size: usize) {
        if size <= LARGEST_BYTES {
            self.part(&key).keep(key, value, size, self.most_bytes);
        }
    }
}

impl<K: Hash + Eq, V> Part<K, V> {
    fn keep(&mut self, key: K, value: V, size: usize, most_bytes: usize) {
        let size = size + OVERHEAD_BYTES;
        let before = self.young.insert(key, (value, size)).map_or(0, |(_, before)| before);
        self.young_bytes = self.young_bytes + size - before;
        if self.young_bytes > most_bytes / PARTS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use strata_cas::BlobId;

    use super::*;

    const MOST_BYTES: usize = 64 << 20;

    #[test]
    fn they_are_no_more_than_they_may_be_and_what_is_used_stays() {
        let hot = Hot::<BlobId, Bytes>::new(MOST_BYTES);
        let bytes = |number: u32| Bytes::from(vec![number.to_le_bytes()[0]; 10_000]);
        let id = |number: u32| BlobId::of(&number.to_le_bytes());
        for number in 0..20_000 {
            hot.keep(id(number), bytes(number), 10_000);
            // One that somebody asks for again and again.
            assert_eq!(hot.get(&id(0)), Some(bytes(0)), "{number}");
        }
        let held = (0..20_000).filter(|number| hot.get(&id(*number)).is_some()).count();
        assert!(held > 2000 && held * 10_000 <= MOST_BYTES, "{held}");
        assert_eq!(hot.get(&id(1)), None);
        let large = Bytes::from(vec![0; LARGEST_BYTES + 1]);
        hot.keep(id(1), large, LARGEST_BYTES + 1);
        assert_eq!(hot.get(&id(1)), None);
        // Those that grow are counted as what they are.
        for size in [1, 60_000] {
            let value = Bytes::from(vec![0; size]);
            (0..20_000).for_each(|number| hot.keep(id(number), value.clone(), size));
        }
        let sizes = (0..20_000).filter_map(|number| Some(hot.get(&id(number))?.len()));
        assert!(sizes.sum::<usize>() <= MOST_BYTES + PARTS * 60_000);
    }
}
