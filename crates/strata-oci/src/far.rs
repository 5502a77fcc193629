//! The far tier of a server: where blobs and entries of several servers lie together, behind the
//! store that each of them has near. What can be one (a bucket, another server) implements two
//! traits of three methods; when it is asked, and what is believed, is the server's matter.
//!
//! A record is an entry (see [`strata_cas::entry`]) on its way: its form is written down in
//! `docs/formats/far.md`.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strata_cas::entry::Entry;
use strata_cas::{BlobId, Link, Named};

use crate::{BlobBytes, Digest, RegistryError, blobs};

/// A body of at most so many bytes goes with its record.
pub const INLINE_BYTES: u64 = 64 << 10;
/// No record is larger, in bytes.
pub const LARGEST_RECORD_BYTES: u64 = 64 << 20;
/// The store's table of what is still to be sent.
pub const QUEUE: &str = "far-queue-1";
/// The format of a record.
const FORMAT: u32 = 1;

/// What a blob is called there: by the name that it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FarName {
    /// Its SHA-256.
    Sha256(Digest),
    /// Its BLAKE3.
    Blake3(BlobId),
}

/// A text that is no name of a blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no blob: `sha256:` or `blake3:` and 64 hexadecimal digits are expected")]
pub struct InvalidFarName(String);

impl FarName {
    /// Its function: `sha256` or `blake3`.
    pub fn function(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Blake3(_) => "blake3",
        }
    }

    /// Its 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.hex(),
            Self::Blake3(id) => id.to_string(),
        }
    }
}

impl fmt::Display for FarName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.function(), self.hex())
    }
}

impl FromStr for FarName {
    type Err = InvalidFarName;

    fn from_str(text: &str) -> Result<Self, InvalidFarName> {
        let invalid = || InvalidFarName(text.to_owned());
        match text.strip_prefix("blake3:") {
            Some(hex) => hex.parse().map(Self::Blake3).map_err(|_| invalid()),
            None => text.parse().map(Self::Sha256).map_err(|_| invalid()),
        }
    }
}

impl TryFrom<String> for FarName {
    type Error = InvalidFarName;

    fn try_from(text: String) -> Result<Self, InvalidFarName> {
        text.parse()
    }
}

impl From<FarName> for String {
    fn from(name: FarName) -> Self {
        name.to_string()
    }
}

/// A blob there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FarBlob {
    /// What it is called.
    pub name: FarName,
    /// Its size in bytes, where that is known. Some tiers can not be asked without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// An entry as other servers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarRecord {
    /// The table that it is in, and its name there.
    pub key: (String, String),
    /// The entry.
    pub entry: Entry,
    /// All blobs that it needs, with their sizes; its body, too, unless that comes with it.
    pub blobs: Vec<FarBlob>,
    /// Its body, if that is small.
    pub body: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    table: String,
    name: String,
    entry: Entry,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blobs: Vec<FarBlob>,
    /// Whether the body follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    inline: bool,
}

impl FarRecord {
    /// Its form: one line of JSON, and then the body if it comes with it.
    pub fn encode(&self) -> Vec<u8> {
        let Self { key: (table, name), entry, blobs, body } = self;
        let head = Head {
            format: FORMAT,
            table: table.clone(),
            name: name.clone(),
            entry: entry.clone(),
            blobs: blobs.clone(),
            inline: body.is_some(),
        };
        let mut bytes = serde_json::to_vec(&head).expect("strings and numbers are JSON");
        bytes.push(b'\n');
        bytes.extend_from_slice(body.as_deref().unwrap_or_default());
        bytes
    }

    /// Reads that form; `None` for what is none, is another key's, or has another body than it
    /// says.
    pub fn decode(bytes: &[u8], table: &str, name: &str) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (head, rest) = (&bytes[..end], &bytes[end + 1..]);
        let head: Head = serde_json::from_slice(head).ok()?;
        if head.format != FORMAT || head.table != table || head.name != name {
            return None;
        }
        let body = match head.inline {
            true if BlobId::of(rest) == head.entry.body => Some(rest.to_vec()),
            false if rest.is_empty() => None,
            _ => return None,
        };
        Some(Self { key: (head.table, head.name), entry: head.entry, blobs: head.blobs, body })
    }
}

/// Keeps blobs for several servers.
pub trait FarBlobs: Send + Sync {
    /// The sizes of blobs, in their order; `None` for each that is not there.
    fn sizes(&self, blobs: &[FarBlob]) -> Result<Vec<Option<u64>>, RegistryError>;

    /// Fetches a blob, if it is there. What comes is the caller's to check.
    fn fetch(&self, blob: &FarBlob, sink: &mut dyn Write) -> Result<bool, RegistryError>;

    /// Keeps a blob of this size.
    fn send(&self, blob: (&FarName, u64), bytes: &BlobBytes<'_>) -> Result<(), RegistryError>;
}

/// Keeps records for several servers.
pub trait FarRecords: Send + Sync {
    /// The record under a name.
    fn record(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, RegistryError>;

    /// Keeps a record ([`FarRecord::encode`]) whose blobs are there, or takes the one back that is
    /// there.
    fn set_record(
        &self,
        table: &str,
        name: &str,
        record: Option<&FarRecord>,
    ) -> Result<(), RegistryError>;

    /// The names of a table's records; `None` where they can not be listed.
    fn records(&self, table: &str) -> Result<Option<Vec<String>>, RegistryError>;
}

/// Both.
pub trait Far: FarBlobs + FarRecords {}

impl<T: FarBlobs + FarRecords> Far for T {}

/// Something that is still to be done there: a value of the table [`QUEUE`], as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Errand {
    /// A blob is to be sent.
    Blob(FarName),
    /// An entry, with all that it needs.
    Record {
        /// Its table.
        table: String,
        /// Its name.
        name: String,
    },
    /// An entry is to be taken back.
    Removal {
        /// Its table.
        table: String,
        /// Its name.
        name: String,
    },
}

impl Errand {
    /// Its form in a store.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings are JSON")
    }

    /// Reads that form; `None` for what is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// What a store's sweep wants to know: what is still to be sent stays.
    pub fn named(value: &[u8]) -> Named {
        let name = |table: String, name: String| Link::Name { table, name };
        Named::Root(match Self::decode(value) {
            Some(Self::Blob(FarName::Sha256(digest))) => {
                vec![name(blobs::TABLE.to_owned(), digest.to_string())]
            }
            Some(Self::Blob(FarName::Blake3(id))) => vec![Link::Blob(id)],
            Some(Self::Record { table, name: key }) => vec![name(table, key)],
            Some(Self::Removal { .. }) | None => Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use strata_cas::entry::Need;

    use super::*;

    fn record(body: Option<Vec<u8>>) -> FarRecord {
        let entry = Entry {
            body: BlobId::of(b"a body\n"),
            size: 7,
            attributes: BTreeMap::from([("tag".to_owned(), "x".to_owned())]),
            needs: vec![Need::Blob(BlobId::from_bytes([2; 32]))],
            stays: true,
            writer: "ci".to_owned(),
            trust: 50,
            written: 1_700_000_000,
            used: 1_700_000_000,
            far: false,
        };
        let name = FarName::Blake3(BlobId::from_bytes([2; 32]));
        let blobs = vec![FarBlob { name, size: Some(9) }];
        FarRecord { key: ("entries-1/main/nx".to_owned(), "k".to_owned()), entry, blobs, body }
    }

    #[test]
    fn the_form_does_not_drift() {
        let record = record(Some(b"a body\n".to_vec()));
        let golden = include_bytes!("../tests/golden/far-record-1");
        assert_eq!(String::from_utf8_lossy(&record.encode()), String::from_utf8_lossy(golden));
        assert_eq!(FarRecord::decode(golden, "entries-1/main/nx", "k"), Some(record));
        let queue = include_str!("../tests/golden/far-queue-1.jsonl");
        let (table, name) = ("entries-1/main/nx".to_owned(), "k".to_owned());
        let errands = [
            Errand::Blob(FarName::Sha256(Digest::of(b""))),
            Errand::Blob(FarName::Blake3(BlobId::of(b""))),
            Errand::Record { table: table.clone(), name: name.clone() },
            Errand::Removal { table, name },
        ];
        let mut lines = queue.lines();
        for errand in errands {
            let line = lines.next().expect("a line");
            assert_eq!(String::from_utf8_lossy(&errand.encode()), line);
            assert_eq!(Errand::decode(line.as_bytes()), Some(errand));
        }
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn what_is_not_what_it_says_is_no_record() {
        let check = |bytes: &[u8]| FarRecord::decode(bytes, "entries-1/main/nx", "k").is_some();
        let good = record(Some(b"a body\n".to_vec())).encode();
        assert!(check(&good));
        assert!(check(&record(None).encode()));
        assert!(!check(b""));
        assert!(!check(&good[..good.len() - 1]));
        assert!(!check(&[&good[..], b"x"].concat()));
        assert!(!check(&good[..40]));
        assert!(!check(&[&record(None).encode()[..], b"x"].concat()));
        assert!(FarRecord::decode(&good, "entries-1/main/nx", "l").is_none(), "another's");
        assert!(FarRecord::decode(&good, "entries-1/other/nx", "k").is_none(), "another's");
    }

    #[test]
    fn what_is_still_to_be_sent_stays() {
        let links = |errand: Errand| match Errand::named(&errand.encode()) {
            Named::Root(links) => links,
            Named::Derived(_) | Named::Cached(_) => panic!("a sweep would take it"),
        };
        assert_eq!(links(Errand::Blob(FarName::Blake3(BlobId::of(b"x")))).len(), 1);
        let (table, name) = ("t".to_owned(), "n".to_owned());
        let record = Errand::Record { table: table.clone(), name: name.clone() };
        assert_eq!(links(record), [Link::Name { table, name }]);
    }
}
