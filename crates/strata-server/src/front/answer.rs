//! Answers as bytes, exactly as hyper writes them.

use std::cell::Cell;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{StatusCode, response::Parts};

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Nothing,
    Known(u64),
    Unknown,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// It is left out.
    None,
    Plain,
    Chunked,
}

/// Writes a head, but for its date and its end.
pub(super) fn head(out: &mut Vec<u8>, parts: &Parts, length: Length, is_question: bool) -> Framing {
    let status = parts.status;
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("<none>").as_bytes());
    out.extend_from_slice(b"\r\n");
    let can_have_length = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut has_length = false;
    for (name, value) in &parts.headers {
        if name == TRANSFER_ENCODING {
            continue;
        }
        if name == CONTENT_LENGTH {
            if has_length || length == Length::Nothing && !is_question {
                continue;
            }
            has_length = true;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let has_body = !is_question && can_have_length && length != Length::Nothing;
    let mut framing = if has_body { Framing::Plain } else { Framing::None };
    match length {
        _ if has_length => {}
        Length::Nothing | Length::Known(0) if can_have_length && !is_question => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        Length::Known(size) if size > 0 && can_have_length => {
            // It can not fail.
            let _ = write!(out, "content-length: {size}\r\n");
        }
        Length::Unknown if has_body => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            framing = Framing::Chunked;
        }
        _ => {}
    }
    framing
}

type Date = [u8; 29];

/// Writes the date and the end of a head.
pub(super) fn end_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(&date());
    out.extend_from_slice(b"\r\n\r\n");
}

/// It is the same for a second.
fn date() -> Date {
    thread_local! {
        static LAST: Cell<(u64, Date)> = const { Cell::new((u64::MAX, [0; 29])) };
    }
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (last, date) = LAST.get();
    if last == seconds {
        return date;
    }
    let text = httpdate::fmt_http_date(now);
    let date = text.as_bytes().try_into().unwrap_or(*b"Thu, 01 Jan 1970 00:00:00 GMT");
    LAST.set((seconds, date));
    date
}
