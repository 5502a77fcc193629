//! What was read of a table lately, in memory: most of what a server is asked for is asked for
//! again, and a look into the database costs ten times as much, also for what is not there.
//!
//! It is right because all changes of a database go through the process that holds it: whoever
//! makes one forgets the key here before the change is acknowledged. What is read while a key
//! changes is not remembered.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So that threads seldom wait for each other.
const PARTS: usize = 16;
/// Besides the bytes of each key and value.
const OVERHEAD_BYTES: usize = 64;
/// Longer values are not remembered.
const LONGEST_BYTES: usize = 4 << 10;

/// What is remembered of a value, or that there is none.
#[derive(Debug)]
pub(crate) struct Memory<V> {
    parts: [Mutex<Part<V>>; PARTS],
    state: RandomState,
    most_bytes: usize,
}

/// When the younger half is full, the elder one is forgotten but for what was asked for since.
#[derive(Debug)]
struct Part<V> {
    young: HashMap<Box<[u8]>, Option<V>>,
    old: HashMap<Box<[u8]>, Option<V>>,
    young_bytes: usize,
    changes: u64,
}

/// When something was read: it is remembered if nothing has changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(u64);

/// What takes room.
pub(crate) trait Weigh {
    /// In bytes, besides itself.
    fn weight(&self) -> usize;
}

impl Weigh for Box<[u8]> {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weigh for u64 {
    fn weight(&self) -> usize {
        0
    }
}

impl<V> Default for Part<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, changes: 0 }
    }
}

impl<V: Weigh> Memory<V> {
    /// One that takes about so many bytes at most.
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { parts: Default::default(), state: RandomState::new(), most_bytes }
    }

    fn part(&self, key: &[u8]) -> MutexGuard<'_, Part<V>> {
        let hash = usize::try_from(self.state.hash_one(key) % PARTS as u64).unwrap_or(0);
        self.parts[hash].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what is remembered of a key, or says when it was not.
    pub(crate) fn see<T>(
        &self,
        key: &[u8],
        see: impl FnOnce(Option<&V>) -> T,
    ) -> Result<T, Moment> {
        let mut part = self.part(key);
        if let Some(known) = part.young.get(key) {
            return Ok(see(known.as_ref()));
        }
        let Some((key, known)) = part.old.remove_entry(key) else {
            return Err(Moment(part.changes));
        };
        let seen = see(known.as_ref());
        part.keep(key, known, self.most_bytes);
        Ok(seen)
    }

    /// Remembers what was found under a key, if it was read after this moment.
    pub(crate) fn keep(&self, key: &[u8], found: Option<V>, moment: Moment) {
        if found.as_ref().map_or(0, Weigh::weight) > LONGEST_BYTES {
            return;
        }
        let mut part = self.part(key);
        if part.changes == moment.0 {
            part.keep(key.into(), found, self.most_bytes);
        }
    }

    /// Says that a key has changed.
    pub(crate) fn forget(&self, key: &[u8]) {
        let mut part = self.part(key);
        part.changes += 1;
        part.young.remove(key);
        part.old.remove(key);
    }

    /// Says that anything may have changed.
    pub(crate) fn forget_all(&self) {
        for part in &self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let changes = part.changes + 1;
            *part = Part { changes, ..Part::default() };
        }
    }
}

impl<V: Weigh> Part<V> {
    fn keep(&mut self, key: Box<[u8]>, found: Option<V>, most_bytes: usize) {
        let weight = key.len() + found.as_ref().map_or(0, Weigh::weight) + OVERHEAD_BYTES;
        if self.young.insert(key, found).is_some() {
            return;
        }
        self.young_bytes += weight;
        if self.young_bytes > most_bytes / PARTS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(memory: &Memory<u64>, key: &[u8]) -> Result<Option<u64>, Moment> {
        memory.see(key, |found| found.copied())
    }

    #[test]
    fn what_changed_while_it_was_read_is_not_remembered() {
        let memory = Memory::new(1 << 20);
        let moment = seen(&memory, b"key").expect_err("nothing is known");
        memory.keep(b"key", Some(1), moment);
        assert_eq!(seen(&memory, b"key"), Ok(Some(1)));
        memory.forget(b"key");
        let moment = seen(&memory, b"key").expect_err("it was forgotten");
        // Somebody reads the old value, and is slow to remember it.
        memory.forget(b"key");
        memory.keep(b"key", Some(2), moment);
        let moment = seen(&memory, b"key").expect_err("it came too late");
        memory.keep(b"key", None, moment);
        assert_eq!(seen(&memory, b"key"), Ok(None));
        memory.forget_all();
        memory.keep(b"key", Some(3), moment);
        assert!(seen(&memory, b"key").is_err());
    }

    #[test]
    fn it_is_bounded_and_what_is_used_stays() {
        let memory = Memory::new(64 << 10);
        let keep = |number: u64| {
            let key = number.to_le_bytes();
            if let Err(moment) = seen(&memory, &key) {
                memory.keep(&key, Some(number), moment);
            }
        };
        for number in 0..100_000 {
            keep(number);
            keep(0);
        }
        let known = |number: &u64| seen(&memory, &number.to_le_bytes()).is_ok();
        assert!(known(&0));
        let count = (0..100_000).filter(known).count();
        assert!((100..=64 * 1024 / (OVERHEAD_BYTES + 8)).contains(&count), "{count}");
    }
}
