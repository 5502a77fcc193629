//! The OCI distribution specification 1.1: images are pulled, pushed, listed and deleted, and the
//! store's own images are there as if they had been pushed.
//!
//! A repository's tags and manifests are entries that stay until they are deleted; blobs are the
//! store's, by their SHA-256, kept once however many repositories have them.

mod blobs;
mod manifests;
pub(crate) mod mirror;
mod path;
mod uploads;

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde_json::json;
use strata_oci::{Digest, Reference};

use crate::body::Body;
use crate::fault::Fault;
use crate::request::{Asked, excuse, set, with_body};
use crate::site::Site;

pub(crate) use uploads::Uploads;

use path::{Place, place};

const JSON: &str = "application/json";

/// Answers a request below `/v2/`.
pub(crate) async fn answer(site: &Arc<Site>, asked: Asked) -> Result<Response<Body>, Fault> {
    let found = path_of(&asked);
    let place = place(&found)?;
    check_writes(site, &asked, &place)?;
    let mut response = match (place, asked.method.as_str()) {
        (Place::Root, "GET" | "HEAD") => with_body(StatusCode::OK, JSON, "{}"),
        (Place::Catalog, "GET") => manifests::catalog(site, &asked).await?,
        (Place::Tags { name }, "GET") => manifests::tags(site, &asked, name).await?,
        (Place::Referrers { name, digest }, "GET") => {
            manifests::referrers(site, &asked, name, digest).await?
        }
        (Place::Manifest { name, reference }, "GET" | "HEAD") => {
            manifests::get(site, &asked, name, reference).await?
        }
        (Place::Manifest { name, reference }, "PUT") => {
            manifests::put(site, asked, name, reference).await?
        }
        (Place::Manifest { name, reference }, "DELETE") => {
            manifests::delete(site, asked, name, reference).await?
        }
        (Place::Blob { name, digest }, "GET" | "HEAD") => {
            blobs::get(site, &asked, name, digest).await?
        }
        (Place::Uploads { name }, "POST") => uploads::post(site, asked, name).await?,
        (Place::Upload { name, id }, "PATCH") => uploads::patch(site, asked, name, id).await?,
        (Place::Upload { name, id }, "PUT") => uploads::put(site, asked, name, id).await?,
        (Place::Upload { name, id }, "GET") => uploads::status(site, &asked, name, id).await?,
        (Place::Upload { name, id }, "DELETE") => uploads::cancel(site, &asked, name, id)?,
        _ => return Err(Fault::Method),
    };
    set(&mut response, "docker-distribution-api-version", "registry/2.0");
    Ok(response)
}

/// The path, with the registry before the repository's name where the client says that it asks
/// us in that one's place (`?ns=docker.io`, containerd).
fn path_of(asked: &Asked) -> String {
    let rest = asked.path.strip_prefix("/v2/").filter(|rest| !rest.is_empty());
    match (asked.parameter("ns"), rest) {
        (Some(registry), Some(rest)) if asked.method == Method::GET || is_head(asked) => {
            format!("/v2/{registry}/{rest}")
        }
        _ => asked.path.clone(),
    }
}

/// What passes through is the other registry's to change.
fn check_writes(site: &Site, asked: &Asked, place: &Place<'_>) -> Result<(), Fault> {
    let name = match place {
        Place::Uploads { name } | Place::Upload { name, .. } | Place::Manifest { name, .. } => name,
        _ => return Ok(()),
    };
    let is_named = || site.mirrors.passing(name).is_some_and(|passing| passing.is_named);
    if asked.method != Method::GET && !is_head(asked) && is_named() {
        asked.caller.may_write()?;
        return Err(Fault::Denied(format!("`{name}` is another registry's, whose mirror this is")));
    }
    Ok(())
}

/// A fault as the specification wants it: a code of its list, and words.
pub(crate) fn refuse(fault: &Fault) -> Response<Body> {
    let code = match fault {
        Fault::NotFound => "NAME_UNKNOWN",
        Fault::Unauthorized => "UNAUTHORIZED",
        Fault::Denied(_) => "DENIED",
        Fault::Invalid(text) => code_of(text).unwrap_or("UNSUPPORTED"),
        Fault::Mismatch(_) => "DIGEST_INVALID",
        Fault::TooLarge { .. } => "SIZE_INVALID",
        Fault::Conflict(_) | Fault::Range | Fault::Broken(_) => "BLOB_UPLOAD_INVALID",
        Fault::Method => "UNSUPPORTED",
        Fault::NoRoom(_) | Fault::Busy(_) | Fault::TooMany { .. } => "TOOMANYREQUESTS",
        // Clients show its words at once, and do not try again.
        Fault::Quota(_) => "DENIED",
        Fault::Upstream(_) | Fault::Internal(_) => "UNKNOWN",
    };
    let message = match fault {
        Fault::Invalid(text) => text.split_once(": ").map_or(&**text, |(_, rest)| rest).to_owned(),
        fault => fault.to_string(),
    };
    let status = match (fault, code) {
        (Fault::Invalid(_), code)
            if code.ends_with("_UNKNOWN") && code != "MANIFEST_BLOB_UNKNOWN" =>
        {
            StatusCode::NOT_FOUND
        }
        (Fault::Quota(_), _) => StatusCode::FORBIDDEN,
        (fault, _) => fault.status(),
    };
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    let mut response = with_body(status, JSON, body.to_string());
    set(&mut response, "docker-distribution-api-version", "registry/2.0");
    excuse(&mut response, fault);
    response
}

/// The codes of the specification; a fault's text begins with one where it has its own.
const CODES: [&str; 9] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "SIZE_INVALID",
];

fn code_of(text: &str) -> Option<&'static str> {
    let (code, _) = text.split_once(": ")?;
    CODES.iter().find(|known| **known == code).copied()
}

fn fault(code: &'static str, text: impl std::fmt::Display) -> Fault {
    Fault::Invalid(format!("{code}: {text}"))
}

fn digest_of(text: &str) -> Result<Digest, Fault> {
    text.parse().map_err(|error| fault("DIGEST_INVALID", error))
}

/// The store's name for an image of this repository, if it can be one.
fn reference_of(name: &str, tag: &str) -> Option<Reference> {
    format!("{name}:{tag}").parse().ok()
}

/// Whether a method only looks.
fn is_head(asked: &Asked) -> bool {
    asked.method == Method::HEAD
}
