//! Which records a full store drops first. The store's sweep and `strata replay` decide by the
//! same functions, so what a replay shows of the policy is what the store does.
//!
//! A build's trace is generational: a key is dead once its project builds without it, and new
//! keys come in runs. So policies that count uses, or that doubt what is new, keep the dead chain
//! and drop the fresh one. This one first drops what the latest build of its project did not use,
//! oldest first; then it takes the project whose next build is expected latest, and of its
//! records those that are cheapest to make again for the bytes that they take. (Trimming the ends
//! of chains instead costs 1.7 to 18 points of hits where room is scarce: `docs/replay.md`.)
//!
//! Deliberately not here: leases, what leads where, and when to stop. The caller drops in this
//! order until it has room.

use crate::Cost;

/// When a project was built. Times are in any unit that only grows: seconds, or builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    last: u64,
    interval: Option<u64>,
}

impl Rhythm {
    /// A project that was built once.
    pub fn new(first_build: u64) -> Self {
        Self { last: first_build, interval: None }
    }

    /// A project that was built at these times, oldest first; none if it never was.
    pub fn of(builds: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut builds = builds.into_iter();
        let mut rhythm = Self::new(builds.next()?);
        builds.for_each(|build| rhythm.built(build));
        Some(rhythm)
    }

    /// It was built again. Later intervals count more: each is a third of the new mean.
    pub fn built(&mut self, now: u64) {
        let gap = now.saturating_sub(self.last);
        self.interval = Some(self.interval.map_or(gap, |mean| mean - mean / 3 + gap / 3));
        self.last = self.last.max(now);
    }

    /// When the next build is expected: after its usual interval, or, when that is over or not
    /// known, after as long again as it has been silent (Lindy).
    pub fn next(&self, now: u64) -> u64 {
        let silent = now.saturating_sub(self.last);
        match self.interval {
            Some(interval) if interval >= silent => self.last.saturating_add(interval),
            _ => now.saturating_add(silent),
        }
    }
}

/// What it takes to make a record again for the room that it takes: milliseconds for a mebibyte.
pub fn price(cost: Cost) -> u64 {
    cost.millis.saturating_mul(1 << 20) / cost.bytes.max(1)
}

/// A record as the policy sees it. One that several projects use counts for the one that is
/// expected to build next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its project, by its place in the list of rhythms.
    pub project: usize,
    /// When it was used last.
    pub used: u64,
    /// Whether its project's latest build used it.
    pub in_latest: bool,
    /// What it takes to make it again.
    pub cost: Cost,
}

/// The candidates, by number, in the order in which to drop them.
pub fn drop_order(now: u64, projects: &[Rhythm], candidates: &[Candidate]) -> Vec<usize> {
    let next: Vec<u64> = projects.iter().map(|rhythm| rhythm.next(now)).collect();
    let key = |number: &usize| {
        let Candidate { project, used, in_latest, cost } = candidates[*number];
        if in_latest {
            // The later its project is built, the earlier it goes.
            let expected = next.get(project).copied().unwrap_or(u64::MAX);
            // Of what costs the same, the end of the chain: it serves fewer changes.
            (true, u64::MAX - expected, project, price(cost), u64::MAX - used)
        } else {
            (false, used, project, price(cost), 0)
        }
    };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(key);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_build_is_expected_after_the_usual_interval_or_as_long_again() {
        let mut rhythm = Rhythm::new(100);
        assert_eq!(rhythm.next(110), 120, "nothing is known: as long again");
        rhythm.built(109);
        assert_eq!(rhythm.next(112), 118, "its interval is 9");
        rhythm.built(130);
        assert_eq!(rhythm.next(131), 143, "9 - 3 + 21 / 3 = 13");
        assert_eq!(rhythm.next(150), 170, "overdue: silent for 20");
        assert_eq!(Rhythm::of([100, 109, 130]), Some(rhythm));
        assert_eq!(Rhythm::of([]), None);
    }

    #[test]
    fn what_the_latest_build_did_not_use_goes_first_and_then_what_is_cheap_of_silent_projects() {
        let busy = Rhythm::of([90, 95]).expect("a rhythm");
        let silent = Rhythm::new(10);
        let candidate = |project, used, in_latest, millis| {
            let cost = Cost { millis, bytes: 1 << 20 };
            Candidate { project, used, in_latest, cost }
        };
        let candidates = [
            candidate(0, 95, true, 50),
            candidate(0, 95, true, 5),
            candidate(0, 90, false, 900),
            candidate(1, 10, true, 7),
            candidate(1, 10, true, 3),
            candidate(1, 5, false, 9_000),
        ];
        assert_eq!(drop_order(96, &[busy, silent], &candidates), [5, 2, 4, 3, 1, 0]);
    }
}
