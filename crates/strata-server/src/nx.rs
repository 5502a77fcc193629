//! The remote cache of Nx (its OpenAPI, version 1): `GET` and `PUT /v1/cache/{hash}`. An entry is
//! never replaced; a token that is not known is 401, one that may only read is 403 on writing.

use std::sync::Arc;

use http::{Method, Response, StatusCode};

use crate::body::{Body, blocking};
use crate::depot::Value;
use crate::fault::Fault;
use crate::request::{Asked, plain};
use crate::site::Site;
use crate::values;

const SPACE: &str = "nx";

pub(crate) async fn answer(site: &Arc<Site>, asked: Asked) -> Result<Response<Body>, Fault> {
    let hash = asked.path.strip_prefix("/v1/cache/").unwrap_or_default().to_owned();
    let is_hash = |byte: u8| byte.is_ascii_alphanumeric();
    if hash.is_empty() || hash.len() > 128 || !hash.bytes().all(is_hash) {
        return Err(Fault::NotFound);
    }
    if values::reads(&asked.method) {
        return values::get(site, "nx", &asked, SPACE, &hash).await;
    }
    if asked.method != Method::PUT {
        return Err(Fault::Method);
    }
    asked.caller.may_write()?;
    let (depot, caller, key) = (Arc::clone(&site.depot), asked.caller.clone(), hash.clone());
    if blocking(move || depot.entry(&caller, SPACE, &key)).await?.is_some() {
        return Err(Fault::Conflict("this hash is there already".to_owned()));
    }
    values::put(site, asked, SPACE, &hash, Value::default()).await?;
    Ok(plain(StatusCode::OK))
}
