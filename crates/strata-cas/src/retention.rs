//! Which records a full store drops first. The store's sweep and `strata replay` decide with this
//! one function, so what a replay shows of the policy is what the store does.
//!
//! A build's trace is generational: a key is dead once its project builds without it, and new
//! keys come in runs. So policies that count uses, or that doubt what is new, keep the dead chain
//! and drop the fresh one. This one first drops what the latest build of its project did not use,
//! oldest first; then it takes the project whose next build is expected latest and trims its
//! steps from the end of the chain, since the beginning serves more changes than the end.
//!
//! Deliberately not here: sizes, leases, and when to stop. The caller drops in this order until
//! it has room.

use std::cmp::Reverse;

/// How much the newest interval counts in a project's average.
const NEWEST_SHARE: f64 = 0.3;

/// When a project was built. Times are in any unit that only grows: seconds, or builds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rhythm {
    last: u64,
    interval: Option<f64>,
}

impl Rhythm {
    /// A project that was built once.
    pub fn new(first_build: u64) -> Self {
        Self { last: first_build, interval: None }
    }

    /// The latest build.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// It was built again.
    pub fn built(&mut self, now: u64) {
        let gap = to_float(now.saturating_sub(self.last));
        let blend = |old: f64| old + NEWEST_SHARE * (gap - old);
        self.interval = Some(self.interval.map_or(gap, blend));
        self.last = self.last.max(now);
    }

    /// When the next build is expected: after its usual interval, or, when that is over or not
    /// known, after as long again as it has been quiet.
    pub fn next(&self, now: u64) -> f64 {
        let quiet = to_float(now.saturating_sub(self.last));
        match self.interval {
            Some(interval) if interval >= quiet => to_float(self.last) + interval,
            _ => to_float(now) + quiet,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a forecast needs no exact seconds")]
fn to_float(time: u64) -> f64 {
    time as f64
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
    /// How many steps its chain has below it.
    pub depth: u32,
}

/// The candidates, by number, in the order in which to drop them.
pub fn drop_order(now: u64, projects: &[Rhythm], candidates: &[Candidate]) -> Vec<usize> {
    let next: Vec<f64> = projects.iter().map(|rhythm| rhythm.next(now)).collect();
    let expected = |candidate: &Candidate| next.get(candidate.project).copied().unwrap_or(f64::MAX);
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| {
        let (one, other) = (&candidates[*a], &candidates[*b]);
        let by_use = one.in_latest.cmp(&other.in_latest);
        by_use.then_with(|| {
            if one.in_latest {
                let latest_first = expected(other).total_cmp(&expected(one));
                let key = |c: &Candidate| (c.project, Reverse(c.depth), c.used);
                latest_first.then_with(|| key(one).cmp(&key(other)))
            } else {
                let key = |c: &Candidate| (c.used, Reverse(c.depth));
                key(one).cmp(&key(other))
            }
        })
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(project: usize, used: u64, in_latest: bool, depth: u32) -> Candidate {
        Candidate { project, used, in_latest, depth }
    }

    #[test]
    fn the_next_build_is_expected_after_the_usual_interval_or_as_long_again() {
        let mut rhythm = Rhythm::new(100);
        assert!((rhythm.next(110) - 120.0).abs() < 1e-9, "nothing is known: as long again");
        rhythm.built(110);
        assert!((rhythm.next(112) - 120.0).abs() < 1e-9, "its interval is 10");
        rhythm.built(130);
        assert!((rhythm.next(131) - 143.0).abs() < 1e-9, "10 + 0.3 × (20 − 10) = 13");
        assert!((rhythm.next(150) - 170.0).abs() < 1e-9, "overdue: quiet for 20");
    }

    #[test]
    fn what_the_latest_build_did_not_use_goes_first_and_then_the_ends_of_quiet_projects() {
        let mut busy = Rhythm::new(90);
        busy.built(95);
        let quiet = Rhythm::new(10);
        let candidates = [
            candidate(0, 95, true, 0),
            candidate(0, 95, true, 1),
            candidate(0, 90, false, 1),
            candidate(1, 10, true, 0),
            candidate(1, 10, true, 3),
            candidate(1, 5, false, 2),
        ];
        let order = drop_order(96, &[busy, quiet], &candidates);
        assert_eq!(order, [5, 2, 4, 3, 1, 0]);
    }
}
