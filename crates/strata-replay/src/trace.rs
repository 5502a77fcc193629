//! What a replay asked the cache for, in order: the input of eviction policies.

use std::collections::HashMap;

use crate::keys::{Short, StepKeys};
use crate::prepare::Prepared;
use crate::replay::Costs;

/// One use of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Which record; numbers are given in the order of first use.
    pub record: u32,
    /// Bytes that it keeps.
    pub bytes: u64,
    /// Milliseconds that it takes to make it again.
    pub millis: u64,
    /// How many steps its chain has below it.
    pub depth: u32,
}

/// The uses of all builds, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Each build's, in the order of its plan.
    pub builds: Vec<Vec<Access>>,
    numbers: HashMap<Short, u32>,
}

impl Trace {
    /// A trace of these builds.
    pub fn of(builds: Vec<Vec<Access>>) -> Self {
        Self { builds, numbers: HashMap::new() }
    }

    pub(crate) fn build(
        &mut self,
        prepared: &Prepared,
        keys: &[StepKeys],
        copied: &[u64],
        costs: &Costs,
    ) {
        let mut depths: Vec<u32> = Vec::new();
        let mut build = Vec::new();
        for (index, step) in prepared.steps.iter().enumerate() {
            let depth = step.parent.map_or(0, |parent| depths[parent] + 1);
            depths.push(depth);
            if !step.is_work() {
                continue;
            }
            let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
            // What is found by content is the same record.
            let record = *self.numbers.entry(keys[index].lookups[1]).or_insert(next);
            let millis = costs.millis(step).0;
            let bytes = costs.bytes(step, copied[index]).max(1);
            build.push(Access { record, bytes, millis, depth });
        }
        self.builds.push(build);
    }
}
