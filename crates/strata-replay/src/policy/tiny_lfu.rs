//! W-TinyLFU: a small window by recency; what leaves it must have been asked for more often than
//! what it would replace. Frequencies are exact here, not sketched, and are halved now and then.

use std::collections::{HashMap, VecDeque};

use super::{Cache, Item};

/// Requests for each record in the cache before frequencies are halved.
const SAMPLE: u64 = 10;

pub(crate) struct WTinyLfu {
    window_capacity: u64,
    main_capacity: u64,
    /// Least recently used first.
    window: VecDeque<(u32, u64)>,
    window_bytes: u64,
    probation: VecDeque<(u32, u64)>,
    protected: VecDeque<(u32, u64)>,
    protected_bytes: u64,
    main_bytes: u64,
    frequency: HashMap<u32, u64>,
    requests: u64,
}

impl WTinyLfu {
    pub(crate) fn new(capacity: u64) -> Self {
        let window_capacity = capacity / 100;
        Self {
            window_capacity,
            main_capacity: capacity - window_capacity,
            window: VecDeque::new(),
            window_bytes: 0,
            probation: VecDeque::new(),
            protected: VecDeque::new(),
            protected_bytes: 0,
            main_bytes: 0,
            frequency: HashMap::new(),
            requests: 0,
        }
    }

    fn count(&mut self, record: u32) {
        *self.frequency.entry(record).or_default() += 1;
        self.requests += 1;
        let kept = (self.window.len() + self.probation.len() + self.protected.len()) as u64;
        if self.requests > SAMPLE * kept.max(16) {
            self.requests = 0;
            self.frequency.values_mut().for_each(|count| *count /= 2);
            self.frequency.retain(|_, count| *count > 0);
        }
    }

    fn often(&self, record: u32) -> u64 {
        self.frequency.get(&record).copied().unwrap_or(0)
    }

    fn is_hit(&mut self, record: u32) -> bool {
        if let Some(found) = take(&mut self.window, record) {
            self.window.push_back(found);
            return true;
        }
        if let Some(found) = take(&mut self.protected, record) {
            self.protected.push_back(found);
            return true;
        }
        let Some(found) = take(&mut self.probation, record) else { return false };
        self.protected.push_back(found);
        self.protected_bytes += found.1;
        while self.protected_bytes > self.main_capacity / 5 * 4 {
            let Some(least) = self.protected.pop_front() else { break };
            self.protected_bytes -= least.1;
            self.probation.push_back(least);
        }
        true
    }

    /// Lets a record from the window into the main part, if it is worth what it replaces.
    fn admit(&mut self, candidate: (u32, u64)) {
        if candidate.1 > self.main_capacity {
            return;
        }
        while self.main_bytes + candidate.1 > self.main_capacity {
            let from_probation = !self.probation.is_empty();
            let queue = if from_probation { &self.probation } else { &self.protected };
            let Some(victim) = queue.front().copied() else { return };
            if self.often(candidate.0) <= self.often(victim.0) {
                return;
            }
            if from_probation {
                self.probation.pop_front();
            } else {
                self.protected.pop_front();
                self.protected_bytes -= victim.1;
            }
            self.main_bytes -= victim.1;
        }
        self.probation.push_back(candidate);
        self.main_bytes += candidate.1;
    }
}

fn take(queue: &mut VecDeque<(u32, u64)>, record: u32) -> Option<(u32, u64)> {
    let at = queue.iter().position(|(one, _)| *one == record)?;
    queue.remove(at)
}

impl Cache for WTinyLfu {
    fn ask(&mut self, item: &Item, _now: u64) -> bool {
        let (record, bytes) = (item.access.record, item.access.bytes);
        self.count(record);
        if self.is_hit(record) {
            return true;
        }
        self.window.push_back((record, bytes));
        self.window_bytes += bytes;
        while self.window_bytes > self.window_capacity {
            let Some(candidate) = self.window.pop_front() else { break };
            self.window_bytes -= candidate.1;
            self.admit(candidate);
        }
        false
    }
}
