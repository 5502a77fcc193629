//! What leads where: told to a store by who knows its values' formats, so that the store can tell
//! what nothing leads to any more.

use std::path::Path;

use crate::{BlobId, LayerId, Record, StoreError, TreeId};

/// Something that a value needs in order to be of use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Link {
    /// A tree: its nodes, not the contents of its files.
    Tree(TreeId),
    /// A layer: its value, its snapshot if there is one, the contents of its files.
    Layer(LayerId),
    /// A blob.
    Blob(BlobId),
    /// A name in a table, with what its value leads to.
    Name {
        /// The table.
        table: String,
        /// The name.
        name: String,
    },
}

/// What a name is to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// Somebody has chosen it, or nobody knows what it is: it stays until it is taken back, and
    /// so does what it leads to.
    Root(Vec<Link>),
    /// It can be made again. It stays for as long as something leads to it, or else until
    /// something that it leads to is gone.
    Derived(Vec<Link>),
    /// It can be had again from elsewhere, and so can what it leads to, all of which need not be
    /// here. A sweep may take it like what is derived.
    Cached(Vec<Link>),
}

/// Knows what is in the values that a store keeps for others.
pub trait Links: Send + Sync {
    /// What a record's payload leads to.
    fn of_record(&self, record: &Record) -> Vec<Link>;

    /// What a name is, and what its value leads to.
    fn of_name(&self, table: &str, name: &str, value: &[u8]) -> Named;

    /// What need not be here although others lead to it, since this name says where else it can be
    /// had: layers, whose files need not be here, and names.
    fn elsewhere(&self, table: &str, name: &str, value: &[u8]) -> Vec<Link> {
        let _ = (table, name, value);
        Vec::new()
    }

    /// Whether names in this table may be led to before anybody has given them: that one is not
    /// there is no damage.
    fn is_optional(&self, table: &str) -> bool {
        let _ = table;
        false
    }

    /// When a name was of use last, in seconds since 1970; 0 where that is not known. Of those that
    /// can be made again, the oldest go first.
    fn used(&self, table: &str, value: &[u8]) -> u64 {
        let _ = (table, value);
        0
    }

    /// The project that a record belongs to, as its user knows it.
    fn project_of(&self, record: &Record) -> String;

    /// What people call the step that a record is of.
    fn title_of(&self, record: &Record) -> String;

    /// The caches below the store's directory for them that nobody uses at this moment.
    fn free_caches(&self, directory: &Path) -> Result<Vec<FreeCache>, StoreError> {
        let _ = directory;
        Ok(Vec::new())
    }

    /// Removes one of them, unless somebody uses it by now; says whether it is gone.
    fn remove_cache(&self, directory: &Path, key: &str) -> Result<bool, StoreError> {
        let _ = (directory, key);
        Ok(false)
    }
}

/// A directory in the store that commands fill and that nobody uses at this moment. Without it
/// the next command begins with an empty one, which costs time and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeCache {
    /// Its directory's name.
    pub key: String,
    /// What people call it.
    pub title: String,
    /// When somebody last asked for it, in seconds since 1970.
    pub last_used: u64,
}

/// What a build has used, told at its end. What the latest build of a project did not use is the
/// first to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildUse<'a> {
    /// The project, as [`Links::project_of`] tells it.
    pub project: &'a str,
    /// Which of the images that it can give: each has a latest build of its own.
    pub target: &'a str,
    /// The definition keys of its steps.
    pub steps: &'a [crate::DefinitionKey],
    /// When it ended, in seconds since 1970.
    pub ended: u64,
}
