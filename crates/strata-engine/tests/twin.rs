//! The engine against a naive evaluator: random graphs, edits, evictions and failures. The naive
//! one keeps nothing and knows no keys; whatever the engine answers from its cache must be equal.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use strata_cas::{
    BlobStore, Directory, Fact, Fingerprint, MemoryStore, Metadata, Record, RecordKey, Slot,
    TreeId, Writer,
};
use strata_engine::{
    Build, Definition, Event, FactChange, Found, Graph, Input, MissReason, Outcome, Produced, Step,
    StepError, Verdict,
};

/// A step of arithmetic: `(number + sum of inputs) / divisor`. Dividing loses information, so that
/// different inputs give equal results: early cutoff has something to do.
#[derive(Debug, Clone)]
struct Sum {
    name: usize,
    number: u32,
    divisor: u32,
    inputs: Vec<(usize, bool)>,
    fails: bool,
    forced: bool,
    linked: bool,
}

impl Sum {
    /// What it gives of its inputs, and its own part. A linked step adds its own part, of which it
    /// looks at the parity of what it builds on only, to that.
    fn of(&self, inputs: &[u32]) -> (u32, u32) {
        let given = inputs.iter().zip(&self.inputs);
        let (wholes, slices) = given.fold((0, 0), |(wholes, slices), (number, (_, whole))| {
            if *whole { (wholes + number, slices) } else { (wholes, slices + slice_of(*number)) }
        });
        if !self.linked {
            let total = (self.number + wholes + slices) / self.divisor % 1000;
            return (total, total);
        }
        let own = (self.number + slices + wholes % 2) / self.divisor % 1000;
        ((own + wholes) % 1000, own)
    }
}

struct Counted<'a> {
    sum: Sum,
    store: &'a MemoryStore,
    runs: &'a AtomicUsize,
    ran: &'a Mutex<HashMap<String, usize>>,
}

/// A tree that stands for a number.
fn tree_of(number: u32) -> Directory {
    Directory { metadata: Metadata::root(number), ..Directory::default() }
}

fn number_of(store: &MemoryStore, tree: &TreeId) -> u32 {
    strata_cas::load(store, tree).expect("a number's tree").metadata.mode
}

/// What a slice lets through: the number's tens.
fn slice_of(number: u32) -> u32 {
    number / 10 * 10
}

impl Step for Counted<'_> {
    type Error = &'static str;

    fn definition(&self) -> Definition {
        let facts = vec![
            Fact::text("number", self.sum.number.to_string()),
            Fact::text("divisor", self.sum.divisor.to_string()),
            // Part of the key: else an equal step that was made well would rightly be a hit.
            Fact::text("fails", self.sum.fails.to_string()),
            Fact::text("linked", self.sum.linked.to_string()),
        ];
        let slot = Slot(self.sum.name.to_string());
        let Sum { forced, linked, .. } = self.sum;
        Definition { forced, linked, ..Definition::new(slot, facts) }
    }

    fn slice(&self, _: usize, tree: &TreeId) -> Result<TreeId, Self::Error> {
        let slice = tree_of(slice_of(number_of(self.store, tree)));
        slice.keep(self.store).map_err(|_| "the store failed")
    }

    fn run(&self, inputs: &[Outcome]) -> Result<Produced, Self::Error> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        if self.sum.fails {
            return Err("it was to fail");
        }
        let inputs = self.numbers(inputs);
        let given = inputs.iter().zip(&self.sum.inputs);
        let given = given
            .map(|(number, (_, whole))| (*whole, if *whole { *number } else { slice_of(*number) }));
        let given: Vec<(bool, u32)> = given.collect();
        let Sum { number, divisor, linked, .. } = self.sum;
        let what = format!("{number} {divisor} {linked} {given:?}");
        *self.ran.lock().expect("lock").entry(what).or_default() += 1;
        let (total, own) = self.sum.of(&inputs);
        let tree = tree_of(total).keep(self.store).map_err(|_| "the store failed")?;
        Ok(Produced { tree, payload: own.to_le_bytes().to_vec(), bytes: 0 })
    }

    fn relink(&self, record: &Record, inputs: &[Outcome]) -> Result<Option<Produced>, Self::Error> {
        let (total, own) = self.sum.of(&self.numbers(inputs));
        if record.payload != own.to_le_bytes() {
            return Ok(None);
        }
        let tree = tree_of(total).keep(self.store).map_err(|_| "the store failed")?;
        Ok(Some(Produced { tree, payload: record.payload.clone(), bytes: 0 }))
    }
}

impl Counted<'_> {
    fn numbers(&self, inputs: &[Outcome]) -> Vec<u32> {
        let number = |outcome: &Outcome| number_of(self.store, &outcome.record.tree);
        inputs.iter().map(number).collect()
    }
}

/// Evaluates without any cache; `None` for what fails or depends on a failure.
fn naive(steps: &[Sum]) -> Vec<Option<u32>> {
    let mut results: Vec<Option<u32>> = Vec::new();
    for step in steps {
        let inputs: Option<Vec<u32>> = step.inputs.iter().map(|(at, _)| results[*at]).collect();
        let result = inputs.map(|inputs| step.of(&inputs).0);
        results.push(result.filter(|_| !step.fails));
    }
    results
}

fn sum(name: usize) -> impl Strategy<Value = Sum> {
    let inputs = prop::collection::vec((0..name.max(1), any::<bool>()), 0..=3.min(name));
    let rarely = || prop::bool::weighted(0.05);
    (0..40u32, 1..4u32, inputs, rarely(), rarely(), prop::bool::weighted(0.3)).prop_map(
        move |(number, divisor, inputs, fails, forced, linked)| Sum {
            name,
            number,
            divisor,
            inputs,
            fails,
            forced,
            linked,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Sum>> {
    (1..12usize).prop_flat_map(|count| (0..count).map(sum).collect::<Vec<_>>())
}

#[derive(Debug, Clone)]
enum Act {
    Build { jobs: usize },
    Edit { step: usize, number: u32 },
    Toggle { step: usize },
    Evict { nth: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1..4usize).prop_map(|jobs| Act::Build { jobs }),
        3 => (0..12usize, 0..40u32).prop_map(|(step, number)| Act::Edit { step, number }),
        1 => (0..12usize).prop_map(|step| Act::Toggle { step }),
        1 => (0..30usize).prop_map(|nth| Act::Evict { nth }),
    ]
}

struct World {
    store: MemoryStore,
    keys: Mutex<Vec<RecordKey>>,
}

impl World {
    /// Builds and compares every answer with the naive one.
    fn build(&self, steps: &[Sum], jobs: usize) -> usize {
        let (runs, ran) = (AtomicUsize::new(0), Mutex::default());
        let mut graph = Graph::default();
        for sum in steps {
            let step = Counted { sum: sum.clone(), store: &self.store, runs: &runs, ran: &ran };
            let inputs = sum.inputs.iter().map(|(at, whole)| {
                let id = strata_engine::StepId(*at);
                if *whole { Input::Whole(id) } else { Input::Slice(id) }
            });
            graph.add(step, inputs.collect());
        }
        let expected = naive(steps);
        let observe = |event: Event<'_>| {
            if let Event::Done(id, outcome) = event {
                assert_eq!(Some(number_of(&self.store, &outcome.record.tree)), expected[id.0]);
                let mut keys = self.keys.lock().expect("lock");
                keys.push(RecordKey::Definition(outcome.record.definition));
                keys.push(RecordKey::Content(outcome.record.content));
            }
        };
        let jobs = NonZeroUsize::new(jobs).expect("at least one");
        match Build::new(&self.store).with_jobs(jobs).run(&graph, &observe) {
            Ok(outcomes) => assert_eq!(outcomes.len(), steps.len()),
            Err(failed) => {
                assert_eq!(expected[failed.step.0], None);
                assert!(matches!(failed.error, StepError::Step("it was to fail")));
            }
        }
        for (what, times) in ran.lock().expect("lock").iter() {
            let forced = steps.iter().filter(|step| step.forced).count();
            assert!(*times <= 1 + forced, "`{what}` ran {times} times in one build");
        }
        runs.load(Ordering::Relaxed)
    }
}

/// So many programs, unless `PROPTEST_CASES` says otherwise; `PROPTEST_RNG_SEED` replays.
fn programs() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if default.cases == 256 { 10_000 } else { default.cases };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(programs())]

    #[test]
    fn the_engine_answers_as_the_naive_evaluator(
        mut steps in steps(),
        acts in prop::collection::vec(act(), 1..12),
    ) {
        let world = World { store: MemoryStore::default(), keys: Mutex::default() };
        for act in acts {
            let count = steps.len();
            match act {
                Act::Build { jobs } => drop(world.build(&steps, jobs)),
                Act::Edit { step, number } => steps[step % count].number = number,
                Act::Toggle { step } => {
                    let step = &mut steps[step % count];
                    step.fails = !step.fails;
                }
                Act::Evict { nth } => {
                    let keys = world.keys.lock().expect("lock");
                    if let Some(key) = keys.get(nth % keys.len().max(1)) {
                        world.store.evict(&[*key]);
                    }
                }
            }
        }
        // Whatever came before: a build of sound steps ends, and the next one runs nothing.
        for step in &mut steps {
            (step.fails, step.forced) = (false, false);
        }
        world.build(&steps, 2);
        prop_assert_eq!(world.build(&steps, 1), 0);
    }
}

fn step(name: usize, number: u32, divisor: u32, inputs: &[(usize, bool)]) -> Sum {
    let (inputs, linked) = (inputs.to_vec(), false);
    Sum { name, number, divisor, inputs, fails: false, forced: false, linked }
}

/// Builds and gives the verdict of each step.
fn verdicts(store: &MemoryStore, steps: &[Sum]) -> Vec<Verdict> {
    let (runs, ran) = (AtomicUsize::new(0), Mutex::default());
    let mut graph = Graph::default();
    for sum in steps {
        let inputs = sum.inputs.iter().map(|(at, _)| Input::Whole(strata_engine::StepId(*at)));
        let inputs = inputs.collect();
        graph.add(Counted { sum: sum.clone(), store, runs: &runs, ran: &ran }, inputs);
    }
    let outcomes = Build::new(store).run(&graph, &|_| {}).expect("built");
    outcomes.into_iter().map(|outcome| outcome.verdict).collect()
}

const BY_DEFINITION: Verdict = Verdict::Hit(Found::ByDefinition);
const BY_CONTENT: Verdict = Verdict::Hit(Found::ByContent);

fn changed(name: &str, old: &str, new: &str) -> Verdict {
    let (name, old, new) = (name.to_owned(), Some(old.to_owned()), Some(new.to_owned()));
    Verdict::Miss(MissReason::Changed(vec![FactChange::Text { name, old, new }]))
}

#[test]
fn a_step_that_gives_what_it_gave_before_cuts_off() {
    let store = MemoryStore::default();
    let of = |number| [step(0, number, 2, &[]), step(1, 5, 1, &[(0, true)])];
    let first = Verdict::Miss(MissReason::First);
    assert_eq!(verdicts(&store, &of(8)), [first.clone(), first]);
    assert_eq!(verdicts(&store, &of(9)), [changed("number", "8", "9"), BY_CONTENT]);
    assert_eq!(verdicts(&store, &of(9)), [BY_DEFINITION, BY_DEFINITION]);
    let other = verdicts(&store, &of(20));
    assert!(matches!(other[1], Verdict::Miss(MissReason::Input { input: 0, .. })), "{other:?}");
}

/// Over a tree of other parity the own part of a linked step is another one; over any other tree it
/// is not made again, and what follows sees the new tree.
#[test]
fn a_linked_step_is_laid_over_another_tree() {
    let store = MemoryStore::default();
    let of = |below, number| {
        let linked = Sum { linked: true, ..step(1, number, 1, &[(0, true)]) };
        [step(0, below, 1, &[]), linked, step(2, 1, 1, &[(1, true)])]
    };
    const BY_LINK: Verdict = Verdict::Hit(Found::ByLink);
    verdicts(&store, &of(8, 5));
    let other = verdicts(&store, &of(10, 5));
    assert_eq!(other[1], BY_LINK);
    assert!(matches!(other[2], Verdict::Miss(MissReason::Input { input: 0, .. })), "{other:?}");
    assert_eq!(verdicts(&store, &of(10, 5)), [BY_DEFINITION; 3]);
    assert!(matches!(verdicts(&store, &of(11, 5))[1], Verdict::Miss(MissReason::Input { .. })));
    // Both parts are there now, under one key: the last one that was used counts.
    assert_eq!(verdicts(&store, &of(13, 5))[1], BY_LINK);
    assert!(matches!(verdicts(&store, &of(13, 6))[1], Verdict::Miss(MissReason::Changed(_))));
}

#[test]
fn the_reason_is_against_the_nearest_earlier_record() {
    let store = MemoryStore::default();
    let of = |number, divisor| [step(0, number, divisor, &[])];
    verdicts(&store, &of(1, 1));
    verdicts(&store, &of(2, 3));
    assert_eq!(verdicts(&store, &of(1, 2)), [changed("divisor", "1", "2")]);
}

#[test]
fn what_was_forced_or_evicted_says_so() {
    let store = MemoryStore::default();
    let mut steps = [step(0, 1, 1, &[])];
    verdicts(&store, &steps);
    steps[0].forced = true;
    assert_eq!(verdicts(&store, &steps), [Verdict::Miss(MissReason::Forced)]);
    steps[0].forced = false;
    let facts = [("number", "1"), ("divisor", "1"), ("fails", "false"), ("linked", "false")];
    let facts = facts.map(|(name, value)| Fact::text(name, value));
    let keys = strata_engine::keys(&facts, &[]);
    store.evict(&[RecordKey::Definition(keys.definition), RecordKey::Content(keys.content)]);
    assert_eq!(verdicts(&store, &steps), [Verdict::Miss(MissReason::Evicted)]);
}

#[test]
fn equal_steps_run_once_even_side_by_side() {
    let store = MemoryStore::default();
    let runs = Arc::new(AtomicUsize::new(0));
    let ran = Mutex::default();
    let mut graph = Graph::default();
    for _ in 0..16 {
        let sum = step(0, 7, 1, &[]);
        graph.add(Counted { sum, store: &store, runs: &runs, ran: &ran }, vec![]);
    }
    let jobs = NonZeroUsize::new(8).expect("not zero");
    Build::new(&store).with_jobs(jobs).run(&graph, &|_| {}).expect("built");
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

/// Found by the twin: steps whose parents came about differently and hold the same were both at
/// work at the same time.
#[test]
fn steps_that_are_equal_by_content_run_once_even_side_by_side() {
    for _ in 0..50 {
        let store = MemoryStore::default();
        let (runs, ran) = (AtomicUsize::new(0), Mutex::default());
        let mut graph = Graph::default();
        let mut add = |sum: Sum, inputs: Vec<Input>| {
            graph.add(Counted { sum, store: &store, runs: &runs, ran: &ran }, inputs)
        };
        let one = add(step(0, 8, 2, &[]), vec![]);
        let other = add(step(1, 4, 1, &[]), vec![]);
        add(step(2, 5, 1, &[(0, true)]), vec![Input::Whole(one)]);
        add(step(3, 5, 1, &[(1, true)]), vec![Input::Whole(other)]);
        let jobs = NonZeroUsize::new(4).expect("not zero");
        Build::new(&store).with_jobs(jobs).run(&graph, &|_| {}).expect("built");
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }
}

/// Keys are part of the format of a store: a change here must come with a new schema version.
#[test]
fn keys_do_not_drift() {
    let tree = TreeId::from_bytes([1; 32]);
    let keys = strata_engine::keys(&[Fact::text("b", "1"), Fact::tree("a", tree)], &[tree]);
    let swapped = strata_engine::keys(&[Fact::tree("a", tree), Fact::text("b", "1")], &[tree]);
    assert_eq!(keys, swapped, "the order in which facts are named does not matter");
    let shown = format!("{}\n{}\n", keys.definition, keys.content);
    assert_eq!(shown, include_str!("golden/keys-1.txt"));
}

/// `Fingerprint` feeds lengths before elements: no two lists of texts give the same bytes.
#[test]
fn facts_can_not_run_into_each_other() {
    let bytes = |facts: &[Fact]| {
        let mut writer = Writer::default();
        facts.iter().for_each(|fact| fact.feed(&mut writer));
        writer.into_bytes()
    };
    assert_ne!(bytes(&[Fact::text("ab", "c")]), bytes(&[Fact::text("a", "bc")]));
    let store = MemoryStore::default();
    assert!(store.put(b"").is_ok());
}
