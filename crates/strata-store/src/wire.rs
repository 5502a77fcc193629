//! What processes that share a store say to each other, and how it is cut into frames.
//!
//! Each side begins with [`HELLO`], which carries the protocol's version. Then come requests and
//! their answers, one at a time: a length as `u32`, little-endian, and so many bytes, which are
//! bincode's form of [`Request`] or [`Response`] (see `codec`). Every request may be sent again:
//! done twice is done once.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, Serializer};
use strata_cas::{BlobId, DefinitionKey};

use crate::codec;
use crate::database::Table;

/// What both sides begin with.
pub(crate) const HELLO: &[u8; 16] = b"strata socket 1\n";

/// The largest frame: a value of the largest size, with room for its key.
const FRAME_LIMIT_BYTES: usize = codec::LARGEST_BYTES + (1 << 20);

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Op<'a> {
    /// Sets a key. One that has this value already is left alone, but for files' places.
    Put {
        table: Table,
        #[serde(borrow, serialize_with = "as_bytes")]
        key: Cow<'a, [u8]>,
        #[serde(borrow, serialize_with = "as_bytes")]
        value: Cow<'a, [u8]>,
    },
    /// Forgets a key.
    Delete {
        table: Table,
        #[serde(borrow, serialize_with = "as_bytes")]
        key: Cow<'a, [u8]>,
    },
    /// Makes a record the latest one of a slot, whose key in its table this is.
    Remember { slot: [u8; 32], definition: DefinitionKey, record: BlobId },
}

impl<'a> Op<'a> {
    pub(crate) fn put(
        table: Table,
        key: impl Into<Cow<'a, [u8]>>,
        value: impl Into<Cow<'a, [u8]>>,
    ) -> Self {
        Self::Put { table, key: key.into(), value: value.into() }
    }

    pub(crate) fn delete(table: Table, key: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::Delete { table, key: key.into() }
    }
}

/// What is asked.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request<'a> {
    /// The value under a key.
    Get {
        table: Table,
        #[serde(borrow, serialize_with = "as_bytes")]
        key: Cow<'a, [u8]>,
    },
    /// Keys that begin with `prefix` and come after `after`, in order, with their values or, for
    /// `sizes`, with what those weigh. As many as fit into about a megabyte, at least one.
    List {
        table: Table,
        #[serde(borrow, serialize_with = "as_bytes")]
        prefix: Cow<'a, [u8]>,
        #[serde(borrow, serialize_with = "as_bytes")]
        after: Cow<'a, [u8]>,
        sizes: bool,
    },
    /// Makes changes visible together, and durable with all that was changed before.
    Apply {
        #[serde(borrow)]
        ops: Vec<Op<'a>>,
        sync: bool,
    },
    /// Gives the room of what was forgotten back to the file system.
    Compact,
}

/// What is answered.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Response<'a> {
    /// To `Get`.
    Value(#[serde(borrow, serialize_with = "as_optional_bytes")] Option<Cow<'a, [u8]>>),
    /// To `List`: the pairs, and whether there may be more.
    Pairs {
        #[serde(borrow)]
        pairs: Vec<WirePair<'a>>,
        more: bool,
    },
    /// To `Apply` and `Compact`.
    Done,
    /// The database's answer when it failed.
    Failed(String),
}

/// A key with its value.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WirePair<'a> {
    #[serde(borrow, serialize_with = "as_bytes")]
    pub(crate) key: Cow<'a, [u8]>,
    /// Empty where only sizes were asked for.
    #[serde(borrow, serialize_with = "as_bytes")]
    pub(crate) value: Cow<'a, [u8]>,
    /// The value's size in bytes.
    pub(crate) size: u64,
}

fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn as_optional_bytes<S: Serializer>(
    bytes: &Option<Cow<'_, [u8]>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    struct Bytes<'a>(&'a [u8]);
    impl Serialize for Bytes<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    match bytes {
        Some(bytes) => serializer.serialize_some(&Bytes(bytes)),
        None => serializer.serialize_none(),
    }
}

/// Writes a frame in one go.
pub(crate) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = codec::encode_frame(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_LIMIT_BYTES);
    let length = length.ok_or_else(|| io::Error::other("a frame is too large"))?;
    if body.len() < 4096 {
        return to.write_all(&[&length.to_le_bytes(), &body[..]].concat());
    }
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&body)
}

/// Reads a frame; `None` at a clean end.
pub(crate) fn receive(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read(&mut length)? {
        0 => return Ok(None),
        count => from.read_exact(&mut length[count..])?,
    }
    let length = u32::from_le_bytes(length);
    if length as usize > FRAME_LIMIT_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too large"));
    }
    // A length alone reserves nothing.
    let mut body = Vec::with_capacity((length as usize).min(64 << 10));
    from.take(length.into()).read_to_end(&mut body)?;
    if body.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(body))
}
