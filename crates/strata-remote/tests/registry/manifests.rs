//! Manifests: right ones, wrong ones, none.

use std::time::Instant;

use strata_oci::{Digest, Registry, RegistryError, media_type};
use strata_remote::hint;

use crate::fake::{Fake, MANIFEST, Reply, impatient, json, manifest_reply, registry, settings};

#[test]
fn bytes_come_as_they_are() {
    let fake = Fake::start(|request, _| {
        (request.path == "/v2/team/app/manifests/v1").then(manifest_reply)
    });
    let registry = registry(settings());
    let manifest = registry.manifest(&fake.reference("team/app:v1")).expect("a manifest");
    assert_eq!(manifest.bytes, MANIFEST);
    assert_eq!(manifest.digest, Digest::of(MANIFEST));
    assert_eq!(manifest.media_type, media_type::MANIFEST);
    let requests = fake.requests();
    assert_eq!(requests.len(), 1);
    let accept = requests[0].header("accept").expect("an accept header");
    for media_type in [
        media_type::MANIFEST,
        media_type::INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_INDEX,
    ] {
        assert!(accept.contains(media_type), "{accept}");
    }
    let agent = requests[0].header("user-agent").expect("a user agent");
    assert!(agent.starts_with("strata/"), "{agent}");
}

#[test]
fn a_pinned_name_asks_for_the_digest() {
    let digest = Digest::of(MANIFEST);
    let path = format!("/v2/a/manifests/{digest}");
    let fake = Fake::start(move |request, _| (request.path == path).then(manifest_reply));
    let reference = fake.reference("a:v1").with_digest(digest);
    assert_eq!(registry(settings()).manifest(&reference).expect("a manifest").digest, digest);
}

#[test]
fn what_a_tag_stands_for_is_told_without_its_manifest() {
    let digest = Digest::of(MANIFEST);
    let text = digest.to_string();
    let fake = Fake::start(move |request, _| match (&*request.method, request.place()) {
        ("HEAD", "/v2/a/manifests/v1") => {
            Some(Reply::bare(200, &[("docker-content-digest", &text)]))
        }
        // A registry that does not say it.
        ("HEAD", "/v2/b/manifests/v1") => Some(Reply::bare(200, &[])),
        ("GET", "/v2/b/manifests/v1") => Some(manifest_reply()),
        ("HEAD", _) => Some(Reply::bare(404, &[])),
        _ => None,
    });
    let registry = registry(settings());
    assert_eq!(registry.current(&fake.reference("a:v1")).expect("a digest"), digest);
    assert_eq!(fake.requests().len(), 1);
    assert_eq!(registry.current(&fake.reference("b:v1")).expect("a digest"), digest);
    let missing = registry.current(&fake.reference("c:v1")).expect_err("it is not there");
    assert!(matches!(missing, RegistryError::NotFound { .. }), "{missing}");
}

#[test]
fn tags_come_page_by_page_from_one_place() {
    let fake = Fake::start(|request, _| {
        let page = |link: &str, tags: &str| {
            let body = format!("{{\"name\":\"a\",\"tags\":{tags}}}");
            Some(Reply::new(200, &[("link", link)], body.as_bytes()))
        };
        match &*request.path {
            "/v2/a/tags/list?n=1000" => {
                page("</v2/a/tags/list?n=1000&last=2>; rel=\"next\"", "[\"1\",\"2\"]")
            }
            "/v2/a/tags/list?n=1000&last=2" => {
                page("<https://elsewhere.example/v2/a/tags/list>; rel=\"next\"", "[\"3\"]")
            }
            "/v2/none/tags/list?n=1000" => page("", "null"),
            "/v2/round/tags/list?n=1000" => {
                page("</v2/round/tags/list?n=1000>; rel=\"next\"", "[]")
            }
            "/v2/odd/tags/list?n=1000" => Some(Reply::new(200, &[], b"[1]")),
            _ => None,
        }
    });
    let registry = registry(settings());
    let tags = |name: &str| registry.tags(&fake.reference(name));
    assert_eq!(tags("a").expect("tags"), ["1", "2", "3"]);
    assert_eq!(tags("none").expect("no tags"), [""; 0]);
    let missing = tags("other").expect_err("it is not there");
    assert!(matches!(missing, RegistryError::NotFound { .. }), "{missing}");
    for name in ["round", "odd"] {
        let wrong = tags(name).expect_err("no list").to_string();
        assert!(wrong.contains("the list of tags"), "{wrong}");
    }
}

/// One reply for every manifest; what the error says.
fn refused(reply: Reply) -> (String, usize) {
    let settings = if reply.stalls() { impatient() } else { settings() };
    let fake =
        Fake::start(move |request, _| request.path.contains("manifests").then(|| reply.clone()));
    let error = registry(settings).manifest(&fake.reference("a:v1")).expect_err("no manifest");
    let text = error.to_string();
    assert!(text.contains(&fake.host), "names the host: {text}");
    (text, fake.requests().len())
}

#[test]
fn wrong_answers_are_told_apart() {
    let check = |reply: Reply, expected: &str, tries: usize| {
        let (text, requests) = refused(reply);
        assert!(text.contains(expected), "{text}");
        assert_eq!(requests, tries, "{text}");
    };
    let other = Digest::of(b"other").to_string();
    check(Reply::new(404, &[], b""), "is not in the registry", 1);
    check(json(403, "{}"), "denies access", 1);
    check(Reply::new(401, &[], b""), "denies access", 1);
    check(Reply::new(500, &[], b"oops"), "answers 500", 4);
    check(json(418, r#"{"errors":[{"code":"X","message":"tea"}]}"#), "answers 418: tea", 1);
    check(Reply::new(204, &[], b""), "answers 204", 1);
    check(Reply::new(200, &[("docker-content-digest", &other)], MANIFEST), "wrong bytes", 1);
    check(Reply::new(200, &[("content-type", "text/html")], b"<html>"), "not a manifest", 1);
    check(Reply::new(200, &[], br#"{"schemaVersion":1}"#), "schema 1", 1);
    check(Reply::new(200, &[], &vec![b' '; 5 << 20]), "larger than 4 MiB", 1);
    check(Reply::raw(b"\x15\x03\x01\x00\x02\x02\x46garbage"), "r", 4);
    check(Reply::raw(b""), "registry", 4);
    check(Reply::short(200, &[], MANIFEST, 20), "registry", 4);
    check(Reply::default().then_stall(), "no answer in time", 4);
}

#[test]
fn a_wrong_pinned_manifest_is_refused() {
    let fake = Fake::start(|request, _| request.path.contains("manifests").then(manifest_reply));
    let reference = fake.reference("a").with_digest(Digest::of(b"something else"));
    let error = registry(settings()).manifest(&reference).expect_err("wrong bytes");
    assert!(error.to_string().contains("wrong bytes for the manifest"), "{error}");
}

#[test]
fn troubles_pass() {
    let check = |reply: Reply| {
        let fake = Fake::start(move |request, before| {
            let again = if before < 2 { reply.clone() } else { manifest_reply() };
            request.path.contains("manifests").then_some(again)
        });
        registry(settings()).manifest(&fake.reference("a")).expect("the third answer is right");
        assert_eq!(fake.requests().len(), 3);
    };
    check(Reply::new(503, &[], b""));
    check(Reply::new(429, &[], b""));
    check(Reply::raw(b""));
    check(Reply::short(200, &[], MANIFEST, 5));
    check(Reply::chunked(&[], MANIFEST, true));
}

#[test]
fn a_rate_limit_is_named_and_its_pause_kept() {
    let limit = |seconds: &'static str| {
        Fake::start(move |request, before| {
            let reply = Reply::new(429, &[("retry-after", seconds)], b"");
            let reply = if before == 0 { reply } else { manifest_reply() };
            request.path.contains("manifests").then_some(reply)
        })
    };
    let (short, long) = (limit("1"), limit("3600"));
    let registry = registry(settings());
    let start = Instant::now();
    registry.manifest(&short.reference("a")).expect("after a second");
    assert!(start.elapsed().as_millis() >= 1000);
    let error = registry.manifest(&long.reference("a")).expect_err("an hour is too long");
    assert!(error.to_string().contains("(429); it asks to wait 3600 s"), "{error}");
    assert!(hint(&error).expect("a hint").contains("wait"), "{error}");
}

#[test]
fn a_pause_may_be_told_as_a_date() {
    let until = |seconds| {
        let date = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
        let date = httpdate::fmt_http_date(date);
        Fake::start(move |request, before| {
            let reply = Reply::new(429, &[("retry-after", &date)], b"");
            let reply = if before == 0 { reply } else { manifest_reply() };
            request.path.contains("manifests").then_some(reply)
        })
    };
    let (past, soon, late) = (until(0), until(1), until(3600));
    let registry = registry(settings());
    registry.manifest(&past.reference("a")).expect("at once");
    registry.manifest(&soon.reference("a")).expect("after a second");
    let error = registry.manifest(&late.reference("a")).expect_err("an hour is too long");
    assert!(error.to_string().contains("(429); it asks to wait 3"), "{error}");
    assert_eq!(late.requests().len(), 1, "it is not asked again");
}

#[test]
fn nobody_there() {
    let fake = Fake::start(|_, _| None);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = port.local_addr().expect("an address").to_string();
    drop(port);
    let check = |name: &str, expected: &str| {
        let error = registry(settings()).manifest(&name.parse().expect(name)).expect_err(name);
        let text = error.to_string();
        assert!(text.contains("can not be reached") && text.contains(expected), "{text}");
    };
    check(&format!("{closed}/a"), "refused");
    check("no-such-host.invalid/a", "no-such-host.invalid");
    drop(fake);
}

#[test]
fn a_silent_host_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let name = format!("{}/a", listener.local_addr().expect("an address"));
    let mut settings = impatient();
    settings.retries.count = 0;
    let error = registry(settings).manifest(&name.parse().expect("a name")).expect_err("silence");
    assert!(error.to_string().contains("in time"), "{error}");
}

#[test]
fn many_threads_at_once() {
    let fake = Fake::start(|request, _| request.path.contains("manifests").then(manifest_reply));
    let registry = registry(settings());
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (registry, reference) = (&registry, fake.reference(&format!("a{number}")));
            scope.spawn(move || registry.manifest(&reference).expect("a manifest"));
        }
    });
    assert_eq!(fake.requests().len(), 8);
}
