//! Blobs: whole, in pieces, short, long, wrong, elsewhere.

use std::io;

use strata_oci::{Registry, RegistryError};

use crate::fake::{Fake, Reply, Request, impatient, pull, registry, settings, some_blob};

/// Serves one blob with a reply that depends on the request; pulls it.
fn check(
    length: usize,
    reply: impl Fn(&Request, usize, &[u8]) -> Reply + Send + Sync + 'static,
) -> (Vec<Request>, bool, Result<(), RegistryError>) {
    let (bytes, blob) = some_blob(length);
    let (served, path) = (bytes.clone(), format!("/v2/a/blobs/{}", blob.digest));
    let fake = Fake::start(move |request, before| {
        (request.path == path).then(|| reply(request, before, &served))
    });
    let (sink, outcome) = pull(&registry(impatient()), &fake.reference("a"), &blob);
    (fake.requests(), sink == bytes, outcome)
}

fn offset(request: &Request) -> usize {
    request.offset().unwrap_or(0)
}

#[test]
fn whole_blobs_arrive_however_they_are_framed() {
    for length in [0, 1, 70_000, 3_000_000] {
        let (requests, same, outcome) = check(length, |_, _, blob| Reply::new(200, &[], blob));
        outcome.expect("a blob");
        assert!(same && requests.len() == 1 && requests[0].method == "GET", "{length}");
        assert_eq!(requests[0].header("range"), None);
    }
    let (_, same, outcome) = check(70_000, |_, _, blob| Reply::chunked(&[], blob, false));
    assert!(same && outcome.is_ok(), "{outcome:?}");
    let (_, same, outcome) = check(70_000, |_, _, blob| Reply::unsized_body(200, &[], blob));
    assert!(same && outcome.is_ok(), "{outcome:?}");
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let (requests, same, outcome) = check(100_000, |request, before, blob| match before {
        0 => Reply::short(200, &[], blob, 40_000),
        1 => Reply::short(206, &[], &blob[offset(request)..], 10_000),
        _ => Reply::new(206, &[], &blob[offset(request)..]),
    });
    outcome.expect("a blob");
    assert!(same);
    let offsets: Vec<_> = requests.iter().map(Request::offset).collect();
    assert_eq!(offsets, [None, Some(40_000), Some(50_000)]);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let (requests, same, outcome) = check(100_000, |_, before, blob| match before {
        0 => Reply::short(200, &[], blob, 40_000),
        _ => Reply::new(200, &[], blob),
    });
    outcome.expect("a blob");
    assert!(same && requests.len() == 2);
}

#[test]
fn other_breaks_are_mended_too() {
    let breaks: [fn(&[u8]) -> Reply; 6] = [
        |blob| Reply::chunked(&[], &blob[..30_000], true),
        |blob| Reply::unsized_body(200, &[], &blob[..30_000]),
        |blob| Reply::short(200, &[], blob, 30_000).then_stall(),
        |_| Reply::new(429, &[], b""),
        |_| Reply::new(502, &[], b"<html>"),
        |_| Reply::raw(b"HTTP/1.1 2"),
    ];
    for broken in breaks {
        let (_, same, outcome) = check(100_000, move |request, before, blob| match before {
            0 => broken(blob),
            _ => Reply::new(206, &[], &blob[offset(request)..]),
        });
        outcome.expect("the second try is right");
        assert!(same);
    }
}

#[test]
fn patience_ends() {
    let (requests, _, outcome) = check(1000, |request, _, blob| {
        let rest = &blob[offset(request)..];
        Reply::short(if offset(request) > 0 { 206 } else { 200 }, &[], rest, 10)
    });
    let error = outcome.expect_err("it never ends").to_string();
    assert_eq!(requests.len(), 4, "{error}");
    let (requests, _, outcome) = check(1000, |_, _, _| Reply::new(500, &[], b""));
    let error = outcome.expect_err("it never works").to_string();
    assert!(error.contains("answers 500") && requests.len() == 4, "{error}");
}

#[test]
fn progress_renews_patience() {
    let (requests, same, outcome) = check(9 << 20, |request, _, blob| {
        let rest = &blob[offset(request)..];
        let part = rest.len().min((3 << 20) / 2);
        Reply::short(if offset(request) > 0 { 206 } else { 200 }, &[], rest, part)
    });
    outcome.expect("a blob");
    assert!(same && requests.len() == 6, "{}", requests.len());
}

#[test]
fn wrong_bytes_are_never_a_success() {
    let wrong: [fn(&[u8]) -> Reply; 6] = [
        |blob| Reply::new(200, &[], &vec![7; blob.len()]),
        |blob| Reply::new(200, &[], &blob[..500]),
        |blob| Reply::new(200, &[], &[blob, b"x"].concat()),
        |blob| Reply::chunked(&[], &[blob, b"x"].concat(), false),
        |blob| Reply::new(206, &[], &blob[1..]),
        |blob| {
            let other = strata_oci::Digest::of(b"other").to_string();
            Reply::new(200, &[("docker-content-digest", &other)], blob)
        },
    ];
    for reply in wrong {
        let (requests, _, outcome) = check(1000, move |_, _, blob| reply(blob));
        let error = outcome.expect_err("wrong bytes");
        assert!(matches!(error, RegistryError::Wrong { .. }), "{error}");
        assert_eq!(requests.len(), 1, "not asked again: {error}");
    }
}

#[test]
fn a_wrong_continuation_is_noticed() {
    let (_, same, outcome) = check(1000, |_, before, blob| match before {
        0 => Reply::short(200, &[], blob, 400),
        _ => Reply::new(206, &[], &blob[..600]),
    });
    let error = outcome.expect_err("wrong bytes");
    assert!(!same && matches!(error, RegistryError::Wrong { .. }), "{error}");
}

#[test]
fn no_such_blob() {
    let missing = |code: &'static str| {
        move |_: &Request, _: usize, _: &[u8]| {
            let text = format!(r#"{{"errors":[{{"code":"{code}","message":"?"}}]}}"#);
            Reply::new(404, &[("content-type", "application/json")], text.as_bytes())
        }
    };
    for code in ["BLOB_UNKNOWN", "NAME_UNKNOWN"] {
        let (_, _, outcome) = check(10, missing(code));
        assert!(matches!(outcome, Err(RegistryError::NotFound { .. })), "{outcome:?}");
    }
    let (_, _, outcome) = check(10, |_, _, _| Reply::new(404, &[], b"<html>"));
    assert!(matches!(outcome, Err(RegistryError::NotFound { .. })), "{outcome:?}");
}

#[test]
fn a_full_disk_ends_the_download() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (bytes, blob) = some_blob(5_000_000);
    let fake = Fake::start(move |request, _| {
        request.path.contains("blobs").then(|| Reply::new(200, &[], &bytes))
    });
    let registry = registry(settings());
    let outcome = registry.blob(&fake.reference("a"), &blob, &mut Full, &mut |_| ());
    let error = outcome.expect_err("a full disk").to_string();
    assert!(error.contains("can not be kept") && fake.requests().len() == 1, "{error}");
}

#[test]
fn downloads_run_side_by_side() {
    let (bytes, blob) = some_blob(2_000_000);
    let served = bytes.clone();
    let fake = Fake::start(move |request, _| {
        request.path.contains("blobs").then(|| Reply::new(200, &[], &served))
    });
    let registry = registry(settings());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let (sink, outcome) = pull(&registry, &fake.reference("a"), &blob);
                outcome.expect("a blob");
                assert_eq!(sink, bytes);
            });
        }
    });
}
