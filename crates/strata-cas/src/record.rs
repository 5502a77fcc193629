//! What the cache keeps of a step. Which step hits which record is `strata-engine`'s decision.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canonical::{Fingerprint, Writer};
use crate::{ContentKey, DefinitionKey, TreeId};

/// One value that a step's key depends on, in readable form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is: `instruction`, `ENV PATH`, `files`, `image`.
    pub name: String,
    /// Its value.
    pub value: FactValue,
}

impl Fact {
    /// A fact that is a text.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: FactValue::Text(value.into()) }
    }

    /// A fact that is a file tree.
    pub fn tree(name: impl Into<String>, value: TreeId) -> Self {
        Self { name: name.into(), value: FactValue::Tree(value) }
    }
}

/// The value of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactValue {
    /// A text, shown as it is.
    Text(String),
    /// A file tree: two of them are compared path by path.
    Tree(TreeId),
}

impl fmt::Display for FactValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Tree(tree) => write!(f, "tree {tree}"),
        }
    }
}

impl Fingerprint for Fact {
    fn feed(&self, to: &mut Writer) {
        let Self { name, value } = self;
        to.text(name);
        match value {
            FactValue::Text(text) => {
                to.u32(0);
                to.text(text);
            }
            FactValue::Tree(tree) => {
                to.u32(1);
                to.fixed(tree.as_bytes());
            }
        }
    }
}

/// Where a step stands in its project, whatever it says there: what "the same step" means when
/// two builds are compared. Never part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot(pub String);

/// What a step cost when it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Wall time in milliseconds.
    pub millis: u64,
    /// Bytes of file content that its layer set.
    pub bytes: u64,
}

/// What the cache keeps of a step that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The key that was known before it ran.
    pub definition: DefinitionKey,
    /// The key by its parents' trees.
    pub content: ContentKey,
    /// What both keys were made of, besides the parents.
    pub facts: Vec<Fact>,
    /// The trees that it ran on, in the order of its inputs.
    pub inputs: Vec<TreeId>,
    /// The tree that it gave.
    pub tree: TreeId,
    /// What its owner needs in order to use the result again, in the owner's own format.
    pub payload: Vec<u8>,
    /// What it cost.
    pub cost: Cost,
    /// Where it stood.
    pub slot: Slot,
    /// When it ended, in seconds since 1970. For people and for the sweep, never for a key.
    pub created: u64,
}

/// What a record can be found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKey {
    /// By its definition.
    Definition(DefinitionKey),
    /// By its parents' contents.
    Content(ContentKey),
}

impl RecordKey {
    /// The key whose bytes are `kind` and `id`, as [`RecordKey::to_bytes`] gives them.
    pub fn from_parts(kind: u8, id: [u8; 32]) -> Option<Self> {
        match kind {
            b'd' => Some(Self::Definition(DefinitionKey::from_bytes(id))),
            b'c' => Some(Self::Content(ContentKey::from_bytes(id))),
            _ => None,
        }
    }

    /// The key's bytes, told apart by their first one.
    pub fn to_bytes(self) -> [u8; 33] {
        let (kind, key) = match self {
            Self::Definition(key) => (b'd', *key.as_bytes()),
            Self::Content(key) => (b'c', *key.as_bytes()),
        };
        let mut bytes = [kind; 33];
        bytes[1..].copy_from_slice(&key);
        bytes
    }
}
