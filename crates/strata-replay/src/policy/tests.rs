//! Policies on sequences that were worked out by hand.

use super::*;

fn trace(builds: &[&[u32]]) -> Trace {
    let access = |(depth, record): (usize, &u32)| Access {
        record: *record,
        bytes: 10,
        millis: 1_000,
        depth: u32::try_from(depth).expect("small"),
    };
    let builds = builds.iter().map(|build| build.iter().enumerate().map(access).collect());
    Trace::of(builds.collect())
}

fn hits(builds: &[&[u32]], policy: Policy, capacity: u64) -> u64 {
    let trace = trace(builds);
    simulate(&Requests::new(&[&trace], Interleaving::RoundRobin), policy, capacity).0.hits
}

#[test]
fn hits_counted_by_hand() {
    let check = |builds: &[&[u32]], capacity, expected: [(Policy, u64); 4]| {
        for (policy, count) in expected {
            assert_eq!(hits(builds, policy, capacity), count, "{} at {capacity}", policy.name());
        }
    };
    // A loop of three through room for two: recency never hits, the future does.
    check(
        &[&[0, 1, 2], &[0, 1, 2], &[0, 1, 2]],
        20,
        [(Policy::Lru, 0), (Policy::Sieve, 0), (Policy::Belady, 4), (Policy::Strata, 4)],
    );
    // 0 is used again and again, the others once: frequency keeps it.
    check(
        &[&[0], &[0], &[0, 1], &[2], &[3], &[0]],
        20,
        [(Policy::Lru, 2), (Policy::Lfu, 3), (Policy::Belady, 3), (Policy::BuildKit, 3)],
    );
}

#[test]
fn with_room_for_everything_all_policies_are_alike() {
    let builds: &[&[u32]] = &[&[0, 1, 2], &[0, 3, 4], &[0, 1, 5], &[0, 3, 4]];
    for policy in Policy::ALL {
        assert_eq!(hits(builds, policy, 10_000), 6, "{}", policy.name());
    }
}

#[test]
fn no_cache_holds_more_than_it_may_and_none_beats_the_future() {
    let builds: Vec<Vec<u32>> =
        (0..60_u32).map(|build| (0..6).map(|step| (build * step * 7) % 23).collect()).collect();
    let builds: Vec<&[u32]> = builds.iter().map(Vec::as_slice).collect();
    for capacity in [0, 5, 10, 30, 70, 150] {
        let bound = hits(&builds, Policy::Belady, capacity);
        for policy in Policy::ALL {
            assert!(hits(&builds, policy, capacity) <= bound, "{} at {capacity}", policy.name());
        }
    }
}

#[test]
fn repositories_take_turns() {
    let (one, other) = (trace(&[&[0], &[1]]), trace(&[&[0], &[1], &[2]]));
    let projects = |interleaving| -> Vec<usize> {
        let requests = Requests::new(&[&one, &other], interleaving);
        requests.builds.iter().map(|build| build[0].project).collect()
    };
    assert_eq!(projects(Interleaving::RoundRobin), [0, 1, 0, 1, 1]);
    let bursty = projects(Interleaving::Bursty);
    assert_eq!(bursty.iter().filter(|project| **project == 1).count(), 3);
    assert_eq!(bursty, projects(Interleaving::Bursty), "it is always the same");
    let requests = Requests::new(&[&one, &other], Interleaving::RoundRobin);
    assert_eq!(requests.working_set(), 20);
}
