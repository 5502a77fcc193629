//! The remote execution API, version 2, its cache half (`bazelbuild/remote-apis`), over gRPC.
//!
//! Each service is one file; a method is added in [`answer`]. `message` declares messages, `call`
//! frames them.

#[expect(dead_code, reason = "the services that use it come one by one")]
mod call;
mod capabilities;
mod message;
#[expect(dead_code, reason = "the services that use it come one by one")]
mod proto;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;

use crate::access::Caller;
use crate::body::Body;
use crate::fault::Fault;
use crate::site::Site;

const EXECUTION: &str = "/build.bazel.remote.execution.v2.";

/// Answers a gRPC call.
pub(crate) async fn answer(
    _site: &Arc<Site>,
    caller: Caller,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.strip_prefix(EXECUTION).unwrap_or(&path) {
        "Capabilities/GetCapabilities" => {
            call::unary(request, move |asked| capabilities::get(caller, asked)).await
        }
        _ => call::refuse(Status::unimplemented(format!("`{path}` is not served here"))),
    }
}

/// A fault as a gRPC status.
pub(crate) fn refuse(fault: Fault) -> Response<Body> {
    call::refuse(fault.into())
}
