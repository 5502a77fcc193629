//! Requests and answers, as the HTTP protocols here read and write them.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use crate::access::Caller;
use crate::body::{self, Body};
use crate::depot::{Content, Depot};
use crate::fault::Fault;
use crate::flow::Inbound;

/// A request, read as far as every protocol wants it.
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Decoded; it begins with `/`.
    pub(crate) path: String,
    query: Vec<(String, String)>,
    /// The host that the request itself names (HTTP/2).
    pub(crate) authority: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Inbound,
    pub(crate) caller: Caller,
}

impl Asked {
    /// Reads a request's head.
    ///
    /// # Errors
    ///
    /// For a path that no client of any protocol sends.
    pub(crate) fn new(request: Request<Inbound>, caller: Caller) -> Result<Self, Fault> {
        let (head, body) = request.into_parts();
        let path = decode(head.uri.path())?;
        let query = head.uri.query().unwrap_or_default().split('&').filter(|one| !one.is_empty());
        let pair = |one: &str| {
            let (name, value) = one.split_once('=').unwrap_or((one, ""));
            Ok((decode_word(name)?, decode_word(&value.replace('+', " "))?))
        };
        let query = query.map(pair).collect::<Result<Vec<_>, Fault>>()?;
        let authority = head.uri.authority().map(ToString::to_string);
        let (method, headers) = (head.method, head.headers);
        Ok(Self { method, path, query, authority, headers, body, caller })
    }

    /// A parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// A header, where it is text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The length that the body is said to have.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH).and_then(|text| text.parse().ok())
    }

    /// Refuses a body that says itself that it is too large.
    pub(crate) fn check_length(&self, limit: u64) -> Result<(), Fault> {
        match self.length() {
            Some(length) if length > limit => Err(Fault::TooLarge { limit }),
            _ => Ok(()),
        }
    }
}

fn decode_word(text: &str) -> Result<String, Fault> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| Fault::invalid("the query is not UTF-8"))?;
    if decoded.contains('\0') {
        return Err(Fault::invalid("the query has a NUL in it"));
    }
    Ok(decoded.into_owned())
}

/// A path without anything in it that could mean another one.
fn decode(path: &str) -> Result<String, Fault> {
    let decoded = percent_decode_str(path).decode_utf8();
    let decoded = decoded.map_err(|_| Fault::invalid("the path is not UTF-8"))?;
    let is_strange = |part: &str| part == "." || part == "..";
    if decoded.len() > 2048
        || decoded.chars().any(char::is_control)
        || decoded.contains('\\')
        || decoded.split('/').any(is_strange)
    {
        return Err(Fault::invalid("the path is none that is served here"));
    }
    Ok(decoded.into_owned())
}

/// An answer without a body.
pub(crate) fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

/// An answer with a body of this type.
pub(crate) fn with_body(
    status: StatusCode,
    content_type: &str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(body::full(bytes));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, content_type);
    response
}

/// Sets a header; a value that can be none is left out.
pub(crate) fn set(
    response: &mut Response<Body>,
    name: impl http::header::IntoHeaderName,
    value: &str,
) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A fault in plain words, as the protocols have it that have no form of their own.
pub(crate) fn refuse(fault: &Fault) -> Response<Body> {
    let mut response = with_body(fault.status(), "text/plain; charset=utf-8", format!("{fault}\n"));
    excuse(&mut response, fault);
    response
}

/// The headers that say what a client can do about a fault.
pub(crate) fn excuse(response: &mut Response<Body>, fault: &Fault) {
    if matches!(fault, Fault::Unauthorized) {
        set(response, WWW_AUTHENTICATE, "Basic realm=\"strata\"");
    }
    if let Some(seconds) = fault.retry_after() {
        set(response, RETRY_AFTER, &seconds.to_string());
    }
}

/// A blob as an answer: all of it, or the range that is asked for; no bytes for HEAD.
pub(crate) async fn blob(
    depot: &Arc<Depot>,
    asked: &Asked,
    content: &Content,
    content_type: &str,
) -> Result<Response<Body>, Fault> {
    let size = content.size;
    let range = match asked.header(RANGE) {
        Some(text) if asked.method == Method::GET => range_of(text, size)?,
        _ => None,
    };
    let (start, end) = range.unwrap_or((0, size));
    let body = match asked.method == Method::HEAD {
        true => body::empty(),
        false => body::send(depot, content, (start, end)).await?,
    };
    let mut response = Response::new(body);
    set(&mut response, CONTENT_TYPE, content_type);
    set(&mut response, CONTENT_LENGTH, &(end - start).to_string());
    set(&mut response, ACCEPT_RANGES, "bytes");
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut response, CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
    }
    Ok(response)
}

/// `bytes=0-9`, `bytes=5-`, `bytes=-5` (RFC 9110, 14.2); several ranges are answered with all.
pub(crate) fn range_of(text: &str, size: u64) -> Result<Option<(u64, u64)>, Fault> {
    let Some(spec) = text.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.split_once('-') else { return Ok(None) };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (start, end) = match (number(first), number(last)) {
        // RFC 9110, 14.2: it may be ignored or refused.
        (Some(start), Some(last)) if last < start => return Err(Fault::Range),
        (Some(start), Some(last)) => (start, last.saturating_add(1).min(size)),
        (Some(start), None) if last.trim().is_empty() => (start, size),
        (None, Some(count)) if first.trim().is_empty() => (size.saturating_sub(count), size),
        _ => return Ok(None),
    };
    if start >= end { Err(Fault::Range) } else { Ok(Some((start, end))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |text, expected: Option<(u64, u64)>| {
            assert_eq!(range_of(text, 10).expect(text), expected, "{text}");
        };
        check("bytes=0-3", Some((0, 4)));
        check("bytes=4-", Some((4, 10)));
        check("bytes=-3", Some((7, 10)));
        check("bytes=-30", Some((0, 10)));
        check("bytes=8-99", Some((8, 10)));
        for all in ["bytes=0-1,4-5", "lines=1-2", "bytes=x-", "bytes=-"] {
            check(all, None);
        }
        assert!(matches!(range_of("bytes=10-", 10), Err(Fault::Range)));
        assert!(matches!(range_of("bytes=3-1", 10), Err(Fault::Range)));
        assert!(matches!(range_of("bytes=-0", 10), Err(Fault::Range)));
        assert!(matches!(range_of("bytes=0-", 0), Err(Fault::Range)));
    }

    #[test]
    fn paths_that_lead_nowhere() {
        for bad in ["/a/../b", "/%2e%2e/x", "/a%00b", "/a%5cb", "/./a", "/a%0ab", "/%ff"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
        assert_eq!(decode("/a%3Ab/c").expect("fine"), "/a:b/c");
    }
}
