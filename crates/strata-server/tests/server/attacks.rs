//! Those who mean no good, and what comes of it: nothing.

use std::io::{Read as _, Write as _};

use strata_oci::Digest;
use strata_server::{Anonymous, ServeTable, TokenTable};

use crate::client::{Host, READER, WRITER, guarded, read, token};

#[test]
fn a_reader_writes_nothing() {
    let host = Host::with(&ServeTable { github_actions: true, ..guarded() });
    let digest = Digest::of(b"x");
    let hash = digest.hex();
    let writer = [("authorization", WRITER)];
    let upload = host.ask("POST", "/v2/a/blobs/uploads/", &writer, b"").is(202);
    let upload = upload.header("location").to_owned();
    let writes: [(&str, String); 15] = [
        ("PUT", "/cache/a/b".to_owned()),
        ("DELETE", "/cache/a/b".to_owned()),
        ("MKCOL", "/cache/a/b/".to_owned()),
        ("PUT", "/v8/artifacts/abc".to_owned()),
        ("PUT", "/v1/cache/123".to_owned()),
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("POST", format!("/v2/a/blobs/uploads/?digest={digest}")),
        ("PUT", "/v2/a/manifests/1".to_owned()),
        ("DELETE", "/v2/a/manifests/1".to_owned()),
        ("POST", format!("/v2/a/blobs/uploads/?mount={digest}&from=b")),
        ("PUT", format!("/cas/{hash}")),
        ("PUT", format!("/ac/{hash}")),
        ("PUT", format!("/instance/ac/{hash}")),
        ("PATCH", upload.clone()),
        ("PUT", format!("{upload}?digest={digest}")),
    ];
    for (method, path) in &writes {
        host.ask(method, path, &[("authorization", READER)], b"x").is(403);
        host.ask(method, path, &[], b"x").is(401);
        host.ask(method, path, &[("authorization", "Bearer wrong-0123456789")], b"x").is(401);
    }
    let create = "/twirp/github.actions.results.api.v1.CacheService/CreateCacheEntry";
    for (token, status) in [(READER, 403), ("Bearer wrong-0123456789", 401)] {
        let headers = [("authorization", token), ("content-type", "application/json")];
        host.ask("POST", create, &headers, br#"{"key":"k","version":"v"}"#).is(status);
    }
    // Nothing of all that is there.
    for path in [format!("/cas/{hash}"), format!("/v2/a/blobs/{digest}"), "/cache/a/b".to_owned()] {
        host.ask("GET", &path, &writer, b"").is(404);
    }
    host.ask("PUT", "/cache/a/b", &writer, b"x").is(201);
    let reader = [("authorization", READER)];
    assert_eq!(host.ask("GET", "/cache/a/b", &reader, b"").is(200).body, b"x");
    assert!(host.get("/cache/a/b").is(401).header("www-authenticate").contains("Basic"));
    assert!(host.get("/v2/").is(401).header("www-authenticate").contains("Basic"));
    host.get("/metrics").is(401);
    host.get("/healthz").is(200);
}

#[test]
fn another_writers_upload_is_not_theirs() {
    let host = Host::with(&ServeTable { anonymous: Some(Anonymous::Write), ..guarded() });
    let at = host.ask("POST", "/v2/a/blobs/uploads/", &[("authorization", WRITER)], b"").is(202);
    let at = at.header("location").to_owned();
    host.ask("PATCH", &at, &[], b"poison").is(404);
    host.ask("DELETE", &at, &[], b"").is(404);
    host.ask("PATCH", &at, &[("authorization", WRITER)], b"x").is(202);
    // Nor is it one of another repository.
    let elsewhere = at.replace("/v2/a/", "/v2/b/");
    host.ask("PATCH", &elsewhere, &[("authorization", WRITER)], b"x").is(404);
}

#[test]
fn a_branch_does_not_reach_main() {
    let token = |name: &str, namespace: &str, reads: &[&str], trust| TokenTable {
        reads: reads.iter().map(|name| (*name).to_owned()).collect(),
        trust,
        ..token(name, namespace)
    };
    let tokens = vec![
        token("release", "main", &[], 100),
        token("intern", "main", &[], 10),
        token("branch", "pr-1", &["main"], 10),
    ];
    let host = Host::with(&ServeTable { token: tokens, ..ServeTable::default() });
    let ask = |name: &str, method: &str, path: &str, body: &[u8]| {
        let secret = format!("Bearer {name}-0123456789");
        host.ask(method, path, &[("authorization", &secret)], body)
    };
    ask("release", "PUT", "/cache/c/k", b"good").is(201);
    // The branch reads main's, and what it writes is only its own.
    assert_eq!(ask("branch", "GET", "/cache/c/k", b"").is(200).body, b"good");
    ask("branch", "PUT", "/cache/c/k", b"poison").is(204);
    assert_eq!(ask("branch", "GET", "/cache/c/k", b"").body, b"poison");
    assert_eq!(ask("release", "GET", "/cache/c/k", b"").body, b"good");
    ask("branch", "PUT", "/cache/c/new", b"poison").is(201);
    ask("release", "GET", "/cache/c/new", b"").is(404);
    ask("branch", "DELETE", "/cache/c/k", b"").is(204);
    assert_eq!(ask("branch", "GET", "/cache/c/k", b"").body, b"good");
    // Who is trusted less does not replace, in one namespace either.
    ask("intern", "PUT", "/cache/c/k", b"poison").is(403);
    ask("intern", "DELETE", "/cache/c/k", b"").is(403);
    // The same bytes once more are no harm, and stay who they were from.
    ask("intern", "PUT", "/cache/c/k", b"good").is(204);
    ask("intern", "DELETE", "/cache/c/k", b"").is(403);
    ask("intern", "PUT", "/cache/c/mine", b"x").is(201);
    ask("release", "PUT", "/cache/c/mine", b"better").is(204);
    assert_eq!(ask("release", "GET", "/cache/c/k", b"").body, b"good");
}

/// The same in every protocol that has keys of the client's own.
#[test]
fn what_a_branch_writes_is_nowhere_mains() {
    let token = |name: &str, namespace: &str, reads: &[&str]| TokenTable {
        reads: reads.iter().map(|name| (*name).to_owned()).collect(),
        ..token(name, namespace)
    };
    let tokens = vec![token("mainly", "main", &[]), token("branch", "pr-1", &["main"])];
    let host = Host::with(&ServeTable { token: tokens, ..ServeTable::default() });
    let ask = |name: &str, method: &str, path: &str, body: &[u8]| {
        let secret = format!("Bearer {name}-0123456789");
        host.ask(method, path, &[("authorization", &secret)], body)
    };
    let action = Digest::of(b"action").hex();
    // An action result whose exit code is 1, or 2.
    let results: [&[u8]; 2] = [b"\x20\x01", b"\x20\x02"];
    let manifests: [&[u8]; 2] = [b"{\"schemaVersion\":2}", b"{\"schemaVersion\":2 }"];
    let values: [&[u8]; 2] = [b"good", b"poison"];
    for (path, [good, poison]) in [
        ("/cache/space/key".to_owned(), values),
        ("/v8/artifacts/abc?slug=team".to_owned(), values),
        ("/v1/cache/123".to_owned(), values),
        (format!("/instance/ac/{action}"), results),
        ("/v2/app/manifests/latest".to_owned(), manifests),
    ] {
        let refused = (400..500).contains(&ask("mainly", "GET", &path, b"").status);
        assert!(refused, "{path}");
        // The branch is first: main sees nothing of it, and is not kept from writing its own.
        assert!((200..300).contains(&ask("branch", "PUT", &path, poison).status), "{path}");
        assert_eq!(ask("branch", "GET", &path, b"").is(200).body, poison, "{path}");
        ask("mainly", "GET", &path, b"").is(404);
        assert!((200..300).contains(&ask("mainly", "PUT", &path, good).status), "{path}");
        assert_eq!(ask("mainly", "GET", &path, b"").is(200).body, good, "{path}");
    }
}

#[test]
fn bytes_that_are_not_what_was_said_are_not_kept() {
    let host = Host::open();
    let digest = Digest::of(b"right");
    let at_once = format!("/v2/a/blobs/uploads/?digest={digest}");
    host.ask("POST", &at_once, &[], b"wrong").is(400);
    let at = host.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202);
    let at = at.header("location").to_owned();
    host.put(&format!("{at}?digest={digest}"), b"wrong").is(400);
    host.get(&at).is(404);
    host.get(&format!("/v2/a/blobs/{digest}")).is(404);
    for bad in ["sha256:12", "sha256:../../etc/passwd", "md5:0", "sha256:", "%2e%2e"] {
        let status = host.get(&format!("/v2/a/blobs/{bad}")).status;
        assert!((400..=405).contains(&status), "{bad}: {status}");
    }
    let manifest = b"{\"schemaVersion\":2}";
    let path = format!("/v2/a/manifests/{digest}");
    host.put(&path, manifest).is(400);
}

#[test]
fn strange_paths_lead_nowhere() {
    let host = Host::open();
    for path in [
        "/cache/a/../../etc/passwd",
        "/cache/a/%2e%2e/%2e%2e/etc/passwd",
        "/cache/a/b%00c",
        "/cache/a/b%5c..%5cc",
        "/cache/a//b",
        "/cache/",
        "/v2/../etc/tags/list",
        "/v2/a/blobs/uploads/..",
        "/v1/cache/..%2f..%2fx",
        "/v8/artifacts/..%2f..%2fx",
        "/v8/artifacts/x?slug=..%2fother",
        "/v8/artifacts/x?teamId=",
        "/v2/%2e%2e/blobs/uploads/",
        "/v2/a/%2e%2e/%2e%2e/manifests/x",
        "/v2/a/manifests/..",
        "/v2/a/manifests/x%2f..%2fy",
        "/v2/A/manifests/x",
        "/../ac/0000000000000000000000000000000000000000000000000000000000000000",
        "/a%2f..%2fb/ac/0000000000000000000000000000000000000000000000000000000000000000",
        "/a//b/cas/0000000000000000000000000000000000000000000000000000000000000000",
        "/a/ac/000000000000000000000000000000000000000000000000000000000000000g",
        "/v2/a/manifests/x?ns=..%2f..%2fetc",
        "/v2/a/manifests/x?ns=%00",
        "/v2/a/blobs/uploads/?mount=..%2f..%2fx&from=..%2fb",
        "/v2/a/referrers/..%2f..%2fx",
        "/twirp/..%2f..%2fx",
        "/actions-cache/uploads/..%2f..%2fx",
    ] {
        for method in ["GET", "PUT"] {
            let status = host.ask(method, path, &[], b"x").status;
            assert!((400..=405).contains(&status), "{method} {path}: {status}");
        }
    }
}

#[test]
fn too_much_is_refused() {
    let host = Host::with(&ServeTable { body_limit: Some(1000), ..ServeTable::default() });
    host.put("/cache/a/b", &[0; 1001]).is(413);
    let chunked = [("transfer-encoding", "chunked")];
    let mut body = b"7d0\r\n".to_vec();
    body.extend([0; 2000]);
    body.extend(b"\r\n0\r\n\r\n");
    host.raw("PUT", "/cache/a/b", &chunked, &body).is(413);
    host.get("/cache/a/b").is(404);
    host.put("/cache/a/b", &[0; 1000]).is(201);
    let at = host.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202);
    let at = at.header("location").to_owned();
    host.ask("PATCH", &at, &[], &[0; 900]).is(202);
    host.ask("PATCH", &at, &[], &[0; 900]).is(413);
    let host = Host::open();
    let manifest = vec![b' '; (4 << 20) + 1];
    host.put("/v2/a/manifests/1", &manifest).is(413);
}

#[test]
fn a_body_that_ends_early_changes_nothing() {
    let host = Host::open();
    host.put("/cache/a/b", b"good").is(201);
    let mut stream = host.connect();
    stream
        .write_all(b"PUT /cache/a/b HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\npoison")
        .expect("send");
    drop(stream);
    assert_eq!(host.get("/cache/a/b").is(200).body, b"good");
}

#[test]
fn nonsense_ends_its_connection_and_no_other() {
    let host = Host::open();
    for nonsense in
        [&b"\x16\x03\x01\x02\x00"[..], b"GET / HTTP/9.9\r\n\r\n", &[0; 4096], b"\r\n\r\n\r\n"]
    {
        let mut stream = host.connect();
        drop(stream.write_all(nonsense));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
    }
    let many: Vec<String> = (0..200).map(|at| format!("x-{at}: y\r\n")).collect();
    let mut stream = host.connect();
    let request = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", many.concat());
    drop(stream.write_all(request.as_bytes()));
    let answer = read(&mut stream, false);
    assert!(answer.is_none_or(|answer| answer.status == 431));
    host.get("/healthz").is(200);
}

#[test]
fn slow_ones_keep_nobody_out() {
    let host = Host::with(&ServeTable { connections: Some(64), ..ServeTable::default() });
    // Heads that never end take places, but not all of them.
    let slow: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = host.connect();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost:").expect("send");
            stream
        })
        .collect();
    host.get("/healthz").is(200);
    drop(slow);
    host.get("/healthz").is(200);
}

#[test]
fn who_says_nothing_is_sent_away() {
    let host = Host::with(&ServeTable { connections: Some(64), ..ServeTable::default() });
    // They take all places there are: silent, with a beginning that may be of any protocol, with
    // that of HTTP/2, with a head that does not end.
    let beginnings: [&[u8]; 4] =
        [b"", b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nhost:"];
    let silent: Vec<_> = (0..64)
        .map(|at| {
            let mut stream = host.connect();
            stream.write_all(beginnings[at % beginnings.len()]).expect("send");
            stream
        })
        .collect();
    host.get("/healthz").is(200);
    drop(silent);
}

#[test]
fn what_a_revoked_writer_wrote_counts_for_nothing() {
    // The same store, served again after the writer was found out.
    let store: std::sync::Arc<dyn strata_server::Served> =
        std::sync::Arc::new(strata_cas::MemoryStore::default());
    let host = Host::on(&guarded(), std::sync::Arc::clone(&store));
    let writer = [("authorization", WRITER)];
    host.ask("PUT", "/cache/a/b", &writer, b"poison").is(201);
    host.ask("PUT", "/v2/a/manifests/1", &writer, b"{\"schemaVersion\":2}").is(201);
    drop(host);
    let tables = guarded();
    let mut tokens = tables.token.clone();
    tokens[0].name = "other".to_owned();
    tokens[0].trust = 1;
    let revoked = vec!["writer".to_owned()];
    let host = Host::on(&ServeTable { revoked, token: tokens, ..tables }, store);
    host.ask("GET", "/cache/a/b", &writer, b"").is(404);
    host.ask("GET", "/v2/a/manifests/1", &writer, b"").is(404);
    assert!(host.ask("GET", "/v2/a/tags/list", &writer, b"").text().contains("errors"));
    // Nor does it stand in the way of who is trusted less.
    host.ask("PUT", "/cache/a/b", &writer, b"good").is(201);
    assert_eq!(host.ask("GET", "/cache/a/b", &writer, b"").is(200).body, b"good");
}
