//! Caches that machines share: one suite for all that can be one, and what each does with bytes
//! that are not what their names say.

use std::io::Write;
use std::sync::{Arc, Mutex};

use strata_cas::BlobId;
use strata_cas::entry::Entry;
use strata_oci::far::{Far, FarBlob, FarBlobs as _, FarName, FarRecord};
use strata_oci::{Descriptor, Digest, RegistryError, SharedCache};
use strata_remote::{ObjectCache, RegistryCache, RemoteRegistry, S3Settings, Secret, Timeouts};

use crate::bucket::{self, Bucket};
use crate::fake::{Fake, registry, settings, some_blob};
use crate::pushes::{Kept, answer};

/// What every shared cache promises.
pub(crate) fn suite(cache: &dyn SharedCache) {
    let key = |letter: &str| format!("d-1-{}", letter.repeat(64));
    assert_eq!(cache.record(&key("a")).expect("asked"), None);
    let (bytes, blob) = some_blob(3_000_000);
    assert!(matches!(fetch(cache, &blob), Err(RegistryError::NotFound { .. })));
    let send = |out: &mut dyn Write| out.write_all(&bytes);
    cache.keep_blob(&blob, &send).expect("kept");
    assert!(fetch(cache, &blob).expect("there") == bytes);
    let unread = |_: &mut dyn Write| -> std::io::Result<()> { panic!("it is read") };
    cache.keep_blob(&blob, &unread).expect("there already");
    let record = r#"{"a":"ä \"quoted\""}"#;
    cache.keep_record(&[key("a"), key("b")], record, std::slice::from_ref(&blob)).expect("kept");
    for letter in ["a", "b"] {
        let found = cache.record(&key(letter)).expect("asked").expect("there");
        assert_eq!(found, record.as_bytes());
    }
    assert_eq!(cache.record(&key("c")).expect("asked"), None);
    let (wrong, described) = some_blob(1000);
    let liar = |out: &mut dyn Write| out.write_all(&wrong[..500]);
    assert!(cache.keep_blob(&described, &liar).is_err());
    assert!(fetch(cache, &described).is_err(), "what is not as described is not kept");
}

pub(crate) fn fetch(cache: &dyn SharedCache, blob: &Descriptor) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    cache.blob(blob, &mut bytes).map(|()| bytes)
}

#[test]
fn a_registry_is_a_cache() {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let inside = Arc::clone(&kept);
    let fake = Fake::start(move |request, _| answer(&inside, request));
    let client: RemoteRegistry = registry(settings());
    suite(&RegistryCache::new(&client, &fake.reference("team/cache:ignored")));
    let kept = kept.lock().expect("no panic");
    let tags: Vec<_> = kept.manifests.keys().filter(|(_, name)| name.starts_with("d-1-")).collect();
    assert_eq!(tags.len(), 2, "a tag for each key");
}

#[test]
fn a_directory_is_a_cache() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("made");
    assert!(ObjectCache::directory(&path, false).is_err(), "a cache to read must be there");
    suite(&ObjectCache::directory(&path, true).expect("a cache"));
}

/// A cache in the bucket of a real server.
fn in_bucket(bucket: &Bucket, prefix: &str, name: &str) -> ObjectCache {
    let settings = S3Settings {
        bucket: name.to_owned(),
        prefix: prefix.to_owned(),
        region: None,
        endpoint: Some(bucket.endpoint.clone()),
        key: Some(("test".to_owned(), Secret::new("test"))),
        session_token: None,
        path_style: true,
        timeouts: Timeouts::default(),
    };
    ObjectCache::s3(&settings).expect("a cache")
}

#[test]
fn a_bucket_is_a_cache() {
    let bucket = Bucket::start();
    suite(&in_bucket(&bucket, "", bucket::NAME));
    suite(&in_bucket(&bucket, "team/app", bucket::NAME));
    // More than one part, and a download in several ranges.
    let cache = in_bucket(&bucket, "large", bucket::NAME);
    let (bytes, blob) = some_blob(40_000_000);
    cache.keep_blob(&blob, &|out| out.write_all(&bytes)).expect("kept");
    assert!(fetch(&cache, &blob).expect("there") == bytes);
    let liar = |out: &mut dyn Write| out.write_all(&vec![1; 40_000_001]);
    let other = Descriptor { size: 40_000_001, ..some_blob(40_000_001).1 };
    assert!(cache.keep_blob(&other, &liar).is_err());
    assert!(matches!(fetch(&cache, &other), Err(RegistryError::NotFound { .. })));
    let nowhere = in_bucket(&bucket, "", "no-such-bucket");
    assert!(nowhere.keep_record(&["d-1-x".to_owned()], "{}", &[]).is_err());
}

#[test]
fn damaged_bytes_are_never_an_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = ObjectCache::directory(directory.path(), true).expect("a cache");
    let (bytes, blob) = some_blob(10_000);
    cache.keep_blob(&blob, &|out| out.write_all(&bytes)).expect("kept");
    let path = directory.path().join("blobs/sha256").join(blob.digest.hex());
    let mut damaged = bytes.clone();
    damaged[5000] ^= 1;
    std::fs::write(&path, &damaged).expect("damaged");
    assert!(matches!(fetch(&cache, &blob), Err(RegistryError::Wrong { .. })));
    std::fs::write(&path, &bytes[..100]).expect("damaged");
    assert!(matches!(fetch(&cache, &blob), Err(RegistryError::Wrong { .. })));
    cache.keep_blob(&blob, &|out| out.write_all(&bytes)).expect("healed");
    assert!(fetch(&cache, &blob).expect("there") == bytes);
}

/// What every far tier promises.
pub(crate) fn far_suite(far: &dyn Far) {
    let (bytes, blob) = some_blob(3_000_000);
    let sha256 = FarName::Sha256(blob.digest);
    let blake3 = FarName::Blake3(BlobId::of(&bytes));
    let size = Some(blob.size);
    let ask = |name: FarName| FarBlob { name, size };
    assert_eq!(far.sizes(&[ask(sha256), ask(blake3)]).expect("asked"), [None, None]);
    assert!(!far.fetch(&ask(sha256), &mut Vec::new()).expect("asked"));
    for name in [sha256, blake3] {
        far.send((&name, blob.size), &|out| out.write_all(&bytes)).expect("kept");
        let mut fetched = Vec::new();
        assert!(far.fetch(&ask(name), &mut fetched).expect("asked") && fetched == bytes);
    }
    let other = FarName::Sha256(Digest::of(b"other"));
    let found = far.sizes(&[ask(sha256), ask(other), ask(blake3)]).expect("asked");
    assert_eq!(found, [size, None, size]);
    let entry = Entry {
        body: BlobId::of(b"body"),
        size: 4,
        attributes: Default::default(),
        needs: Vec::new(),
        stays: true,
        writer: "ci".to_owned(),
        trust: 7,
        written: 1,
        used: 1,
        far: false,
    };
    let record = |table: &str, name: &str| FarRecord {
        key: (table.to_owned(), name.to_owned()),
        entry: entry.clone(),
        blobs: vec![ask(sha256)],
        body: Some(b"body".to_vec()),
    };
    let tables = ["entries-1/main/oci-tags/team", "entries-1/main/oci-tags/team/app"];
    let long = "x".repeat(2000);
    for table in tables {
        assert_eq!(far.record(table, "app").expect("asked"), None);
        far.set_record(table, "app", None).expect("nothing to take back");
        for name in ["app", "a b/../c", &long] {
            far.set_record(table, name, Some(&record(table, name))).expect("kept");
            let found = far.record(table, name).expect("asked").expect("there");
            assert_eq!(FarRecord::decode(&found, table, name), Some(record(table, name)));
        }
        if let Some(mut names) = far.records(table).expect("asked") {
            names.sort();
            assert_eq!(names, ["a b/../c", "app"]);
        }
        far.set_record(table, "app", None).expect("taken back");
        assert_eq!(far.record(table, "app").expect("asked"), None);
    }
}

#[test]
fn a_directory_is_a_far_tier() {
    let directory = tempfile::tempdir().expect("a directory");
    far_suite(&ObjectCache::directory(directory.path(), true).expect("a cache"));
}

#[test]
fn a_bucket_is_a_far_tier_and_outlives_its_server() {
    let state = tempfile::tempdir().expect("a directory");
    let mut bucket = Bucket::keeping(state.path());
    far_suite(&in_bucket(&bucket, "", bucket::NAME));
    let cache = in_bucket(&bucket, "large", bucket::NAME);
    // More than one part, and a download in several ranges.
    let (bytes, blob) = some_blob(40_000_000);
    let (name, size) = (FarName::Sha256(blob.digest), Some(blob.size));
    cache.send((&name, blob.size), &|out| out.write_all(&bytes)).expect("kept");
    bucket.kill();
    assert!(cache.fetch(&FarBlob { name, size }, &mut Vec::new()).is_err());
    assert!(cache.sizes(&[FarBlob { name, size }]).is_err());
    bucket.start_again(state.path());
    let mut fetched = Vec::new();
    assert!(cache.fetch(&FarBlob { name, size }, &mut fetched).expect("asked"));
    assert!(fetched == bytes);
}

#[test]
fn a_bucket_that_does_not_answer_costs_bounded_time() {
    let milliseconds = std::time::Duration::from_millis;
    let cache = ObjectCache::s3(&S3Settings {
        bucket: "b".to_owned(),
        prefix: "p".to_owned(),
        region: None,
        // Nobody listens there.
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        key: None,
        session_token: None,
        path_style: true,
        timeouts: Timeouts { connect: milliseconds(200), idle: milliseconds(300) },
    });
    let cache = cache.expect("a cache");
    let error = cache.record("d-1-x").expect_err("nobody answers");
    assert!(matches!(error, RegistryError::Failed { .. }), "{error}");
}

#[test]
fn a_bucket_that_refuses_names_the_keys() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut request);
            let answer =
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer);
        }
    });
    let cache = ObjectCache::s3(&S3Settings {
        bucket: "b".to_owned(),
        prefix: "p".to_owned(),
        region: None,
        endpoint: Some(endpoint),
        key: Some(("id".to_owned(), Secret::new("hidden-key"))),
        session_token: None,
        path_style: true,
        timeouts: Timeouts::default(),
    });
    let error = cache.expect("a cache").record("d-1-x").expect_err("it refuses").to_string();
    assert!(error.starts_with("registry `s3://b`: it denies access"), "{error}");
    assert!(error.contains("AWS_ACCESS_KEY_ID") && !error.contains("hidden-key"), "{error}");
}
