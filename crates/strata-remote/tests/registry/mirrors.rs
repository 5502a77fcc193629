//! Mirrors: first in turn, never in the way.

use std::io;

use strata_oci::{Registry, RegistryError};
use strata_remote::{Mirror, RegistrySettings, RemoteRegistry};

use crate::fake::{Fake, Reply, impatient, manifest_reply, pull, registry, settings, some_blob};

fn mirrored(origin: &Fake, mirrors: &[&Fake]) -> RegistrySettings {
    let mirrors = mirrors
        .iter()
        .map(|fake| Mirror { endpoint: format!("http://{}/hub", fake.host), plain_http: false });
    let mut settings = impatient();
    settings.mirrors.insert(origin.host.clone(), mirrors.collect());
    settings
}

fn serving() -> Fake {
    Fake::start(|request, _| {
        let (bytes, blob) = some_blob(50_000);
        let digest = blob.digest.to_string();
        match request.path.as_str() {
            path if path.contains("/manifests/") => Some(manifest_reply()),
            path if path.ends_with(&digest) => Some(match request.offset() {
                Some(offset) => Reply::new(206, &[], &bytes[offset..]),
                None => Reply::new(200, &[], &bytes),
            }),
            _ => None,
        }
    })
}

#[test]
fn the_first_mirror_that_has_it_serves() {
    let (origin, empty, full) = (serving(), Fake::start(|_, _| None), serving());
    let registry = registry(mirrored(&origin, &[&empty, &full]));
    let (bytes, blob) = some_blob(50_000);
    registry.manifest(&origin.reference("team/app:v1")).expect("a manifest");
    assert_eq!(pull(&registry, &origin.reference("team/app"), &blob).0, bytes);
    let paths: Vec<_> = full.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths[0], "/v2/hub/team/app/manifests/v1");
    assert_eq!(paths[1], format!("/v2/hub/team/app/blobs/{}", blob.digest));
    assert_eq!((empty.requests().len(), origin.requests().len()), (2, 0));
}

#[test]
fn no_failure_of_a_mirror_counts() {
    let failures: [fn() -> Reply; 8] = [
        || Reply::new(500, &[], b""),
        || Reply::new(401, &[], b""),
        || Reply::new(403, &[], b""),
        || Reply::new(429, &[("retry-after", "3600")], b""),
        || Reply::raw(b"garbage"),
        || Reply::new(200, &[("content-type", "text/html")], b"<html>log in</html>"),
        || Reply::short(200, &[], &some_blob(50_000).0, 20_000),
        || Reply::default().then_stall(),
    ];
    let (bytes, blob) = some_blob(50_000);
    let origin = serving();
    for failure in failures {
        let mirror = Fake::start(move |_, _| Some(failure()));
        let registry = registry(mirrored(&origin, &[&mirror]));
        registry.manifest(&origin.reference("a")).expect("a manifest");
        let (sink, outcome) = pull(&registry, &origin.reference("a"), &blob);
        outcome.expect("a blob");
        assert_eq!(sink, bytes);
    }
}

#[test]
fn when_all_fail_the_registry_has_the_last_word() {
    let failing = || Fake::start(|_, _| Some(Reply::new(500, &[], b"")));
    let (origin, mirror) = (failing(), failing());
    let registry = registry(mirrored(&origin, &[&mirror]));
    let error = registry.manifest(&origin.reference("a")).expect_err("all fail").to_string();
    assert!(error.starts_with(&format!("registry `{}`: it answers 500", origin.host)), "{error}");
    assert!(error.contains(&format!("mirror {}: it answers 500", mirror.host)), "{error}");
    let missing = Fake::start(|_, _| None);
    let registry = self::registry(mirrored(&missing, &[&mirror]));
    let error = registry.manifest(&missing.reference("a")).expect_err("all fail");
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains(&mirror.host), "{error}");
}

#[test]
fn what_a_mirror_spoilt_nobody_mends() {
    let (bytes, blob) = some_blob(50_000);
    let wrong = vec![7; bytes.len()];
    let (origin, mirror) = (serving(), Fake::start(move |_, _| Some(Reply::new(200, &[], &wrong))));
    let registry = registry(mirrored(&origin, &[&mirror]));
    let (_, outcome) = pull(&registry, &origin.reference("a"), &blob);
    let error = outcome.expect_err("the sink has wrong bytes").to_string();
    assert!(error.contains(&format!("`{}` sent wrong bytes", mirror.host)), "{error}");
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn a_failing_sink_is_not_filled_from_elsewhere() {
    struct Fails(bool);
    impl io::Write for Fails {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = !self.0;
            if self.0 { Ok(bytes.len() / 2) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (_, blob) = some_blob(50_000);
    let (origin, mirror) = (serving(), serving());
    let registry = registry(mirrored(&origin, &[&mirror]));
    let name = origin.reference("a");
    let outcome = registry.blob(&name, &blob, &mut Fails(false), &mut |_| ());
    let error = outcome.expect_err("a full disk").to_string();
    assert!(error.contains("can not be kept"), "{error}");
    assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 0));
}

#[test]
fn a_silent_mirror_is_waited_for_once() {
    let (origin, mirror) = (serving(), Fake::start(|_, _| Some(Reply::default().then_stall())));
    let registry = registry(mirrored(&origin, &[&mirror]));
    for _ in 0..3 {
        registry.manifest(&origin.reference("a")).expect("a manifest");
    }
    assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 3));
}

#[test]
fn senseless_settings_are_told_at_once() {
    let mut settings = settings();
    let mirror = Mirror { endpoint: "ftp://x".to_owned(), plain_http: false };
    settings.mirrors.insert("docker.io".to_owned(), vec![mirror]);
    assert!(RemoteRegistry::new(settings).is_err());
}
