//! Results of actions. One is kept with all that it names, trees expanded once, when it comes; so
//! one that is given out has never lost an output.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use strata_cas::entry::Need;
use tonic::Status;

use super::cas::PROTOCOL;
use super::name::{BlobName, instance};
use super::needs::Needs;
use crate::access::Caller;
use crate::depot::{Content, Depot, Value};
use crate::fault::Fault;
use crate::metrics::Kind;
use crate::site::Site;
use strata_reapi::proto::{ActionResult, GetActionResultRequest, UpdateActionResultRequest};

/// Where results of an instance's actions are.
pub(crate) fn space(instance: &str, function: &str) -> String {
    format!("actions/{function}/{instance}")
}

/// A result, as it came.
pub(super) async fn get(
    site: Arc<Site>,
    caller: Caller,
    asked: GetActionResultRequest,
) -> Result<Bytes, Status> {
    let name = BlobName::wanted(asked.action_digest.as_ref(), asked.digest_function)?;
    let space = space(instance(&asked.instance_name)?, name.function());
    let depot = Arc::clone(&site.depot);
    let found = super::cas::wait(move || result(&depot, &caller, &space, &name.hex())).await?;
    site.metrics.looked_up(PROTOCOL, Kind::Entry, found.is_some());
    found.ok_or_else(|| Status::not_found("there is no result of this action"))
}

/// The bytes of a result.
pub(crate) fn result(
    depot: &Depot,
    caller: &Caller,
    space: &str,
    key: &str,
) -> Result<Option<Bytes>, Fault> {
    let Some(entry) = depot.entry(caller, space, key)? else { return Ok(None) };
    depot.read(&Content::of_entry(&entry))
}

/// Keeps a result.
pub(super) async fn update(
    depot: Arc<Depot>,
    caller: Caller,
    asked: UpdateActionResultRequest,
) -> Result<Bytes, Status> {
    caller.may_write()?;
    let function = asked.digest_function;
    let name = BlobName::wanted(asked.action_digest.as_ref(), function)?;
    let space = space(instance(&asked.instance_name)?, name.function());
    let bytes = asked.action_result;
    let kept = bytes.clone();
    let keeping = tokio::task::spawn_blocking(move || {
        keep(&depot, &caller, (&space, &name.hex()), &kept, function)
    });
    keeping.await.map_err(|_| Status::internal("the server stops"))??;
    Ok(bytes)
}

/// Keeps a result under its action's digest.
pub(crate) fn keep(
    depot: &Depot,
    caller: &Caller,
    (space, key): (&str, &str),
    bytes: &Bytes,
    function: i32,
) -> Result<(), Status> {
    let result = ActionResult::decode(bytes.clone())
        .map_err(|error| Status::invalid_argument(format!("this is no action result: {error}")))?;
    let needs = needs(depot, &result, function)?;
    let body = depot.keep_bare_bytes(caller, bytes)?;
    depot.set_entry(caller, (space, key), body, Value { needs, ..Value::default() })?;
    Ok(())
}

/// All that a result names.
fn needs(depot: &Depot, result: &ActionResult, function: i32) -> Result<Vec<Need>, Status> {
    let mut needs = Needs::new(depot, function);
    for file in &result.output_files {
        check_path(&file.path)?;
        // What is in the result itself need not be here, too.
        if let Some(digest) = &file.digest
            && file.contents.is_empty()
        {
            needs.blob(digest)?;
        }
    }
    for digest in [&result.stdout_digest, &result.stderr_digest].into_iter().flatten() {
        needs.blob(digest)?;
    }
    for directory in &result.output_directories {
        check_path(&directory.path)?;
        directory.tree_digest.iter().try_for_each(|digest| needs.tree(digest))?;
        directory.root_directory_digest.iter().try_for_each(|digest| needs.directory(digest))?;
    }
    Ok(needs.finish())
}

/// Paths are the client's matter, but none that leads out of its directory is passed on.
fn check_path(path: &str) -> Result<(), Status> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Status::invalid_argument("a path leads out of the action's directory"));
    }
    Ok(())
}
