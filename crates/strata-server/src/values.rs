//! Plain values under keys of the client's own (ccache, Gradle, and whoever speaks HTTP), and the
//! part of WebDAV that sccache needs: `/cache/SPACE/KEY`, where both are up to the client.
//!
//! A key is a name in a table and never a path: nothing that it can say leads anywhere else.

use std::sync::Arc;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Response, StatusCode};

use crate::body::{self, Body, blocking, brief};
use crate::depot::{Content, Value};
use crate::fault::Fault;
use crate::metrics::Kind;
use crate::ready::Seed;
use crate::request::{self, Asked, plain, set, with_body};
use crate::site::Site;

const PROTOCOL: &str = "values";
const BINARY: &str = "application/octet-stream";
const KEY_LIMIT_BYTES: usize = 1024;

pub(crate) async fn answer(site: &Arc<Site>, asked: Asked) -> Result<Response<Body>, Fault> {
    let rest = asked.path.strip_prefix("/cache/").ok_or(Fault::NotFound)?;
    let (space, key) = rest.split_once('/').unwrap_or((rest, ""));
    if space.is_empty() || key.len() > KEY_LIMIT_BYTES || key.starts_with('/') || key.contains("//")
    {
        return Err(Fault::invalid("a key is `/cache/SPACE/KEY`, 1024 bytes at most"));
    }
    let (space, key) = (format!("values/{space}"), key.to_owned());
    match asked.method.as_str() {
        "PROPFIND" => find(site, &asked, &space, &key).await,
        // Directories are there as soon as somebody asks.
        "MKCOL" => asked.caller.may_write().map(|()| plain(StatusCode::CREATED)),
        "OPTIONS" => {
            let mut response = plain(StatusCode::OK);
            set(&mut response, ALLOW, "GET, HEAD, PUT, DELETE, OPTIONS, PROPFIND, MKCOL");
            set(&mut response, "dav", "1");
            Ok(response)
        }
        _ if key.is_empty() || key.ends_with('/') => Err(Fault::NotFound),
        "GET" | "HEAD" => get(site, PROTOCOL, &asked, &space, &key).await,
        "PUT" => {
            let stored = put(site, asked, &space, &key, Value::default()).await?;
            Ok(plain(if stored { StatusCode::CREATED } else { StatusCode::NO_CONTENT }))
        }
        "DELETE" => {
            asked.caller.may_write()?;
            let depot = Arc::clone(&site.depot);
            let was = blocking(move || depot.remove_entry(&asked.caller, &space, &key)).await?;
            if was { Ok(plain(StatusCode::NO_CONTENT)) } else { Err(Fault::NotFound) }
        }
        _ => Err(Fault::Method),
    }
}

/// The value under a key.
pub(crate) async fn get(
    site: &Arc<Site>,
    protocol: &'static str,
    asked: &Asked,
    space: &str,
    key: &str,
) -> Result<Response<Body>, Fault> {
    let (depot, caller) = (Arc::clone(&site.depot), asked.caller.clone());
    let (space, key) = (space.to_owned(), key.to_owned());
    let its = Arc::clone(&depot);
    let found = brief(&its, move || depot.entry_to_keep(&caller, &space, &key)).await?;
    site.metrics.looked_up(protocol, Kind::Entry, found.is_some());
    let Some((entry, glance)) = found else { return Err(Fault::NotFound) };
    let content = Content::of_entry(&entry);
    let kind = entry.attributes.get("content-type").map_or(BINARY, String::as_str);
    let mut response = request::blob(&site.depot, asked, &content, kind).await?;
    for (name, value) in &entry.attributes {
        if let Ok(name) = name.parse::<http::HeaderName>() {
            set(&mut response, name, value);
        }
    }
    if let Some(glance) = glance.filter(|_| asked.body.is_for_front()) {
        let caller = asked.caller.clone();
        response.extensions_mut().insert(Seed { protocol, caller, glance });
    }
    Ok(response)
}

/// Puts a value under a key; says whether the key is a new one.
pub(crate) async fn put(
    site: &Arc<Site>,
    mut asked: Asked,
    space: &str,
    key: &str,
    mut value: Value,
) -> Result<bool, Fault> {
    asked.caller.may_write()?;
    let depot = Arc::clone(&site.depot);
    asked.check_length(depot.body_limit_bytes)?;
    if let Some(kind) = asked.header(CONTENT_TYPE) {
        value.attributes.insert("content-type".to_owned(), kind.to_owned());
    }
    let length = asked.length();
    let upload = blocking({
        let (depot, caller) = (Arc::clone(&depot), asked.caller.clone());
        move || depot.begin_bare(&caller, u64::MAX, length)
    });
    let (upload, received) = body::receive(upload.await?, &mut asked.body).await;
    received?;
    let Some(upload) = upload else { return Err(Fault::Internal("it is lost".to_owned())) };
    if length.is_some_and(|length| length != upload.size()) {
        return Err(Fault::Mismatch("the body is shorter than it was said to be".to_owned()));
    }
    let (space, key) = (space.to_owned(), key.to_owned());
    blocking(move || {
        let is_new = depot.entry(&asked.caller, &space, &key)?.is_none();
        let kept = depot.keep_bare(upload)?;
        depot.set_entry(&asked.caller, (&space, &key), kept, value)?;
        Ok(is_new)
    })
    .await
}

/// What WebDAV calls properties, of the thing itself and not of what is in it.
async fn find(
    site: &Arc<Site>,
    asked: &Asked,
    space: &str,
    key: &str,
) -> Result<Response<Body>, Fault> {
    let is_collection = key.is_empty() || key.ends_with('/');
    let (depot, caller) = (Arc::clone(&site.depot), asked.caller.clone());
    let (space, key) = (space.to_owned(), key.to_owned());
    let entry = match is_collection {
        true => None,
        false => blocking(move || depot.entry(&caller, &space, &key)).await?,
    };
    let properties = match &entry {
        Some(entry) => format!(
            "<D:resourcetype/><D:getcontentlength>{}</D:getcontentlength>\
             <D:getlastmodified>{}</D:getlastmodified>",
            entry.size,
            date(entry.written)
        ),
        None if is_collection => format!(
            "<D:resourcetype><D:collection/></D:resourcetype>\
             <D:getlastmodified>{}</D:getlastmodified>",
            date(0)
        ),
        None => return Err(Fault::NotFound),
    };
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:multistatus xmlns:D=\"DAV:\"><D:response>\
         <D:href>{}</D:href><D:propstat><D:prop>{properties}</D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>",
        escape(&asked.path)
    );
    Ok(with_body(StatusCode::MULTI_STATUS, "application/xml; charset=utf-8", text))
}

fn date(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    httpdate::fmt_http_date(time)
}

fn escape(text: &str) -> String {
    let replace = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;")];
    replace.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Whether a request reads.
pub(crate) fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
