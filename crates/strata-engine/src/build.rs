//! One evaluation of a graph: in dependency order, independent steps at the same time.

use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strata_cas::{
    BlobStore, Claim, ClaimGuard, Cost, DefinitionKey, Fact, Record, RecordKey, RecordStore, Slot,
    StoreError, TreeId,
};

use crate::keys::{InputKey, Seen, input_keys, keys_of, linked_key};
use crate::reason::Missed;
use crate::verify::run_again;
use crate::{
    Definition, Found, Graph, Input, Keys, MissReason, Step, StepId, Verification, Verify,
};

/// What became of a step.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The key that later steps build theirs on.
    pub definition: DefinitionKey,
    /// What is kept of it.
    pub record: Arc<Record>,
    /// Whether it ran.
    pub verdict: Verdict,
}

/// Whether a step ran, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It did not.
    Hit(Found),
    /// It did.
    Miss(MissReason),
}

/// Another evaluation that is at the same step is asked about this often: how long a step may be
/// done before those who wait for it know.
const CLAIM_PAUSE: Duration = Duration::from_millis(10);

/// What happens during an evaluation.
#[derive(Debug)]
pub enum Event<'a> {
    /// Another evaluation, in this process or the one with this id, is at this step: it is
    /// waited for.
    Waiting(StepId, Option<u32>),
    /// A step is about to run.
    Running(StepId, &'a MissReason),
    /// A step that is in the cache ran again, to see whether it gives the same.
    Verified(StepId, &'a Verification),
    /// A step is done, by running or from the cache.
    Done(StepId, &'a Outcome),
    /// A step failed; no other will be started.
    Failed(StepId),
}

/// Why one step could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum StepError<E> {
    /// The step itself.
    #[error("the step failed")]
    Step(E),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The evaluation was to end while the step waited for another one.
    #[error("cancelled")]
    Cancelled,
}

/// An evaluation that came to no end. What was done before is kept.
#[derive(Debug)]
pub struct Failed<E> {
    /// The step that failed first.
    pub step: StepId,
    /// Why.
    pub error: StepError<E>,
}

/// Evaluates graphs against one store.
pub struct Build<'a, T> {
    store: &'a T,
    jobs: NonZeroUsize,
    is_cancelled: &'a (dyn Fn() -> bool + Sync),
    verify: Option<Verify>,
}

impl<'a, T: RecordStore + BlobStore> Build<'a, T> {
    /// One step at a time.
    pub fn new(store: &'a T) -> Self {
        Self { store, jobs: NonZeroUsize::MIN, is_cancelled: &|| false, verify: None }
    }

    /// Up to `jobs` steps at a time.
    pub fn with_jobs(self, jobs: NonZeroUsize) -> Self {
        Self { jobs, ..self }
    }

    /// Stops waiting for other evaluations once this says so. Steps that run are not its matter:
    /// they hear of it by their own means, and fail.
    pub fn until(self, is_cancelled: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { is_cancelled, ..self }
    }

    /// Runs a sample of the hits again; what comes of it is told and changes no answer.
    pub fn with_verification(self, verify: Verify) -> Self {
        Self { verify: Some(verify), ..self }
    }

    /// Answers every step of the graph; the outcomes are in the graph's order.
    pub fn run<S: Step>(
        &self,
        graph: &Graph<S>,
        observe: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Vec<Outcome>, Failed<S::Error>> {
        let evaluation = Evaluation {
            store: self.store,
            graph,
            observe,
            is_cancelled: self.is_cancelled,
            verify: self.verify,
            state: Mutex::new(State::new(graph)),
            changed: Condvar::new(),
        };
        let workers = self.jobs.get().min(graph.len());
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| evaluation.work());
            }
            evaluation.work();
        });
        evaluation.finish()
    }
}

/// What the workers share.
struct State<E> {
    ready: BTreeSet<usize>,
    waiting_for: Vec<usize>,
    outcomes: Vec<Option<Outcome>>,
    unfinished: usize,
    in_flight: HashSet<RecordKey>,
    /// Keys that ran in this evaluation: an equal step is not forced a second time.
    ran: HashSet<DefinitionKey>,
    /// Keys that ran again in this evaluation, to see whether they give the same.
    verified: HashSet<DefinitionKey>,
    failed: Option<Failed<E>>,
}

impl<E> State<E> {
    fn new<S>(graph: &Graph<S>) -> Self {
        let waiting_for: Vec<usize> =
            (0..graph.len()).map(|step| used_by(graph, step).len()).collect();
        Self {
            ready: (0..graph.len()).filter(|step| waiting_for[*step] == 0).collect(),
            waiting_for,
            outcomes: (0..graph.len()).map(|_| None).collect(),
            unfinished: graph.len(),
            in_flight: HashSet::new(),
            ran: HashSet::new(),
            verified: HashSet::new(),
            failed: None,
        }
    }
}

/// The steps that a step uses, each once.
fn used_by<S>(graph: &Graph<S>, step: usize) -> BTreeSet<usize> {
    graph.inputs(StepId(step)).iter().map(|input| input.step().0).collect()
}

struct Evaluation<'a, T, S: Step> {
    store: &'a T,
    graph: &'a Graph<S>,
    observe: &'a (dyn Fn(Event<'_>) + Sync),
    is_cancelled: &'a (dyn Fn() -> bool + Sync),
    verify: Option<Verify>,
    state: Mutex<State<S::Error>>,
    changed: Condvar,
}

impl<T: RecordStore + BlobStore, S: Step> Evaluation<'_, T, S> {
    fn state(&self) -> MutexGuard<'_, State<S::Error>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State<S::Error>>) -> MutexGuard<'g, State<S::Error>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes ready steps until none is left to come.
    fn work(&self) {
        let _release = ReleaseOnPanic { state: &self.state, changed: &self.changed };
        while let Some(step) = self.next() {
            match self.answer(step) {
                Ok(outcome) => {
                    // Steps that build on it may start once it is settled: it is told before.
                    (self.observe)(Event::Done(StepId(step), &outcome));
                    self.settle(step, Ok(outcome));
                }
                Err(error) => {
                    // Whoever hears of it may cancel the others: theirs is not the first failure.
                    self.settle(step, Err(error));
                    (self.observe)(Event::Failed(StepId(step)));
                }
            }
        }
    }

    fn next(&self) -> Option<usize> {
        let mut state = self.state();
        loop {
            if state.failed.is_some() || state.unfinished == 0 {
                return None;
            }
            match state.ready.pop_first() {
                Some(step) => return Some(step),
                None => state = self.wait(state),
            }
        }
    }

    fn settle(&self, step: usize, answer: Result<Outcome, StepError<S::Error>>) {
        let mut state = self.state();
        state.unfinished -= 1;
        match answer {
            Ok(outcome) => {
                state.outcomes[step] = Some(outcome);
                for later in step + 1..self.graph.len() {
                    if used_by(self.graph, later).contains(&step) {
                        state.waiting_for[later] -= 1;
                        if state.waiting_for[later] == 0 {
                            state.ready.insert(later);
                        }
                    }
                }
            }
            Err(error) if state.failed.is_none() => {
                state.failed = Some(Failed { step: StepId(step), error });
            }
            Err(_) => {}
        }
        self.changed.notify_all();
    }

    fn finish(self) -> Result<Vec<Outcome>, Failed<S::Error>> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.failed {
            Some(failed) => Err(failed),
            None => Ok(state.outcomes.into_iter().flatten().collect()),
        }
    }

    /// Finds a step's result or makes it.
    fn answer(&self, step: usize) -> Result<Outcome, StepError<S::Error>> {
        let (id, definition) = (StepId(step), self.graph.step(StepId(step)).definition());
        let inputs = self.inputs(id);
        let input_keys = self.input_keys(id, &inputs)?;
        let keys = keys_of(&definition.facts, &input_keys);
        let trees: Vec<TreeId> = input_keys.iter().map(|input| input.tree()).collect();

        let _flight = self.fly(&keys);
        let forced = definition.forced && !self.state().ran.contains(&keys.definition);
        if !forced && let Cached::Fresh(outcome) = self.cached(id, &keys, &definition)? {
            self.verify(id, &outcome, &inputs);
            return Ok(outcome);
        }
        let _claim = if forced { None } else { Some(self.claim(id, &keys)?) };
        let mut expired = None;
        if !forced {
            // Whoever had the claim until now may have left a record.
            match self.cached(id, &keys, &definition)? {
                Cached::Fresh(outcome) => return Ok(outcome),
                Cached::Expired(reason) => expired = Some(reason),
                Cached::Nothing => {}
            }
        }
        let linked = definition.linked.then(|| linked_key_of(&definition.facts, &input_keys));
        if !forced
            && expired.is_none()
            && let Some(key) = linked
            && let Some(outcome) = self.relinked(id, key, &definition, &keys, &trees, &inputs)?
        {
            return Ok(outcome);
        }
        let earlier = self.store.recent(&definition.slot)?;
        let earlier = self.graph.step(id).missed(&inputs, earlier).map_err(StepError::Step)?;
        let reason = match expired {
            Some(expired) => expired,
            None if forced => MissReason::Forced,
            None => {
                let definition_key = keys.definition;
                let (facts, inputs) = (&definition.facts, &trees);
                Missed { definition: definition_key, facts, inputs }.explain(self.store, &earlier)
            }
        };
        (self.observe)(Event::Running(id, &reason));
        let record = self.execute(id, definition, &keys, linked, trees, &inputs)?;
        self.state().ran.insert(keys.definition);
        Ok(Outcome {
            definition: keys.definition,
            record: Arc::new(record),
            verdict: Verdict::Miss(reason),
        })
    }

    /// What the cache has for a step, and whether it is young enough.
    fn cached(
        &self,
        id: StepId,
        keys: &Keys,
        definition: &Definition,
    ) -> Result<Cached, StepError<S::Error>> {
        let Some(outcome) = self.look_up(id, keys, &definition.slot)? else {
            return Ok(Cached::Nothing);
        };
        let age_seconds = now_seconds().saturating_sub(outcome.record.created);
        Ok(match definition.ttl_seconds {
            // What ran in this evaluation is as fresh as anything: an equal step finds it.
            Some(ttl_seconds)
                if age_seconds > ttl_seconds && !self.state().ran.contains(&keys.definition) =>
            {
                Cached::Expired(MissReason::Expired { age_seconds, ttl_seconds })
            }
            _ => Cached::Fresh(outcome),
        })
    }

    /// What a linked step made over another tree, put on this one.
    fn relinked(
        &self,
        id: StepId,
        key: RecordKey,
        definition: &Definition,
        keys: &Keys,
        trees: &[TreeId],
        inputs: &[Outcome],
    ) -> Result<Option<Outcome>, StepError<S::Error>> {
        let Some(earlier) = self.store.find(&key)? else { return Ok(None) };
        let age_seconds = now_seconds().saturating_sub(earlier.created);
        if definition.ttl_seconds.is_some_and(|ttl_seconds| age_seconds > ttl_seconds) {
            return Ok(None);
        }
        let produced = self.graph.step(id).relink(&earlier, inputs).map_err(StepError::Step)?;
        let Some(produced) = produced else { return Ok(None) };
        let record = Record {
            definition: keys.definition,
            content: keys.content,
            inputs: trees.to_vec(),
            tree: produced.tree,
            payload: produced.payload,
            slot: definition.slot.clone(),
            ..earlier
        };
        self.store.keep(&record, &[key])?;
        Ok(Some(Outcome {
            definition: keys.definition,
            record: Arc::new(record),
            verdict: Verdict::Hit(Found::ByLink),
        }))
    }

    /// Runs a hit again if it is in the sample.
    fn verify(&self, id: StepId, outcome: &Outcome, inputs: &[Outcome]) {
        let step = self.graph.step(id);
        let is_chosen = self.verify.is_some_and(|verify| verify.chooses(&outcome.definition));
        let is_new = || {
            let mut state = self.state();
            // An equal step ran just now, or was verified in its place.
            !state.ran.contains(&outcome.definition) && state.verified.insert(outcome.definition)
        };
        if is_chosen && step.is_verifiable() && is_new() {
            let verification = run_again(step, inputs, &outcome.record, self.store);
            (self.observe)(Event::Verified(id, &verification));
        }
    }

    fn inputs(&self, id: StepId) -> Vec<Outcome> {
        let state = self.state();
        let of = |input: &Input| state.outcomes[input.step().0].clone();
        // A step is ready only when all its inputs have outcomes.
        self.graph.inputs(id).iter().filter_map(of).collect()
    }

    fn input_keys(
        &self,
        id: StepId,
        outcomes: &[Outcome],
    ) -> Result<Vec<InputKey>, StepError<S::Error>> {
        let seen: Vec<Seen> = outcomes
            .iter()
            .map(|outcome| Seen { definition: outcome.definition, tree: outcome.record.tree })
            .collect();
        let (step, inputs) = (self.graph.step(id), self.graph.inputs(id));
        input_keys(step, inputs, &seen).map_err(StepError::Step)
    }

    /// Waits until no other worker is at a step with one of these keys: equal steps run once.
    fn fly(&self, keys: &Keys) -> Flight<'_, S::Error> {
        let keys = [RecordKey::Definition(keys.definition), RecordKey::Content(keys.content)];
        let mut state = self.state();
        while keys.iter().any(|key| state.in_flight.contains(key)) {
            state = self.wait(state);
        }
        state.in_flight.extend(keys);
        Flight { keys, state: &self.state, changed: &self.changed }
    }

    /// Waits until no other evaluation on this store is at a step with one of these keys.
    fn claim(&self, id: StepId, keys: &Keys) -> Result<ClaimGuard, StepError<S::Error>> {
        let keys = [RecordKey::Definition(keys.definition), RecordKey::Content(keys.content)];
        let mut told = None;
        loop {
            let pid = match self.store.claim(&keys)? {
                Claim::Held(guard) => return Ok(guard),
                Claim::Taken { pid } => pid,
            };
            if (self.is_cancelled)() || self.state().failed.is_some() {
                return Err(StepError::Cancelled);
            }
            if told != Some(pid) {
                (self.observe)(Event::Waiting(id, pid));
                told = Some(pid);
            }
            std::thread::sleep(CLAIM_PAUSE);
        }
    }

    fn look_up(
        &self,
        id: StepId,
        keys: &Keys,
        slot: &Slot,
    ) -> Result<Option<Outcome>, StepError<S::Error>> {
        let lookups = [
            (RecordKey::Definition(keys.definition), Found::ByDefinition),
            (RecordKey::Content(keys.content), Found::ByContent),
        ];
        for (key, found) in lookups {
            let Some(record) = self.store.find(&key)? else { continue };
            if !self.graph.step(id).usable(&record).map_err(StepError::Step)? {
                continue;
            }
            // Found by content, it is to be found by definition next time; found in another
            // project, it is this one's too: later misses are explained against it.
            if found == Found::ByContent || record.slot != *slot {
                let record = Record { slot: slot.clone(), ..record.clone() };
                self.store.keep(&record, &[RecordKey::Definition(keys.definition)])?;
            }
            return Ok(Some(Outcome {
                definition: keys.definition,
                record: Arc::new(record),
                verdict: Verdict::Hit(found),
            }));
        }
        Ok(None)
    }

    fn execute(
        &self,
        id: StepId,
        definition: Definition,
        keys: &Keys,
        linked: Option<RecordKey>,
        trees: Vec<TreeId>,
        inputs: &[Outcome],
    ) -> Result<Record, StepError<S::Error>> {
        let begin = Instant::now();
        let produced = self.graph.step(id).run(inputs).map_err(StepError::Step)?;
        let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let record = Record {
            definition: keys.definition,
            content: keys.content,
            facts: definition.facts,
            inputs: trees,
            tree: produced.tree,
            payload: produced.payload,
            cost: Cost { millis, bytes: produced.bytes },
            slot: definition.slot,
            created: now_seconds(),
        };
        self.store.keep(&record, linked.as_slice())?;
        Ok(record)
    }
}

fn linked_key_of(facts: &[Fact], inputs: &[InputKey]) -> RecordKey {
    let slices = inputs.iter().filter_map(|input| match input {
        InputKey::Slice(tree) => Some(*tree),
        InputKey::Whole { .. } => None,
    });
    RecordKey::Content(linked_key(facts, &slices.collect::<Vec<_>>()))
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What a lookup gave.
enum Cached {
    Fresh(Outcome),
    /// There is a result, and it is too old.
    Expired(MissReason),
    Nothing,
}

/// Keys that one worker is at; given free when dropped.
struct Flight<'a, E> {
    keys: [RecordKey; 2],
    state: &'a Mutex<State<E>>,
    changed: &'a Condvar,
}

impl<E> Drop for Flight<'_, E> {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            state.in_flight.remove(key);
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Lets the other workers end when one of them panics, so that the panic is seen.
struct ReleaseOnPanic<'a, E> {
    state: &'a Mutex<State<E>>,
    changed: &'a Condvar,
}

impl<E> Drop for ReleaseOnPanic<'_, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).unfinished = 0;
            self.changed.notify_all();
        }
    }
}
