//! Another registry's images as they pass through: fetched once, given out from here, compared
//! when it is time, and there when the other one is not.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use strata_cas::MemoryStore;
use strata_oci::{Descriptor, Digest, ManifestBytes, Reference, Registry, RegistryError};
use strata_server::{FarWrites, MirrorTable, ServeTable};

use crate::client::{Host, guarded, token};
use crate::tiers::{Distant, Mood, setup};

const KIND: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry that counts what it is asked, and can be gone or lie.
#[derive(Default)]
struct Far {
    /// By tag or digest.
    manifests: Mutex<HashMap<String, Vec<u8>>>,
    blobs: Mutex<HashMap<Digest, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
    is_gone: AtomicBool,
}

impl Far {
    fn image(&self, tag: &str, layer: &[u8]) -> Digest {
        let describe = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            self.blobs.lock().expect("blobs").insert(digest, bytes.to_vec());
            json!({"mediaType": "x/y", "digest": digest.to_string(), "size": bytes.len()})
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": KIND,
            "config": describe(b"{}"), "layers": [describe(layer)],
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let mut manifests = self.manifests.lock().expect("manifests");
        manifests.insert(digest.to_string(), bytes.clone());
        manifests.insert(tag.to_owned(), bytes);
        digest
    }

    fn ask(&self, what: &str, reference: &Reference) -> Result<(), RegistryError> {
        let name = format!("{what} {}", reference.repository);
        self.asked.lock().expect("asked").push(name);
        let registry = reference.registry.clone();
        match self.is_gone.load(Ordering::SeqCst) {
            true => Err(RegistryError::Unreachable { registry, reason: "gone".to_owned() }),
            false => Ok(()),
        }
    }

    fn find(&self, reference: &Reference) -> Result<Vec<u8>, RegistryError> {
        let found = self.manifests.lock().expect("manifests").get(&reference.target()).cloned();
        let missing = || RegistryError::NotFound {
            reference: reference.to_string(),
            registry: reference.registry.clone(),
        };
        found.ok_or_else(missing)
    }

    /// What it was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("asked"))
    }
}

impl Registry for Far {
    fn manifest(&self, reference: &Reference) -> Result<ManifestBytes, RegistryError> {
        self.ask("manifest", reference)?;
        let bytes = self.find(reference)?;
        Ok(ManifestBytes { digest: Digest::of(&bytes), media_type: KIND.to_owned(), bytes })
    }

    fn current(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        self.ask("check", reference)?;
        self.find(reference).map(|bytes| Digest::of(&bytes))
    }

    fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        self.ask("tags", reference)?;
        let manifests = self.manifests.lock().expect("manifests");
        Ok(manifests.keys().filter(|name| !name.contains(':')).cloned().collect())
    }

    /// Checks nothing, as its trait wants it to: what the server does about that is seen.
    fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        sink: &mut dyn Write,
        _: &mut dyn FnMut(u64),
    ) -> Result<(), RegistryError> {
        self.ask("blob", reference)?;
        let registry = reference.registry.clone();
        let bytes = self.blobs.lock().expect("blobs").get(&blob.digest).cloned();
        let missing = RegistryError::NotFound {
            reference: blob.digest.to_string(),
            registry: registry.clone(),
        };
        for piece in bytes.ok_or(missing)?.chunks(100_000) {
            let written = sink.write_all(piece);
            written.map_err(|error| RegistryError::Failed {
                registry: registry.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }
}

fn mirror(registry: &str, refresh: u64, default: bool) -> MirrorTable {
    MirrorTable { registry: registry.to_owned(), refresh, default, login: false }
}

fn through(table: ServeTable) -> (Arc<Far>, Host) {
    let far = Arc::<Far>::default();
    let host = Host::between(&table, Arc::new(MemoryStore::default()), None, Some(far.clone()));
    (far, host)
}

fn mirrored(refresh: u64) -> (Arc<Far>, Host) {
    let mirror = vec![mirror("far.example", refresh, false)];
    through(ServeTable { mirror, ..ServeTable::default() })
}

fn manifest(tag: &str) -> String {
    format!("/v2/far.example/team/app/manifests/{tag}")
}

fn blob(bytes: &[u8]) -> String {
    format!("/v2/far.example/team/app/blobs/{}", Digest::of(bytes))
}

fn noise(seed: u8) -> Vec<u8> {
    (0..1_000_000_u32).map(|at| at.to_le_bytes()[1] ^ seed).collect()
}

#[test]
fn what_was_fetched_once_is_here() {
    let (far, host) = mirrored(3600);
    let layer = noise(1);
    let digest = far.image("1", &layer);
    let got = host.get(&manifest("1")).is(200);
    assert_eq!((Digest::of(&got.body), got.header("content-type")), (digest, KIND));
    assert_eq!(got.header("docker-content-digest"), digest.to_string());
    // Its size is known before it is fetched.
    let head = host.ask("HEAD", &blob(&layer), &[], b"").is(200);
    assert_eq!(head.header("content-length"), "1000000");
    assert_eq!(far.asked(), ["manifest team/app"]);
    assert!(host.get(&blob(&layer)).is(200).body == layer);
    assert_eq!(far.asked(), ["blob team/app"]);
    for path in [manifest("1"), manifest(&digest.to_string()), blob(&layer)] {
        host.get(&path).is(200);
        host.ask("HEAD", &path, &[], b"").is(200);
    }
    let range = host.ask("GET", &blob(&layer), &[("range", "bytes=10-19")], b"").is(206);
    assert_eq!(range.body, layer[10..20]);
    assert_eq!(far.asked(), [""; 0]);
    // What no manifest has named is not looked for, and what is not there is not there.
    host.get(&blob(b"other")).is(404);
    host.get(&manifest("2")).is(404);
    let page = host.get("/metrics").is(200).text();
    for line in [
        "strata_upstream_requests_total{kind=\"manifest\",outcome=\"ok\"} 1",
        "strata_upstream_requests_total{kind=\"manifest\",outcome=\"missing\"} 1",
        "strata_upstream_requests_total{kind=\"blob\",outcome=\"ok\"} 1",
        "strata_upstream_received_bytes_total 1000000",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

#[test]
fn what_many_ask_for_at_once_is_fetched_once() {
    let (far, host) = mirrored(3600);
    let layer = noise(2);
    far.image("1", &layer);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                host.get(&manifest("1")).is(200);
                assert!(host.get(&blob(&layer)).is(200).body == layer);
            });
        }
    });
    let mut asked = far.asked();
    asked.sort();
    assert_eq!(asked, ["blob team/app", "manifest team/app"]);
}

#[test]
fn a_part_of_what_is_not_here_is_given_when_all_of_it_is() {
    let (far, host) = mirrored(3600);
    let layer = noise(3);
    far.image("1", &layer);
    host.get(&manifest("1")).is(200);
    let range = host.ask("GET", &blob(&layer), &[("range", "bytes=-5")], b"").is(206);
    assert_eq!(range.body, layer[layer.len() - 5..]);
}

#[test]
fn tags_are_compared_when_it_is_time() {
    let (far, host) = mirrored(0);
    let first = far.image("1", b"first");
    let tag = || Digest::of(&host.get(&manifest("1")).is(200).body);
    assert_eq!(tag(), first);
    assert_eq!(tag(), first);
    assert_eq!(far.asked(), ["manifest team/app", "check team/app"]);
    let second = far.image("1", b"second");
    assert_eq!(tag(), second);
    assert_eq!(far.asked(), ["check team/app", "manifest team/app"]);
    // A digest is what it is.
    host.get(&manifest(&first.to_string())).is(200);
    assert_eq!(far.asked(), [""; 0]);
    far.manifests.lock().expect("manifests").remove("1");
    host.get(&manifest("1")).is(404);
}

#[test]
fn what_is_here_is_there_when_the_other_one_is_gone() {
    let (far, host) = mirrored(0);
    let layer = noise(4);
    let digest = far.image("1", &layer);
    host.get(&manifest("1")).is(200);
    host.get(&blob(&layer)).is(200);
    far.is_gone.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(Digest::of(&host.get(&manifest("1")).is(200).body), digest);
    }
    // It is not asked again and again.
    assert_eq!(far.asked().iter().filter(|asked| *asked == "check team/app").count(), 1);
    assert!(host.get(&blob(&layer)).is(200).body == layer);
    let failed = host.get(&manifest("2")).is(502);
    let json: Json = serde_json::from_slice(&failed.body).expect("JSON");
    let message = json["errors"][0]["message"].as_str().expect("words");
    assert!(message.contains("registry `far.example` can not be reached"), "{message}");
    host.get(&blob(b"{}")).is(502);
    // And when it is back, so is all the rest.
    far.is_gone.store(false, Ordering::SeqCst);
    far.image("2", b"x");
    host.get(&manifest("2")).is(200);
}

#[test]
fn wrong_bytes_are_given_to_nobody() {
    let (far, host) = mirrored(3600);
    for (tag, layer) in [("large", noise(5)), ("small", b"small".to_vec())] {
        far.image(tag, &layer);
        host.get(&manifest(tag)).is(200);
        let mut wrong = layer.clone();
        *wrong.last_mut().expect("bytes") ^= 1;
        far.blobs.lock().expect("blobs").insert(Digest::of(&layer), wrong);
        // An answer that has begun is broken off; one that has not is none.
        let path = blob(&layer);
        let mut stream = host.connect();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("send");
        let answer = crate::client::read(&mut stream, false);
        assert!(answer.is_none_or(|answer| answer.status == 502), "{} bytes", layer.len());
        far.blobs.lock().expect("blobs").insert(Digest::of(&layer), layer.clone());
        assert!(host.get(&path).is(200).body == layer);
    }
}

#[test]
fn its_tags_are_the_other_ones_while_it_answers() {
    let (far, host) = mirrored(3600);
    far.image("1", b"one");
    far.image("2", b"two");
    let tags = || {
        let list = host.get("/v2/far.example/team/app/tags/list").is(200).body;
        let list: Json = serde_json::from_slice(&list).expect("JSON");
        list["tags"].as_array().expect("tags").len()
    };
    host.get(&manifest("1")).is(200);
    assert_eq!(tags(), 2);
    far.is_gone.store(true, Ordering::SeqCst);
    // What was asked for here is known.
    assert_eq!(tags(), 1);
    host.get("/v2/other.example/team/app/tags/list").is(404);
}

#[test]
fn servers_with_one_far_tier_ask_once() {
    for writes in [FarWrites::Through, FarWrites::Back] {
        let (far, distant) = (Arc::<Far>::default(), Arc::<Distant>::default());
        let layer = noise(8);
        far.image("1", &layer);
        let open = || {
            let mirror = vec![mirror("far.example", 3600, false)];
            let table = ServeTable { mirror, ..ServeTable::default() };
            let store = Arc::new(MemoryStore::default());
            Host::between(&table, store, Some(setup(&distant, writes)), Some(far.clone()))
        };
        let first = open();
        host_has(&first, &layer);
        assert_eq!(far.asked(), ["manifest team/app", "blob team/app"]);
        // In order, with all that was put off.
        first.server.expect("it runs").stop();
        host_has(&open(), &layer);
        assert_eq!(far.asked(), [""; 0]);
        // It may be gone: what passes through does so.
        distant.turn(Mood::Down);
        let alone = open();
        (0..2).for_each(|_| host_has(&alone, &layer));
        assert_eq!(far.asked(), ["manifest team/app", "blob team/app"]);
    }
}

fn host_has(host: &Host, layer: &[u8]) {
    host.get(&manifest("1")).is(200);
    assert!(host.get(&blob(layer)).is(200).body == layer);
}

#[test]
fn a_mirror_is_written_by_nobody() {
    let mirror = vec![mirror("far.example", 60, false)];
    let (far, host) = through(ServeTable { mirror, ..guarded() });
    far.image("1", b"x");
    let writer = [("authorization", crate::client::WRITER)];
    for (method, path) in [
        ("PUT", manifest("1")),
        ("DELETE", manifest("1")),
        ("POST", "/v2/far.example/team/app/blobs/uploads/".to_owned()),
    ] {
        let refused = host.ask(method, &path, &writer, b"{\"schemaVersion\":2}").is(403);
        assert!(refused.text().contains("whose mirror this is"), "{}", refused.text());
    }
    host.get(&manifest("1")).is(401);
    host.ask("GET", &manifest("1"), &[("authorization", crate::client::READER)], b"").is(200);
}

#[test]
fn names_without_a_registry_are_looked_for_here_first() {
    let mirror = vec![mirror("far.example", 0, true)];
    let (far, host) = through(ServeTable { mirror, ..ServeTable::default() });
    let theirs = far.image("1", b"theirs");
    let tag = || Digest::of(&host.get("/v2/team/app/manifests/1").is(200).body);
    assert_eq!(tag(), theirs);
    // As containerd asks a mirror.
    let asked = host.get("/v2/team/app/manifests/1?ns=far.example").is(200);
    assert_eq!(Digest::of(&asked.body), theirs);
    host.get("/v2/team/app/manifests/1?ns=other.example").is(404);
    far.asked();
    let own = b"{\"schemaVersion\":2,\"mediaType\":\"x/own\"}";
    host.ask("PUT", "/v2/team/app/manifests/1", &[("content-type", "x/own")], own).is(201);
    assert_eq!(tag(), Digest::of(own));
    assert_eq!(far.asked(), [""; 0]);
    let asked = host.get("/v2/team/app/manifests/1?ns=far.example").is(200);
    assert_eq!(Digest::of(&asked.body), theirs);
}

#[test]
fn what_may_not_be_kept_passes_through_all_the_same() {
    let mirror = vec![mirror("far.example", 3600, false)];
    let quota = std::collections::BTreeMap::from([("mirror".to_owned(), 1 << 20)]);
    let tokens = vec![token("somebody", "main")];
    let anonymous = Some(strata_server::Anonymous::Read);
    let table = ServeTable { mirror, quota, token: tokens, anonymous, ..ServeTable::default() };
    let (far, host) = through(table);
    let large = [noise(6), noise(7)].concat();
    far.image("1", &large);
    host.get(&manifest("1")).is(200);
    for _ in 0..2 {
        assert!(host.get(&blob(&large)).is(200).body == large);
    }
    let asked = far.asked();
    assert_eq!(asked, ["manifest team/app", "blob team/app", "blob team/app"]);
}
