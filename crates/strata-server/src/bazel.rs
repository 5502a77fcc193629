//! Bazel's HTTP cache: `/{instance}/ac/{hash}` and `/{instance}/cas/{hash}`, beside the gRPC
//! services and with the same contents. moon speaks it too, with results as JSON.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use serde_json::Value as Json;
use strata_cas::BlobId;
use strata_oci::Digest;

use crate::body::{self, Body, blocking};
use crate::depot::{Content, Depot, Value, need_of};
use crate::fault::Fault;
use crate::metrics::Kind;
use crate::reapi;
use crate::request::{self, Asked, plain, with_body};
use crate::site::Site;
use crate::values;

const BINARY: &str = "application/octet-stream";
const JSON: &str = "application/json";
const RESULT_LIMIT_BYTES: usize = 64 << 20;

/// What a path names: the instance, whether it is a result, and the hash.
pub(crate) fn parse(path: &str) -> Option<(&str, bool, &str)> {
    let (before, hash) = path.rsplit_once('/')?;
    let (instance, kind) = before.rsplit_once('/')?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_result = match kind {
        "ac" => true,
        "cas" => false,
        _ => return None,
    };
    is_hash.then(|| (instance.trim_start_matches('/'), is_result, hash))
}

pub(crate) async fn answer(site: &Arc<Site>, asked: Asked) -> Result<Response<Body>, Fault> {
    let path = asked.path.clone();
    let (instance, is_result, hash) = parse(&path).ok_or(Fault::NotFound)?;
    let is_fine = |part: &str| !part.is_empty();
    if instance.len() > 256 || !instance.is_empty() && !instance.split('/').all(is_fine) {
        return Err(Fault::invalid("this is no name of an instance"));
    }
    match (is_result, values::reads(&asked.method)) {
        (true, true) => get_result(site, &asked, instance, hash).await,
        (false, true) => get_blob(site, &asked, hash).await,
        _ if asked.method != Method::PUT => Err(Fault::Method),
        (true, false) => put_result(site, asked, instance, hash).await,
        (false, false) => put_blob(site, asked, hash).await,
    }
}

/// Results as JSON are kept apart: who wants them binary can not read them.
fn space_of(asked: &Asked, instance: &str) -> String {
    let wants = |name: http::HeaderName| asked.header(name).is_some_and(|t| t.starts_with(JSON));
    match wants(CONTENT_TYPE) || wants(http::header::ACCEPT) {
        true => format!("actions-json/{instance}"),
        false => reapi::actions_space(instance, "sha256"),
    }
}

async fn get_result(
    site: &Arc<Site>,
    asked: &Asked,
    instance: &str,
    hash: &str,
) -> Result<Response<Body>, Fault> {
    let (depot, caller) = (Arc::clone(&site.depot), asked.caller.clone());
    let (space, key) = (space_of(asked, instance), hash.to_owned());
    let kind = if space.starts_with("actions-json/") { JSON } else { BINARY };
    let found = blocking(move || reapi::result(&depot, &caller, &space, &key)).await?;
    site.metrics.looked_up("bazel", Kind::Entry, found.is_some());
    let bytes = found.ok_or(Fault::NotFound)?;
    let mut response = with_body(StatusCode::OK, kind, bytes.clone());
    request::set(&mut response, http::header::CONTENT_LENGTH, &bytes.len().to_string());
    if asked.method == Method::HEAD {
        *response.body_mut() = body::empty();
    }
    Ok(response)
}

async fn put_result(
    site: &Arc<Site>,
    mut asked: Asked,
    instance: &str,
    hash: &str,
) -> Result<Response<Body>, Fault> {
    asked.caller.may_write()?;
    let space = space_of(&asked, instance);
    let bytes = body::collect(&mut asked.body, RESULT_LIMIT_BYTES).await?;
    let (depot, caller, key) = (Arc::clone(&site.depot), asked.caller, hash.to_owned());
    blocking(move || {
        if space.starts_with("actions-json/") {
            return keep_json(&depot, &caller, (&space, &key), &bytes);
        }
        let kept = reapi::keep_result(&depot, &caller, (&space, &key), &bytes, 0);
        kept.map_err(|status| match status.code() {
            tonic::Code::PermissionDenied => Fault::Denied(status.message().to_owned()),
            tonic::Code::ResourceExhausted => Fault::NoRoom(status.message().to_owned()),
            tonic::Code::Internal => Fault::Internal(status.message().to_owned()),
            _ => Fault::Invalid(status.message().to_owned()),
        })
    })
    .await?;
    Ok(plain(StatusCode::OK))
}

/// A result as JSON: what looks like a digest in it is one.
fn keep_json(
    depot: &Depot,
    caller: &crate::access::Caller,
    key: (&str, &str),
    bytes: &Bytes,
) -> Result<(), Fault> {
    let document: Json =
        serde_json::from_slice(bytes).map_err(|error| Fault::Invalid(error.to_string()))?;
    let (mut needs, mut rest) = (Vec::new(), vec![&document]);
    while let Some(value) = rest.pop() {
        match value {
            Json::Array(all) => rest.extend(all),
            Json::Object(fields) => {
                rest.extend(fields.values());
                let hash = fields.get("hash").and_then(Json::as_str);
                let digest = hash.and_then(|hash| format!("sha256:{hash}").parse::<Digest>().ok());
                let Some(digest) = digest else { continue };
                if digest != Digest::of(b"") && depot.find_if_answered(&digest)?.is_some() {
                    needs.push(need_of(&digest));
                }
            }
            _ => {}
        }
    }
    let body = depot.keep_bare_bytes(caller, bytes)?;
    depot.set_entry(caller, key, body, Value { needs, ..Value::default() })?;
    Ok(())
}

async fn get_blob(site: &Arc<Site>, asked: &Asked, hash: &str) -> Result<Response<Body>, Fault> {
    let (depot, key) = (Arc::clone(&site.depot), hash.to_owned());
    let is_question = asked.method == Method::HEAD;
    let found = blocking(move || {
        let digest: Digest = format!("sha256:{key}").parse().map_err(|_| Fault::NotFound)?;
        if digest == Digest::of(b"") {
            return Ok(Some(Content::default()));
        }
        if let Some(content) = depot.find(&digest)? {
            return Ok(Some(content));
        }
        // Which function a client uses, its paths do not say.
        depot.find_id(&key.parse::<BlobId>().map_err(|_| Fault::NotFound)?, None)
    });
    let content = match found.await {
        // Whoever asks whether it must come may send it.
        Err(Fault::Busy(_)) if is_question => None,
        found => found?,
    };
    site.metrics.looked_up("bazel", Kind::Blob, content.is_some());
    request::blob(&site.depot, asked, &content.ok_or(Fault::NotFound)?, BINARY).await
}

async fn put_blob(site: &Arc<Site>, mut asked: Asked, hash: &str) -> Result<Response<Body>, Fault> {
    asked.caller.may_write()?;
    let depot = Arc::clone(&site.depot);
    asked.check_length(depot.body_limit_bytes)?;
    let its = Arc::clone(&depot);
    let (caller, length) = (asked.caller.clone(), asked.length());
    let upload = blocking(move || its.begin(&caller, u64::MAX, length)).await?;
    let (upload, received) = body::receive(upload, &mut asked.body).await;
    received?;
    let upload = upload.ok_or_else(|| Fault::Internal("the upload is lost".to_owned()))?;
    let hash = hash.to_owned();
    blocking(move || {
        if upload.digest().hex() != hash && upload.id().to_string() != hash {
            let text = format!("the bytes are {}, and {hash} was announced", upload.digest());
            return Err(Fault::Mismatch(text));
        }
        match upload.id().to_string() == hash {
            true => depot.keep_by_id(upload).map(drop),
            false => depot.keep(upload, None).map(drop),
        }
    })
    .await?;
    Ok(plain(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let hash = "0".repeat(64);
        let check = |path: String, expected| assert_eq!(parse(&path), expected, "{path}");
        check(format!("/ac/{hash}"), Some(("", true, &*hash)));
        check(format!("/cas/{hash}"), Some(("", false, &*hash)));
        check(format!("/a/b/cas/{hash}"), Some(("a/b", false, &*hash)));
        check(format!("/a/other/{hash}"), None);
        check("/ac/0123".to_owned(), None);
        check(format!("/ac/{}", "G".repeat(64)), None);
    }
}
