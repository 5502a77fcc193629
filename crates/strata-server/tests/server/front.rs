//! What is answered before hyper: the same bytes as hyper's, whatever comes and however it is cut.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use strata_server::{Anonymous, ServeTable, TokenTable};

use crate::client::{Host, token};

/// After an empty line, which no client sends, all of a connection is hyper's.
const TO_HYPER: &[u8] = b"\r\n";

/// Two servers with the same history: one answers in front where it can, the other never does.
static HOSTS: LazyLock<(Host, Host)> = LazyLock::new(|| {
    let branch = TokenTable { reads: vec!["main".to_owned()], ..token("branch", "branch") };
    let table = ServeTable {
        token: vec![token("writer", "main"), branch],
        anonymous: Some(Anonymous::Read),
        ..ServeTable::default()
    };
    (Host::with(&table), Host::with(&table))
});

fn target() -> impl Strategy<Value = String> {
    let usual = ["/cache/a/1", "/cache/a/2", "/cache/a/1?x=y", "/cache/b/1", "/v1/cache/abc"];
    let turbo = ["/v8/artifacts/1f", "/v8/artifacts/1f?teamId=t", "/v8/artifacts/status"];
    let odd = [
        "/",
        "/healthz",
        "/readyz",
        "/v2/",
        "/v2/a/tags/list",
        "/cache/a/%31",
        "/cache/a/../b",
        "/cache/a/%zz",
        "/cache//x",
        "/cache/a/\u{e4}",
        "//x/y",
        "/cache/a/1#x",
        "*",
        "http://x/cache/a/1",
        "/cache/a/1 x",
        "/cas/0000",
    ];
    let all = [&usual[..], &usual[..], &usual[..], &turbo[..], &odd[..]].concat();
    select(all).prop_map(str::to_owned)
}

fn header() -> impl Strategy<Value = String> {
    select(vec![
        "host: x",
        "Host: x",
        "accept: */*",
        "user-agent: a b",
        "x-api-key: writer-0123456789",
        "X-Api-Key: branch-0123456789",
        "authorization: Bearer writer-0123456789",
        "authorization: Bearer wrong",
        "authorization: Basic eDpicmFuY2gtMDEyMzQ1Njc4OQ==",
        "origin: http://a",
        "range: bytes=1-2",
        "range: bytes=9-",
        "Range: bytes=99-",
        "connection: keep-alive",
        "Connection: Keep-Alive",
        "connection: close",
        "connection: keep-alive, te",
        "content-length: 0",
        "content-type: text/plain",
        "if-none-match: \"x\"",
        "accept-encoding: gzip",
        "x:y",
        "x: \t y \t",
        "bad name: x",
        "empty:",
        "x: \u{e4}",
        "no colon",
        " folded",
    ])
    .prop_map(str::to_owned)
}

/// A request that needs no more bytes to be answered.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let known = ["GET", "GET", "GET", "GET", "HEAD"];
    let odd = ["OPTIONS", "get", "PROPFIND", "G\u{e4}T", ""];
    let method = select([&known[..], &known[..], &known[..], &odd[..]].concat());
    let version = select(
        vec!["HTTP/1.1"; 12]
            .into_iter()
            .chain(["HTTP/1.0", "HTTP/2.0", "", "x"])
            .collect::<Vec<_>>(),
    );
    let headers = proptest::collection::vec(header(), 0..4);
    let newline = select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n"]);
    let usual = (method, target(), version, headers, newline).prop_map(
        |(method, target, version, headers, newline)| {
            let lines = headers.iter().map(|header| format!("{header}{newline}"));
            let lines: String = lines.collect();
            format!("{method} {target} {version}{newline}{lines}{newline}").into_bytes()
        },
    );
    let usual = usual.boxed();
    let path = select(vec!["/cache/a/1", "/cache/b/1"]);
    let change = (select(vec!["PUT", "DELETE"]), path).prop_map(|(method, path)| {
        let headers = "x-api-key: writer-0123456789\r\ncontent-length: 0";
        format!("{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n").into_bytes()
    });
    // What is asked for twice is answered in another way than what is asked for once.
    let twice = usual.clone().prop_map(|bytes: Vec<u8>| [&bytes[..], &bytes[..]].concat());
    prop_oneof![4 => usual, 4 => twice, 1 => change]
}

/// What is put before it is asked for, and by whom. Apart from the rest: whether a server that
/// refuses early reads a body to its end depends on when that comes.
fn put() -> impl Strategy<Value = (&'static str, &'static str, Vec<u8>)> {
    let path = select(vec!["/cache/a/1", "/cache/a/2", "/cache/b/1", "/v1/cache/abc"]);
    let who = select(vec!["writer-0123456789", "branch-0123456789", "wrong-0123456789"]);
    (path, who, proptest::collection::vec(any::<u8>(), 0..40))
}

/// Sends bytes, cut at these places, and all that comes back, without its dates.
fn answers(stream: &mut TcpStream, first: &[u8], bytes: &[u8], cuts: &[usize]) -> String {
    stream.set_nodelay(true).expect("at once");
    let mut at = 0;
    // A server that has had enough does not read all.
    drop(stream.write_all(first));
    for cut in cuts.iter().map(|cut| cut % (bytes.len() + 1)) {
        if cut > at {
            drop(stream.write_all(&bytes[at..cut]));
            std::thread::sleep(Duration::from_millis(1));
            at = cut;
        }
    }
    drop(stream.write_all(&bytes[at..]));
    let mut all = Vec::new();
    // A connection that is reset has ended, too.
    drop(stream.read_to_end(&mut all));
    without_dates(&String::from_utf8_lossy(&all))
}

fn without_dates(text: &str) -> String {
    let mut parts = text.split("\r\ndate: ");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (date, rest) = part.split_once("\r\n").expect("a date has an end");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
        all.push_str("\r\ndate\r\n");
        all.push_str(rest);
    }
    all
}

const LAST: &[u8] = b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n";

proptest! {
    #[test]
    fn every_answer_is_hypers(
        puts in proptest::collection::vec(put(), 0..3),
        requests in proptest::collection::vec(request(), 1..6),
        cuts in proptest::collection::vec(0..600_usize, 0..3),
    ) {
        let (front, hyper) = &*HOSTS;
        for (path, who, body) in &puts {
            let put = |host: &Host| host.ask("PUT", path, &[("x-api-key", who)], body).status;
            prop_assert_eq!(put(front), put(hyper));
        }
        let bytes = [&requests.concat()[..], LAST].concat();
        let here = answers(&mut front.connect(), b"", &bytes, &cuts);
        let there = answers(&mut hyper.connect(), TO_HYPER, &bytes, &cuts);
        prop_assert_eq!(here, there, "{}", String::from_utf8_lossy(&bytes));
    }
}

fn kept_alive(stream: &mut TcpStream, target: &str) -> (u16, String) {
    let head = format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("send");
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).expect("an answer");
        assert!(count > 0, "it ends");
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.expect("a length").parse().expect("a number");
        if body.len() == length {
            return (head[9..12].parse().expect("a status"), body.to_owned());
        }
    }
}

#[test]
fn an_answer_is_given_again_only_while_it_is_right() {
    let host = Host::open();
    let mut stream = host.connect();
    let mut get = || kept_alive(&mut stream, "/cache/a/b");
    for value in ["one", "two", "three"] {
        host.put("/cache/a/b", value.as_bytes());
        for _ in 0..3 {
            assert_eq!(get(), (200, value.to_owned()));
        }
    }
    host.ask("DELETE", "/cache/a/b", &[], b"").is(204);
    let (status, words) = get();
    assert_eq!(status, 404);
    host.put("/cache/a/b", b"three").is(201);
    assert_eq!(get(), (200, "three".to_owned()));
    let page = host.get("/metrics").is(200).text();
    let lookups = "lookups_total{protocol=\"values\",kind=\"entry\",outcome=\"hit\"} 10";
    let requests = "requests_total{protocol=\"values\",method=\"GET\",status=\"200\",code=\"\"} 10";
    let sent = format!("sent_bytes_total{{protocol=\"values\"}} {}", 38 + words.len());
    for line in [lookups, requests, &sent] {
        assert!(page.contains(&format!("strata_{line}\n")), "{line}: {page}");
    }
    let told = host.told.lock().expect("told");
    let gets = told.iter().filter(|told| told.method == "GET" && &*told.path == "/cache/a/b");
    let bytes: Vec<_> = gets.filter(|told| told.status == 200).map(|told| told.bytes).collect();
    assert_eq!(bytes, [3, 3, 3, 3, 3, 3, 5, 5, 5, 5].map(Some));
}

#[test]
fn an_answer_is_given_again_only_to_who_may_have_it() {
    let table = ServeTable {
        token: vec![token("first", "one"), token("other", "two")],
        ..ServeTable::default()
    };
    let host = Host::with(&table);
    let ask = |method: &str, secret: &str, body: &[u8]| {
        host.raw(
            method,
            "/cache/a/b",
            &[("x-api-key", secret), ("content-length", &body.len().to_string())],
            body,
        )
    };
    let raw = |secret: &str| {
        let mut stream = host.connect();
        let head = format!("GET /cache/a/b HTTP/1.1\r\nx-api-key: {secret}\r\n\r\n");
        let all = [head.as_bytes(), head.as_bytes(), LAST].concat();
        answers(&mut stream, b"", &all, &[])
    };
    ask("PUT", "first-0123456789", b"of one").is(201);
    assert_eq!(raw("first-0123456789").matches("of one").count(), 2);
    assert_eq!(raw("other-0123456789").matches("HTTP/1.1 404").count(), 2);
    assert_eq!(raw("wrong-0123456789").matches("HTTP/1.1 401").count(), 2);
    ask("PUT", "other-0123456789", b"of two").is(201);
    assert_eq!(raw("other-0123456789").matches("of two").count(), 2);
    assert_eq!(raw("first-0123456789").matches("of one").count(), 2);
}

#[test]
fn a_server_that_is_stopped_does_not_answer_all_that_was_asked_ahead() {
    const TIMES: usize = 50;
    let mut host = Host::open();
    let large = vec![7; 2_000_000];
    host.put("/cache/a/b", &large).is(201);
    let server = host.server.take().expect("it runs");
    let address = server.address();
    let mut stream = TcpStream::connect(address).expect("it listens");
    // Few enough to be read at once; their answers fit into no socket.
    stream.write_all(&b"GET /cache/a/b HTTP/1.1\r\n\r\n".repeat(TIMES)).expect("sent");
    stream.read_exact(&mut [0; 1]).expect("an answer begins");
    let stopping = std::thread::spawn(move || server.stop());
    while TcpStream::connect(address).is_ok() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("whole answers");
    let count = rest.len() / large.len();
    assert!((1..TIMES / 2).contains(&count), "{count}");
    stopping.join().expect("stopped");
}
