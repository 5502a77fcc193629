//! Fetches one manifest from one endpoint: the bytes as received, bounded, hashed here, with
//! their media type. Which endpoint, and what to do about failures, is decided elsewhere.

use oci_client::errors::OciEnvelope;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use std::time::{Duration, SystemTime};
use strata_oci::{Digest, ManifestBytes, media_type};

use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::network;
use crate::wire::Wire;

/// The largest manifest that is read, in bytes; the distribution specification asks registries to
/// take manifests of this size.
pub(crate) const LARGEST_MANIFEST_BYTES: usize = 4 << 20;
/// The largest error document that is read.
const LARGEST_ERROR_BYTES: usize = 64 << 10;

/// Asks for `target` (a tag or a digest).
pub(crate) async fn fetch(
    wire: &Wire,
    endpoint: &Endpoint,
    target: &str,
    pinned: Option<Digest>,
) -> Result<ManifestBytes, Failure> {
    let mut response = ask(wire, endpoint, target, Method::GET).await?;
    let bytes = read(&mut response, LARGEST_MANIFEST_BYTES).await?.ok_or_else(|| {
        Failure::Failed("its manifest is larger than 4 MiB, which no image's is".to_owned())
    })?;
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let claimed = header("docker-content-digest").and_then(|text| text.parse().ok());
    let digest = Digest::of(&bytes);
    for expected in [pinned, claimed].into_iter().flatten() {
        if expected != digest {
            return Err(wrong(format!("they hash to {digest} and not to {expected}")));
        }
    }
    let media_type = media_type_of(&bytes, header(CONTENT_TYPE.as_str()).as_deref())?;
    Ok(ManifestBytes { digest, media_type, bytes })
}

/// What `target` stands for now, where the registry says it without sending it.
pub(crate) async fn current(
    wire: &Wire,
    endpoint: &Endpoint,
    target: &str,
) -> Result<Option<Digest>, Failure> {
    let response = ask(wire, endpoint, target, Method::HEAD).await?;
    let digest = response.headers().get("docker-content-digest");
    Ok(digest.and_then(|digest| digest.to_str().ok()?.parse().ok()))
}

async fn ask(
    wire: &Wire,
    endpoint: &Endpoint,
    target: &str,
    method: Method,
) -> Result<Response, Failure> {
    let base = wire.base(endpoint).await?;
    let url = format!("{base}/v2/{}/manifests/{target}", endpoint.repository);
    let accepted = [
        media_type::INDEX,
        media_type::DOCKER_INDEX,
        media_type::MANIFEST,
        media_type::DOCKER_MANIFEST,
    ];
    let mut request = wire.http.request(method, url).header(ACCEPT, accepted.join(", "));
    if let Some(login) = wire.login(endpoint) {
        request = request.header(AUTHORIZATION, login);
    }
    let response = request.send().await.map_err(|error| network::failure(&error))?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    Ok(response)
}

fn wrong(reason: String) -> Failure {
    Failure::Wrong { what: "the manifest".to_owned(), reason }
}

/// What an answer other than a success means.
pub(crate) async fn refusal(mut response: Response) -> Failure {
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = wait.and_then(pause);
    let code = response.status().as_u16();
    // Some registries answer with other statuses than the code that they mean.
    let body = read(&mut response, LARGEST_ERROR_BYTES).await.ok().flatten().unwrap_or_default();
    let limited = serde_json::from_slice(&body).is_ok_and(|envelope: OciEnvelope| {
        let code = envelope.errors.first().map(|error| &error.code);
        code == Some(&oci_client::errors::OciErrorCode::Toomanyrequests)
    });
    Failure::of_status(if limited { 429 } else { code }, &body, wait)
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3); one that has passed is no pause.
fn pause(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    seconds.or_else(|| {
        let date = httpdate::parse_http_date(text.trim()).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    })
}

/// The whole body; None when it is larger than `limit` bytes.
pub(crate) async fn read(
    response: &mut Response,
    limit: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > limit => return Ok(None),
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(Some(bytes)),
            Err(error) => return Err(network::failure(&error)),
        }
    }
}

/// The fields that tell a manifest from an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

/// The document's own word counts first, since its digest covers it; then the header's, where it
/// is one that we know; then the look of it.
fn media_type_of(bytes: &[u8], header: Option<&str>) -> Result<String, Failure> {
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    let shape = is_object.then(|| serde_json::from_slice::<Shape>(bytes).ok()).flatten();
    let shape =
        shape.ok_or_else(|| wrong("they are not a manifest but something else".to_owned()))?;
    if shape.schema_version == 1 {
        let reason = "it has this image only in the format of 2015 (schema 1), which is not read";
        return Err(Failure::Failed(reason.to_owned()));
    }
    if shape.manifests.is_some() && shape.layers.is_some() {
        return Err(wrong("they are a manifest and an index at once".to_owned()));
    }
    if let Some(media_type) = shape.media_type {
        return Ok(media_type);
    }
    let header = header.and_then(|text| text.split(';').next()).map(str::trim);
    let known = [media_type::INDEX, media_type::MANIFEST];
    let docker = [media_type::DOCKER_INDEX, media_type::DOCKER_MANIFEST];
    match header.filter(|header| known.contains(header) || docker.contains(header)) {
        Some(header) => Ok(header.to_owned()),
        None if shape.manifests.is_some() => Ok(media_type::INDEX.to_owned()),
        None if shape.layers.is_some() => Ok(media_type::MANIFEST.to_owned()),
        None => Err(wrong("they are neither a manifest nor an index".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_found() {
        let check = |document: &str, header: Option<&str>, expected: &str| {
            let found = media_type_of(document.as_bytes(), header);
            assert_eq!(found.unwrap_or_else(|failure| failure.summary()), expected, "{document}");
        };
        let typed = r#"{"schemaVersion":2,"mediaType":"x/y"}"#;
        check(typed, Some("text/plain"), "x/y");
        let docker = format!("{}; charset=utf-8", media_type::DOCKER_MANIFEST);
        let plain = r#"{"schemaVersion":2,"layers":[]}"#;
        check(plain, Some(&docker), media_type::DOCKER_MANIFEST);
        check(plain, Some("application/json"), media_type::MANIFEST);
        check(r#"{"schemaVersion":2,"manifests":[]}"#, None, media_type::INDEX);
        check("<html>", Some("text/html"), "they are not a manifest but something else");
        check(r#"[2, "x/y"]"#, None, "they are not a manifest but something else");
        check("{}", None, "they are neither a manifest nor an index");
        check(r#"{"manifests":[],"layers":[]}"#, None, "they are a manifest and an index at once");
        check(
            r#"{"schemaVersion":1}"#,
            None,
            "it has this image only in the format of 2015 (schema 1), which is not read",
        );
    }
}
