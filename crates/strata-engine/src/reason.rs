//! Why a step was not in the cache, as data: what was compared with what, and what differs.

use strata_cas::{
    BlobStore, DefinitionKey, Diff, Directory, Fact, FactValue, Record, TreeId, diff,
};

/// How many changed paths a reason lists; the rest is counted.
const LISTED_PATHS: usize = 50;

/// By which key a record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The parents were made the same way.
    ByDefinition,
    /// The parents came about otherwise and hold the same.
    ByContent,
    /// What it builds on is another tree, and its own part over that one is what it was:
    /// [`Step::relink`](crate::Step::relink).
    ByLink,
}

/// Why a step had to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissReason {
    /// Nothing is remembered of this step.
    First,
    /// The user asked for it.
    Forced,
    /// Its result is older than the step allows.
    Expired {
        /// How old it is.
        age_seconds: u64,
        /// How old it may be.
        ttl_seconds: u64,
    },
    /// What it does, or what it is given, is not what the nearest earlier record has.
    Changed(Vec<FactChange>),
    /// It does the same, but to other files: an earlier step gave another tree.
    Input {
        /// Which of its inputs.
        input: usize,
        /// What differs in it.
        paths: Diff,
    },
    /// It was remembered, and the record, or something that it refers to, is gone.
    Evicted,
}

/// One fact that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactChange {
    /// A text; `None` where one side does not have the fact.
    Text {
        /// Which fact.
        name: String,
        /// Its value in the earlier record.
        old: Option<String>,
        /// Its value now.
        new: Option<String>,
    },
    /// A file tree.
    Files {
        /// Which fact.
        name: String,
        /// What differs.
        paths: Diff,
    },
}

/// What differs between two trees. An old one may have been swept: then nothing is listed.
pub(crate) fn between(store: &dyn BlobStore, old: &TreeId, new: &TreeId) -> Diff {
    diff(store, old, new, LISTED_PATHS, usize::MAX).unwrap_or_default()
}

/// A step that was not found, as explanations see it.
pub(crate) struct Missed<'a> {
    pub(crate) definition: DefinitionKey,
    pub(crate) facts: &'a [Fact],
    pub(crate) inputs: &'a [TreeId],
}

impl Missed<'_> {
    /// Compares with the earlier record that has most in common with it.
    pub(crate) fn explain(&self, store: &dyn BlobStore, earlier: &[Record]) -> MissReason {
        let Some(nearest) = self.nearest(store, earlier) else { return MissReason::First };
        if nearest.definition == self.definition {
            return MissReason::Evicted;
        }
        let changes = fact_changes(store, &nearest.facts, self.facts);
        if !changes.is_empty() {
            return MissReason::Changed(changes);
        }
        self.input_change(store, nearest).unwrap_or(MissReason::Evicted)
    }

    /// The first input that differs. One that an earlier record has not is compared with an empty
    /// tree; that is the first one, what a step builds on.
    fn input_change(&self, store: &dyn BlobStore, nearest: &Record) -> Option<MissReason> {
        let more = self.inputs.len().saturating_sub(nearest.inputs.len());
        let empty = Directory::empty_root().keep(store).ok();
        let old = std::iter::repeat_n(empty, more).chain(nearest.inputs.iter().copied().map(Some));
        let trees = old.zip(self.inputs).enumerate();
        let (input, (old, new)) = trees.into_iter().find(|(_, (old, new))| *old != Some(**new))?;
        let paths = old.map(|old| between(store, &old, new)).unwrap_or_default();
        Some(MissReason::Input { input, paths })
    }

    /// Of those whose facts and inputs differ least, the one whose trees differ in the fewest
    /// paths; of several, the first one. So a build after a change of branch is compared with the
    /// last one on that branch, not with the last one.
    fn nearest<'a>(&self, store: &dyn BlobStore, earlier: &'a [Record]) -> Option<&'a Record> {
        let differing = |record: &Record| {
            let gone = record.facts.iter().filter(|fact| !self.facts.contains(fact)).count();
            let new = self.facts.iter().filter(|fact| !record.facts.contains(fact)).count();
            let trees = record.inputs.iter().zip(self.inputs);
            gone + new + trees.filter(|(old, new)| old != new).count()
        };
        let least = earlier.iter().map(differing).min()?;
        let nearest = earlier.iter().filter(|record| differing(record) == least);
        let mut candidates = nearest.peekable();
        let mut best = candidates.next()?;
        if candidates.peek().is_none() {
            return Some(best);
        }
        let mut fewest = self.distance(store, best, usize::MAX);
        for record in candidates {
            let distance = self.distance(store, record, fewest);
            if distance < fewest {
                (best, fewest) = (record, distance);
            }
        }
        Some(best)
    }

    /// In how many paths the trees of a record differ from these; `enough` ends the counting.
    fn distance(&self, store: &dyn BlobStore, record: &Record, enough: usize) -> usize {
        let of = |fact: &Fact| match fact.value {
            FactValue::Tree(tree) => Some(tree),
            FactValue::Text(_) => None,
        };
        let same_name = |name: &str| record.facts.iter().find(|fact| fact.name == name);
        let facts = self
            .facts
            .iter()
            .filter_map(|fact| Some((same_name(&fact.name).and_then(of)?, of(fact)?)));
        let inputs = record.inputs.iter().copied().zip(self.inputs.iter().copied());
        let mut total: usize = 0;
        for (old, new) in facts.chain(inputs) {
            if total >= enough {
                break;
            }
            // What can not be compared any more is farthest.
            let paths = diff(store, &old, &new, 0, enough - total).map_or(enough, |d| d.total);
            total = total.saturating_add(paths);
        }
        total
    }
}

fn fact_changes(store: &dyn BlobStore, old: &[Fact], new: &[Fact]) -> Vec<FactChange> {
    let find = |facts: &[Fact], name: &str| {
        facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.clone())
    };
    let gone = old.iter().filter(|fact| find(new, &fact.name).is_none());
    let names = new.iter().chain(gone).map(|fact| fact.name.clone());
    names
        .filter_map(|name| {
            let (old, new) = (find(old, &name), find(new, &name));
            (old != new).then(|| fact_change(store, name, old, new))
        })
        .collect()
}

fn fact_change(
    store: &dyn BlobStore,
    name: String,
    old: Option<FactValue>,
    new: Option<FactValue>,
) -> FactChange {
    match (old, new) {
        (Some(FactValue::Tree(old)), Some(FactValue::Tree(new))) => {
            FactChange::Files { name, paths: between(store, &old, &new) }
        }
        (old, new) => {
            let text = |value: Option<FactValue>| value.map(|value| value.to_string());
            FactChange::Text { name, old: text(old), new: text(new) }
        }
    }
}
