//! The remote execution API, as a gRPC client sees it. The messages are the server's own, whose
//! bytes their own test compares with protoc's.

mod calls;
#[path = "../../../src/reapi/message.rs"]
pub(crate) mod message;
#[path = "../../../src/reapi/proto.rs"]
pub(crate) mod proto;
#[path = "../../../src/reapi/raw.rs"]
mod raw;
mod store;
mod writes;
