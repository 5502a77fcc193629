//! Eviction policies, driven by what replays asked the cache for: the same requests, the same
//! sizes, caches too small for everything.
//!
//! The policies of the literature are here in their byte-sized forms. They are small, and no
//! crate has them all behind one interface with sizes, so they are our own; Belady's is the bound
//! that the others are measured against. Ours decides by `strata_cas::retention`, which is what
//! the store's sweep decides by.

mod queues;
mod ranked;
mod tiny_lfu;

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::report::Share;
use crate::trace::{Access, Trace};

/// What is dropped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// Least recently used.
    Lru,
    /// Least often used.
    Lfu,
    /// Greedy dual by size and frequency: uses × cost ÷ size, with ageing.
    Gdsf,
    /// A small queue for what is new, a main one, and a memory of what left.
    S3Fifo,
    /// One queue, a bit for each, a hand that keeps what was used.
    Sieve,
    /// A window, and frequency to get past it.
    WTinyLfu,
    /// Recency and frequency, balanced by what would have helped.
    Arc,
    /// BuildKit's: the sum of the ranks by last use and by number of uses.
    BuildKit,
    /// The store's own.
    Strata,
    /// The farthest next use: needs the future.
    Belady,
}

impl Policy {
    /// All, the bound last.
    pub const ALL: [Self; 10] = [
        Self::Lru,
        Self::Lfu,
        Self::Gdsf,
        Self::S3Fifo,
        Self::Sieve,
        Self::WTinyLfu,
        Self::Arc,
        Self::BuildKit,
        Self::Strata,
        Self::Belady,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::Gdsf => "gdsf",
            Self::S3Fifo => "s3-fifo",
            Self::Sieve => "sieve",
            Self::WTinyLfu => "w-tinylfu",
            Self::Arc => "arc",
            Self::BuildKit => "buildkit",
            Self::Strata => "strata",
            Self::Belady => "belady",
        }
    }
}

/// How builds of several repositories follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interleaving {
    /// One repository for about eight builds, then another; some are built more often (Zipf).
    Bursty,
    /// One build of each in turn.
    RoundRobin,
}

/// One request: an access, told apart over all repositories.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) access: Access,
    pub(crate) project: usize,
    /// When the record is asked for next; never is the end of time.
    pub(crate) next: u64,
}

/// Builds of all repositories in one order.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    builds: Vec<Vec<Item>>,
    /// Bytes of one build of each repository.
    working_set: u64,
}

impl Requests {
    /// One order for all. The choice among repositories is made up, and is always the same.
    pub fn new(traces: &[&Trace], interleaving: Interleaving) -> Self {
        let order = order(traces, interleaving);
        let mut offsets = vec![0_u32];
        for trace in traces {
            let records = trace.builds.iter().flatten().map(|access| access.record + 1).max();
            let last = offsets.last().copied().unwrap_or(0);
            offsets.push(last.saturating_add(records.unwrap_or(0)));
        }
        let item = |project: usize, access: &Access| Item {
            access: Access { record: access.record + offsets[project], ..*access },
            project,
            next: u64::MAX,
        };
        let mut builds: Vec<Vec<Item>> = order
            .into_iter()
            .map(|(project, build)| {
                traces[project].builds[build].iter().map(|access| item(project, access)).collect()
            })
            .collect();
        look_ahead(&mut builds);
        let working_set = traces.iter().filter_map(|trace| trace.builds.last());
        let working_set = working_set.map(|build| {
            let unique: BTreeMap<u32, u64> = build.iter().map(|a| (a.record, a.bytes)).collect();
            unique.values().sum::<u64>()
        });
        Self { working_set: working_set.sum(), builds }
    }

    /// Bytes of one build of each repository.
    pub fn working_set(&self) -> u64 {
        self.working_set
    }
}

/// Fills in when each record is asked for next.
fn look_ahead(builds: &mut [Vec<Item>]) {
    let mut next: HashMap<u32, u64> = HashMap::new();
    let mut time = builds.iter().map(|build| build.len() as u64).sum::<u64>();
    for item in builds.iter_mut().rev().flat_map(|build| build.iter_mut().rev()) {
        time -= 1;
        item.next = next.insert(item.access.record, time).unwrap_or(u64::MAX);
    }
}

/// Which build of which repository comes when.
fn order(traces: &[&Trace], interleaving: Interleaving) -> Vec<(usize, usize)> {
    let mut left: Vec<usize> = vec![0; traces.len()];
    let mut order = Vec::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below.max(1)
    };
    let total: usize = traces.iter().map(|trace| trace.builds.len()).sum();
    let mut current = 0;
    while order.len() < total {
        let open: Vec<usize> =
            (0..traces.len()).filter(|p| left[*p] < traces[*p].builds.len()).collect();
        let is_open = open.contains(&current);
        current = match interleaving {
            // In one of eight cases, another repository comes.
            Interleaving::Bursty if is_open && draw(8) != 0 => current,
            Interleaving::Bursty => zipf(&open, &mut draw),
            Interleaving::RoundRobin => {
                open.iter().copied().find(|p| *p > current || order.is_empty()).unwrap_or(open[0])
            }
        };
        order.push((current, left[current]));
        left[current] += 1;
    }
    order
}

/// The first is taken twice as often as the second, three times as often as the third.
fn zipf(open: &[usize], draw: &mut dyn FnMut(u64) -> u64) -> usize {
    let weight = |place: usize| 10_000 / (place as u64 + 1);
    let total: u64 = (0..open.len()).map(weight).sum();
    let mut at = draw(total);
    for (place, project) in open.iter().enumerate() {
        if at < weight(place) {
            return *project;
        }
        at -= weight(place);
    }
    open[0]
}

/// A cache of limited size under one policy.
pub(crate) trait Cache {
    /// Asks for a record; whether it was there. What was not is there afterwards, if it fits.
    fn ask(&mut self, item: &Item, now: u64) -> bool;

    /// A build of a project begins.
    fn begin(&mut self, _project: usize, _now: u64) {}
}

fn cache(policy: Policy, capacity: u64) -> Box<dyn Cache> {
    match policy {
        Policy::S3Fifo => Box::new(queues::S3Fifo::new(capacity)),
        Policy::Sieve => Box::new(queues::Sieve::new(capacity)),
        Policy::Arc => Box::new(queues::Arc::new(capacity)),
        Policy::WTinyLfu => Box::new(tiny_lfu::WTinyLfu::new(capacity)),
        ranked => Box::new(ranked::Ranked::new(ranked, capacity)),
    }
}

/// What a policy gave at one capacity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// Its name.
    pub policy: String,
    /// Bytes that the cache may hold.
    pub capacity_bytes: u64,
    /// The same in hundredths of the working set.
    pub capacity_percent: u64,
    /// Steps that hit.
    pub steps: Share,
    /// Milliseconds that hits saved.
    pub time: Share,
    /// Per cent of steps that the bound has more.
    pub regret_steps: f64,
    /// Per cent of time that the bound has more.
    pub regret_time: f64,
}

/// Drives the requests through a policy. The first build of each repository counts, too.
pub fn simulate(requests: &Requests, policy: Policy, capacity: u64) -> (Share, Share) {
    let mut cache = cache(policy, capacity);
    let (mut hits, mut lookups, mut saved, mut total) = (0, 0, 0, 0);
    let mut now = 0;
    for build in &requests.builds {
        if let Some(first) = build.first() {
            cache.begin(first.project, now);
        }
        for item in build {
            let hit = cache.ask(item, now);
            now += 1;
            lookups += 1;
            total += item.access.millis;
            if hit {
                hits += 1;
                saved += item.access.millis;
            }
        }
    }
    (Share::new(hits, lookups), Share::new(saved, total))
}

/// All policies at these capacities, in hundredths of the working set.
pub fn policies(requests: &Requests, capacities_percent: &[u64]) -> Vec<PolicyReport> {
    let mut reports = Vec::new();
    for percent in capacities_percent {
        let capacity = requests.working_set.saturating_mul(*percent) / 100;
        let results: Vec<(Policy, (Share, Share))> = Policy::ALL
            .par_iter()
            .map(|policy| (*policy, simulate(requests, *policy, capacity)))
            .collect();
        let bound = results.last().map(|(_, shares)| *shares).unwrap_or_default();
        for (policy, (steps, time)) in results {
            let below =
                |bound: Share, own: Share| ((bound.percent - own.percent) * 100.0).round() / 100.0;
            reports.push(PolicyReport {
                policy: policy.name().to_owned(),
                capacity_bytes: capacity,
                capacity_percent: *percent,
                steps,
                time,
                regret_steps: below(bound.0, steps),
                regret_time: below(bound.1, time),
            });
        }
    }
    reports
}

/// A set of records with their bytes, none twice.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    pub(crate) used: u64,
    seen: HashSet<u32>,
}

impl Bytes {
    pub(crate) fn has(&self, record: u32) -> bool {
        self.seen.contains(&record)
    }

    pub(crate) fn add(&mut self, record: u32, bytes: u64) {
        if self.seen.insert(record) {
            self.used += bytes;
        }
    }

    pub(crate) fn remove(&mut self, record: u32, bytes: u64) {
        if self.seen.remove(&record) {
            self.used -= bytes;
        }
    }
}

#[cfg(test)]
mod tests;
