//! The crate as its callers and other people's tools see it.

mod archives;
mod chunked;
mod foreign;
mod golden;
mod hostile;
mod lower;
mod materialise;
mod random;
mod roundtrip;
mod support;
