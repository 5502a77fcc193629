//! The program as its user sees it: each test is a session in a home, with a store, of its own.
//! What needs root, a base image or a registry is tested elsewhere.

mod archives;
mod attest;
mod build;
mod check;
#[path = "../damage/mod.rs"]
mod damage;
mod errors;
mod hostile;
mod images;
mod keys;
mod language;
mod linked;
mod plan;
mod remote;
mod replay;
mod schemas;
mod server;
mod session;
mod usage;
mod why;
