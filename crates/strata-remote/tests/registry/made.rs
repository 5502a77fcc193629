//! Blobs that are sent while they are made, and all that a registry can do to them.

use std::io::{self, Write};
use std::sync::Arc;

use strata_oci::{Descriptor, Digest, PushRegistry, Reference, RegistryError};
use strata_remote::{Credentials, RegistrySettings, Secret};

use crate::fake::{Reply, impatient, registry, settings, some_blob};
use crate::pushes::{honest, kept_blob, methods, spoilt};

/// Pushes bytes piece by piece; how often they were made, and how that ended.
fn push(
    settings: RegistrySettings,
    name: &Reference,
    bytes: &[u8],
) -> (usize, Result<(), RegistryError>) {
    let mut count = 0;
    let mut make = |out: &mut dyn Write| -> io::Result<Digest> {
        count += 1;
        for piece in bytes.chunks(70_000) {
            out.write_all(piece)?;
        }
        Ok(Digest::of(bytes))
    };
    let pushed = registry(settings).push_made(name, &mut make);
    (count, pushed)
}

#[test]
fn a_blob_is_sent_before_its_digest_is_known() {
    let (fake, kept) = honest();
    for length in [0, 1, 3_000_000] {
        let (bytes, blob) = some_blob(length);
        let (count, pushed) = push(settings(), &fake.reference("team/app"), &bytes);
        pushed.expect("pushed");
        assert_eq!((count, kept_blob(&kept, "team/app", &blob)), (1, Some(bytes)));
    }
    assert_eq!(methods(&fake)[..3], ["POST", "PATCH", "PUT"]);
    let patch = &fake.requests()[1];
    assert_eq!((patch.header("content-length"), patch.header("content-range")), (None, None));
}

#[test]
fn what_can_not_be_made_is_not_pushed() {
    let (fake, _) = honest();
    let mut make = |out: &mut dyn Write| -> io::Result<Digest> {
        out.write_all(&[7; 300_000])?;
        Err(io::Error::other("the disk is gone"))
    };
    let pushed = registry(settings()).push_made(&fake.reference("a"), &mut make);
    let error = pushed.expect_err("it was not made").to_string();
    assert!(error.contains("the disk is gone"), "{error}");
    assert!(!methods(&fake).contains(&"PUT".to_owned()), "{:?}", methods(&fake));
}

#[test]
fn a_digest_that_is_wrong_is_refused() {
    let (fake, kept) = honest();
    let (bytes, blob) = some_blob(100_000);
    let mut make = |out: &mut dyn Write| -> io::Result<Digest> {
        out.write_all(&bytes)?;
        Ok(Digest::of(b"something else"))
    };
    let pushed = registry(settings()).push_made(&fake.reference("a"), &mut make);
    assert!(pushed.is_err());
    assert_eq!(kept_blob(&kept, "a", &blob), None);
}

#[test]
fn whatever_breaks_it_is_made_once_and_the_failure_told() {
    let (bytes, _) = some_blob(2_500_000);
    let check = |method: &'static str, reply: fn() -> Reply, expected: &str| {
        let (fake, _) = spoilt(move |request, _| (request.method == method).then(reply));
        let settings = if reply().stalls() { impatient() } else { settings() };
        let (count, pushed) = push(settings, &fake.reference("a"), &bytes);
        let error = pushed.expect_err(expected).to_string();
        assert!(error.contains(expected), "{method}: {error}");
        assert_eq!(count, usize::from(method != "POST"), "{method}");
        assert!(fake.requests().len() < 10, "{method}: {} requests", fake.requests().len());
    };
    check("POST", || Reply::new(500, &[], b""), "it answers 500");
    check("POST", || Reply::bare(403, &[]), "denies access");
    check("PATCH", || Reply::new(500, &[], b""), "it answers 500");
    check("PATCH", || Reply::bare(413, &[]), "a request of this size (413)");
    check("PATCH", || Reply::bare(307, &[("location", "/x")]), "redirects");
    check("PATCH", || Reply::raw(b""), "");
    check("PATCH", || Reply::raw(b"").then_stall(), "");
    check("PUT", || Reply::bare(400, &[]), "it answers 400");
}

#[test]
fn a_login_comes_before_the_bytes() {
    let (fake, kept) = spoilt(|request, _| {
        let unknown = request.header("authorization").is_none();
        unknown.then(|| Reply::bare(401, &[("www-authenticate", "Basic realm=\"x\"")]))
    });
    let (bytes, blob): (Vec<u8>, Descriptor) = some_blob(500_000);
    let login = || Credentials::Password { username: "bob".to_owned(), secret: Secret::new("pw") };
    let settings = RegistrySettings { credentials: Arc::new(move |_| Some(login())), ..settings() };
    let (count, pushed) = push(settings, &fake.reference("a"), &bytes);
    pushed.expect("pushed");
    assert_eq!((count, kept_blob(&kept, "a", &blob)), (1, Some(bytes)));
}
