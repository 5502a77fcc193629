//! Answers that hold for a while, a bounded number of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Two generations: when the younger one is full, the elder is forgotten.
pub(crate) struct Recent<K, V> {
    holds: Duration,
    count: usize,
    generations: Mutex<[HashMap<K, (Instant, V)>; 2]>,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    /// Holds at most `count` answers, each for this long.
    pub(crate) fn new(holds: Duration, count: usize) -> Self {
        Self { holds, count, generations: Mutex::default() }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let found = generations.iter().find_map(|generation| generation.get(key))?;
        (found.0.elapsed() < self.holds).then(|| found.1.clone())
    }

    pub(crate) fn set(&self, key: K, value: V) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations[0].insert(key, (Instant::now(), value));
        if generations[0].len() > self.count / 2 {
            generations.swap(0, 1);
            generations[0] = HashMap::new();
        }
    }

    pub(crate) fn forget(&self, key: &K) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.iter_mut().for_each(|generation| drop(generation.remove(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_few_and_not_for_ever() {
        let recent = Recent::new(Duration::from_secs(3600), 100);
        for number in 0..1000 {
            recent.set(number, number * 2);
        }
        assert_eq!(recent.get(&999), Some(1998));
        assert_eq!(recent.get(&0), None);
        let held = (0..1000).filter(|number| recent.get(number).is_some()).count();
        assert!((50..=101).contains(&held), "{held}");
        recent.set(999, 1);
        assert_eq!(recent.get(&999), Some(1));
        recent.forget(&999);
        assert_eq!(recent.get(&999), None);
        let gone = Recent::new(Duration::ZERO, 100);
        gone.set(1, 1);
        assert_eq!(gone.get(&1), None);
    }
}
