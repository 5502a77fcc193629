//! Blobs on their way out.

use std::sync::Arc;

use http::Response;
use http::header::ETAG;

use super::{digest_of, fault};
use crate::body::{Body, brief};
use crate::fault::Fault;
use crate::metrics::Kind;
use crate::request::{self, Asked, set};
use crate::site::Site;

pub(super) async fn get(
    site: &Arc<Site>,
    asked: &Asked,
    digest: &str,
) -> Result<Response<Body>, Fault> {
    let digest = digest_of(digest)?;
    let depot = Arc::clone(&site.depot);
    let found = brief(&site.depot, move || depot.find(&digest)).await?;
    site.metrics.looked_up("oci", Kind::Blob, found.is_some());
    let content = found.ok_or_else(|| fault("BLOB_UNKNOWN", format!("{digest} is not here")))?;
    let kind = "application/octet-stream";
    let mut response = request::blob(&site.depot, asked, &content, kind).await?;
    set(&mut response, "docker-content-digest", &digest.to_string());
    set(&mut response, ETAG, &format!("\"{digest}\""));
    Ok(response)
}
