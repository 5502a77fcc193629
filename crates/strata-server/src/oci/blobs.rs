//! Blobs on their way out.

use std::sync::Arc;

use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};

use super::mirror::Passed;
use super::{digest_of, fault, is_head};
use crate::body::{self, Body, brief};
use crate::fault::Fault;
use crate::metrics::Kind;
use crate::request::{self, Asked, set};
use crate::site::Site;

const BINARY: &str = "application/octet-stream";

/// All of a blob that is not here.
fn coming(size: u64, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    set(&mut response, CONTENT_TYPE, BINARY);
    set(&mut response, CONTENT_LENGTH, &size.to_string());
    response
}

pub(super) async fn get(
    site: &Arc<Site>,
    asked: &Asked,
    name: &str,
    digest: &str,
) -> Result<Response<Body>, Fault> {
    let digest = digest_of(digest)?;
    let found = match site.mirrors.passing(name) {
        None => None,
        Some(passing) => site.way().blob(&passing, asked, digest).await?,
    };
    let found = match found {
        Some(found) => Some(found),
        None => {
            let depot = Arc::clone(&site.depot);
            let is_question = is_head(asked);
            let find = move || match is_question {
                // Whoever asks whether it must come may send it.
                true => depot.find_if_answered(&digest),
                false => depot.find(&digest),
            };
            brief(&site.depot, find).await?.map(Passed::Here)
        }
    };
    let is_hit = matches!(found, Some(Passed::Here(_)));
    site.metrics.looked_up("oci", Kind::Blob, is_hit);
    let mut response = match found {
        Some(Passed::Here(content)) => request::blob(&site.depot, asked, &content, BINARY).await?,
        Some(Passed::There(size)) => coming(size, body::empty()),
        Some(Passed::Coming(size, body)) => coming(size, body),
        None => return Err(fault("BLOB_UNKNOWN", format!("{digest} is not here"))),
    };
    set(&mut response, "docker-content-digest", &digest.to_string());
    set(&mut response, ETAG, &format!("\"{digest}\""));
    Ok(response)
}
