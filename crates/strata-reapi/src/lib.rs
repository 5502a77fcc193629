//! The messages of the remote execution API (REAPI, version 2), as far as a cache needs them: for
//! the server that answers them and for the client that asks.
//!
//! The decision that the crate defends: **no generated code.** The API's `.proto` files bring
//! dozens of messages that a cache never sees, a compiler at build time, and a derive that changes
//! features of crates that RocksDB is compiled with. A message here is one line, its fields with
//! their numbers; a test compares bytes with protoc's. Bytes in a message are [`bytes::Bytes`], so
//! a blob is not copied on its way, and what a party only passes on stays as it came.
//!
//! What the crate deliberately does not do: it makes no call and knows no store. [`Raw`] lets
//! tonic frame messages that are bytes already.
//!
//! ```
//! use prost::Message as _;
//! use strata_reapi::proto::Digest;
//!
//! let digest = Digest { hash: "ab".to_owned(), size_bytes: 300 };
//! assert_eq!(digest.encode_to_vec(), b"\x0a\x02ab\x10\xac\x02");
//! ```

#[doc(hidden)]
pub mod message;
pub mod proto;
mod raw;

pub use raw::Raw;
