//! The remote execution API, as a gRPC client sees it. The messages are the server's own, whose
//! bytes their own test compares with protoc's.

mod calls;
mod store;
mod writes;
