//! Remote assets (`remote_asset.proto`, version 1): what was pushed under a URI with qualifiers is
//! found by them. Nothing is fetched from elsewhere.
//!
//! Blobs and directories have messages of one shape, so one function serves both.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use strata_cas::BlobId;
use tonic::Status;

use super::call::encode;
use super::cas::wait;
use super::name::instance;
use super::needs::Needs;
use crate::access::Caller;
use crate::depot::{Content, Depot, Value};
use crate::metrics::Kind as Counted;
use crate::site::Site;
use strata_reapi::proto::{
    Digest, FetchRequest, FetchResponse, PushRequest, PushResponse, Qualifier, SHA256,
};

const URIS: usize = 100;

/// What is asked for: a file, or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Blob,
    Directory,
}

impl Kind {
    fn space(self, instance: &str) -> String {
        match self {
            Self::Blob => format!("asset-blobs/{instance}"),
            Self::Directory => format!("asset-directories/{instance}"),
        }
    }
}

/// Clients find out by an empty question whether the service is there, and want it refused.
fn check(uris: &[String]) -> Result<(), Status> {
    match uris.len() {
        0 => Err(Status::invalid_argument("there is no URI")),
        1..=URIS => Ok(()),
        _ => Err(Status::invalid_argument("there are too many URIs")),
    }
}

fn key(uri: &str, qualifiers: &[Qualifier], function: i32) -> String {
    let mut pairs: Vec<_> = qualifiers.iter().map(|one| (&one.name, &one.value)).collect();
    pairs.sort();
    let function = if function == 0 { SHA256 } else { function };
    let mut text = format!("{function} {} {uri}", uri.len());
    for (name, value) in pairs {
        text.push_str(&format!(" {} {name} {} {value}", name.len(), value.len()));
    }
    BlobId::of(text.as_bytes()).to_string()
}

pub(super) async fn fetch(
    site: Arc<Site>,
    caller: Caller,
    asked: FetchRequest,
    kind: Kind,
) -> Result<Bytes, Status> {
    check(&asked.uris)?;
    let space = kind.space(instance(&asked.instance_name)?);
    let depot = Arc::clone(&site.depot);
    let FetchRequest { uris, qualifiers, digest_function, .. } = asked;
    let found = wait(move || {
        for uri in uris {
            let key = key(&uri, &qualifiers, digest_function);
            let Some(entry) = depot.entry(&caller, &space, &key)? else { continue };
            let content = Content::of_entry(&entry);
            let Some(bytes) = depot.read(&content)? else { continue };
            if let Ok(digest) = Digest::decode(bytes) {
                let (status, digest) = (Some(strata_reapi::proto::Status::default()), Some(digest));
                return Ok(Some(FetchResponse {
                    status,
                    uri,
                    qualifiers,
                    digest,
                    digest_function,
                }));
            }
        }
        Ok(None)
    });
    let found = found.await?;
    site.metrics.looked_up("asset", Counted::Entry, found.is_some());
    found.map(|answer| encode(&answer)).ok_or_else(|| Status::not_found("nobody has pushed this"))
}

pub(super) async fn push(
    depot: Arc<Depot>,
    caller: Caller,
    asked: PushRequest,
    kind: Kind,
) -> Result<Bytes, Status> {
    check(&asked.uris)?;
    caller.may_write()?;
    let space = kind.space(instance(&asked.instance_name)?);
    let pushing = tokio::task::spawn_blocking(move || keep(&depot, &caller, &space, &asked, kind));
    pushing.await.map_err(|_| Status::internal("the server stops"))??;
    Ok(encode(&PushResponse {}))
}

fn keep(
    depot: &Depot,
    caller: &Caller,
    space: &str,
    asked: &PushRequest,
    kind: Kind,
) -> Result<(), Status> {
    let missing = || Status::invalid_argument("the digest is missing");
    let digest = asked.digest.as_ref().ok_or_else(missing)?;
    let mut needs = Needs::new(depot, asked.digest_function);
    match kind {
        Kind::Blob => drop(needs.blob(digest)?),
        Kind::Directory => needs.directory(digest)?,
    }
    for blob in &asked.references_blobs {
        needs.blob(blob)?;
    }
    for directory in &asked.references_directories {
        needs.directory(directory)?;
    }
    let needs = needs.finish();
    let body = depot.keep_bare_bytes(caller, &encode(digest))?;
    for uri in &asked.uris {
        let key = key(uri, &asked.qualifiers, asked.digest_function);
        let value = Value { needs: needs.clone(), ..Value::default() };
        depot.set_entry(caller, (space, &key), body, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_qualifiers_says_nothing() {
        let one =
            |name: &str, value: &str| Qualifier { name: name.to_owned(), value: value.to_owned() };
        let (a, b) = (one("a", "1"), one("b", "2"));
        let both = [a.clone(), b.clone()];
        let first = std::slice::from_ref(&a);
        assert_eq!(key("u", &both, 0), key("u", &[b, a.clone()], SHA256));
        assert_ne!(key("u", first, 0), key("u", &both, 0));
        assert_ne!(key("u", first, 0), key("v", first, 0));
        // Nothing in a value can look like another qualifier.
        assert_ne!(key("u", &[one("a", "1 1 b 1 2")], 0), key("u", &both, 0));
    }
}
