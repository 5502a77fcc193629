//! The server as clients see it: bytes on a socket, and what comes back.

mod actions;
mod attacks;
mod caches;
mod client;
mod conformance;
mod front;
mod limits;
mod mirror;
mod oci;
mod reapi;
mod through;
mod tiers;
mod tls;
mod wire;
