//! The remote execution API, version 2, its cache half (`bazelbuild/remote-apis`), over gRPC.
//!
//! Each service is one file; a method is added in [`answer`]. `strata-reapi` has the messages,
//! `call` frames them.

mod actions;
mod assets;
mod call;
mod capabilities;
mod cas;
mod chunks;
mod name;
mod needs;
mod stream;
mod zstd;

use std::sync::Arc;

use http::{Request, Response};
use tonic::Status;

use crate::access::Caller;
use crate::body::Body;
use crate::fault::Fault;
use crate::flow::Inbound;
use crate::site::Site;

use assets::Kind;

pub(crate) use actions::{keep as keep_result, result, space as actions_space};
pub(crate) use call::{REFUSED, code};
pub(crate) use stream::Writes;

const EXECUTION: &str = "/build.bazel.remote.execution.v2.";

/// Answers a gRPC call.
pub(crate) async fn answer(
    site: &Arc<Site>,
    caller: Caller,
    request: Request<Inbound>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let (depot, writes) = (Arc::clone(&site.depot), Arc::clone(&site.writes));
    match path.strip_prefix(EXECUTION).unwrap_or(&path) {
        "Capabilities/GetCapabilities" => {
            call::unary(request, move |asked| capabilities::get(caller, asked)).await
        }
        "ActionCache/GetActionResult" => {
            let site = Arc::clone(site);
            call::unary(request, move |asked| actions::get(site, caller, asked)).await
        }
        "ActionCache/UpdateActionResult" => {
            call::unary(request, move |asked| actions::update(depot, caller, asked)).await
        }
        "ContentAddressableStorage/FindMissingBlobs" => {
            let site = Arc::clone(site);
            call::unary(request, move |asked| cas::find_missing(site, asked)).await
        }
        "ContentAddressableStorage/BatchUpdateBlobs" => {
            call::unary(request, move |asked| cas::batch_update(depot, caller, asked)).await
        }
        "ContentAddressableStorage/BatchReadBlobs" => {
            let site = Arc::clone(site);
            call::unary(request, move |asked| cas::batch_read(site, asked)).await
        }
        "ContentAddressableStorage/GetTree" => {
            call::outgoing(request, move |asked| cas::get_tree(depot, asked)).await
        }
        "ContentAddressableStorage/SplitBlob" => {
            call::unary(request, move |asked| chunks::split(depot, caller, asked)).await
        }
        "ContentAddressableStorage/SpliceBlob" => {
            call::unary(request, move |asked| chunks::splice(depot, caller, asked)).await
        }
        "/google.bytestream.ByteStream/Read" => {
            let site = Arc::clone(site);
            call::outgoing(request, move |asked| stream::read(site, asked)).await
        }
        "/google.bytestream.ByteStream/Write" => {
            let work = move |messages| stream::write(depot, writes, caller, messages);
            call::incoming(request, work).await
        }
        "/google.bytestream.ByteStream/QueryWriteStatus" => {
            call::unary(request, move |asked| stream::query(depot, writes, caller, asked)).await
        }
        "/build.bazel.remote.asset.v1.Fetch/FetchBlob" => {
            let site = Arc::clone(site);
            call::unary(request, |asked| assets::fetch(site, caller, asked, Kind::Blob)).await
        }
        "/build.bazel.remote.asset.v1.Fetch/FetchDirectory" => {
            let site = Arc::clone(site);
            call::unary(request, |asked| assets::fetch(site, caller, asked, Kind::Directory)).await
        }
        "/build.bazel.remote.asset.v1.Push/PushBlob" => {
            call::unary(request, |asked| assets::push(depot, caller, asked, Kind::Blob)).await
        }
        "/build.bazel.remote.asset.v1.Push/PushDirectory" => {
            call::unary(request, |asked| assets::push(depot, caller, asked, Kind::Directory)).await
        }
        _ => call::refuse(Status::unimplemented(format!("`{path}` is not served here"))),
    }
}

/// The methods that are answered, by the last part of their paths.
const METHODS: [&str; 16] = [
    "GetCapabilities",
    "GetActionResult",
    "UpdateActionResult",
    "FindMissingBlobs",
    "BatchUpdateBlobs",
    "BatchReadBlobs",
    "GetTree",
    "SplitBlob",
    "SpliceBlob",
    "Read",
    "Write",
    "QueryWriteStatus",
    "FetchBlob",
    "FetchDirectory",
    "PushBlob",
    "PushDirectory",
];

/// The method that a path names: a client's own inventions have no name here.
pub(crate) fn method(path: &str) -> &'static str {
    let last = path.rsplit('/').next().unwrap_or_default();
    METHODS.iter().find(|method| **method == last).copied().unwrap_or("other")
}

/// A fault as a gRPC status.
pub(crate) fn refuse(fault: Fault) -> Response<Body> {
    call::refuse(fault.into())
}
