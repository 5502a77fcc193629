//! The remote cache of Turborepo (its OpenAPI, version 8): artifacts by hash, one space for each
//! team. Duration and tag (an HMAC that only clients know) come back as they were sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
};
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::body::{self, Body, blocking};
use crate::depot::Value;
use crate::fault::Fault;
use crate::request::{Asked, plain, set, with_body};
use crate::site::Site;
use crate::values;

/// What is kept beside an artifact and sent back with it.
const ECHOED: [&str; 3] = ["x-artifact-duration", "x-artifact-tag", "x-artifact-sha"];
const QUERY_LIMIT_BYTES: usize = 1 << 20;

/// Under `TURBO_PREFLIGHT` the client asks first, and sends its token only where it may.
pub(crate) fn preflight() -> Response<Body> {
    let mut response = plain(StatusCode::OK);
    let headers = "Authorization, User-Agent, Content-Type, x-artifact-client-ci, \
        x-artifact-client-interactive, x-artifact-duration, x-artifact-tag";
    set(&mut response, ACCESS_CONTROL_ALLOW_HEADERS, headers);
    set(&mut response, ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, PUT, POST, OPTIONS");
    set(&mut response, ACCESS_CONTROL_MAX_AGE, "86400");
    response
}

pub(crate) async fn answer(site: &Arc<Site>, asked: Asked) -> Result<Response<Body>, Fault> {
    let team = asked.parameter("teamId").or(asked.parameter("slug")).unwrap_or("none");
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if team.len() > 128 || team.is_empty() || !team.bytes().all(is_name) {
        return Err(Fault::invalid("this is no team's name"));
    }
    let space = format!("turbo/{team}");
    let rest = asked.path.strip_prefix("/v8/artifacts").unwrap_or_default().trim_start_matches('/');
    let rest = rest.to_owned();
    match (&asked.method, &*rest) {
        (&Method::GET, "status") => json_of(&json!({ "status": "enabled" })),
        // What a client tells of its hits is its own matter.
        (&Method::POST, "events") => Ok(plain(StatusCode::OK)),
        (&Method::POST, "") => query(site, asked, space).await,
        (_, hash) if !hash.is_empty() && hash.len() <= 128 && hash.bytes().all(is_name) => {
            artifact(site, asked, &space, hash).await
        }
        _ => Err(Fault::NotFound),
    }
}

async fn artifact(
    site: &Arc<Site>,
    asked: Asked,
    space: &str,
    hash: &str,
) -> Result<Response<Body>, Fault> {
    if values::reads(&asked.method) {
        return values::get(site, "turbo", &asked, space, hash).await;
    }
    if asked.method != Method::PUT {
        return Err(Fault::Method);
    }
    let kept = ECHOED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), asked.header(*name)?.to_owned())));
    let value = Value { attributes: kept.collect::<BTreeMap<_, _>>(), ..Value::default() };
    values::put(site, asked, space, hash, value).await?;
    json_of(&json!({ "urls": [] }))
}

#[derive(Deserialize)]
struct Query {
    hashes: Vec<String>,
}

/// Which of these artifacts are there.
async fn query(site: &Arc<Site>, mut asked: Asked, space: String) -> Result<Response<Body>, Fault> {
    let body = body::collect(&mut asked.body, QUERY_LIMIT_BYTES).await?;
    let query: Query =
        serde_json::from_slice(&body).map_err(|error| Fault::Invalid(error.to_string()))?;
    let depot = Arc::clone(&site.depot);
    let found = blocking(move || {
        let mut found = serde_json::Map::new();
        for hash in query.hashes {
            let entry = depot.entry(&asked.caller, &space, &hash)?;
            let about = entry.map(|entry| {
                let duration = entry.attributes.get("x-artifact-duration");
                let millis = duration.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                json!({
                    "size": entry.size,
                    "taskDurationMs": millis,
                    "tag": entry.attributes.get("x-artifact-tag"),
                })
            });
            found.insert(hash, about.unwrap_or(serde_json::Value::Null));
        }
        Ok(serde_json::Value::Object(found))
    });
    json_of(&found.await?)
}

fn json_of(value: &serde_json::Value) -> Result<Response<Body>, Fault> {
    Ok(with_body(StatusCode::OK, "application/json", value.to_string()))
}
