//! Servers with something behind their stores, which may be slow, wrong or gone.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use strata_cas::{Blob, BlobId, BlobStore, Incoming, MemoryStore, NameStore, StoreError};
use strata_oci::far::{Far, FarBlob, FarBlobs, FarName, FarRecord, FarRecords};
use strata_oci::{BlobBytes, Digest, RegistryError};
use strata_server::{FarSetup, FarWrites, Scope, Secret, ServeTable, Served, TokenTable};

use crate::client::Host;

/// How what is far away behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Nobody answers.
    Down,
    /// Half of each blob comes, and then nothing more is said.
    Truncating,
    /// One bit of each blob is another one.
    Lying,
    /// One bit of each blob's second half is.
    Turning,
}

/// Something far away that keeps everything in memory.
#[derive(Default)]
pub(crate) struct Distant {
    mood: Mutex<Mood>,
    blobs: Mutex<HashMap<FarName, Vec<u8>>>,
    records: Mutex<BTreeMap<(String, String), Vec<u8>>>,
    fetched: AtomicUsize,
    asked: AtomicUsize,
    is_slow: AtomicBool,
    /// Where it is closed, half of each blob comes, and the rest when it is opened.
    gate: Gate,
}

#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn close(&self) {
        *locked(&self.is_closed) = true;
    }

    fn open(&self) {
        *locked(&self.is_closed) = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let is_closed = locked(&self.is_closed);
        drop(self.changed.wait_while(is_closed, |is_closed| *is_closed).expect("no panic"));
    }
}

fn locked<T>(one: &Mutex<T>) -> MutexGuard<'_, T> {
    one.lock().expect("no panic")
}

impl Distant {
    pub(crate) fn turn(&self, mood: Mood) {
        *locked(&self.mood) = mood;
    }

    fn answer(&self) -> Result<(), RegistryError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match *locked(&self.mood) {
            Mood::Down => {
                let (registry, reason) = ("distant".to_owned(), "it is down".to_owned());
                Err(RegistryError::Failed { registry, reason })
            }
            _ => Ok(()),
        }
    }

    fn has(&self, bytes: &[u8]) -> bool {
        locked(&self.blobs).contains_key(&FarName::Sha256(Digest::of(bytes)))
    }
}

impl FarBlobs for Distant {
    fn sizes(&self, blobs: &[FarBlob]) -> Result<Vec<Option<u64>>, RegistryError> {
        self.answer()?;
        let all = locked(&self.blobs);
        Ok(blobs.iter().map(|one| all.get(&one.name).map(|bytes| bytes.len() as u64)).collect())
    }

    fn fetch(&self, blob: &FarBlob, sink: &mut dyn Write) -> Result<bool, RegistryError> {
        self.answer()?;
        self.fetched.fetch_add(1, Ordering::SeqCst);
        if self.is_slow.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(300));
        }
        let Some(mut bytes) = locked(&self.blobs).get(&blob.name).cloned() else {
            return Ok(false);
        };
        match *locked(&self.mood) {
            Mood::Truncating => bytes.truncate(bytes.len() / 2),
            Mood::Lying => bytes[0] ^= 1,
            _ => {}
        }
        let failed = |error: std::io::Error| RegistryError::Failed {
            registry: "distant".to_owned(),
            reason: error.to_string(),
        };
        let (first, second) = bytes.split_at(bytes.len() / 2);
        sink.write_all(first).map_err(failed)?;
        self.gate.pass();
        // It may have turned meanwhile.
        let mut second = second.to_vec();
        if *locked(&self.mood) == Mood::Turning {
            second[0] ^= 1;
        }
        sink.write_all(&second).map(|()| true).map_err(failed)
    }

    fn send(&self, blob: (&FarName, u64), bytes: &BlobBytes<'_>) -> Result<(), RegistryError> {
        self.answer()?;
        let mut all = Vec::new();
        bytes(&mut all).expect("they are near");
        assert_eq!(all.len() as u64, blob.1);
        locked(&self.blobs).insert(*blob.0, all);
        Ok(())
    }
}

impl FarRecords for Distant {
    fn record(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        self.answer()?;
        Ok(locked(&self.records).get(&(table.to_owned(), name.to_owned())).cloned())
    }

    fn set_record(
        &self,
        table: &str,
        name: &str,
        record: Option<&FarRecord>,
    ) -> Result<(), RegistryError> {
        self.answer()?;
        let key = (table.to_owned(), name.to_owned());
        match record {
            Some(record) => {
                // The rule: blobs first.
                let blobs = locked(&self.blobs);
                assert!(record.blobs.iter().all(|blob| blobs.contains_key(&blob.name)));
                locked(&self.records).insert(key, record.encode());
            }
            None => drop(locked(&self.records).remove(&key)),
        }
        Ok(())
    }

    fn records(&self, table: &str) -> Result<Option<Vec<String>>, RegistryError> {
        self.answer()?;
        let all = locked(&self.records);
        let names = all.keys().filter(|(of, _)| of == table).map(|(_, name)| name.clone());
        Ok(Some(names.collect()))
    }
}

const PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn setup(distant: &Arc<Distant>, writes: FarWrites) -> FarSetup {
    let far = Arc::clone(distant) as Arc<dyn Far>;
    FarSetup { far, writes, queue_limit: 3, pause: PAUSE, notice: Arc::new(|_| {}) }
}

/// A server with an own store before it.
fn server(distant: &Arc<Distant>, writes: FarWrites) -> Host {
    on(distant, writes, &ServeTable::default(), Arc::new(MemoryStore::default()))
}

fn on(
    distant: &Arc<Distant>,
    writes: FarWrites,
    table: &ServeTable,
    store: Arc<dyn Served>,
) -> Host {
    Host::behind(table, store, Some(setup(distant, writes)))
}

/// Until what is put off has been done.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let found = (0..3000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        is_so()
    });
    assert!(found, "never: {what}");
}

fn cas(bytes: &[u8]) -> String {
    format!("/cas/{}", Digest::of(bytes).hex())
}

/// An action result (`output_files` with one digest) as bytes.
fn result(bytes: &[u8]) -> Vec<u8> {
    let hash = Digest::of(bytes).hex();
    let digest = [&[10, 64], hash.as_bytes(), &[16, u8::try_from(bytes.len()).expect("few")]];
    let digest = digest.concat();
    let file = [&[10, 1, b'o', 18, u8::try_from(digest.len()).expect("few")], &digest[..]].concat();
    [&[18, u8::try_from(file.len()).expect("few")], &file[..]].concat()
}

const KEY: &str = "/ac/0000000000000000000000000000000000000000000000000000000000000000";

/// Pushes an image of one layer.
fn push(host: &Host, tag: &str, layer: &[u8]) -> String {
    let mut descriptors = Vec::new();
    for bytes in [b"{}".as_slice(), layer] {
        let digest = Digest::of(bytes);
        let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
        host.ask("POST", &path, &[], bytes).is(201);
        descriptors.push(serde_json::json!({
            "mediaType": "application/octet-stream", "digest": digest.to_string(),
            "size": bytes.len(),
        }));
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptors[0], "layers": [descriptors[1]],
    });
    let manifest = manifest.to_string();
    host.put(&format!("/v2/team/app/manifests/{tag}"), manifest.as_bytes()).is(201);
    manifest
}

#[test]
fn what_one_server_keeps_another_one_serves() {
    for writes in [FarWrites::Through, FarWrites::Back] {
        let distant = Arc::new(Distant::default());
        let first = server(&distant, writes);
        let large = vec![7; 300_000];
        first.put("/cache/s/small", b"value").is(201);
        first.put("/cache/s/large", &large).is(201);
        first.put(&cas(b"output"), b"output").is(200);
        first.put(KEY, &result(b"output")).is(200);
        first.put("/v8/artifacts/abc", b"artifact").is(200);
        let manifest = push(&first, "v1", b"a layer");
        // In order, with all that was put off; and its store is lost with it.
        first.server.expect("it runs").stop();

        let second = server(&distant, writes);
        assert_eq!(second.get("/cache/s/small").is(200).body, b"value");
        assert_eq!(second.get("/cache/s/large").is(200).body, large);
        assert_eq!(second.get(KEY).is(200).body, result(b"output"));
        assert_eq!(second.get(&cas(b"output")).is(200).body, b"output");
        assert_eq!(second.get("/v8/artifacts/abc").is(200).body, b"artifact");
        assert_eq!(second.get("/v2/team/app/manifests/v1").is(200).text(), manifest);
        let layer = format!("/v2/team/app/blobs/{}", Digest::of(b"a layer"));
        assert_eq!(second.get(&layer).is(200).body, b"a layer");
        assert!(second.get("/v2/team/app/tags/list").is(200).text().contains("v1"));
        assert!(second.get("/v2/_catalog").is(200).text().contains("team/app"));
        // From now on it answers for itself.
        distant.turn(Mood::Down);
        assert_eq!(second.get("/cache/s/small").is(200).body, b"value");
        assert_eq!(second.get("/v2/team/app/manifests/v1").is(200).text(), manifest);
        assert_eq!(second.get(&layer).is(200).body, b"a layer");
    }
}

#[test]
fn near_goes_on_when_nobody_answers() {
    let distant = Arc::new(Distant::default());
    let through = server(&distant, FarWrites::Through);
    through.put("/cache/s/k", b"value").is(201);
    distant.turn(Mood::Down);
    assert_eq!(through.get("/cache/s/k").is(200).body, b"value");
    through.get("/cache/s/other").is(404);
    // A blob that is wanted may be there; one that would be sent need not be.
    through.get(&cas(b"other")).is(503);
    through.ask("HEAD", &cas(b"other"), &[], b"").is(404);
    through.get("/v2/team/app/manifests/v1").is(503);
    let blob = format!("/v2/team/app/blobs/{}", Digest::of(b"other"));
    through.get(&blob).is(503);
    through.ask("HEAD", &blob, &[], b"").is(404);
    through.put("/cache/s/other", b"value").is(503);
    through.put(&cas(b"other"), b"other").is(503);
    assert!(through.get("/metrics").text().contains("strata_far_up 0"));
    distant.turn(Mood::Well);
    until("it is asked again", || through.put("/cache/s/other", b"value").status == 201);
    assert!(through.get("/metrics").text().contains("strata_far_up 1"));
}

#[test]
fn what_was_acknowledged_arrives_though_the_server_ends() {
    let distant = Arc::new(Distant::default());
    let store = Arc::new(MemoryStore::default());
    let near = || Arc::clone(&store) as Arc<dyn Served>;
    let table = ServeTable::default();
    distant.turn(Mood::Down);
    let first = on(&distant, FarWrites::Back, &table, near());
    first.put(&cas(b"blob"), b"blob").is(200);
    first.put("/cache/s/k", b"value").is(201);
    first.put(KEY, &result(b"blob")).is(200);
    assert_eq!(first.get("/cache/s/k").is(200).body, b"value");
    until("it is counted", || first.get("/metrics").text().contains("strata_far_queue 3"));
    // Three may wait; then a write waits for who does not answer.
    first.put("/cache/s/more", b"value").is(503);
    drop(first);
    assert!(locked(&distant.records).is_empty() && locked(&distant.blobs).is_empty());

    distant.turn(Mood::Well);
    let second = on(&distant, FarWrites::Back, &table, near());
    until("all is sent", || second.get("/metrics").text().contains("strata_far_queue 0"));
    drop(second);
    let third = server(&distant, FarWrites::Back);
    assert_eq!(third.get("/cache/s/k").is(200).body, b"value");
    assert_eq!(third.get(KEY).is(200).body, result(b"blob"));
    assert_eq!(third.get(&cas(b"blob")).is(200).body, b"blob");
}

#[test]
fn a_quota_lets_nothing_go_that_is_nowhere_else() {
    let distant = Arc::new(Distant::default());
    let quota = BTreeMap::from([("main".to_owned(), 1 << 20)]);
    let table = ServeTable { quota, ..ServeTable::default() };
    let host = on(&distant, FarWrites::Back, &table, Arc::new(MemoryStore::default()));
    distant.turn(Mood::Down);
    host.put("/cache/s/first", &[1; 400 << 10]).is(201);
    host.put("/cache/s/second", &[2; 400 << 10]).is(201);
    // Neither has been sent, so neither makes room.
    host.put("/cache/s/third", &[3; 400 << 10]).is(507);
    assert_eq!(host.get("/cache/s/first").is(200).body, [1; 400 << 10]);
    distant.turn(Mood::Well);
    until("there is room", || host.put("/cache/s/third", &[3; 400 << 10]).status == 201);
    // What went has gone from here only.
    for (name, byte) in [("first", 1), ("second", 2)] {
        assert_eq!(host.get(&format!("/cache/s/{name}")).is(200).body, [byte; 400 << 10]);
    }
}

#[test]
fn wrong_bytes_are_never_an_answer() {
    for mood in [Mood::Truncating, Mood::Lying] {
        let distant = Arc::new(Distant::default());
        let blob = vec![3; 400_000];
        let first = server(&distant, FarWrites::Through);
        first.put(&cas(&blob), &blob).is(200);
        first.put("/cache/s/large", &blob).is(201);
        let second = server(&distant, FarWrites::Through);
        distant.turn(mood);
        assert_eq!(second.get(&cas(&blob)).status, 404);
        assert_eq!(second.get("/cache/s/large").status, 404);
        distant.turn(Mood::Well);
        // It is not believed again before it comes again, and then it is sent again.
        assert_eq!(second.get(&cas(&blob)).status, 404);
        locked(&distant.blobs).values_mut().for_each(|bytes| bytes[5] ^= 1);
        second.put(&cas(&blob), &blob).is(200);
        let third = server(&distant, FarWrites::Through);
        assert_eq!(third.get(&cas(&blob)).is(200).body, blob);
    }
}

#[test]
fn an_entry_without_its_blobs_is_none() {
    let distant = Arc::new(Distant::default());
    let first = server(&distant, FarWrites::Through);
    first.put(&cas(b"output"), b"output").is(200);
    first.put(KEY, &result(b"output")).is(200);
    // A rule of the bucket has removed it.
    locked(&distant.blobs).remove(&FarName::Sha256(Digest::of(b"output"))).expect("there");
    server(&distant, FarWrites::Through).get(KEY).is(404);
    // What has it near has it all.
    first.get(KEY).is(200);
    // A record with another key's content.
    let key = locked(&distant.records).keys().next().expect("a record").clone();
    let bytes = locked(&distant.records)[&key].clone();
    locked(&distant.records).insert((key.0, "1".repeat(64)), bytes);
    let second = server(&distant, FarWrites::Through);
    second.get(&KEY.replace('0', "1")).is(404);
}

#[test]
fn the_same_blob_is_fetched_once() {
    let distant = Arc::new(Distant::default());
    let blob = vec![9; 300_000];
    server(&distant, FarWrites::Through).put(&cas(&blob), &blob).is(200);
    let second = server(&distant, FarWrites::Through);
    distant.is_slow.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| assert_eq!(second.get(&cas(&blob)).is(200).body, blob));
        }
    });
    assert_eq!(distant.fetched.load(Ordering::SeqCst), 1);
}

/// A store whose large blobs go to files while they come.
struct Spilling {
    inner: MemoryStore,
    directory: tempfile::TempDir,
    count: AtomicUsize,
}

impl Spilling {
    fn new() -> Arc<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        Arc::new(Self { inner: MemoryStore::default(), directory, count: AtomicUsize::new(0) })
    }
}

impl BlobStore for Spilling {
    fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        self.inner.open(id)
    }

    fn put_from(&self, source: &mut dyn std::io::Read) -> Result<BlobId, StoreError> {
        self.inner.put_from(source)
    }

    fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        self.inner.has(id)
    }

    fn begin(&self) -> Result<Incoming, StoreError> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        Ok(Incoming::spilling(self.directory.path().join(number.to_string()), 1000))
    }
}

impl NameStore for Spilling {
    fn name(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.name(table, name)
    }

    fn set_name(&self, table: &str, name: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.inner.set_name(table, name, value)
    }

    fn names(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner.names(table)
    }

    fn each_name(
        &self,
        prefix: &str,
        see: &mut dyn FnMut(&str, &str, &[u8]),
    ) -> Result<(), StoreError> {
        self.inner.each_name(prefix, see)
    }
}

#[test]
fn the_first_bytes_are_given_out_before_the_last_have_come() {
    let blob: Vec<u8> = (0..2_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    let want = |host: &Host| {
        let mut stream = host.connect();
        let head = format!("GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", cas(&blob));
        stream.write_all(head.as_bytes()).expect("send");
        stream
    };
    for mood in [Mood::Well, Mood::Turning] {
        let distant = Arc::new(Distant::default());
        let table = ServeTable::default();
        server(&distant, FarWrites::Through).put(&cas(&blob), &blob).is(200);
        let host = on(&distant, FarWrites::Through, &table, Spilling::new());
        distant.gate.close();
        distant.turn(mood);
        // Two that want it, one fetch.
        let mut streams = [want(&host), want(&host)];
        let mut begun = Vec::new();
        for stream in &mut streams {
            let mut first = vec![0; 300_000];
            stream.read_exact(&mut first).expect("they are here");
            begun.push(first);
        }
        distant.gate.open();
        for (mut stream, mut answer) in streams.into_iter().zip(begun) {
            drop(stream.read_to_end(&mut answer));
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
            match mood {
                Mood::Well => assert!(answer[end..] == blob),
                // What is not right has no end.
                _ => assert!(answer.len() - end < blob.len()),
            }
        }
        assert_eq!(distant.fetched.load(Ordering::SeqCst), 1);
        let again = host.get(&cas(&blob));
        match mood {
            Mood::Well => assert!(again.is(200).body == blob),
            _ => drop(again.is(404)),
        }
    }
}

#[test]
fn who_takes_nothing_holds_nobody_up() {
    let distant = Arc::new(Distant::default());
    let blob = vec![7; 30_000_000];
    server(&distant, FarWrites::Through).put(&cas(&blob), &blob).is(200);
    let host = on(&distant, FarWrites::Through, &ServeTable::default(), Spilling::new());
    distant.gate.close();
    let mut slow = host.connect();
    let head = format!("GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", cas(&blob));
    slow.write_all(head.as_bytes()).expect("send");
    slow.read_exact(&mut [0; 100]).expect("it has begun");
    distant.gate.open();
    assert!(host.get(&cas(&blob)).is(200).body == blob);
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).expect("it comes");
    assert!(rest.ends_with(&blob[..1000]) && rest.len() + 100 > blob.len());
}

#[test]
fn a_follower_reads_and_writes_nothing() {
    let distant = Arc::new(Distant::default());
    let first = server(&distant, FarWrites::Through);
    first.put("/cache/s/k", b"value").is(201);
    let follower = server(&distant, FarWrites::None);
    assert_eq!(follower.get("/cache/s/k").is(200).body, b"value");
    follower.put("/cache/s/other", b"x").is(403);
    follower.put(&cas(b"x"), b"x").is(403);
    follower.ask("DELETE", "/cache/s/k", &[], b"").is(403);
    assert!(!distant.has(b"x"));
}

#[test]
fn what_is_replaced_or_taken_back_is_so_for_all() {
    let distant = Arc::new(Distant::default());
    let (first, second) =
        (server(&distant, FarWrites::Through), server(&distant, FarWrites::Through));
    let one = push(&first, "latest", b"one");
    assert_eq!(second.get("/v2/team/app/manifests/latest").is(200).text(), one);
    let two = push(&first, "latest", b"two");
    assert_eq!(second.get("/v2/team/app/manifests/latest").is(200).text(), two);
    let digest = Digest::of(two.as_bytes());
    second.ask("DELETE", &format!("/v2/team/app/manifests/{digest}"), &[], b"").is(202);
    first.get("/v2/team/app/manifests/latest").is(404);
    assert!(!first.get("/v2/team/app/tags/list").text().contains("latest"));
    first.put("/cache/s/k", b"value").is(201);
    second.get("/cache/s/k").is(200);
    first.ask("DELETE", "/cache/s/k", &[], b"").is(204);
    first.get("/cache/s/k").is(404);
    server(&distant, FarWrites::Through).get("/cache/s/k").is(404);
}

#[test]
fn trust_and_namespaces_go_along() {
    let token = |name: &str, namespace: &str, reads: &[&str], trust| TokenTable {
        name: name.to_owned(),
        token: Some(Secret::new(format!("{name}-0123456789abcdef"))),
        token_file: None,
        scope: Scope::Write,
        namespace: namespace.to_owned(),
        reads: reads.iter().map(|name| (*name).to_owned()).collect(),
        trust,
        requests_per_second: None,
        bytes_per_second: None,
    };
    let tokens = vec![
        token("release", "main", &[], 100),
        token("nightly", "main", &[], 10),
        token("branch", "branches", &["main"], 10),
    ];
    let table = ServeTable { token: tokens, ..ServeTable::default() };
    let distant = Arc::new(Distant::default());
    let open = |table: &ServeTable| {
        on(&distant, FarWrites::Through, table, Arc::new(MemoryStore::default()))
    };
    let ask = |host: &Host, method: &str, name: &str, who: &str, body: &[u8]| {
        let bearer = format!("Bearer {who}-0123456789abcdef");
        let path = format!("/cache/s/{name}");
        host.ask(method, &path, &[("authorization", &bearer)], body)
    };
    let first = open(&table);
    ask(&first, "PUT", "k", "release", b"trusted").is(201);
    ask(&first, "PUT", "own", "branch", b"of a branch").is(201);
    // Another server knows nothing but what is far away.
    let second = open(&table);
    ask(&second, "PUT", "k", "nightly", b"poison").is(403);
    ask(&second, "DELETE", "k", "nightly", b"").is(403);
    assert_eq!(ask(&second, "GET", "k", "branch", b"").is(200).body, b"trusted");
    assert_eq!(ask(&second, "GET", "own", "branch", b"").is(200).body, b"of a branch");
    ask(&second, "GET", "own", "release", b"").is(404);
    let revoking = ServeTable { revoked: vec!["release".to_owned()], ..table };
    ask(&open(&revoking), "GET", "k", "branch", b"").is(404);
}

#[test]
fn what_many_ask_for_is_asked_at_once() {
    let distant = Arc::new(Distant::default());
    let hashes = ["a", "b", "c"].map(|hash| hash.to_owned());
    let first = server(&distant, FarWrites::Through);
    hashes.iter().for_each(|hash| drop(first.put(&format!("/v8/artifacts/{hash}"), b"x").is(200)));
    let second = server(&distant, FarWrites::Through);
    let body = serde_json::json!({ "hashes": ["a", "b", "c", "d"] }).to_string();
    let answer = second.ask("POST", "/v8/artifacts", &[], body.as_bytes()).is(200).text();
    let found: BTreeMap<String, serde_json::Value> = serde_json::from_str(&answer).expect("JSON");
    let there: Vec<&String> =
        found.iter().filter(|(_, about)| !about.is_null()).map(|(hash, _)| hash).collect();
    assert_eq!(there, ["a", "b", "c"]);
}
