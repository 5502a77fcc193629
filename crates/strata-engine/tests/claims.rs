//! Several evaluations on one store at the same time: each step runs once, the others wait and
//! say so, and take over when it fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use strata_cas::{Claim, Directory, Fact, MemoryStore, RecordKey, RecordStore, Slot, TreeId};
use strata_engine::{
    Build, Definition, Event, Graph, Input, Outcome, Produced, Step, StepError, StepId, Verdict,
};

/// A step that takes its time.
struct Slow<'a> {
    name: String,
    runs: &'a AtomicUsize,
    /// How many of its runs fail before one does not.
    failures: usize,
}

impl Step for Slow<'_> {
    type Error = &'static str;

    fn definition(&self) -> Definition {
        Definition::new(Slot(self.name.clone()), vec![Fact::text("name", self.name.clone())])
    }

    fn slice(&self, _: usize, tree: &TreeId) -> Result<TreeId, Self::Error> {
        Ok(*tree)
    }

    fn run(&self, _: &[Outcome]) -> Result<Produced, Self::Error> {
        let before = self.runs.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(30));
        if before < self.failures {
            return Err("not yet");
        }
        let payload = self.name.clone().into_bytes();
        Ok(Produced { tree: Directory::empty_root().id(), payload, bytes: 0 })
    }
}

fn graph(runs: &[AtomicUsize], failures: usize) -> Graph<Slow<'_>> {
    let mut graph = Graph::default();
    let mut last = None;
    for (number, runs) in runs.iter().enumerate() {
        let name = format!("step {number}");
        let inputs = last.map(Input::Whole).into_iter().collect();
        last = Some(graph.add(Slow { name, runs, failures }, inputs));
    }
    graph
}

#[test]
fn evaluations_at_the_same_time_run_each_step_once() {
    let (store, barrier) = (MemoryStore::default(), Barrier::new(8));
    let runs: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
    let (waited, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let graph = graph(&runs, 0);
                let observe = |event: Event<'_>| match event {
                    Event::Waiting(_, pid) => {
                        assert_eq!(pid, Some(std::process::id()));
                        waited.fetch_add(1, Ordering::SeqCst);
                    }
                    Event::Done(_, Outcome { verdict: Verdict::Hit(_), .. }) => {
                        hits.fetch_add(1, Ordering::SeqCst);
                    }
                    _ => {}
                };
                barrier.wait();
                let outcomes = Build::new(&store).run(&graph, &observe).expect("built");
                assert_eq!(outcomes[3].record.payload, b"step 3");
            });
        }
    });
    assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1), "{runs:?}");
    assert_eq!(hits.load(Ordering::SeqCst), 7 * 4);
    assert!(waited.load(Ordering::SeqCst) > 0);
}

#[test]
fn who_waits_takes_over_when_the_step_fails() {
    let (store, barrier) = (MemoryStore::default(), Barrier::new(3));
    let runs = [AtomicUsize::new(0)];
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let graph = graph(&runs, 1);
                barrier.wait();
                let built = Build::new(&store).run(&graph, &|_| {}).is_ok();
                results.lock().expect("lock").push(built);
            });
        }
    });
    let built = results.lock().expect("lock").iter().filter(|built| **built).count();
    assert_eq!((built, runs[0].load(Ordering::SeqCst)), (2, 2));
}

#[test]
fn waiting_ends_when_the_evaluation_is_cancelled() {
    let store = MemoryStore::default();
    let runs = [AtomicUsize::new(0)];
    let keys = strata_engine::keys(&[Fact::text("name", "step 0")], &[]);
    let held = store.claim(&[RecordKey::Content(keys.content)]).expect("claim");
    assert!(matches!(held, Claim::Held(_)));
    let cancelled = AtomicBool::new(false);
    let observe = |event: Event<'_>| {
        if let Event::Waiting(step, _) = event {
            assert_eq!(step, StepId(0));
            cancelled.store(true, Ordering::SeqCst);
        }
    };
    let is_cancelled = || cancelled.load(Ordering::SeqCst);
    let graph = graph(&runs, 0);
    let failed = Build::new(&store).until(&is_cancelled).run(&graph, &observe);
    assert!(matches!(failed.expect_err("cancelled").error, StepError::Cancelled));
    assert_eq!(runs[0].load(Ordering::SeqCst), 0);
}
