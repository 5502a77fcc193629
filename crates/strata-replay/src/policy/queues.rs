//! Policies made of queues: SIEVE, S3-FIFO and ARC, with bytes in place of numbers of entries.

use std::collections::{HashMap, VecDeque};

use super::{Bytes, Cache, Item};

/// SIEVE (NSDI '24): one queue by age; a hand goes from old to new, keeps what was used since it
/// came by, and drops what was not.
pub(crate) struct Sieve {
    capacity: u64,
    used: u64,
    /// Oldest first.
    queue: Vec<(u32, u64)>,
    visited: HashMap<u32, bool>,
    hand: usize,
}

impl Sieve {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity, used: 0, queue: Vec::new(), visited: HashMap::new(), hand: 0 }
    }

    fn evict(&mut self) {
        loop {
            if self.queue.is_empty() {
                return;
            }
            if self.hand >= self.queue.len() {
                self.hand = 0;
            }
            let (record, bytes) = self.queue[self.hand];
            if self.visited.insert(record, false) == Some(true) {
                self.hand += 1;
            } else {
                self.queue.remove(self.hand);
                self.visited.remove(&record);
                self.used -= bytes;
                return;
            }
        }
    }
}

impl Cache for Sieve {
    fn ask(&mut self, item: &Item, _now: u64) -> bool {
        let (record, bytes) = (item.access.record, item.access.bytes);
        if let Some(visited) = self.visited.get_mut(&record) {
            *visited = true;
            return true;
        }
        if bytes > self.capacity {
            return false;
        }
        while self.used + bytes > self.capacity {
            self.evict();
        }
        self.queue.push((record, bytes));
        self.visited.insert(record, false);
        self.used += bytes;
        false
    }
}

/// S3-FIFO (SOSP '23): a small queue of a tenth for what is new, a main queue for what was used
/// again, and a ghost queue that remembers what left the small one.
pub(crate) struct S3Fifo {
    capacity: u64,
    small: VecDeque<(u32, u64)>,
    small_bytes: u64,
    main: VecDeque<(u32, u64)>,
    main_bytes: u64,
    ghost: VecDeque<(u32, u64)>,
    ghosts: Bytes,
    /// Uses since insertion, at most 3.
    uses: HashMap<u32, u8>,
}

impl S3Fifo {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            small: VecDeque::new(),
            small_bytes: 0,
            main: VecDeque::new(),
            main_bytes: 0,
            ghost: VecDeque::new(),
            ghosts: Bytes::default(),
            uses: HashMap::new(),
        }
    }

    fn evict(&mut self) {
        if self.small_bytes > self.capacity / 10 || self.main.is_empty() {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        while let Some((record, bytes)) = self.small.pop_front() {
            self.small_bytes -= bytes;
            if self.uses.get(&record).copied().unwrap_or(0) > 1 {
                self.uses.insert(record, 0);
                self.main.push_back((record, bytes));
                self.main_bytes += bytes;
            } else {
                self.uses.remove(&record);
                self.remember(record, bytes);
                return;
            }
        }
    }

    fn evict_main(&mut self) {
        while let Some((record, bytes)) = self.main.pop_front() {
            let uses = self.uses.get(&record).copied().unwrap_or(0);
            if uses > 0 {
                self.uses.insert(record, uses - 1);
                self.main.push_back((record, bytes));
            } else {
                self.uses.remove(&record);
                self.main_bytes -= bytes;
                return;
            }
        }
    }

    fn remember(&mut self, record: u32, bytes: u64) {
        self.ghost.push_back((record, bytes));
        self.ghosts.add(record, bytes);
        while self.ghosts.used > self.capacity {
            let Some((record, bytes)) = self.ghost.pop_front() else { break };
            self.ghosts.remove(record, bytes);
        }
    }
}

impl Cache for S3Fifo {
    fn ask(&mut self, item: &Item, _now: u64) -> bool {
        let (record, bytes) = (item.access.record, item.access.bytes);
        if let Some(uses) = self.uses.get_mut(&record) {
            *uses = (*uses + 1).min(3);
            return true;
        }
        if bytes > self.capacity {
            return false;
        }
        while self.small_bytes + self.main_bytes + bytes > self.capacity {
            self.evict();
        }
        self.uses.insert(record, 0);
        if self.ghosts.has(record) {
            self.main.push_back((record, bytes));
            self.main_bytes += bytes;
        } else {
            self.small.push_back((record, bytes));
            self.small_bytes += bytes;
        }
        false
    }
}

/// A queue of records, least recently used first.
#[derive(Default)]
struct Recency {
    queue: VecDeque<(u32, u64)>,
    bytes: Bytes,
}

impl Recency {
    fn push(&mut self, record: u32, bytes: u64) {
        self.queue.push_back((record, bytes));
        self.bytes.add(record, bytes);
    }

    fn pop(&mut self) -> Option<(u32, u64)> {
        let (record, bytes) = self.queue.pop_front()?;
        self.bytes.remove(record, bytes);
        Some((record, bytes))
    }

    fn take(&mut self, record: u32) -> bool {
        let Some(at) = self.queue.iter().position(|(one, _)| *one == record) else { return false };
        if let Some((record, bytes)) = self.queue.remove(at) {
            self.bytes.remove(record, bytes);
        }
        true
    }
}

/// ARC (FAST '03): what was used once and what was used again, with a ghost of each; a hit in a
/// ghost moves the border between the two.
pub(crate) struct Arc {
    capacity: u64,
    /// Bytes that what was used once may have.
    border: u64,
    once: Recency,
    again: Recency,
    once_ghost: Recency,
    again_ghost: Recency,
}

impl Arc {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            border: 0,
            once: Recency::default(),
            again: Recency::default(),
            once_ghost: Recency::default(),
            again_ghost: Recency::default(),
        }
    }

    fn make_room(&mut self, bytes: u64, from_again_ghost: bool) {
        while self.once.bytes.used + self.again.bytes.used + bytes > self.capacity {
            let over = self.once.bytes.used > self.border
                || (from_again_ghost && self.once.bytes.used == self.border);
            let once = !self.once.queue.is_empty() && (over || self.again.queue.is_empty());
            if once {
                let Some((record, bytes)) = self.once.pop() else { break };
                self.once_ghost.push(record, bytes);
            } else {
                let Some((record, bytes)) = self.again.pop() else { break };
                self.again_ghost.push(record, bytes);
            }
        }
        while self.once.bytes.used + self.once_ghost.bytes.used > self.capacity {
            if self.once_ghost.pop().is_none() {
                break;
            }
        }
        let all = |arc: &Self| {
            arc.once.bytes.used
                + arc.again.bytes.used
                + arc.once_ghost.bytes.used
                + arc.again_ghost.bytes.used
        };
        while all(self) > self.capacity.saturating_mul(2) {
            if self.again_ghost.pop().is_none() {
                break;
            }
        }
    }
}

impl Cache for Arc {
    fn ask(&mut self, item: &Item, _now: u64) -> bool {
        let (record, bytes) = (item.access.record, item.access.bytes);
        if self.once.take(record) || self.again.take(record) {
            self.again.push(record, bytes);
            return true;
        }
        if bytes > self.capacity {
            return false;
        }
        let (one, other) = (self.once_ghost.bytes.used, self.again_ghost.bytes.used);
        if self.once_ghost.take(record) {
            let step = bytes.saturating_mul((other / one.max(1)).max(1));
            self.border = self.border.saturating_add(step).min(self.capacity);
            self.make_room(bytes, false);
            self.again.push(record, bytes);
        } else if self.again_ghost.take(record) {
            let step = bytes.saturating_mul((one / other.max(1)).max(1));
            self.border = self.border.saturating_sub(step);
            self.make_room(bytes, true);
            self.again.push(record, bytes);
        } else {
            self.make_room(bytes, false);
            self.once.push(record, bytes);
        }
        false
    }
}
