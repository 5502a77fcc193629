//! The OCI distribution specification, request by request.

use proptest::prelude::*;
use serde_json::{Value, json};
use strata_oci::Digest;

use crate::client::{Answer, Host};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).expect("an error is JSON");
    body["errors"][0]["code"].as_str().expect("a code").to_owned()
}

fn push_blob(host: &Host, name: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
    host.ask("POST", &path, &[], bytes).is(201);
    digest
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
}

fn manifest(config: &[u8], layers: &[&[u8]], subject: Option<Value>) -> Vec<u8> {
    let layer = |bytes: &&[u8]| descriptor("application/vnd.oci.image.layer.v1.tar", bytes);
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    });
    if let Some(subject) = subject {
        document["subject"] = subject;
        document["artifactType"] = json!("application/x.sbom");
    }
    document.to_string().into_bytes()
}

fn put_manifest(host: &Host, path: &str, kind: &str, bytes: &[u8]) -> Answer {
    host.ask("PUT", path, &[("content-type", kind)], bytes)
}

#[test]
fn an_image_is_pushed_pulled_listed_and_deleted() {
    let host = Host::open();
    assert_eq!(host.get("/v2/").is(200).header("docker-distribution-api-version"), "registry/2.0");
    let image = manifest(b"{}", &[b"layer"], None);
    let answer = put_manifest(&host, "/v2/team/app/manifests/1", MANIFEST, &image).is(400);
    assert_eq!(code(&answer), "MANIFEST_BLOB_UNKNOWN");
    push_blob(&host, "team/app", b"{}");
    let layer = push_blob(&host, "team/app", b"layer");
    let digest = Digest::of(&image);
    let put = put_manifest(&host, "/v2/team/app/manifests/1", MANIFEST, &image).is(201);
    assert_eq!(put.header("docker-content-digest"), digest.to_string());
    for reference in ["1".to_owned(), digest.to_string()] {
        let got = host.get(&format!("/v2/team/app/manifests/{reference}")).is(200);
        assert_eq!((got.body, &*got.headers["content-type"]), (image.clone(), MANIFEST));
        let path = format!("/v2/team/app/manifests/{reference}");
        let head = host.ask("HEAD", &path, &[], b"").is(200);
        assert_eq!(head.header("content-length"), image.len().to_string());
        assert!(head.body.is_empty());
    }
    let blob = format!("/v2/team/app/blobs/{layer}");
    assert_eq!(host.get(&blob).is(200).body, b"layer");
    let part = host.ask("GET", &blob, &[("range", "bytes=1-2")], b"").is(206);
    assert_eq!((&*part.body, part.header("content-range")), (&b"ay"[..], "bytes 1-2/5"));
    host.ask("GET", &blob, &[("range", "bytes=5-")], b"").is(416);
    put_manifest(&host, "/v2/team/app/manifests/2", MANIFEST, &image).is(201);
    let tags = |query: &str| -> Vec<String> {
        let body = host.get(&format!("/v2/team/app/tags/list{query}")).is(200).body;
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        serde_json::from_value(body["tags"].clone()).expect("tags")
    };
    assert_eq!(tags(""), ["1", "2"]);
    assert_eq!(tags("?n=1"), ["1"]);
    assert_eq!(tags("?n=1&last=1"), ["2"]);
    assert!(host.get("/v2/_catalog").is(200).text().contains("team/app"));
    host.ask("DELETE", "/v2/team/app/manifests/1", &[], b"").is(202);
    assert_eq!(code(&host.get("/v2/team/app/manifests/1").is(404)), "MANIFEST_UNKNOWN");
    host.get("/v2/team/app/manifests/2").is(200);
    host.ask("DELETE", &format!("/v2/team/app/manifests/{digest}"), &[], b"").is(202);
    host.get("/v2/team/app/manifests/2").is(404);
    host.get(&format!("/v2/team/app/manifests/{digest}")).is(404);
    assert!(tags("").is_empty());
}

#[test]
fn who_refers_to_whom() {
    let host = Host::open();
    push_blob(&host, "app", b"{}");
    let image = manifest(b"{}", &[], None);
    let subject = descriptor(MANIFEST, &image);
    let sbom = manifest(b"{}", &[], Some(subject));
    let digest = Digest::of(&sbom);
    // The referring one may come first.
    let put = put_manifest(&host, &format!("/v2/app/manifests/{digest}"), MANIFEST, &sbom).is(201);
    assert_eq!(put.header("oci-subject"), Digest::of(&image).to_string());
    let path = format!("/v2/app/referrers/{}", Digest::of(&image));
    let list = host.get(&path).is(200);
    assert_eq!(list.header("content-type"), INDEX);
    let list: Value = serde_json::from_slice(&list.body).expect("JSON");
    assert_eq!(list["manifests"][0]["digest"], digest.to_string());
    assert_eq!(list["manifests"][0]["artifactType"], "application/x.sbom");
    let other = host.get(&format!("{path}?artifactType=x/y")).is(200);
    assert_eq!(other.header("oci-filters-applied"), "artifactType");
    assert!(other.text().contains("\"manifests\":[]"));
    host.ask("DELETE", &format!("/v2/app/manifests/{digest}"), &[], b"").is(202);
    assert!(host.get(&path).is(200).text().contains("\"manifests\":[]"));
}

#[test]
fn an_index_may_list_what_is_no_manifest() {
    let host = Host::open();
    let layer = push_blob(&host, "app", b"cache layer");
    let mut child = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"cache layer");
    child["annotations"] = json!({ "buildkit/createdat": "x" });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [child] });
    let index = index.to_string().into_bytes();
    put_manifest(&host, "/v2/app/manifests/cache", INDEX, &index).is(201);
    assert_eq!(host.get("/v2/app/manifests/cache").is(200).header("content-type"), INDEX);
    assert_eq!(host.get(&format!("/v2/app/blobs/{layer}")).is(200).body, b"cache layer");
}

#[test]
fn blobs_come_at_once_in_pieces_and_from_other_repositories() {
    let host = Host::open();
    let digest = Digest::of(b"hello world");
    let started = host.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202);
    let at = started.header("location").to_owned();
    let patch =
        |range: &str, bytes: &[u8]| host.ask("PATCH", &at, &[("content-range", range)], bytes);
    assert_eq!(patch("0-4", b"hello").is(202).header("range"), "0-4");
    // Out of order, twice, or not as long as it says.
    patch("6-10", b"world").is(416);
    patch("0-4", b"hello").is(416);
    patch("5-9", b" w").is(416);
    let status = host.get(&at).is(204);
    assert_eq!(status.header("range"), "0-4");
    assert_eq!(host.ask("PATCH", &at, &[], b" wor").is(202).header("range"), "0-8");
    let done = host.put(&format!("{at}?digest={digest}"), b"ld").is(201);
    assert_eq!(done.header("docker-content-digest"), digest.to_string());
    assert_eq!(code(&host.get(&at).is(404)), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(host.get(&format!("/v2/a/blobs/{digest}")).is(200).body, b"hello world");

    host.ask("POST", &format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), &[], b"").is(201);
    let other = Digest::of(b"nobody has this");
    let path = format!("/v2/b/blobs/uploads/?mount={other}&from=a");
    let at = host.ask("POST", &path, &[], b"").is(202).header("location").to_owned();
    host.ask("DELETE", &at, &[], b"").is(204);
    host.get(&at).is(404);
}

#[test]
fn chunked_bodies_have_no_length() {
    let host = Host::open();
    let at = host.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202);
    let at = at.header("location").to_owned();
    let chunked = [("transfer-encoding", "chunked")];
    host.raw("PATCH", &at, &chunked, b"5\r\nhello\r\n0\r\n\r\n").is(202);
    host.put(&format!("{at}?digest={}", Digest::of(b"hello")), b"").is(201);
}

/// What a client does with an upload.
#[derive(Debug, Clone)]
enum Step {
    /// Sends so many bytes more.
    Send(usize),
    /// Says that it sends so many, and breaks off after some of them.
    Break { said: usize, sent: usize },
    /// Sends a piece that does not fit.
    Wrong,
    /// Asks how far it is.
    Ask,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..40_000_usize).prop_map(Step::Send),
        (1..40_000_usize)
            .prop_flat_map(|said| (Just(said), 0..said))
            .prop_map(|(said, sent)| Step::Break { said, sent }),
        Just(Step::Wrong),
        Just(Step::Ask),
    ];
    proptest::collection::vec(step, 0..12)
}

/// How far an upload is.
fn offset(host: &Host, at: &str) -> usize {
    let status = host.get(at).is(204);
    let (_, last) = status.header("range").split_once('-').expect("a range");
    let last: usize = last.parse().expect("a number");
    // `0-0` is nothing, or one byte: this client sends no single bytes at the beginning.
    if last == 0 { 0 } else { last + 1 }
}

/// How many pieces were answered, those that broke off included.
fn answered(host: &Host) -> usize {
    host.told.lock().expect("told").iter().filter(|told| told.method == "PATCH").count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn an_upload_survives_any_order_of_pieces_and_failures(
        steps in steps(),
        rest in 2..5_000_usize,
    ) {
        use std::io::Write as _;
        let host = Host::open();
        let byte = |at: u32| at.wrapping_mul(2_654_435_761).to_le_bytes()[3];
        let all: Vec<u8> = (0..600_000).map(byte).collect();
        let at = host.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202);
        let at = at.header("location").to_owned();
        let mut sent = 0;
        for step in steps {
            match step {
                Step::Send(count) if count > 1 => {
                    let range = format!("{sent}-{}", sent + count - 1);
                    let piece = &all[sent..sent + count];
                    host.ask("PATCH", &at, &[("content-range", &range)], piece).is(202);
                    sent += count;
                }
                Step::Send(_) => {}
                Step::Break { said, sent: some } => {
                    // One byte in all would be told as none is.
                    let some = if sent + some == 1 { 0 } else { some };
                    let before = answered(&host);
                    let mut stream = host.connect();
                    let head = format!(
                        "PATCH {at} HTTP/1.1\r\nhost: x\r\ncontent-length: {said}\r\n\r\n"
                    );
                    stream.write_all(head.as_bytes()).expect("send");
                    stream.write_all(&all[sent..sent + some]).expect("send");
                    drop(stream);
                    while answered(&host) == before {
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                    let now = offset(&host, &at);
                    // What has arrived is a beginning of what was sent.
                    let fits = (sent..=sent + some).contains(&now);
                    prop_assert!(fits);
                    sent = now;
                }
                Step::Wrong => {
                    let from = sent + 7;
                    let range = format!("{from}-{}", from + 1);
                    host.ask("PATCH", &at, &[("content-range", &range)], b"xx").is(416);
                }
                Step::Ask => prop_assert_eq!(offset(&host, &at), sent),
            }
        }
        let end = sent + rest;
        let digest = Digest::of(&all[..end]);
        host.put(&format!("{at}?digest={digest}"), &all[sent..end]).is(201);
        let got = host.get(&format!("/v2/a/blobs/{digest}")).is(200).body;
        prop_assert!(got == all[..end]);
    }
}
