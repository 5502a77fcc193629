//! The two keys of a step. What may enter them is said in `docs/cache-keys.md`; here is how.

use strata_cas::{ContentKey, DefinitionKey, Fact, Fingerprint, TreeId, Writer};

use crate::{Input, Step};

/// Both keys of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// By the parents' definition keys.
    pub definition: DefinitionKey,
    /// By the parents' trees.
    pub content: ContentKey,
}

/// An input, as keys see it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InputKey {
    Whole { definition: DefinitionKey, tree: TreeId },
    Slice(TreeId),
}

impl InputKey {
    /// The tree that matters to the step.
    pub(crate) fn tree(self) -> TreeId {
        match self {
            Self::Whole { tree, .. } | Self::Slice(tree) => tree,
        }
    }
}

/// The keys of a step that has only slices as inputs, or none: such keys can be told without a
/// build, which is what a replay does.
pub fn keys(facts: &[Fact], slices: &[TreeId]) -> Keys {
    let inputs: Vec<InputKey> = slices.iter().copied().map(InputKey::Slice).collect();
    keys_of(facts, &inputs)
}

/// The key by which a linked step finds its own part over any tree: its facts and its slices, and
/// nothing of what it builds on.
pub fn linked_key(facts: &[Fact], slices: &[TreeId]) -> ContentKey {
    let inputs: Vec<InputKey> = slices.iter().copied().map(InputKey::Slice).collect();
    let key = KeyOf { facts, inputs: &inputs, whole: Whole::Tree };
    ContentKey::from_bytes(key.fingerprint("strata linked key 1"))
}

/// What keys need to know of a step that another one uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its key.
    pub definition: DefinitionKey,
    /// The tree that it gives.
    pub tree: TreeId,
}

/// The keys of a step over what its inputs are, in their order.
pub fn keys_over<S: Step>(step: &S, inputs: &[Input], seen: &[Seen]) -> Result<Keys, S::Error> {
    Ok(keys_of(&step.definition().facts, &input_keys(step, inputs, seen)?))
}

pub(crate) fn input_keys<S: Step>(
    step: &S,
    inputs: &[Input],
    seen: &[Seen],
) -> Result<Vec<InputKey>, S::Error> {
    let inputs = inputs.iter().zip(seen).enumerate();
    inputs
        .map(|(number, (input, Seen { definition, tree }))| match input {
            Input::Whole(_) => Ok(InputKey::Whole { definition: *definition, tree: *tree }),
            Input::Slice(_) => step.slice(number, tree).map(InputKey::Slice),
        })
        .collect()
}

pub(crate) fn keys_of(facts: &[Fact], inputs: &[InputKey]) -> Keys {
    let by = |whole| KeyOf { facts, inputs, whole };
    let definition = by(Whole::Definition).fingerprint("strata definition key 1");
    let content = by(Whole::Tree).fingerprint("strata content key 1");
    Keys {
        definition: DefinitionKey::from_bytes(definition),
        content: ContentKey::from_bytes(content),
    }
}

#[derive(Clone, Copy)]
enum Whole {
    Definition,
    Tree,
}

/// What goes into a key: the facts, sorted by name, then the inputs in order.
struct KeyOf<'a> {
    facts: &'a [Fact],
    inputs: &'a [InputKey],
    whole: Whole,
}

impl Fingerprint for KeyOf<'_> {
    fn feed(&self, to: &mut Writer) {
        let Self { facts, inputs, whole } = self;
        let mut facts: Vec<&Fact> = facts.iter().collect();
        facts.sort_by(|a, b| a.name.cmp(&b.name));
        to.count(facts.len());
        facts.iter().for_each(|fact| fact.feed(to));
        to.count(inputs.len());
        for input in *inputs {
            match (input, whole) {
                (InputKey::Whole { definition, .. }, Whole::Definition) => {
                    to.u32(0);
                    to.fixed(definition.as_bytes());
                }
                (InputKey::Whole { tree, .. }, Whole::Tree) => {
                    to.u32(1);
                    to.fixed(tree.as_bytes());
                }
                (InputKey::Slice(tree), _) => {
                    to.u32(2);
                    to.fixed(tree.as_bytes());
                }
            }
        }
    }
}
