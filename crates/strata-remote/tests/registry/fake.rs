//! The fake registry: a thread per connection, hand-written HTTP, one answer per connection.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use strata_oci::{Descriptor, Reference, Registry, RegistryError, media_type};
use strata_remote::{RegistrySettings, RemoteRegistry, Retries, Timeouts};

/// A request as the fake saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The path without its query.
    pub(crate) fn place(&self) -> &str {
        self.path.split('?').next().unwrap_or(&self.path)
    }

    /// A value of the query, as it is written there.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.path.split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
        Some(value.replace("%3A", ":").replace("%2F", "/"))
    }

    /// The offset of a `Range: bytes=N-`.
    pub(crate) fn offset(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }

    fn read(stream: &mut dyn Read) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, path, headers, body: Vec::new() };
        let length = request.header("content-length").and_then(|text| text.parse().ok());
        // One that breaks off has said something all the same.
        request.body = match request.header("transfer-encoding") {
            Some("chunked") => chunks(&mut reader),
            _ => part(&mut reader, length.unwrap_or(0)),
        };
        Some(request)
    }
}

fn part(reader: &mut dyn Read, length: u64) -> Vec<u8> {
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).expect("read");
    body
}

/// The chunks of a body, up to the last one or the end.
fn chunks(reader: &mut dyn BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        let size = reader.read_line(&mut line).ok().and(u64::from_str_radix(line.trim(), 16).ok());
        let Some(size @ 1..) = size else { return body };
        body.extend(part(reader, size));
        part(reader, 2);
    }
}

/// How long a server is silent that is to be given up.
const STALL: Duration = Duration::from_millis(2000);

/// An answer, byte for byte, and a pause before the connection closes.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    stall: Duration,
}

impl Reply {
    /// A proper answer.
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        Self::short(status, headers, body, body.len())
    }

    /// An answer that promises the whole body and sends a part of it.
    pub(crate) fn short(status: u16, headers: &[(&str, &str)], body: &[u8], part: usize) -> Self {
        let length = body.len().to_string();
        let headers = [headers, &[("content-length", length.as_str())]].concat();
        Self::unsized_body(status, &headers, &body[..part])
    }

    /// An answer whose end is the end of the connection.
    pub(crate) fn unsized_body(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut head = format!("HTTP/1.1 {status} Whatever\r\nconnection: close\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("a string grows");
        }
        Self::raw(&[head.as_bytes(), b"\r\n", body].concat())
    }

    /// A chunked answer; without its last chunk, if `truncated`.
    pub(crate) fn chunked(headers: &[(&str, &str)], body: &[u8], truncated: bool) -> Self {
        let mut chunks = Vec::new();
        for chunk in body.chunks(1000) {
            chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunks.extend_from_slice(chunk);
            chunks.extend_from_slice(b"\r\n");
        }
        if !truncated {
            chunks.extend_from_slice(b"0\r\n\r\n");
        }
        let headers = [headers, &[("transfer-encoding", "chunked")]].concat();
        Self::unsized_body(200, &headers, &chunks)
    }

    /// An answer without a body, whatever its headers say of one.
    pub(crate) fn bare(status: u16, headers: &[(&str, &str)]) -> Self {
        Self::unsized_body(status, headers, b"")
    }

    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), stall: Duration::ZERO }
    }

    /// Whether a client has to give it up.
    pub(crate) fn stalls(&self) -> bool {
        !self.stall.is_zero()
    }

    /// The same, but the connection stays open and silent for a while.
    pub(crate) fn then_stall(self) -> Self {
        Self { stall: STALL, ..self }
    }
}

type Answer = dyn Fn(&Request, usize) -> Option<Reply> + Send + Sync;
type Wrap = dyn Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync;

/// A connection, encrypted or not.
pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A server on a port of its own. It lives as long as the test's process.
pub(crate) struct Fake {
    pub(crate) host: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// Answers with what the closure says, given the request and how many came for its path
    /// before. Where it says nothing, `/v2/` is fine and all else is 404.
    pub(crate) fn start(
        answer: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start_wrapped(|stream| Some(Box::new(stream)), answer)
    }

    pub(crate) fn start_wrapped(
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync + 'static,
        answer: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, wrap): (Arc<Answer>, Arc<Wrap>) = (Arc::new(answer), Arc::new(wrap));
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, wrap, log) =
                    (Arc::clone(&answer), Arc::clone(&wrap), Arc::clone(&kept));
                thread::spawn(move || serve(stream, &*wrap, &*answer, &log));
            }
        });
        Self { host, log }
    }

    /// The requests so far, but for probes of `/v2/`.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let log = self.log.lock().expect("no panic while logging");
        log.iter().filter(|request| request.path != "/v2/").cloned().collect()
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host).parse().expect("a name")
    }
}

fn serve(stream: TcpStream, wrap: &Wrap, answer: &Answer, log: &Mutex<Vec<Request>>) -> Option<()> {
    let mut stream = wrap(stream)?;
    let request = Request::read(&mut stream)?;
    let before = {
        let mut log = log.lock().expect("no panic while logging");
        let before = log.iter().filter(|other| other.path == request.path).count();
        log.push(request.clone());
        before
    };
    let reply = answer(&request, before).unwrap_or_else(|| match request.path.as_str() {
        "/v2/" => Reply::new(200, &[], b"{}"),
        _ => Reply::new(404, &[], br#"{"errors":[{"code":"NAME_UNKNOWN","message":"?"}]}"#),
    });
    stream.write_all(&reply.bytes).ok()?;
    stream.flush().ok()?;
    thread::sleep(reply.stall);
    Some(())
}

pub(crate) const MANIFEST: &[u8] = br#"{"schemaVersion":2,
    "mediaType":"application/vnd.oci.image.manifest.v1+json", "layers":[ ] }"#;

/// The answer with a manifest as every registry gives it.
pub(crate) fn manifest_reply() -> Reply {
    Reply::new(200, &[("content-type", media_type::MANIFEST)], MANIFEST)
}

pub(crate) fn json(status: u16, text: &str) -> Reply {
    Reply::new(status, &[("content-type", "application/json")], text.as_bytes())
}

/// Settings that lose no time between tries, and give a busy machine all it needs for an answer.
pub(crate) fn settings() -> RegistrySettings {
    let milliseconds = Duration::from_millis;
    RegistrySettings {
        timeouts: Timeouts { connect: milliseconds(20_000), idle: milliseconds(20_000) },
        retries: Retries {
            count: 3,
            pause: milliseconds(2),
            longest_pause: milliseconds(1500),
            ..Retries::default()
        },
        ..RegistrySettings::default()
    }
}

/// Settings that give a silent server up, for tests with one: half as long as
/// [`Reply::then_stall`] is silent.
pub(crate) fn impatient() -> RegistrySettings {
    let idle = STALL / 2;
    RegistrySettings { timeouts: Timeouts { idle, ..settings().timeouts }, ..settings() }
}

pub(crate) fn registry(settings: RegistrySettings) -> RemoteRegistry {
    RemoteRegistry::new(settings).expect("settings make sense")
}

/// Some bytes that are like no others, and their description.
pub(crate) fn some_blob(length: usize) -> (Vec<u8>, Descriptor) {
    let bytes = (0_u32..).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    let bytes: Vec<u8> = bytes.take(length).collect();
    let descriptor = Descriptor::of("application/octet-stream", &bytes);
    (bytes, descriptor)
}

/// Pulls a blob; what arrived in the sink, and how it ended.
pub(crate) fn pull(
    registry: &RemoteRegistry,
    reference: &Reference,
    blob: &Descriptor,
) -> (Vec<u8>, Result<(), RegistryError>) {
    let (mut sink, mut last) = (Vec::new(), 0);
    let mut progress = |bytes| {
        assert!(bytes > last, "progress goes forward");
        last = bytes;
    };
    let outcome = registry.blob(reference, blob, &mut sink, &mut progress);
    assert_eq!(last, sink.len() as u64);
    (sink, outcome)
}
