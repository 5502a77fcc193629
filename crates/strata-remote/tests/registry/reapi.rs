//! Servers of the remote execution API as caches: such as are well, and such as are slow, wrong,
//! broken or gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use strata_oci::far::{FarBlob, FarBlobs as _, FarName};
use strata_oci::{Digest, RegistryError, SharedCache as _};
use strata_reapi::proto::*;
use strata_remote::{ReapiCache, ReapiSettings, Secret, Timeouts};
use tonic::Code;

use crate::fake::some_blob;
use crate::reapi_fake::{ReapiFake, Say, decoded, encoded};
use crate::shared::{far_suite, fetch, suite};

/// One that waits so long for an answer.
fn patient(address: impl std::fmt::Display, idle: Duration) -> ReapiCache {
    let settings = ReapiSettings {
        url: format!("grpc://{address}/team/app"),
        token: Some(Secret::new("its-very-secret")),
        authorities: None,
        identity: None,
        timeouts: Timeouts { connect: Duration::from_secs(5), idle },
    };
    ReapiCache::new(&settings).expect("a cache")
}

fn cache(fake: &ReapiFake) -> ReapiCache {
    patient(fake.address, Duration::from_secs(60))
}

#[test]
fn a_server_is_a_cache_and_a_far_tier() {
    let fake = ReapiFake::start();
    suite(&cache(&fake));
    // Nothing of what another client needs is in this one.
    let fake = ReapiFake::start();
    far_suite(&cache(&fake));
    let (bytes, blob) = some_blob(3_000_000);
    for size in [None, Some(blob.size)] {
        let mut found = Vec::new();
        let name = FarName::Sha256(blob.digest);
        assert!(cache(&fake).fetch(&FarBlob { name, size }, &mut found).expect("asked"));
        assert!(found == bytes);
    }
}

#[test]
fn large_records_are_blobs() {
    let fake = ReapiFake::start();
    let record = "r".repeat(3_000_000);
    cache(&fake).keep_record(&["d-1-x".to_owned()], &record, &[]).expect("kept");
    let found = cache(&fake).record("d-1-x").expect("asked").expect("there");
    assert!(found == record.as_bytes());
    // Its blob is lost: it is none.
    fake.kept().blobs.clear();
    assert_eq!(cache(&fake).record("d-1-x").expect("asked"), None);
}

#[test]
fn no_message_is_larger_than_servers_take() {
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&largest);
    let fake = ReapiFake::meddling(move |method, messages| {
        if method == "FindMissingBlobs" {
            seen.fetch_max(messages[0].len(), Ordering::SeqCst);
        }
        None
    });
    let blob = |number: u32| FarBlob {
        name: FarName::Sha256(Digest::of(&number.to_be_bytes())),
        size: Some(4),
    };
    let there = Digest::of(&7_u32.to_be_bytes());
    fake.kept().blobs.insert(there.hex(), Bytes::from_static(&[0, 0, 0, 7]));
    let sizes = cache(&fake).sizes(&(0..30_000).map(blob).collect::<Vec<_>>()).expect("asked");
    assert_eq!(sizes.len(), 30_000);
    assert_eq!(sizes[7], Some(4));
    assert_eq!(sizes.iter().flatten().count(), 1);
    assert!(largest.load(Ordering::SeqCst) < 1 << 20);
}

/// Gives, of `bytes`, something else.
fn lying(wrong: Vec<u8>) -> ReapiFake {
    ReapiFake::meddling(move |method, messages| match method {
        "Read" => {
            let asked: ReadRequest = decoded(messages);
            let offset = usize::try_from(asked.read_offset).expect("an offset").min(wrong.len());
            let data = Bytes::copy_from_slice(&wrong[offset..]);
            Some(Say::Messages(vec![encoded(&ReadResponse { data })]))
        }
        "BatchReadBlobs" => {
            let data = Bytes::copy_from_slice(&wrong);
            let one = ReadBlob { data, ..ReadBlob::default() };
            Some(Say::Messages(vec![encoded(&BatchReadBlobsResponse { responses: vec![one] })]))
        }
        _ => None,
    })
}

#[test]
fn bytes_that_are_not_what_they_should_be_are_no_answer() {
    for length in [1000, 300_000] {
        let (bytes, blob) = some_blob(length);
        let mut other = bytes.clone();
        other[length / 2] ^= 1;
        let wrong = fetch(&cache(&lying(other)), &blob).expect_err("other bytes");
        assert!(matches!(wrong, RegistryError::Wrong { .. }), "{wrong}");
        let longer = [&bytes[..], b"more"].concat();
        let wrong = fetch(&cache(&lying(longer)), &blob).expect_err("more bytes");
        assert!(matches!(wrong, RegistryError::Wrong { .. }), "{wrong}");
        let fake = lying(bytes[..length / 2].to_vec());
        let short = fetch(&cache(&fake), &blob).expect_err("half of them");
        assert!(short.to_string().contains("the answer ended after"), "{short}");
        // Bounded, and as often as it makes sense.
        assert_eq!(fake.calls("Read") + fake.calls("BatchReadBlobs"), 3);
    }
}

/// Refuses so many calls of one method, and is well then.
fn refusing(method: &'static str, times: usize, code: Code) -> ReapiFake {
    let left = AtomicUsize::new(times);
    ReapiFake::meddling(move |called, _| {
        let less = |left: usize| left.checked_sub(1);
        let is_refused =
            called == method && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        is_refused.then_some(Say::Refuse(code))
    })
}

#[test]
fn what_may_pass_is_tried_again_and_else_not() {
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::Aborted, Code::Internal] {
        let fake = refusing("GetActionResult", 2, code);
        assert_eq!(cache(&fake).record("d-1-x").expect("answered"), None, "{code:?}");
        assert_eq!(fake.calls("GetActionResult"), 3);
    }
    let fake = refusing("GetActionResult", 100, Code::Unavailable);
    let error = cache(&fake).record("d-1-x").expect_err("it never answers");
    assert!(error.to_string().contains("it answers Unavailable"), "{error}");
    assert_eq!(fake.calls("GetActionResult"), 3);
    for (code, text) in [
        (Code::PermissionDenied, "denies access"),
        (Code::Unauthenticated, "denies access"),
        (Code::InvalidArgument, "it answers InvalidArgument"),
        (Code::Unimplemented, "it answers Unimplemented"),
    ] {
        let fake = refusing("UpdateActionResult", 100, code);
        let kept = cache(&fake).keep_record(&["d-1-x".to_owned()], "{}", &[]);
        let error = kept.expect_err("refused").to_string();
        assert!(error.contains(text) && error.contains("team/app"), "{error}");
        assert!(!error.contains("its-very-secret"), "{error}");
        assert_eq!(fake.calls("UpdateActionResult"), 1, "{code:?}");
    }
}

#[test]
fn transfers_go_on_where_they_broke() {
    let (bytes, blob) = some_blob(3_000_000);
    let offsets = Arc::new(Mutex::new(Vec::new()));
    let (seen, all) = (Arc::clone(&offsets), bytes.clone());
    let fake = ReapiFake::meddling(move |method, messages| match method {
        "Read" => {
            let asked: ReadRequest = decoded(messages);
            let offset = usize::try_from(asked.read_offset).expect("an offset");
            let mut seen = seen.lock().expect("no panic");
            seen.push(offset);
            let data = Bytes::copy_from_slice(&all[offset..(offset + 400_000).min(all.len())]);
            let message = encoded(&ReadResponse { data });
            Some(if offset + 400_000 < all.len() {
                Say::Break(vec![message])
            } else {
                Say::Messages(vec![message])
            })
        }
        _ => None,
    });
    // Too little each time to count as progress.
    assert!(fetch(&cache(&fake), &blob).is_err());
    assert_eq!(*offsets.lock().expect("no panic"), [0, 400_000, 800_000]);
    drop(fake);

    let (seen, writes) = (Arc::new(Mutex::new(Vec::new())), AtomicUsize::new(0));
    let inside = Arc::clone(&seen);
    let fake = ReapiFake::meddling(move |method, messages| match method {
        "Write" => {
            let first: WriteRequest = decoded(messages);
            let length: usize = messages
                .iter()
                .map(|one| WriteRequest::decode(one.clone()))
                .map(|one| one.expect("a message").data.len())
                .sum();
            inside.lock().expect("no panic").push((first.write_offset, length));
            Some(match writes.fetch_add(1, Ordering::SeqCst) {
                0 => Say::Break(Vec::new()),
                _ => Say::Messages(vec![encoded(&WriteResponse { committed_size: 3_000_000 })]),
            })
        }
        "QueryWriteStatus" => {
            let committed_size = 1_000_001;
            let status = QueryWriteStatusResponse { committed_size, ..Default::default() };
            Some(Say::Messages(vec![encoded(&status)]))
        }
        _ => None,
    });
    cache(&fake).keep_blob(&blob, &|out| out.write_all(&bytes)).expect("kept");
    assert_eq!(*seen.lock().expect("no panic"), [(0, 3_000_000), (1_000_001, 1_999_999)]);
}

#[test]
fn who_does_not_answer_is_not_waited_for_long() {
    let (bytes, blob) = some_blob(300_000);
    let fake = ReapiFake::meddling(|method, _| {
        let is_well = method == "FindMissingBlobs";
        (!is_well).then_some(Say::Hang)
    });
    let cache = patient(fake.address, Duration::from_millis(200));
    for answer in [
        cache.record("d-1-x").map(drop),
        fetch(&cache, &blob).map(drop),
        cache.keep_blob(&blob, &|out| out.write_all(&bytes)),
        cache.keep_record(&["d-1-x".to_owned()], "{}", &[]),
    ] {
        let error = answer.expect_err("no answer").to_string();
        assert!(error.contains("no answer for"), "{error}");
    }
    // Once: waiting again is of no use.
    assert!(fake.calls("GetActionResult") <= 1);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let cache = patient(address, Duration::from_millis(200));
    let error = cache.record("d-1-x").expect_err("nobody accepts").to_string();
    assert!(error.contains("no answer for"), "{error}");
    drop(silent);
    let cache = patient(address, Duration::from_secs(60));
    let error = cache.record("d-1-x").expect_err("nobody listens").to_string();
    assert!(error.contains("the connection is refused"), "{error}");
}

#[test]
fn settings_that_make_no_sense() {
    let check = |url: &str, authorities: Option<&str>, expected: &str| {
        let settings = ReapiSettings {
            url: url.to_owned(),
            token: None,
            authorities: authorities.map(|text| text.as_bytes().to_vec()),
            identity: None,
            timeouts: Timeouts::default(),
        };
        let error = ReapiCache::new(&settings).err().expect(url).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("http://h:1", None, "a URL is `grpc://HOST:PORT`");
    check("grpcs://h:1", Some("no PEM"), "there is no PEM certificate in its authorities");
}
