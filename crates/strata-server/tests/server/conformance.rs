//! What the OCI distribution conformance suite checks (`conformance/run.go` of
//! `opencontainers/distribution-spec`, its defaults for version 1.1), check by check under the
//! suite's own names. The suite is a Go program that is not everywhere to be had; this asks the
//! same of the server, and is ours.
//!
//! Two of its rows are not what this registry does, and are checked to be refused in the way that
//! the specification has for it: blobs are not deleted (405), and digests are SHA-256 (400).

use serde_json::{Value, json};
use strata_oci::Digest;

use crate::client::{Answer, Host};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const EXAMPLE: &str = "application/vnd.example.oci.conformance.config";
const REPO: &str = "conformance/repo1";
const OTHER: &str = "conformance/repo2";

/// A registry that nothing was pushed to, and the name of what is being checked.
struct Suite {
    host: Host,
    failed: Vec<String>,
    name: String,
}

type Check = (&'static str, fn(&mut Suite));

impl Suite {
    fn run(checks: &[Check]) {
        let mut failed = Vec::new();
        for (name, check) in checks {
            let name = (*name).to_owned();
            let mut suite = Suite { host: Host::open(), failed: Vec::new(), name };
            check(&mut suite);
            failed.extend(suite.failed);
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }

    fn expect(&mut self, holds: bool, words: impl std::fmt::Display) {
        if !holds {
            self.failed.push(format!("{}: {words}", self.name));
        }
    }

    fn status(&mut self, answer: Answer, wanted: &[u16]) -> Answer {
        let (status, text) = (answer.status, answer.text());
        self.expect(wanted.contains(&status), format!("{status} and not {wanted:?}: {text}"));
        answer
    }

    fn header(&mut self, answer: &Answer, name: &str, wanted: &str) {
        let found = answer.header(name).to_owned();
        self.expect(found == wanted, format!("{name} is `{found}` and not `{wanted}`"));
    }

    /// An upload's address, which every answer may change.
    fn location(&mut self, answer: &Answer) -> String {
        let at = answer.header("location").to_owned();
        self.expect(!at.is_empty(), "there is no Location");
        at
    }

    fn post(&mut self, query: &str) -> String {
        let path = format!("/v2/{REPO}/blobs/uploads/{query}");
        let answer = self.host.ask("POST", &path, &[], b"");
        let answer = self.status(answer, &[202]);
        self.location(&answer)
    }

    /// Ends an upload; on success its Location must give the bytes back.
    fn end(&mut self, at: &str, last: &[u8], all: &[u8], digest: &str, wanted: &[u16]) {
        let answer = self.host.put(&with(at, digest), last);
        let answer = self.status(answer, wanted);
        if answer.status == 201 {
            let at = self.location(&answer);
            let got = self.host.get(&at);
            let got = self.status(got, &[200]);
            self.expect(got.body == all, "Location gives other bytes");
            let said = answer.header("docker-content-digest").to_owned();
            self.expect(said == digest, format!("the digest is said to be `{said}`"));
        }
    }

    /// `blob-head` and `blob-get`.
    fn pull_blob(&mut self, bytes: &[u8]) {
        let path = format!("/v2/{REPO}/blobs/{}", Digest::of(bytes));
        let head = self.host.ask("HEAD", &path, &[], b"");
        let head = self.status(head, &[200]);
        self.header(&head, "content-length", &bytes.len().to_string());
        self.header(&head, "docker-content-digest", &Digest::of(bytes).to_string());
        self.expect(head.body.is_empty(), "HEAD has a body");
        let got = self.host.get(&path);
        let got = self.status(got, &[200]);
        self.header(&got, "content-length", &bytes.len().to_string());
        self.expect(got.body == bytes, "GET gives other bytes");
    }

    fn push_blob(&mut self, bytes: &[u8]) {
        let at = self.post("");
        self.end(&at, bytes, bytes, &Digest::of(bytes).to_string(), &[201]);
    }

    /// The whole life of some manifests: pushed, listed, asked for, pulled, deleted.
    fn life(&mut self, data: &Content) {
        for blob in &data.blobs {
            self.push_blob(blob);
            self.pull_blob(blob);
        }
        for (bytes, tag) in &data.manifests {
            let digest = Digest::of(bytes).to_string();
            for reference in tag.iter().map(String::as_str).chain([&*digest]) {
                self.push_manifest(bytes, reference);
            }
        }
        self.list(data);
        for (bytes, tag) in &data.manifests {
            let digest = Digest::of(bytes).to_string();
            for reference in tag.iter().map(String::as_str).chain([&*digest]) {
                self.pull_manifest(bytes, reference);
            }
        }
        self.referrers(data);
        for tag in data.manifests.iter().filter_map(|(_, tag)| tag.as_deref()) {
            self.delete_manifest(tag);
        }
        for (bytes, _) in data.manifests.iter().rev() {
            self.delete_manifest(&Digest::of(bytes).to_string());
        }
    }

    fn push_manifest(&mut self, bytes: &[u8], reference: &str) {
        let path = format!("/v2/{REPO}/manifests/{reference}");
        let kind = kind_of(bytes);
        let answer = self.host.ask("PUT", &path, &[("content-type", &kind)], bytes);
        let answer = self.status(answer, &[201]);
        self.header(&answer, "docker-content-digest", &Digest::of(bytes).to_string());
        let document: Value = serde_json::from_slice(bytes).expect("JSON");
        if let Some(subject) = document["subject"]["digest"].as_str() {
            self.header(&answer, "oci-subject", subject);
        }
        let at = self.location(&answer);
        let got = self.host.get(&at);
        let got = self.status(got, &[200]);
        self.expect(got.body == bytes, "Location gives another manifest");
    }

    fn pull_manifest(&mut self, bytes: &[u8], reference: &str) {
        let path = format!("/v2/{REPO}/manifests/{reference}");
        let kind = kind_of(bytes);
        let accept = [("accept", INDEX), ("accept", IMAGE)];
        for method in ["HEAD", "GET"] {
            let answer = self.host.ask(method, &path, &accept, b"");
            let answer = self.status(answer, &[200]);
            self.header(&answer, "content-type", &kind);
            self.header(&answer, "content-length", &bytes.len().to_string());
            self.header(&answer, "docker-content-digest", &Digest::of(bytes).to_string());
            let wanted = if method == "GET" { bytes } else { b"" };
            self.expect(answer.body == wanted, format!("{method} gives another body"));
        }
    }

    fn delete_manifest(&mut self, reference: &str) {
        let path = format!("/v2/{REPO}/manifests/{reference}");
        let answer = self.host.ask("DELETE", &path, &[], b"");
        self.status(answer, &[202, 404]);
        let answer = self.host.ask("HEAD", &path, &[], b"");
        self.status(answer, &[404]);
    }

    fn tags(&mut self, query: &str) -> Vec<String> {
        let answer = self.host.get(&format!("/v2/{REPO}/tags/list{query}"));
        let answer = self.status(answer, &[200, 404]);
        let list: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        serde_json::from_value(list["tags"].clone()).unwrap_or_default()
    }

    /// `tag-list`: all of them, and those after one.
    fn list(&mut self, data: &Content) {
        let all = self.tags("");
        for tag in data.manifests.iter().filter_map(|(_, tag)| tag.as_ref()) {
            self.expect(all.contains(tag), format!("the tag `{tag}` is not listed"));
        }
        if all.len() >= 2 {
            let (before, after) = all.split_at(all.len() / 2);
            let rest = self.tags(&format!("?last={}", before.last().expect("one")));
            self.expect(rest == after, format!("`last` gives {rest:?} and not {after:?}"));
        }
    }

    fn referrers(&mut self, data: &Content) {
        let documents: Vec<(String, Value)> = data
            .manifests
            .iter()
            .map(|(bytes, _)| {
                let document = serde_json::from_slice(bytes).expect("JSON");
                (Digest::of(bytes).to_string(), document)
            })
            .collect();
        for (digest, document) in &documents {
            let Some(subject) = document["subject"]["digest"].as_str() else { continue };
            let list = self.referrers_of(subject, "");
            let found = list.iter().find(|one| one["digest"] == json!(digest));
            let Some(found) = found.cloned() else {
                self.expect(false, format!("{digest} is no referrer of {subject}"));
                continue;
            };
            let kind = match document["artifactType"].is_null() {
                true => &document["config"]["mediaType"],
                false => &document["artifactType"],
            };
            self.expect(found["artifactType"] == *kind, format!("another artifactType: {found}"));
            let same = found["annotations"] == document["annotations"];
            self.expect(same, format!("other annotations: {found}"));
            let Some(kind) = kind.as_str() else { continue };
            let kind_in_query = kind.replace('+', "%2B");
            let query = format!("?artifactType={kind_in_query}");
            let filtered = self.referrers_of(subject, &query);
            let all_fit = filtered.iter().all(|one| one["artifactType"] == json!(kind));
            self.expect(all_fit, "the filter lets others through");
            self.expect(filtered.contains(&found), "the filter takes too much out");
        }
    }

    fn referrers_of(&mut self, subject: &str, query: &str) -> Vec<Value> {
        let answer = self.host.get(&format!("/v2/{REPO}/referrers/{subject}{query}"));
        let answer = self.status(answer, &[200]);
        self.header(&answer, "content-type", INDEX);
        if !query.is_empty() {
            self.header(&answer, "oci-filters-applied", "artifactType");
        }
        let index: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let is_index = index["mediaType"] == json!(INDEX) && index["schemaVersion"] == json!(2);
        self.expect(is_index, "the list is no index");
        index["manifests"].as_array().cloned().unwrap_or_default()
    }

    /// Chunks of 1024 bytes; before each, perhaps one that does not fit. The last goes with the
    /// PUT, or before it.
    fn chunks(&mut self, bytes: &[u8], is_disordered: bool, in_put: bool) {
        let digest = Digest::of(bytes).to_string();
        let mut at = self.post("");
        let mut start = 0;
        while start < bytes.len() {
            let end = (start + 1024).min(bytes.len());
            if is_disordered {
                self.disorder(&at, bytes, start, in_put);
            }
            let range = format!("{start}-{}", end - 1);
            let headers = [("content-range", &*range)];
            let chunk = &bytes[start..end];
            if in_put && end == bytes.len() {
                let answer = self.host.ask("PUT", &with(&at, &digest), &headers, chunk);
                self.status(answer, &[201]);
                return self.pull_blob(bytes);
            }
            let answer = self.host.ask("PATCH", &at, &headers, chunk);
            let answer = self.status(answer, &[202]);
            at = self.location(&answer);
            start = end;
        }
        self.end(&at, b"", bytes, &digest, &[201]);
        self.pull_blob(bytes);
    }

    fn disorder(&mut self, at: &str, bytes: &[u8], start: usize, in_put: bool) {
        let from = if start + 1024 < bytes.len() { start + 1024 } else { 0 };
        let to = (from + 1024).min(bytes.len());
        let range = format!("{from}-{}", to - 1);
        let headers = [("content-range", &*range)];
        let digest = Digest::of(bytes).to_string();
        let answer = match in_put && to == bytes.len() {
            true => self.host.ask("PUT", &with(at, &digest), &headers, &bytes[from..to]),
            false => self.host.ask("PATCH", at, &headers, &bytes[from..to]),
        };
        // At the very beginning the first chunk is not out of order.
        let wanted: &[u16] = if from == start { &[202] } else { &[416] };
        self.status(answer, wanted);
        let answer = self.host.get(at);
        let answer = self.status(answer, &[204]);
        if start > 0 {
            self.header(&answer, "range", &format!("0-{}", start - 1));
        }
    }
}

fn with(at: &str, digest: &str) -> String {
    let sign = if at.contains('?') { '&' } else { '?' };
    format!("{at}{sign}digest={digest}")
}

fn kind_of(bytes: &[u8]) -> String {
    let document: Value = serde_json::from_slice(bytes).expect("JSON");
    document["mediaType"].as_str().expect("a media type").to_owned()
}

/// Blobs, then manifests in the order of pushing, each with its tag.
#[derive(Default)]
struct Content {
    blobs: Vec<Vec<u8>>,
    manifests: Vec<(Vec<u8>, Option<String>)>,
}

/// Bytes that nobody else has.
fn noise(seed: u8, count: usize) -> Vec<u8> {
    let byte = |at: usize| at.wrapping_mul(2_654_435_761).to_le_bytes()[1] ^ seed;
    (0..count).map(byte).collect()
}

impl Content {
    fn descriptor(kind: &str, bytes: &[u8]) -> Value {
        json!({ "mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
    }

    fn blob(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let descriptor = Self::descriptor(kind, &bytes);
        self.blobs.push(bytes);
        descriptor
    }

    fn add(&mut self, document: &Value, tag: Option<&str>) -> Value {
        let bytes = document.to_string().into_bytes();
        let descriptor = Self::descriptor(document["mediaType"].as_str().expect("one"), &bytes);
        self.manifests.push((bytes, tag.map(str::to_owned)));
        descriptor
    }

    /// An image with so many layers, with some fields more.
    fn image(&mut self, seed: u8, layers: u8, more: Value, tag: Option<&str>) -> Value {
        let config = format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"seed\":{seed}}}");
        let config = self.blob(CONFIG, config.into_bytes());
        let layers: Vec<Value> =
            (0..layers).map(|at| self.blob(LAYER, noise(seed ^ at, 300))).collect();
        let image = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers,
        });
        self.add(&merged(image, more), tag)
    }

    fn artifact(&mut self, seed: u8, more: Value, tag: Option<&str>) -> Value {
        let config = self.blob(EMPTY, b"{}".to_vec());
        let layer = self.blob(EXAMPLE, noise(seed, 200));
        let artifact = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "artifactType": EXAMPLE,
            "config": config, "layers": [layer],
        });
        self.add(&merged(artifact, more), tag)
    }

    fn index(&mut self, children: &[Value], more: Value, tag: Option<&str>) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
        self.add(&merged(index, more), tag)
    }
}

fn merged(mut document: Value, more: Value) -> Value {
    for (name, value) in more.as_object().expect("an object") {
        document[name] = value.clone();
    }
    document
}

#[test]
fn ping_empty_and_errors() {
    Suite::run(&[
        ("ping", |suite| {
            let answer = suite.host.get("/v2/");
            suite.status(answer, &[200]);
        }),
        ("empty/tag list", |suite| assert!(suite.tags("").is_empty())),
        ("empty/referrers", |suite| {
            let list = suite.referrers_of(&Digest::of(b"nobody").to_string(), "");
            suite.expect(list.is_empty(), "somebody refers to nothing");
        }),
        ("missing-manifest/by-digest", |suite| {
            let path = format!("/v2/{REPO}/manifests/{}", Digest::of(b"nothing"));
            let answer = suite.host.get(&path);
            suite.status(answer, &[404]);
        }),
        ("missing-manifest/by-tag", |suite| {
            let answer = suite.host.get(&format!("/v2/{REPO}/manifests/missing-abc"));
            suite.status(answer, &[404]);
        }),
        ("invalid-digest-format/manifest-put", |suite| {
            let path = format!("/v2/{REPO}/manifests/sha256:baddigeststring");
            let answer = suite.host.put(&path, b"{\"schemaVersion\":2}");
            suite.status(answer, &[400]);
        }),
        ("invalid-digest-format/manifest-get", |suite| {
            let path = format!("/v2/{REPO}/manifests/sha256:baddigeststring");
            let answer = suite.host.get(&path);
            suite.status(answer, &[404, 400]);
        }),
        ("bad-digest-image", |suite| {
            let mut data = Content::default();
            data.image(1, 1, json!({}), None);
            let blobs = std::mem::take(&mut data.blobs);
            blobs.iter().for_each(|blob| suite.push_blob(blob));
            let (mut bytes, _) = data.manifests.pop().expect("one");
            let path = format!("/v2/{REPO}/manifests/{}", Digest::of(&bytes));
            bytes.extend(b"  ");
            let answer = suite.host.ask("PUT", &path, &[("content-type", IMAGE)], &bytes);
            suite.status(answer, &[400]);
        }),
    ]);
}

#[test]
fn sha256_blobs() {
    Suite::run(&[
        ("sha256 blobs/get-missing", |suite| {
            let path = format!("/v2/{REPO}/blobs/{}", Digest::of(b"missing"));
            let answer = suite.host.get(&path);
            suite.status(answer, &[404]);
        }),
        ("sha256 blobs/post only", |suite| {
            let bytes = noise(1, 512);
            let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", Digest::of(&bytes));
            let answer = suite.host.ask("POST", &path, &[], &bytes);
            suite.status(answer, &[201]);
            suite.pull_blob(&bytes);
        }),
        ("sha256 blobs/post+put", |suite| {
            suite.push_blob(&noise(2, 512));
            suite.pull_blob(&noise(2, 512));
        }),
        ("sha256 blobs/chunked single", |suite| suite.chunks(&noise(3, 512), false, false)),
        ("sha256 blobs/chunked multi", |suite| suite.chunks(&noise(4, 3067), false, false)),
        ("sha256 blobs/chunked multi and put chunk", |suite| {
            suite.chunks(&noise(5, 3067), false, true);
        }),
        ("sha256 blobs/chunked out-of-order", |suite| suite.chunks(&noise(6, 3067), true, false)),
        ("sha256 blobs/chunked out-of-order and put chunk", |suite| {
            suite.chunks(&noise(7, 3067), true, true);
        }),
        ("sha256 blobs/stream", |suite| {
            let at = suite.post("");
            let chunked = [("transfer-encoding", "chunked")];
            let body = [b"200\r\n", &noise(8, 512)[..], b"\r\n0\r\n\r\n"].concat();
            let answer = suite.host.raw("PATCH", &at, &chunked, &body);
            let answer = suite.status(answer, &[202]);
            let at = suite.location(&answer);
            let bytes = noise(8, 512);
            suite.end(&at, b"", &bytes, &Digest::of(&bytes).to_string(), &[201]);
        }),
        ("sha256 blobs/mount", |suite| mount(suite, &format!("&from={OTHER}"), 9)),
        ("sha256 blobs/mount anonymous", |suite| mount(suite, "", 10)),
        ("sha256 blobs/mount missing", |suite| {
            let bytes = noise(11, 512);
            let at = suite.post(&format!("?mount={}&from={OTHER}", Digest::of(&bytes)));
            suite.end(&at, &bytes, &bytes, &Digest::of(&bytes).to_string(), &[201]);
        }),
        ("sha256 blobs/post cancel", |suite| {
            let at = suite.post("");
            let answer = suite.host.ask("DELETE", &at, &[], b"");
            suite.status(answer, &[204]);
            let answer = suite.host.get(&at);
            suite.status(answer, &[404]);
        }),
        ("sha256 blobs/empty", |suite| {
            suite.push_blob(b"");
            suite.pull_blob(b"");
        }),
        ("sha256 blobs/emptyJSON", |suite| {
            suite.push_blob(b"{}");
            suite.pull_blob(b"{}");
        }),
    ]);
}

fn mount(suite: &mut Suite, from: &str, seed: u8) {
    let bytes = noise(seed, 512);
    let path = format!("/v2/{OTHER}/blobs/uploads/?digest={}", Digest::of(&bytes));
    let answer = suite.host.ask("POST", &path, &[], &bytes);
    suite.status(answer, &[201]);
    let path = format!("/v2/{REPO}/blobs/uploads/?mount={}{from}", Digest::of(&bytes));
    let answer = suite.host.ask("POST", &path, &[], b"");
    suite.status(answer, &[201]);
    suite.pull_blob(&bytes);
}

#[test]
fn range_requests() {
    let host = Host::open();
    let mut suite = Suite { host, failed: Vec::new(), name: "range requests".to_owned() };
    let bytes = noise(20, 2048);
    suite.push_blob(&bytes);
    let path = format!("/v2/{REPO}/blobs/{}", Digest::of(&bytes));
    for (range, wanted) in [
        ("500-1499", Some((500, 1500))),
        ("500-", Some((500, 2048))),
        ("-500", Some((1548, 2048))),
        ("2000-5000", Some((2000, 2048))),
        ("500-0", None),
        ("5000-10000", None),
    ] {
        suite.name = format!("range requests/range {range}");
        let header = format!("bytes={range}");
        let answer = suite.host.ask("GET", &path, &[("range", &header)], b"");
        let Some((start, end)) = wanted else {
            suite.status(answer, &[416]);
            continue;
        };
        let answer = suite.status(answer, &[206]);
        suite.expect(answer.body == bytes[start..end], "other bytes");
        suite.header(&answer, "content-length", &(end - start).to_string());
        suite.header(&answer, "content-range", &format!("bytes {start}-{}/2048", end - 1));
    }
    assert!(suite.failed.is_empty(), "{:#?}", suite.failed);
}

#[test]
fn bad_digests() {
    Suite::run(&[
        ("sha256 blobs/bad digest post only", |suite| {
            let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", Digest::of(b"right"));
            let answer = suite.host.ask("POST", &path, &[], b"wrong");
            suite.status(answer, &[400]);
        }),
        ("sha256 blobs/bad digest post+put", |suite| {
            let at = suite.post("");
            suite.end(&at, b"wrong", b"", &Digest::of(b"right").to_string(), &[400]);
        }),
        ("sha256 blobs/bad digest chunked", |suite| {
            let at = suite.post("");
            for range in ["0-1023", "1024-2047"] {
                let headers = [("content-range", range)];
                let answer = suite.host.ask("PATCH", &at, &headers, &noise(1, 1024));
                suite.status(answer, &[202]);
            }
            suite.end(&at, b"", b"", &Digest::of(b"right").to_string(), &[400]);
        }),
        ("sha256 blobs/bad digest chunked and put chunk", |suite| {
            let at = suite.post("");
            let headers = [("content-range", "0-1023")];
            let answer = suite.host.ask("PATCH", &at, &headers, &noise(1, 1024));
            suite.status(answer, &[202]);
            suite.end(&at, &noise(2, 100), b"", &Digest::of(b"right").to_string(), &[400]);
        }),
        ("sha256 blobs/bad digest stream", |suite| {
            let at = suite.post("");
            let chunked = [("transfer-encoding", "chunked")];
            let answer = suite.host.raw("PATCH", &at, &chunked, b"5\r\nwrong\r\n0\r\n\r\n");
            suite.status(answer, &[202]);
            suite.end(&at, b"", b"", &Digest::of(b"right").to_string(), &[400]);
        }),
    ]);
}

#[test]
fn images_and_indexes() {
    Suite::run(&[
        ("image", |suite| {
            let mut data = Content::default();
            data.image(1, 3, json!({}), Some("image"));
            data.image(2, 1, json!({}), Some("another"));
            suite.life(&data);
        }),
        ("large-manifest", |suite| {
            let name = |at| format!("large-annotation-{at}");
            let all: serde_json::Map<String, Value> =
                (0..390).map(|at| (name(at), json!("A".repeat(10_000)))).collect();
            let mut data = Content::default();
            data.image(3, 1, json!({ "annotations": all }), Some("large-manifest"));
            suite.life(&data);
        }),
        ("index", |suite| {
            let mut data = Content::default();
            let children = [4, 5].map(|seed| data.image(seed, 2, json!({}), None));
            data.index(&children, json!({}), Some("index"));
            suite.life(&data);
        }),
        ("nested-index", |suite| {
            let mut data = Content::default();
            let child = data.image(6, 1, json!({}), None);
            let inner = data.index(&[child], json!({}), None);
            let other = data.image(7, 1, json!({}), None);
            let other = data.index(&[other], json!({}), None);
            data.index(&[inner, other], json!({}), Some("index-of-index"));
            suite.life(&data);
        }),
        ("empty-index", |suite| {
            let mut data = Content::default();
            data.index(&[], json!({}), Some("index"));
            suite.life(&data);
        }),
    ]);
}

#[test]
fn images_with_odd_fields() {
    Suite::run(&[
        ("data-field", |suite| {
            let mut data = Content::default();
            let mut config = data.blob(CONFIG, b"{}".to_vec());
            config["data"] = json!("e30=");
            let image = json!({
                "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [],
            });
            data.add(&image, Some("data-field"));
            suite.life(&data);
        }),
        ("non-distributable-layers", |suite| {
            let mut data = Content::default();
            let elsewhere = Digest::of(b"elsewhere").to_string();
            let layer = json!({
                "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                "digest": elsewhere, "size": 123_456,
                "urls": [format!("https://store.example.com/blobs/{elsewhere}")],
            });
            let here = data.blob(LAYER, noise(8, 100));
            let more = json!({ "layers": [layer, here] });
            data.image(8, 0, more, Some("non-distributable-image"));
            suite.life(&data);
        }),
        ("custom-fields", |suite| {
            let mut data = Content::default();
            let more = json!({ "org.example.field": { "a": [1, null] } });
            let child = data.image(9, 1, more.clone(), None);
            data.index(&[child], more, Some("custom-fields"));
            suite.life(&data);
        }),
        ("no-layers", |suite| {
            let mut data = Content::default();
            data.image(10, 0, json!({}), Some("no-layers"));
            suite.life(&data);
        }),
    ]);
}

#[test]
fn artifacts_and_referrers() {
    Suite::run(&[
        ("artifact", |suite| {
            let mut data = Content::default();
            data.artifact(1, json!({}), Some("artifact"));
            suite.life(&data);
        }),
        ("artifact-without-layers", |suite| {
            let mut data = Content::default();
            let layer = data.blob(EMPTY, b"{}".to_vec());
            data.artifact(2, json!({ "layers": [layer] }), Some("artifact-without-layers"));
            suite.life(&data);
        }),
        ("artifact-index", |suite| {
            let mut data = Content::default();
            let children = [3, 4].map(|seed| data.artifact(seed, json!({}), None));
            let more = json!({ "artifactType": EXAMPLE });
            data.index(&children, more, Some("artifact-index"));
            suite.life(&data);
        }),
        ("artifacts-with-subject", |suite| {
            let mut data = Content::default();
            let subject = data.image(5, 1, json!({}), Some("image"));
            data.image(6, 1, json!({ "subject": subject }), None);
            for (seed, tag) in [(7, "tagged-artifact1"), (8, "tagged-artifact2")] {
                let annotations = json!({ "org.opencontainers.conformance": format!("{seed}") });
                let more = json!({
                    "subject": subject, "annotations": annotations,
                    "artifactType": format!("{EXAMPLE}{seed}"),
                });
                data.artifact(seed, more, Some(tag));
            }
            suite.life(&data);
        }),
        ("index-with-subject", |suite| {
            let mut data = Content::default();
            let child = data.image(9, 1, json!({}), None);
            let subject = data.index(&[child], json!({}), Some("index"));
            let child = data.artifact(10, json!({}), None);
            let more = json!({ "subject": subject, "artifactType": EXAMPLE });
            data.index(&[child], more, Some("tagged-artifact"));
            suite.life(&data);
        }),
        ("missing-subject", |suite| {
            let mut data = Content::default();
            let subject = Content::descriptor(IMAGE, b"missing content");
            data.artifact(11, json!({ "subject": subject }), Some("tagged-artifact"));
            suite.life(&data);
        }),
    ]);
}

#[test]
fn what_is_refused_is_refused_in_the_specifications_words() {
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let host = Host::open();
    let code = |answer: &Answer| {
        let body: Value = serde_json::from_slice(&answer.body).expect("an error is JSON");
        body["errors"][0]["code"].as_str().expect("a code").to_owned()
    };
    let path = format!("/v2/{REPO}/blobs/{}", Digest::of(b"x"));
    assert_eq!(code(&host.ask("DELETE", &path, &[], b"").is(405)), "UNSUPPORTED");
    let post = format!("/v2/{REPO}/blobs/uploads/?digest={sha512}");
    assert_eq!(code(&host.ask("POST", &post, &[], b"x").is(400)), "DIGEST_INVALID");
    let post = format!("/v2/{REPO}/blobs/uploads/?digest-algorithm=sha512");
    assert_eq!(code(&host.ask("POST", &post, &[], b"").is(400)), "DIGEST_INVALID");
    let put = format!("/v2/{REPO}/manifests/{sha512}");
    let answer = host.ask("PUT", &put, &[("content-type", INDEX)], b"{\"schemaVersion\":2}");
    assert_eq!(code(&answer.is(400)), "DIGEST_INVALID");
}
