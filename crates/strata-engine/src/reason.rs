//! Why a step was not in the cache, as data: what was compared with what, and what differs.

use strata_cas::{
    BlobStore, DefinitionKey, Fact, FactValue, Record, TreeChange, TreeId, TreePath, diff,
};

/// How many changed paths a reason lists; the rest is counted.
const LISTED_PATHS: usize = 20;

/// By which key a record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The parents were made the same way.
    ByDefinition,
    /// The parents came about otherwise and hold the same.
    ByContent,
}

/// Why a step had to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissReason {
    /// Nothing is remembered of this step.
    First,
    /// The user asked for it.
    Forced,
    /// What it does, or what it is given, is not what the nearest earlier record has.
    Changed(Vec<FactChange>),
    /// It does the same, but to other files: an earlier step gave another tree.
    Input {
        /// Which of its inputs.
        input: usize,
        /// What differs in it.
        paths: PathChanges,
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
        paths: PathChanges,
    },
}

/// What differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathChanges {
    /// The first paths, in order.
    pub listed: Vec<(TreePath, TreeChange)>,
    /// How many there are in all.
    pub total: usize,
}

impl PathChanges {
    fn between(store: &dyn BlobStore, old: &TreeId, new: &TreeId) -> Self {
        // An old tree may have been swept: then there is nothing to list.
        let (listed, total) = diff(store, old, new, LISTED_PATHS).unwrap_or_default();
        Self { listed, total }
    }
}

/// A step that was not found, as explanations see it.
pub(crate) struct Missed<'a> {
    pub(crate) definition: DefinitionKey,
    pub(crate) facts: &'a [Fact],
    pub(crate) inputs: &'a [TreeId],
}

impl Missed<'_> {
    /// Compares with the earlier record of the same slot that has most in common with it.
    pub(crate) fn explain(&self, store: &dyn BlobStore, earlier: &[Record]) -> MissReason {
        let Some(nearest) = self.nearest(earlier) else { return MissReason::First };
        if nearest.definition == self.definition {
            return MissReason::Evicted;
        }
        let changes = fact_changes(store, &nearest.facts, self.facts);
        if !changes.is_empty() {
            return MissReason::Changed(changes);
        }
        let trees = nearest.inputs.iter().zip(self.inputs);
        match trees.enumerate().find(|(_, (old, new))| old != new) {
            Some((input, (old, new))) => {
                MissReason::Input { input, paths: PathChanges::between(store, old, new) }
            }
            None => MissReason::Evicted,
        }
    }

    /// The newest of those that share most facts and inputs.
    fn nearest<'a>(&self, earlier: &'a [Record]) -> Option<&'a Record> {
        let mut best: Option<(usize, &Record)> = None;
        for record in earlier {
            let facts = record.facts.iter().filter(|fact| self.facts.contains(fact)).count();
            let trees = record.inputs.iter().zip(self.inputs);
            let score = facts + trees.filter(|(old, new)| old == new).count();
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, record));
            }
        }
        best.map(|(_, record)| record)
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
            FactChange::Files { name, paths: PathChanges::between(store, &old, &new) }
        }
        (old, new) => {
            let text = |value: Option<FactValue>| value.map(|value| value.to_string());
            FactChange::Text { name, old: text(old), new: text(new) }
        }
    }
}
