//! How values become bytes in the database: serde and bincode 2, and nothing else knows it.
//!
//! A table's format version is in its name (see `database`); `tests/golden/` holds one value of
//! each table, so that a change of a format, of bincode or of a derived type breaks a test.

use bincode::config;
use serde::{Deserialize, Serialize, Serializer};
use strata_cas::{BlobId, DefinitionKey, StoreError, TreePath};

/// The largest value that is written: far above any real one.
pub(crate) const LARGEST_BYTES: usize = 64 << 20;

/// What reading a value may allocate, so that damaged lengths are errors and not out-of-memory.
const READ_LIMIT_BYTES: usize = 2 * LARGEST_BYTES;

/// A small blob.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inline<'a> {
    #[serde(serialize_with = "as_bytes")]
    pub(crate) bytes: &'a [u8],
}

/// A tree node or a layer that is kept in pieces.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chunked {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its pieces in order, each a small blob.
    pub(crate) pieces: Vec<BlobId>,
}

/// Where in a snapshot a blob is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The path below the snapshot's root.
    pub(crate) path: TreePath,
}

/// Which record is under a key: the BLAKE3 of its encoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pointer {
    pub(crate) record: BlobId,
}

/// The latest records of a slot, newest first.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recent {
    pub(crate) entries: Vec<RecentEntry>,
}

/// One of them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecentEntry {
    pub(crate) definition: DefinitionKey,
    pub(crate) record: BlobId,
}

/// A snapshot that is complete on disk.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Committed {
    /// How many of its files can be read as blobs.
    pub(crate) files: u64,
}

/// The value of a name.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Named<'a> {
    #[serde(serialize_with = "as_bytes")]
    pub(crate) value: &'a [u8],
}

/// In one go, not element by element; the result is the same.
fn as_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Encodes a value.
pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let failed = |message: String| StoreError::Database { action: "encode a value", message };
    let bytes = bincode::serde::encode_to_vec(value, config::standard())
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() > LARGEST_BYTES {
        return Err(failed(format!("it has {} bytes", bytes.len())));
    }
    Ok(bytes)
}

/// Encodes what is said to another process.
pub(crate) fn encode_frame(message: &impl Serialize) -> Result<Vec<u8>, String> {
    bincode::serde::encode_to_vec(message, config::standard()).map_err(|error| error.to_string())
}

/// Decodes what another process has said; `None` for bytes that are not exactly that.
pub(crate) fn decode_frame<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    decode(bytes)
}

/// Decodes a value; `None` for bytes that are not exactly one.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let config = config::standard().with_limit::<READ_LIMIT_BYTES>();
    match bincode::serde::borrow_decode_from_slice(bytes, config) {
        Ok((value, length)) if length == bytes.len() => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use strata_cas::{ContentKey, Cost, Fact, Record, Slot, TreeId};

    use super::*;
    use crate::builds::ProjectBuilds;
    use crate::database::Table;
    use crate::wire::{Op, Request, Response, WirePair};

    /// The value must have exactly the golden bytes, and only they must give it back.
    fn check<'a, T>(value: &T, golden: &str, buffer: &'a mut Vec<u8>)
    where
        T: Serialize + Deserialize<'a> + PartialEq + Debug,
    {
        let digits: Vec<u8> = golden.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16);
        *buffer = digits.chunks(2).map(|pair| byte(pair).expect("hexadecimal")).collect();
        let encoded = encode(value).expect("encode");
        let shown: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(encoded, *buffer, "encoded as {shown}");
        let buffer: &'a [u8] = buffer;
        assert_eq!(decode::<T>(buffer).as_ref(), Some(value));
        for end in 0..buffer.len() {
            assert_eq!(decode::<T>(&buffer[..end]), None, "cut at {end}");
        }
    }

    fn record() -> Record {
        Record {
            definition: DefinitionKey::from_bytes([1; 32]),
            content: ContentKey::from_bytes([2; 32]),
            facts: vec![
                Fact::text("instruction", "RUN make"),
                Fact::tree("files", TreeId::from_bytes([3; 32])),
            ],
            inputs: vec![TreeId::from_bytes([4; 32])],
            tree: TreeId::from_bytes([5; 32]),
            payload: vec![6, 200, 255],
            cost: Cost { millis: 1_234, bytes: 70_000 },
            slot: Slot("project/stage/3".to_owned()),
            created: 1_700_000_000,
        }
    }

    #[test]
    fn formats_do_not_drift() {
        let id = BlobId::from_bytes([7; 32]);
        let path = TreePath::new("usr/bin/x").expect("clean");
        let definition = DefinitionKey::from_bytes([8; 32]);
        let entries = vec![RecentEntry { definition, record: id }];
        let buffer = &mut Vec::new();
        check(&record(), include_str!("../tests/golden/records-1.record.hex"), buffer);
        let golden = include_str!("../tests/golden/records-1.pointer.hex");
        check(&Pointer { record: id }, golden, &mut Vec::new());
        let golden = include_str!("../tests/golden/slots-1.hex");
        check(&Recent { entries }, golden, &mut Vec::new());
        let golden = include_str!("../tests/golden/blobs-1.hex");
        check(&Inline { bytes: b"hello" }, golden, &mut Vec::new());
        let golden = include_str!("../tests/golden/chunked-1.hex");
        check(&Chunked { size: 9_000, pieces: vec![id, id] }, golden, &mut Vec::new());
        let golden = include_str!("../tests/golden/places-1.hex");
        check(&Place { size: 70_000, path }, golden, &mut Vec::new());
        let golden = include_str!("../tests/golden/snapshots-1.hex");
        check(&Committed { files: 300 }, golden, &mut Vec::new());
        let golden = include_str!("../tests/golden/names-1.hex");
        check(&Named { value: b"sha256:x" }, golden, &mut Vec::new());
    }

    #[test]
    fn what_processes_tell_each_other_does_not_drift() {
        let (id, table) = (BlobId::from_bytes([7; 32]), Table::Records);
        let definition = DefinitionKey::from_bytes([8; 32]);
        let ops = vec![
            Op::put(Table::Blobs, &b"key"[..], &b"value"[..]),
            Op::delete(Table::Names, &b"key"[..]),
            Op::Remember { slot: [9; 32], definition, record: id },
        ];
        let (key, prefix, after) = ((&b"k"[..]).into(), (&b"p"[..]).into(), (&b"a"[..]).into());
        let requests = [
            Request::Get { table, key },
            Request::List { table, prefix, after, sizes: true },
            Request::Apply { ops, sync: true },
            Request::Compact,
        ];
        let pairs = vec![WirePair { key: b"k".into(), value: b"v".into(), size: 1 }];
        let responses = [
            Response::Value(Some(b"v".into())),
            Response::Value(None),
            Response::Pairs { pairs, more: true },
            Response::Done,
            Response::Failed("why".to_owned()),
        ];
        let goldens = include_str!("../tests/golden/socket-1.requests.hex");
        assert_eq!(goldens.lines().count(), requests.len());
        for (request, golden) in requests.iter().zip(goldens.lines()) {
            check(request, golden, &mut Vec::new());
        }
        let goldens = include_str!("../tests/golden/socket-1.responses.hex");
        assert_eq!(goldens.lines().count(), responses.len());
        for (response, golden) in responses.iter().zip(goldens.lines()) {
            check(response, golden, &mut Vec::new());
        }
        let build = ProjectBuilds {
            project: "/src/app".to_owned(),
            target: "test linux/amd64".to_owned(),
            ended: vec![1_700_000_000, 1_600_000_000],
            steps: vec![definition],
        };
        check(&build, include_str!("../tests/golden/builds-1.hex"), &mut Vec::new());
    }

    #[test]
    fn a_damaged_length_is_an_error_and_not_a_huge_allocation() {
        // A length of 2^62 in bincode's form, with nothing behind it.
        let bytes = [253, 0, 0, 0, 0, 0, 0, 0, 0x40];
        assert_eq!(decode::<String>(&bytes), None);
        assert_eq!(decode::<Inline<'_>>(&bytes), None);
        assert_eq!(decode::<Recent>(&bytes), None);
    }

    #[test]
    fn a_path_that_leads_outside_is_no_place() {
        let (size, path) = (1_u64, b"../x".to_vec());
        assert_eq!(decode::<Place>(&encode(&(size, path)).expect("encode")), None);
    }
}
