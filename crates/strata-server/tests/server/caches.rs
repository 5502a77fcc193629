//! The plain HTTP caches, request by request.

use crate::client::Host;
use crate::through;

#[test]
fn values_under_keys() {
    let host = Host::open();
    host.get("/cache/ccache/ab/cdef").is(404);
    let kind = [("content-type", "application/vnd.gradle.build-cache-artifact.v1")];
    host.ask("PUT", "/cache/ccache/ab/cdef", &kind, b"one").is(201);
    host.put("/cache/ccache/ab/cdef", b"two").is(204);
    let got = host.get("/cache/ccache/ab/cdef").is(200);
    assert_eq!(got.body, b"two");
    let head = host.ask("HEAD", "/cache/ccache/ab/cdef", &[], b"").is(200);
    assert_eq!(head.header("content-length"), "3");
    // Another space is another space.
    host.get("/cache/other/ab/cdef").is(404);
    host.ask("DELETE", "/cache/ccache/ab/cdef", &[], b"").is(204);
    host.ask("DELETE", "/cache/ccache/ab/cdef", &[], b"").is(404);
    host.get("/cache/ccache/ab/cdef").is(404);
    host.ask("PUT", "/cache/gradle/0123", &kind, b"x").is(201);
    assert_eq!(host.get("/cache/gradle/0123").header("content-type"), kind[0].1);
}

#[test]
fn large_values_come_back_whole() {
    let host = Host::open();
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    host.put("/cache/x/large", &large).is(201);
    assert!(host.get("/cache/x/large").is(200).body == large);
}

#[test]
fn the_part_of_webdav_that_sccache_needs() {
    let host = Host::open();
    let found = host.ask("PROPFIND", "/cache/sccache/", &[("depth", "0")], b"").is(207);
    assert!(found.text().contains("<D:collection/>"));
    host.ask("MKCOL", "/cache/sccache/a/", &[], b"").is(201);
    host.ask("PROPFIND", "/cache/sccache/a/b", &[("depth", "0")], b"").is(404);
    host.put("/cache/sccache/a/b", b"12345").is(201);
    let found = host.ask("PROPFIND", "/cache/sccache/a/b", &[("depth", "0")], b"").is(207);
    assert!(found.text().contains("<D:getcontentlength>5</D:getcontentlength>"));
    let strange = host.ask("PROPFIND", "/cache/s/a%3Cb&/", &[], b"").is(207);
    assert!(strange.text().contains("/cache/s/a&lt;b&amp;/"));
    assert!(
        host.ask("OPTIONS", "/cache/sccache/", &[], b"").is(200).header("allow").contains("MKCOL")
    );
}

#[test]
fn turborepo() {
    let host = Host::open();
    assert!(host.get("/v8/artifacts/status").is(200).text().contains("enabled"));
    let preflight = host.ask("OPTIONS", "/v8/artifacts/abc", &[("origin", "x")], b"").is(200);
    assert!(preflight.header("access-control-allow-headers").contains("Authorization"));
    let about = [("x-artifact-tag", "hmac"), ("x-artifact-duration", "42")];
    host.ask("PUT", "/v8/artifacts/abc?slug=team", &about, b"artifact").is(200);
    let got = host.get("/v8/artifacts/abc?slug=team").is(200);
    assert_eq!((&*got.body, got.header("x-artifact-tag")), (&b"artifact"[..], "hmac"));
    assert_eq!(got.header("x-artifact-duration"), "42");
    host.get("/v8/artifacts/abc?slug=other").is(404);
    host.ask("HEAD", "/v8/artifacts/abc?slug=team", &[], b"").is(200);
    let query = host.ask("POST", "/v8/artifacts?slug=team", &[], b"{\"hashes\":[\"abc\",\"d\"]}");
    let query: serde_json::Value = serde_json::from_slice(&query.is(200).body).expect("JSON");
    assert_eq!(query["abc"]["taskDurationMs"], 42);
    assert!(query["d"].is_null());
    host.ask("POST", "/v8/artifacts/events", &[], b"[]").is(200);
}

#[test]
fn nx_never_replaces() {
    let host = Host::open();
    host.get("/v1/cache/12345").is(404);
    host.put("/v1/cache/12345", b"tar").is(200);
    host.put("/v1/cache/12345", b"other").is(409);
    assert_eq!(host.get("/v1/cache/12345").is(200).body, b"tar");
}

#[test]
fn what_is_told_of_a_server() {
    let host = Host::open();
    assert_eq!(host.get("/healthz").is(200).text(), "alive\n");
    assert_eq!(host.get("/readyz").is(200).text(), "ready\n");
    host.put("/cache/x/y", b"z").is(201);
    host.get("/cache/x/y").is(200);
    host.get("/cache/x/n").is(404);
    let page = host.get("/metrics").is(200).text();
    let count = "strata_lookups_total{protocol=\"values\",kind=\"entry\",outcome=\"hit\"} 1";
    assert!(page.contains(count), "{page}");
    let told = host.told.lock().expect("told");
    let get = told.iter().find(|told| &*told.path == "/cache/x/y" && told.method == "GET");
    let get = get.expect("it was told");
    assert_eq!((get.status, get.bytes, &*get.caller), (200, Some(1), "anonymous"));
}

#[test]
fn a_server_that_is_stopped_answers_what_was_asked() {
    let mut host = Host::open();
    let large = vec![7; 2_000_000];
    host.put("/cache/x/y", &large).is(201);
    let server = host.server.take().expect("it runs");
    let mut stream = std::net::TcpStream::connect(server.address()).expect("it listens");
    std::io::Write::write_all(&mut stream, b"GET /cache/x/y HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("send");
    // The head of the answer is there: the request is under way.
    let mut first = [0; 1];
    std::io::Read::read_exact(&mut stream, &mut first).expect("an answer begins");
    let reading = std::thread::spawn(move || {
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut rest).map(|_| rest.len())
    });
    server.stop();
    assert!(reading.join().expect("a thread").expect("all of it") > large.len());
}

#[test]
fn bazels_results_and_blobs() {
    use strata_oci::Digest;
    let host = Host::open();
    let (action, blob) = (Digest::of(b"action").hex(), Digest::of(b"a.o").hex());
    host.get(&format!("/bz/ac/{action}")).is(404);
    // An action result with one output file, `a.o`, as Bazel encodes it.
    let digest = [b"\x0a\x40", blob.as_bytes(), b"\x10\x03"].concat();
    let file = [b"\x0a\x03a.o\x12\x44", &digest[..]].concat();
    let result = [b"\x12\x4b", &file[..]].concat();
    host.put(&format!("/bz/ac/{action}"), &result).is(400);
    host.put(&format!("/bz/cas/{blob}"), b"wrong").is(400);
    host.put(&format!("/bz/cas/{blob}"), b"a.o").is(200);
    host.put(&format!("/bz/ac/{action}"), &result).is(200);
    assert_eq!(host.get(&format!("/bz/ac/{action}")).is(200).body, result);
    assert_eq!(host.get(&format!("/bz/cas/{blob}")).is(200).body, b"a.o");
    // Blobs are everybody's, results are their instance's.
    host.ask("HEAD", &format!("/cas/{blob}"), &[], b"").is(200);
    host.get(&format!("/ac/{action}")).is(404);
    host.get(&format!("/bz/cas/{}", Digest::of(b"").hex())).is(200);
    host.put(&format!("/bz/ac/{action}"), b"no protocol buffer").is(400);
    let json = [("content-type", "application/json")];
    let body = format!("{{\"outputFiles\":[{{\"digest\":{{\"hash\":\"{blob}\"}}}}]}}");
    host.ask("PUT", &format!("/m/ac/{action}"), &json, body.as_bytes()).is(200);
    let got = host.ask("GET", &format!("/m/ac/{action}"), &[("accept", "application/json")], b"");
    assert_eq!(got.is(200).text(), body);
}

/// The conformance suite of all stores, through client, server and store.
#[test]
fn stores_are_stores_on_the_far_side_too() {
    for part in through::PARTS {
        let host = Host::open();
        part(host.address());
    }
}
