//! The same steps under different rules for what a key is made of. Ours is the engine's own
//! function; the others are what their builders do, or what ours could do.

use std::collections::HashSet;

use strata_cas::{BlobId, DefinitionKey, Fact, Record, TreeId, Writer};
use strata_engine::{Definition, Input, Outcome, Produced, Seen, Step, StepId, keys_over};

use crate::model::{Class, Reads};
use crate::prepare::{Kind, Origin, Prep, Prepared, Slice};

/// What a key is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// The classic builder's: every instruction, metadata too, on top of the one before.
    Classic,
    /// BuildKit's: metadata is in no key, files of contexts and of other stages by content.
    BuildKit,
    /// Ours without early cutoff: parents and other stages by how they came about.
    Definition,
    /// Ours.
    Strata,
    /// Ours, with every COPY independent of what it is laid over, as `COPY --link`.
    Link,
    /// That, and a RUN that depends on what its class of command looks at: an estimate.
    ReadSet,
}

impl Scheme {
    /// All, in the order of reports.
    pub const ALL: [Self; 6] =
        [Self::Classic, Self::BuildKit, Self::Definition, Self::Strata, Self::Link, Self::ReadSet];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::BuildKit => "buildkit",
            Self::Definition => "strata-definition",
            Self::Strata => "strata",
            Self::Link => "strata-link",
            Self::ReadSet => "read-set-estimate",
        }
    }
}

/// The files that a commit's steps are given: for each step and use, by what is looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Files {
    pub(crate) all: Vec<Vec<TreeId>>,
    pub(crate) sources: Vec<Vec<TreeId>>,
    pub(crate) manifests: Vec<Vec<TreeId>>,
}

impl Files {
    fn reading(&self, reads: Reads, step: usize) -> &[TreeId] {
        match reads {
            Reads::Everything => &self.all[step],
            Reads::Sources => &self.sources[step],
            Reads::Manifests => &self.manifests[step],
            Reads::Nothing => &[],
        }
    }
}

/// A key, short enough to keep millions of them.
pub(crate) type Short = u128;

/// One step's keys under one scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepKeys {
    /// What it is looked up by, in order.
    pub(crate) lookups: [Short; 2],
    /// What later steps build theirs on.
    chain: Seen,
}

/// The keys of all steps under a scheme.
pub(crate) fn keys(scheme: Scheme, prepared: &Prepared, files: &Files) -> Vec<StepKeys> {
    let mut keyed = Keyed { scheme, prepared, files, done: Vec::new() };
    for index in 0..prepared.steps.len() {
        let keys = keyed.step(index);
        keyed.done.push(keys);
    }
    keyed.done
}

struct Keyed<'a> {
    scheme: Scheme,
    prepared: &'a Prepared,
    files: &'a Files,
    done: Vec<StepKeys>,
}

impl Keyed<'_> {
    fn step(&self, index: usize) -> StepKeys {
        match self.scheme {
            Scheme::Strata | Scheme::Definition => self.ours(index),
            Scheme::Classic => self.one(self.classic(index)),
            Scheme::BuildKit => self.one(self.chained(index)),
            Scheme::Link => self.link(index),
            Scheme::ReadSet => self.read_set(index),
        }
    }

    fn prep(&self, index: usize) -> &Prep {
        &self.prepared.steps[index]
    }

    /// A scheme with one key a step.
    fn one(&self, key: [u8; 32]) -> StepKeys {
        let chain =
            Seen { definition: DefinitionKey::from_bytes(key), tree: TreeId::from_bytes(key) };
        StepKeys { lookups: [short(&key); 2], chain }
    }

    fn parent(&self, index: usize, to: &mut Writer) {
        match self.prep(index).parent {
            Some(parent) => to.fixed(self.done[parent].chain.definition.as_bytes()),
            None => to.byte(0),
        }
    }

    /// Every instruction since the parent, the files' content, and the whole of another stage.
    fn classic(&self, index: usize) -> [u8; 32] {
        let prep = self.prep(index);
        let mut to = Writer::with_format("classic");
        self.parent(index, &mut to);
        prep.chain.iter().for_each(|text| to.text(text));
        self.facts(index, &mut to);
        self.files.all[index].iter().for_each(|id| to.fixed(id.as_bytes()));
        for slice in &prep.slices {
            to.fixed(self.done[slice.step].chain.definition.as_bytes());
        }
        *BlobId::of(to.as_bytes()).as_bytes()
    }

    fn facts(&self, index: usize, to: &mut Writer) {
        for Fact { name, value } in &self.prep(index).facts {
            to.text(name);
            to.text(&value.to_string());
        }
    }

    /// What the step does, on its parent's key; files by content.
    fn chained(&self, index: usize) -> [u8; 32] {
        let mut to = Writer::with_format("chained");
        self.parent(index, &mut to);
        self.contents(index, &mut to);
        *BlobId::of(to.as_bytes()).as_bytes()
    }

    fn contents(&self, index: usize, to: &mut Writer) {
        self.facts(index, to);
        self.files.all[index].iter().for_each(|id| to.fixed(id.as_bytes()));
        for slice in &self.prep(index).slices {
            to.fixed(self.slice(slice).as_bytes());
        }
    }

    /// A COPY is looked up by itself alone.
    fn link(&self, index: usize) -> StepKeys {
        let mut keys = self.one(self.chained(index));
        if self.prep(index).kind == Kind::Copy {
            let mut to = Writer::with_format("link");
            self.contents(index, &mut to);
            keys.lookups = [short(BlobId::of(to.as_bytes()).as_bytes()); 2];
        }
        keys
    }

    /// A command depends on the commands and other stages' files below it, and on what it looks
    /// at of the context's files below it.
    fn read_set(&self, index: usize) -> StepKeys {
        let prep = self.prep(index);
        let below = match prep.parent {
            Some(parent) => *self.done[parent].chain.definition.as_bytes(),
            None => [0; 32],
        };
        let mut to = Writer::with_format("read set");
        let chain = match prep.kind {
            Kind::Copy => {
                self.contents(index, &mut to);
                let lookup = *BlobId::of(to.as_bytes()).as_bytes();
                let mut keys = self.one(lookup);
                if prep.slices.is_empty() {
                    keys.chain = self.one(below).chain;
                } else {
                    to.fixed(&below);
                    keys.chain = self.one(*BlobId::of(to.as_bytes()).as_bytes()).chain;
                }
                return keys;
            }
            Kind::Directory => below,
            Kind::Image | Kind::Run => {
                to.fixed(&below);
                self.facts(index, &mut to);
                let reads = prep.class.reads();
                let own = if prep.class == Class::Trivial { Reads::Nothing } else { reads };
                self.files.reading(own, index).iter().for_each(|id| to.fixed(id.as_bytes()));
                for copy in &prep.copies {
                    let files = self.files.reading(own, *copy);
                    files.iter().for_each(|id| to.fixed(id.as_bytes()));
                }
                for slice in &prep.slices {
                    to.fixed(self.slice(slice).as_bytes());
                }
                *BlobId::of(to.as_bytes()).as_bytes()
            }
        };
        self.one(chain)
    }

    /// The engine's keys.
    fn ours(&self, index: usize) -> StepKeys {
        let prep = self.prep(index);
        let mut facts = prep.facts.clone();
        for (wanted, id) in prep.uses.iter().zip(&self.files.all[index]) {
            facts.push(Fact::tree(&wanted.fact, *id));
        }
        if self.scheme == Scheme::Definition {
            // A slice says what was selected; a whole stage does not.
            let paths = prep.slices.iter().flat_map(|slice| &slice.paths);
            let paths = paths.enumerate().map(|(n, path)| Fact::text(format!("from {n}"), path));
            facts.extend(paths);
        }
        let parent =
            prep.parent.map(|parent| (Input::Whole(StepId(parent)), self.done[parent].chain));
        let slices = prep.slices.iter().map(|slice| {
            let seen = self.done[slice.step].chain;
            match self.scheme {
                // As a store of derivations does it: another stage by how it came about.
                Scheme::Definition => (Input::Whole(StepId(slice.step)), seen),
                _ => {
                    let tree = self.slice(slice);
                    (Input::Slice(StepId(slice.step)), Seen { tree, ..seen })
                }
            }
        });
        let (inputs, seen): (Vec<Input>, Vec<Seen>) = parent.into_iter().chain(slices).unzip();
        let step = Replayed { facts };
        let Ok(keys) = keys_over(&step, &inputs, &seen);
        let by_definition = short(keys.definition.as_bytes());
        let by_content = short(keys.content.as_bytes());
        // Equal inputs are taken to give equal trees, and unequal ones unequal trees.
        let mut to = Writer::with_format("tree");
        to.fixed(keys.content.as_bytes());
        let tree = TreeId::from(BlobId::of(to.as_bytes()));
        let lookups = match self.scheme {
            Scheme::Definition => [by_definition; 2],
            _ => [by_definition, by_content],
        };
        StepKeys { lookups, chain: Seen { definition: keys.definition, tree } }
    }

    /// What another stage's files are, as far as it can be told without making them.
    fn slice(&self, slice: &Slice) -> TreeId {
        let mut to = Writer::with_format("slice");
        slice.paths.iter().for_each(|path| to.text(path));
        for origin in &slice.origin {
            match *origin {
                Origin::Alone(step) => self.facts(step, &mut to),
                Origin::Files(step) => {
                    self.facts(step, &mut to);
                    self.files.all[step].iter().for_each(|id| to.fixed(id.as_bytes()));
                }
                Origin::Manifests(step) => {
                    self.facts(step, &mut to);
                    for copy in &self.prep(step).copies {
                        let files = self.files.manifests[*copy].iter();
                        files.for_each(|id| to.fixed(id.as_bytes()));
                    }
                }
                Origin::Whole(step) => match self.scheme {
                    Scheme::Strata => to.fixed(self.done[step].chain.tree.as_bytes()),
                    _ => to.fixed(self.done[step].chain.definition.as_bytes()),
                },
            }
        }
        TreeId::from(BlobId::of(to.as_bytes()))
    }
}

/// A step for the engine's key function: nothing of it ever runs.
struct Replayed {
    facts: Vec<Fact>,
}

impl Step for Replayed {
    type Error = std::convert::Infallible;

    fn definition(&self) -> Definition {
        Definition::new(strata_cas::Slot(String::new()), self.facts.clone())
    }

    fn slice(&self, _input: usize, tree: &TreeId) -> Result<TreeId, Self::Error> {
        // What is selected was told before: it is what the input is seen as.
        Ok(*tree)
    }

    fn run(&self, _inputs: &[Outcome]) -> Result<Produced, Self::Error> {
        Ok(Produced { tree: TreeId::from_bytes([0; 32]), payload: Vec::new(), bytes: 0 })
    }

    fn usable(&self, _record: &Record) -> Result<bool, Self::Error> {
        Ok(false)
    }
}

fn short(key: &[u8; 32]) -> Short {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&key[..16]);
    Short::from_le_bytes(bytes)
}

/// The keys that a cache without limit would have.
#[derive(Debug, Default)]
pub(crate) struct Known {
    keys: HashSet<Short>,
}

impl Known {
    pub(crate) fn has(&self, keys: &StepKeys) -> bool {
        keys.lookups.iter().any(|key| self.keys.contains(key))
    }

    pub(crate) fn add(&mut self, keys: &StepKeys) {
        self.keys.extend(keys.lookups);
    }
}
