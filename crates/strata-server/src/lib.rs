//! The cache behind other builders: one store, many protocols, one port.
//!
//! A [`Server`] answers HTTP/1.1, HTTP/2 and gRPC on one address, with or without TLS, and keeps
//! everything in the store that it is given, which local builds use at the same time. Each
//! protocol is one module that knows its own words and nothing else: what it keeps goes through
//! one facade (`depot`), which names blobs by digest, entries by namespace and key, and checks
//! who may do what. So a rule about trust, a limit or a lease holds for all protocols or none.
//!
//! The decision that the crate defends: **bytes are believed when they were counted and hashed
//! here.** What comes in is hashed while it comes, and gets a name only when its size and digest
//! are those that were announced. What goes out is hashed again, and its last piece is held back
//! until the whole is known to be right: a client never gets a complete wrong answer.
//!
//! Async (tokio) stays behind this door: [`Server::start`] and [`Server::stop`] are plain calls,
//! and the store is only touched by threads that may wait.
//!
//! What the crate deliberately does not do: it prints nothing (requests are told to an
//! [`Observer`]), reads no environment and no file but those that its [`ServeTable`] names, and
//! knows no Dockerfile and no layer (a [`Library`] offers the store's images).
//!
//! ```
//! let table = strata_server::ServeTable::default();
//! let config = strata_server::Config::new(&table, None)?;
//! assert!(config.address().ip().is_loopback());
//! # Ok::<(), strata_server::ConfigError>(())
//! ```

mod access;
mod actions;
mod bazel;
mod body;
mod config;
mod config_far;
mod depot;
mod fault;
mod flow;
mod front;
mod hot;
mod library;
mod listen;
mod metrics;
mod nx;
mod oci;
mod quota;
mod rates;
mod ready;
mod reapi;
mod request;
mod server;
mod site;
mod tier;
mod tls;
mod turbo;
mod values;

pub use config::{
    Anonymous, Config, ConfigError, MirrorTable, Scope, Secret, ServeTable, TokenTable,
};
pub use config_far::{FarKind, FarTable};
pub use depot::Served;
pub use library::{Library, LibraryError, NoImages, Offer};
pub use metrics::Occupancy;
pub use server::{Observer, Server, Setup, StartError, Told};
pub use tier::{FarSetup, FarWrites, Notice};
