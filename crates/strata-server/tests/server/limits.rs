//! What a caller may have: requests, bytes a second, bytes in all. Each protocol refuses in its
//! own words.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde_json::Value as Json;
use strata_oci::Digest;
use strata_server::{ServeTable, TokenTable};

use crate::client::{Answer, Host, token};

const MIB: u64 = 1 << 20;

fn as_token(secret: &str) -> [(&'static str, &str); 1] {
    [("x-api-key", secret)]
}

const OPS: &str = "metrics-0123456789";

/// A token that no limit keeps from looking at the metrics.
fn ops() -> TokenTable {
    TokenTable { requests_per_second: NonZeroU64::new(1_000_000), ..token("metrics", "metrics") }
}

#[track_caller]
fn counted(host: &Host, line: &str) {
    let page = host.ask("GET", "/metrics", &as_token(OPS), b"").is(200).text();
    let found = page.lines().find_map(|found| found.strip_prefix(&format!("{line} ")));
    let count: u64 = found.unwrap_or("0").parse().expect("a number");
    assert!(count > 0, "{line}: {page}");
}

/// Asks until it is refused; it is at once, unless the machine stands still.
fn hurried(host: &Host, method: &str, path: &str, secret: &str) -> Answer {
    let mut answers = (0..100).map(|_| host.ask(method, path, &as_token(secret), b"x"));
    answers.find(|answer| answer.status == 429).expect("one is too many")
}

#[test]
fn a_request_too_many_is_refused_for_a_while() {
    let table = ServeTable {
        token: vec![ops(), token("builder", "main"), token("laptop", "main")],
        requests_per_second: NonZeroU64::new(1),
        ..ServeTable::default()
    };
    let host = Host::with(&table);
    let refused = hurried(&host, "GET", "/cache/a/b", "builder-0123456789");
    assert!(refused.text().contains("more than 1 requests a second"), "{}", refused.text());
    assert_eq!(refused.header("retry-after"), "1");
    // Others are not slowed down by it, and health is never refused.
    host.ask("GET", "/cache/a/b", &as_token(OPS), b"").is(404);
    (0..20).for_each(|_| drop(host.get("/healthz").is(200)));
    let refused = hurried(&host, "GET", "/v2/a/manifests/1", "laptop-0123456789");
    let json: Json = serde_json::from_slice(&refused.body).expect("JSON");
    assert_eq!(json["errors"][0]["code"], "TOOMANYREQUESTS");
    // Who guesses tokens is an address.
    hurried(&host, "GET", "/cache/a/b", "guessed-0123456789");
    counted(&host, "strata_refused_requests_total{protocol=\"values\",reason=\"rate\"}");
    counted(&host, "strata_refused_requests_total{protocol=\"oci\",reason=\"rate\"}");
    counted(&host, "strata_refused_requests_total{protocol=\"values\",reason=\"unauthorized\"}");
}

#[test]
fn bytes_that_are_slowed_down_are_all_there() {
    let table =
        ServeTable { bytes_per_second: NonZeroU64::new(2_000_000), ..ServeTable::default() };
    let host = Host::with(&table);
    let bytes: Vec<u8> = (0..1_500_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    host.put("/cache/a/b", &bytes).is(201);
    assert!(host.get("/cache/a/b").is(200).body == bytes);
    let page = host.get("/metrics").is(200).text();
    for line in ["strata_received_bytes_total", "strata_sent_bytes_total"] {
        let line = format!("{line}{{protocol=\"values\"}} 1500000");
        assert!(page.contains(&line), "{line}: {page}");
    }
}

fn tenants() -> Host {
    let quota = BTreeMap::from([("small".to_owned(), 2 * MIB)]);
    let token = vec![ops(), token("small", "small"), token("other", "other")];
    Host::with(&ServeTable { token, quota, ..ServeTable::default() })
}

const SMALL: &str = "small-0123456789";

#[test]
fn a_full_cache_makes_room_for_what_comes() {
    let host = tenants();
    let put = |number: u8| {
        let path = format!("/cache/a/{number}");
        host.ask("PUT", &path, &as_token(SMALL), &vec![number; 300 << 10]).is(201);
    };
    let get = |number: u8| {
        let path = format!("/cache/a/{number}");
        host.ask("GET", &path, &as_token(SMALL), b"").status
    };
    (0..20).for_each(put);
    let found: Vec<u16> = (0..20).map(get).collect();
    // At most six of them fit, and the last is one of them.
    assert!(found.iter().filter(|status| **status == 200).count() <= 6, "{found:?}");
    assert_eq!((found[0], found[19]), (404, 200), "{found:?}");
    // The same bytes once more take nothing.
    (0..40).for_each(|_| drop(host.ask("PUT", "/cache/a/19", &as_token(SMALL), &[19; 300 << 10])));
    assert_eq!(get(19), 200);
    // What never fits makes nothing go, and is refused before it is sent.
    let large = vec![1; 3 << 20];
    let refused = host.ask("PUT", "/cache/a/large", &as_token(SMALL), &large).is(507);
    assert!(
        refused.text().contains("the namespace `small` may have 2097152"),
        "{}",
        refused.text()
    );
    assert_eq!(get(19), 200);
    host.ask("PUT", "/cache/a/large", &as_token("other-0123456789"), &large).is(201);
    counted(&host, "strata_refused_requests_total{protocol=\"values\",reason=\"quota\"}");
    counted(&host, "strata_namespace_bytes{namespace=\"small\"}");
    counted(&host, "strata_namespace_quota_bytes{namespace=\"small\"}");
}

#[test]
fn what_was_pushed_stays_and_keeps_more_from_coming() {
    let host = tenants();
    let ask =
        |method: &str, path: &str, body: &[u8]| host.ask(method, path, &as_token(SMALL), body);
    let push = |byte: u8| {
        let bytes = vec![byte; 900 << 10];
        let digest = Digest::of(&bytes);
        let answer = ask("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"), &bytes);
        if answer.status != 201 {
            return answer;
        }
        let layer = format!("{{\"mediaType\":\"x/y\",\"digest\":\"{digest}\",\"size\":921600}}");
        let manifest = format!("{{\"schemaVersion\":2,\"layers\":[{layer}]}}");
        ask("PUT", &format!("/v2/app/manifests/v{byte}"), manifest.as_bytes())
    };
    push(1).is(201);
    push(2).is(201);
    let refused = push(3).is(403);
    let json: Json = serde_json::from_slice(&refused.body).expect("JSON");
    assert_eq!(json["errors"][0]["code"], "DENIED");
    let message = json["errors"][0]["message"].as_str().expect("words");
    assert!(message.contains("the namespace `small` may have"), "{message}");
    // In pieces, of which nobody says how many come.
    let at = ask("POST", "/v2/app/blobs/uploads/", b"").is(202).header("location").to_owned();
    ask("PATCH", &at, &vec![3; 900 << 10]).is(403);
    let blob = vec![4; 900 << 10];
    ask("PUT", &format!("/cas/{}", Digest::of(&blob).hex()), &blob).is(507);
    // It is all there still; and room again when a tag and its manifest are deleted.
    let first = ask("GET", "/v2/app/manifests/v1", b"").is(200);
    let digest = Digest::of(&first.body);
    ask("DELETE", &format!("/v2/app/manifests/{digest}"), b"").is(202);
    push(3).is(201);
    ask("GET", "/v2/app/manifests/v2", b"").is(200);
}
