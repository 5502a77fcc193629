//! What the engine is given: steps and how they hang together.

use strata_cas::{Fact, Record, Slot, TreeId};

use crate::Outcome;

/// A step's place in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

/// How a step uses another one's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It builds on the whole tree: the other's key, or its tree, is part of this step's key.
    Whole(StepId),
    /// Only what [`Step::slice`] selects matters, and how that came about does not.
    Slice(StepId),
}

impl Input {
    /// The step that is used.
    pub fn step(self) -> StepId {
        match self {
            Self::Whole(step) | Self::Slice(step) => step,
        }
    }
}

/// What a step is, as far as keys and explanations go.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Where it stands in its project, for finding its earlier self.
    pub slot: Slot,
    /// All that its result depends on besides its inputs; each name once.
    pub facts: Vec<Fact>,
    /// Whether it must run whatever the cache says.
    pub forced: bool,
    /// How old a record may be that answers for it, in seconds.
    pub ttl_seconds: Option<u64>,
    /// Whether what it made over one tree may be laid over another one: [`Step::relink`].
    pub linked: bool,
}

impl Definition {
    /// A step that may be answered from the cache.
    pub fn new(slot: Slot, facts: Vec<Fact>) -> Self {
        Self { slot, facts, forced: false, ttl_seconds: None, linked: false }
    }
}

/// What running a step gave. All that it refers to must be in the store already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    /// The tree that later steps see.
    pub tree: TreeId,
    /// What the step's owner needs in order to use the result again.
    pub payload: Vec<u8>,
    /// Bytes of content that were produced.
    pub bytes: u64,
}

/// One step.
pub trait Step: Send + Sync {
    /// Why a step can not be keyed or run.
    type Error: Send;

    /// What its result depends on, besides its inputs.
    fn definition(&self) -> Definition;

    /// The part of its `input`-th input that matters to it.
    fn slice(&self, input: usize, tree: &TreeId) -> Result<TreeId, Self::Error>;

    /// Does the work, on inputs in the order of the graph.
    fn run(&self, inputs: &[Outcome]) -> Result<Produced, Self::Error>;

    /// Called once the step is known to run, before that is explained. `recent` are the records
    /// of its slot; those that it is to be compared with are given back. Whatever the trees of its
    /// facts and slices name must be in the store when this returns.
    fn missed(&self, _inputs: &[Outcome], recent: Vec<Record>) -> Result<Vec<Record>, Self::Error> {
        Ok(recent)
    }

    /// What a linked step gives on these inputs, made from a record of the same facts and slices
    /// over another tree; `None` if it would be other than what running gives. Whatever the trees
    /// of its facts and slices name must be in the store when this returns something.
    fn relink(
        &self,
        _record: &Record,
        _inputs: &[Outcome],
    ) -> Result<Option<Produced>, Self::Error> {
        Ok(None)
    }

    /// Whether running it again, only to see if it gives the same, makes sense.
    fn is_verifiable(&self) -> bool {
        true
    }

    /// Whether all that a record refers to is still there.
    fn usable(&self, _record: &Record) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// Steps, each after those it uses.
#[derive(Debug)]
pub struct Graph<S> {
    steps: Vec<(S, Vec<Input>)>,
}

impl<S> Default for Graph<S> {
    fn default() -> Self {
        Self { steps: Vec::new() }
    }
}

impl<S> Graph<S> {
    /// Adds a step. Inputs that are not in the graph yet are left out: they could only make a
    /// cycle.
    pub fn add(&mut self, step: S, mut inputs: Vec<Input>) -> StepId {
        inputs.retain(|input| input.step().0 < self.steps.len());
        self.steps.push((step, inputs));
        StepId(self.steps.len() - 1)
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A step that [`Graph::add`] gave the id of.
    pub fn step(&self, id: StepId) -> &S {
        &self.steps[id.0].0
    }

    /// What a step uses.
    pub fn inputs(&self, id: StepId) -> &[Input] {
        &self.steps[id.0].1
    }
}
