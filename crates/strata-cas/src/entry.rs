//! Entries: what other tools keep here under keys of their own, such as the result of an action,
//! a compiled file or an image's tag.
//!
//! An entry is the value of a name (see [`crate::NameStore`]) in a table that begins with
//! [`PREFIX`]; the rest of the table's name says for whom and for which protocol. Its form is
//! JSON, written down in `docs/formats/entries.md`. It names all that it needs, so that a sweep
//! knows it without knowing any protocol, and an entry never outlives what it needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BlobId, Link, Named};

/// What the tables of entries begin with: the format's name and version.
pub const PREFIX: &str = "entries-1/";

/// Something under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its bytes.
    pub body: BlobId,
    /// How many bytes that are.
    pub size: u64,
    /// What its protocol wants to know again, such as a content type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// What it needs besides its bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// Whether it stays until it is taken back; a sweep may remove the others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays: bool,
    /// Who wrote it.
    pub writer: String,
    /// How far its writer is trusted: who is trusted less can not replace it.
    pub trust: u8,
    /// When, in seconds since 1970.
    pub written: u64,
    /// When it was given out last, to within a day, in seconds since 1970: what was not for the
    /// longest time goes first.
    pub used: u64,
    /// Whether a far tier has it, too: then it can be had again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub far: bool,
}

/// Something that an entry needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// A blob.
    Blob(BlobId),
    /// A name, such as that of a blob by its SHA-256, with what it leads to.
    Name {
        /// Its table.
        table: String,
        /// The name.
        name: String,
    },
}

impl Entry {
    /// Its form in a store.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }

    /// Reads that form; `None` for what is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// What a store's sweep wants to know of the name with this value, if its table is one of
    /// entries.
    pub fn named(table: &str, value: &[u8]) -> Option<Named> {
        if !table.starts_with(PREFIX) {
            return None;
        }
        let Some(entry) = Self::decode(value) else { return Some(Named::Derived(Vec::new())) };
        let need = |need: Need| match need {
            Need::Blob(id) => Link::Blob(id),
            Need::Name { table, name } => Link::Name { table, name },
        };
        let links = entry.needs.into_iter().map(need).chain([Link::Blob(entry.body)]).collect();
        Some(match (entry.far, entry.stays) {
            (true, _) => Named::Cached(links),
            (false, true) => Named::Root(links),
            (false, false) => Named::Derived(links),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_does_not_drift() {
        let entry = Entry {
            body: BlobId::from_bytes([1; 32]),
            size: 7,
            attributes: BTreeMap::from([("tag".to_owned(), "x".to_owned())]),
            needs: vec![
                Need::Blob(BlobId::from_bytes([2; 32])),
                Need::Name { table: "t".to_owned(), name: "n".to_owned() },
            ],
            stays: true,
            writer: "ci".to_owned(),
            trust: 50,
            written: 1_700_000_000,
            used: 1_700_100_000,
            far: false,
        };
        let golden = include_str!("../tests/golden/entries-1.json").trim_end();
        assert_eq!(String::from_utf8(entry.encode()).expect("text"), golden);
        assert_eq!(Entry::decode(golden.as_bytes()), Some(entry.clone()));
        let links = vec![
            Link::Blob(BlobId::from_bytes([2; 32])),
            Link::Name { table: "t".to_owned(), name: "n".to_owned() },
            Link::Blob(entry.body),
        ];
        let named = Entry::named("entries-1/kv/main", golden.as_bytes());
        assert_eq!(named, Some(Named::Root(links)));
        let far = Entry { far: true, ..entry.clone() }.encode();
        assert!(matches!(Entry::named("entries-1/kv/main", &far), Some(Named::Cached(_))));
        assert_eq!(Entry::named("images-1", golden.as_bytes()), None);
        assert_eq!(Entry::named("entries-1/x", b"{"), Some(Named::Derived(Vec::new())));
    }
}
