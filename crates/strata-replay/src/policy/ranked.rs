//! Policies that rank everything there is when room is needed.

use std::collections::HashMap;

use strata_cas::Cost;
use strata_cas::retention::{Candidate, Rhythm, drop_order};

use super::{Cache, Item, Policy};

/// One record in the cache.
#[derive(Debug, Clone, Copy)]
struct Kept {
    item: Item,
    used: u64,
    count: u64,
    /// Greedy dual's value.
    value: f64,
    /// Which build of its project used it last.
    build: u64,
}

/// A cache that drops what ranks lowest.
pub(crate) struct Ranked {
    policy: Policy,
    capacity: u64,
    used: u64,
    kept: HashMap<u32, Kept>,
    /// Greedy dual's clock: the value of what was dropped last.
    clock: f64,
    /// Each project's rhythm and number of builds.
    projects: Vec<Option<(Rhythm, u64)>>,
}

impl Ranked {
    pub(crate) fn new(policy: Policy, capacity: u64) -> Self {
        Self { policy, capacity, used: 0, kept: HashMap::new(), clock: 0.0, projects: Vec::new() }
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes and times")]
    fn value(&self, item: &Item, count: u64) -> f64 {
        self.clock + count as f64 * item.access.millis as f64 / item.access.bytes as f64
    }

    /// Records in the order in which to drop them, as far as one needs to know.
    fn order(&self, now: u64) -> Vec<u32> {
        let mut all: Vec<(u32, Kept)> = self.kept.iter().map(|(r, kept)| (*r, *kept)).collect();
        all.sort_unstable_by_key(|(record, _)| *record);
        match self.policy {
            Policy::Lfu => all.sort_by_key(|(_, kept)| (kept.count, kept.used)),
            Policy::Gdsf => all.sort_by(|(_, a), (_, b)| a.value.total_cmp(&b.value)),
            Policy::Belady => all.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.item.next)),
            Policy::BuildKit => by_ranks(&mut all),
            Policy::Strata => return self.ours(&all, now),
            _ => all.sort_by_key(|(_, kept)| kept.used),
        }
        all.into_iter().map(|(record, _)| record).collect()
    }

    fn ours(&self, all: &[(u32, Kept)], now: u64) -> Vec<u32> {
        let nobody = (Rhythm::new(0), 0);
        let projects: Vec<(Rhythm, u64)> =
            self.projects.iter().map(|project| project.unwrap_or(nobody)).collect();
        let rhythms: Vec<Rhythm> = projects.iter().map(|(rhythm, _)| *rhythm).collect();
        let candidates: Vec<Candidate> = all
            .iter()
            .map(|(_, kept)| Candidate {
                project: kept.item.project,
                used: kept.used,
                // While a build goes on, it may still ask for what the one before used.
                in_latest: projects.get(kept.item.project).is_some_and(|p| kept.build + 1 >= p.1),
                cost: Cost { millis: kept.item.access.millis, bytes: kept.item.access.bytes },
            })
            .collect();
        drop_order(now, &rhythms, &candidates).into_iter().map(|number| all[number].0).collect()
    }

    fn make_room(&mut self, now: u64) {
        if self.used <= self.capacity {
            return;
        }
        for record in self.order(now) {
            if self.used <= self.capacity {
                break;
            }
            if let Some(gone) = self.kept.remove(&record) {
                self.used -= gone.item.access.bytes;
                if self.policy == Policy::Gdsf {
                    self.clock = gone.value;
                }
            }
        }
    }
}

/// BuildKit's: the ranks by last use and by number of uses, added.
fn by_ranks(all: &mut [(u32, Kept)]) {
    let mut ranks: HashMap<u32, usize> = HashMap::new();
    for key in [|kept: &Kept| kept.used, |kept: &Kept| kept.count] {
        all.sort_by_key(|(record, kept)| (key(kept), *record));
        for (rank, (record, _)) in all.iter().enumerate() {
            *ranks.entry(*record).or_default() += rank;
        }
    }
    all.sort_by_key(|(record, _)| (ranks[record], *record));
}

impl Cache for Ranked {
    fn begin(&mut self, project: usize, now: u64) {
        if self.projects.len() <= project {
            self.projects.resize(project + 1, None);
        }
        match &mut self.projects[project] {
            Some((rhythm, builds)) => {
                rhythm.built(now);
                *builds += 1;
            }
            none => *none = Some((Rhythm::new(now), 1)),
        }
    }

    fn ask(&mut self, item: &Item, now: u64) -> bool {
        let builds = self.projects.get(item.project).and_then(|project| *project);
        let build = builds.map_or(0, |(_, builds)| builds);
        let record = item.access.record;
        let hit = self.kept.contains_key(&record);
        let count = self.kept.get(&record).map_or(0, |kept| kept.count) + 1;
        let value = self.value(item, count);
        let kept = Kept { item: *item, used: now, count, value, build };
        if let Some(old) = self.kept.insert(record, kept) {
            self.used -= old.item.access.bytes;
        }
        self.used += item.access.bytes;
        self.make_room(now);
        hit
    }
}
