//! The head of a request as bytes: whether it is one of those that are answered in front.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use httparse::Header;

use crate::flow::Arriving;

/// So many headers are read in front.
pub(super) const HEADERS: usize = 32;

/// The head of a GET or HEAD of HTTP/1.1 without a body.
pub(crate) struct Head<'h, 'b> {
    /// Whether it is HEAD.
    pub(crate) is_question: bool,
    /// Path and query; begins with `/`.
    pub(crate) target: &'b str,
    pub(crate) headers: &'h [Header<'b>],
    /// Whether the client wants nothing after this.
    pub(crate) closes: bool,
    /// In bytes.
    pub(super) size: usize,
}

/// What bytes are.
pub(super) enum Reading<'h, 'b> {
    /// More must come before it can be said.
    Begun,
    Whole(Head<'h, 'b>),
    /// It is hyper's.
    Other,
}

/// Whether bytes are the beginning of `word`, or begin with it.
fn agree(bytes: &[u8], word: &[u8]) -> bool {
    let both = bytes.len().min(word.len());
    bytes[..both] == word[..both]
}

/// Reads what came so far.
pub(super) fn read<'h, 'b>(
    bytes: &'b [u8],
    headers: &'h mut [Header<'b>; HEADERS],
) -> Reading<'h, 'b> {
    if !agree(bytes, b"GET /") && !agree(bytes, b"HEAD /") {
        return Reading::Other;
    }
    let mut request = httparse::Request::new(headers);
    let size = match request.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Reading::Begun,
        Err(_) => return Reading::Other,
    };
    let (Some(target), Some(1)) = (request.path, request.version) else { return Reading::Other };
    let is_question = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Reading::Other,
    };
    let headers: &'h [Header<'b>] = request.headers;
    let mut closes = None;
    for Header { name, value } in headers {
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {}
            10 if name.eq_ignore_ascii_case("connection") => {
                let is_first = closes.is_none();
                closes = Some(value.eq_ignore_ascii_case(b"close"));
                if !is_first || closes == Some(false) && !value.eq_ignore_ascii_case(b"keep-alive")
                {
                    return Reading::Other;
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") && *value != b"0" => {
                return Reading::Other;
            }
            12 if name.eq_ignore_ascii_case("content-type") => return Reading::Other,
            _ if is_beyond(name) => return Reading::Other,
            _ => {}
        }
    }
    let closes = closes.unwrap_or(false);
    Reading::Whole(Head { is_question, target, headers, closes, size })
}

/// Whether a header may say that there is more than this head.
fn is_beyond(name: &str) -> bool {
    let all = ["transfer-encoding", "expect", "upgrade", "http2-settings", "te", "trailer"];
    all.iter().any(|beyond| beyond.eq_ignore_ascii_case(name))
}

impl Head<'_, '_> {
    /// The headers; `None` where hyper would have another opinion of one.
    pub(crate) fn header_map(&self) -> Option<HeaderMap> {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        for Header { name, value } in self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let value = HeaderValue::from_bytes(value).ok()?;
            // The same length once more is not a second one.
            if name == CONTENT_LENGTH && map.contains_key(&name) {
                continue;
            }
            map.append(name, value);
        }
        Some(map)
    }

    /// The request.
    pub(super) fn request(&self) -> Option<Request<Arriving>> {
        let mut request = Request::new(Arriving::Nothing);
        *request.method_mut() = if self.is_question { Method::HEAD } else { Method::GET };
        *request.uri_mut() = self.target.parse::<Uri>().ok()?;
        *request.headers_mut() = self.header_map()?;
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expected: &str) {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let word = match read(bytes.as_bytes(), &mut headers) {
            Reading::Begun => "begun".to_owned(),
            Reading::Other => "other".to_owned(),
            Reading::Whole(head) => {
                let closes = if head.closes { ", closes" } else { "" };
                format!("{} {} of {}{closes}", head.is_question, head.target, head.size)
            }
        };
        assert_eq!(word, expected, "{bytes:?}");
    }

    #[test]
    fn what_is_read_in_front() {
        let whole = "GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n";
        (0..whole.len()).for_each(|end| check(&whole[..end], "begun"));
        check(whole, "false /a?b of 30");
        check(&format!("{whole}POST / HTTP/1.1"), "false /a?b of 30");
        check("HEAD / HTTP/1.1\r\nConnection: Close\r\n\r\n", "true / of 38, closes");
        check("GET / HTTP/1.1\r\nconnection: keep-alive\r\n\r\n", "false / of 42");
        check("GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", "false / of 37");
    }

    #[test]
    fn what_is_not() {
        for bytes in ["P", "\r\n", "GET  /", "GET http://x/ HTTP/1.1\r\n\r\n", "GET * ", "get /"] {
            check(bytes, "other");
        }
        check("GET / HTTP/1.0\r\n\r\n", "other");
        check("GET / HTTP/1.1\r\nb ad: x\r\n\r\n", "other");
        for header in [
            "content-length: 1",
            "content-length: 00",
            "transfer-encoding: chunked",
            "expect: 100-continue",
            "upgrade: h2c",
            "connection: close, upgrade",
            "connection: close\r\nconnection: close",
            "content-type: application/grpc",
        ] {
            check(&format!("GET / HTTP/1.1\r\n{header}\r\n\r\n"), "other");
        }
        let many = "a: b\r\n".repeat(HEADERS + 1);
        check(&format!("GET / HTTP/1.1\r\n{many}\r\n"), "other");
    }
}
