//! Logins: bearer tokens, basic, identity tokens, and who must never see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use strata_oci::{Registry, RegistryError};
use strata_remote::{Credentials, RegistrySettings, Secret, hint};

use crate::fake::{
    Fake, Reply, Request, json, manifest_reply, pull, registry, settings, some_blob,
};

fn password(username: &str, secret: &str) -> Credentials {
    Credentials::Password { username: username.to_owned(), secret: Secret::new(secret) }
}

fn settings_with(credentials: Credentials) -> RegistrySettings {
    RegistrySettings { credentials: Arc::new(move |_| Some(credentials.clone())), ..settings() }
}

/// A registry that wants `Authorization: wanted`, and says `challenge` otherwise.
fn guarded(challenge: String, wanted: &'static str) -> Fake {
    let (bytes, _) = some_blob(50_000);
    Fake::start(move |request, _| {
        if request.header("authorization") != Some(wanted) {
            return Some(Reply::new(401, &[("www-authenticate", &challenge)], b""));
        }
        match request.path.as_str() {
            path if path.contains("/manifests/") => Some(manifest_reply()),
            path if path.contains("/blobs/") => Some(Reply::new(200, &[], &bytes)),
            _ => None,
        }
    })
}

fn bearer_challenge(tokens: &Fake) -> String {
    format!(r#"Bearer realm="http://{}/token",service="fake""#, tokens.host)
}

/// A token server that gives `token` to those who send `wanted` (or nothing, for None).
fn token_server(wanted: Option<&'static str>, token: &'static str) -> Fake {
    Fake::start(move |request, _| {
        assert!(request.path.starts_with("/token?"), "{}", request.path);
        Some(match request.header("authorization") == wanted {
            true => json(200, &format!(r#"{{"token":"{token}"}}"#)),
            false => json(401, r#"{"details":"incorrect username or password"}"#),
        })
    })
}

/// Both kinds of requests, in both orders.
fn pulls_all(fake: &Fake, settings: &RegistrySettings) {
    let (bytes, blob) = some_blob(50_000);
    let reference = fake.reference("team/app");
    let first = registry(settings.clone());
    first.manifest(&reference).expect("a manifest");
    assert_eq!(pull(&first, &reference, &blob).0, bytes);
    let second = registry(settings.clone());
    let (sink, outcome) = pull(&second, &reference, &blob);
    outcome.expect("a blob");
    assert_eq!(sink, bytes);
    second.manifest(&reference).expect("a manifest");
}

#[test]
fn anonymous_tokens() {
    let tokens = token_server(None, "t1");
    let fake = guarded(bearer_challenge(&tokens), "Bearer t1");
    pulls_all(&fake, &settings());
    let path = &tokens.requests()[0].path;
    assert!(path.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{path}");
    assert!(path.contains("service=fake"), "{path}");
    assert_eq!(tokens.requests().len(), 2, "one token for a manifest and its blobs");
}

#[test]
fn tokens_for_a_login() {
    let tokens = token_server(Some("Basic Ym9iOnB3"), "t2");
    let fake = guarded(bearer_challenge(&tokens), "Bearer t2");
    pulls_all(&fake, &settings_with(password("bob", "pw")));
    let error = registry(settings_with(password("bob", "wrong")))
        .manifest(&fake.reference("a"))
        .expect_err("a wrong password");
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    assert!(hint(&error).is_some());
}

#[test]
fn basic_logins() {
    let fake = guarded(r#"Basic realm="x""#.to_owned(), "Basic Ym9iOnB3");
    pulls_all(&fake, &settings_with(password("bob", "pw")));
    for settings in [settings_with(password("bob", "no")), settings()] {
        let error = registry(settings).manifest(&fake.reference("a")).expect_err("no access");
        assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    }
}

#[test]
fn identity_tokens_are_traded() {
    let tokens = Fake::start(|request, _| {
        let expected = "grant_type=refresh_token&service=fake&client_id=strata\
            &scope=repository%3Ateam%2Fapp%3Apull&refresh_token=id%26t";
        let right = request.method == "POST" && request.body == expected.as_bytes();
        Some(if right { json(200, r#"{"access_token":"t3"}"#) } else { json(400, "{}") })
    });
    let fake = guarded(bearer_challenge(&tokens), "Bearer t3");
    pulls_all(&fake, &settings_with(Credentials::IdentityToken(Secret::new("id&t"))));
    let stale = settings_with(Credentials::IdentityToken(Secret::new("stale")));
    let error = registry(stale).manifest(&fake.reference("team/app")).expect_err("no access");
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
}

#[test]
fn a_token_that_is_not_accepted_ends_it() {
    let tokens = token_server(None, "useless");
    let fake = guarded(bearer_challenge(&tokens), "Bearer other");
    let (_, blob) = some_blob(50_000);
    let registry = registry(settings());
    let error = registry.manifest(&fake.reference("a")).expect_err("no access");
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    let (_, outcome) = pull(&registry, &fake.reference("a"), &blob);
    assert!(matches!(outcome, Err(RegistryError::Denied { .. })), "{outcome:?}");
    assert!(fake.requests().len() <= 4, "it does not go round in circles");
}

#[test]
fn strange_token_servers_do_no_harm() {
    let answers = ["", "{}", "[1]", r#"{"token":"a\nb"}"#, r#"{"token":"\u0000"}"#];
    for answer in answers {
        let tokens = Fake::start(move |_, _| Some(json(200, answer)));
        let fake = guarded(bearer_challenge(&tokens), "Bearer t");
        let registry = registry(settings());
        registry.manifest(&fake.reference("a")).expect_err(answer);
        let (_, blob) = some_blob(50_000);
        pull(&registry, &fake.reference("a"), &blob).1.expect_err(answer);
    }
    for challenge in ["Bearer", "Bearer realm=\"\"", "Bearer realm=\"http://127.0.0.1:1/\"", "?"] {
        let fake = guarded(challenge.to_owned(), "Bearer t");
        registry(settings()).manifest(&fake.reference("a")).expect_err(challenge);
    }
}

#[test]
fn a_renewed_token_replaces_a_stale_one() {
    let issued = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&issued);
    let tokens = Fake::start(move |_, _| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Some(json(200, &format!(r#"{{"token":"t{number}"}}"#)))
    });
    let challenge = bearer_challenge(&tokens);
    let (bytes, blob) = some_blob(50_000);
    // The registry accepts each token once.
    let accepted = AtomicUsize::new(0);
    let fake = Fake::start(move |request, _| {
        if request.path == "/v2/" {
            return Some(Reply::new(401, &[("www-authenticate", &challenge)], b""));
        }
        let wanted = format!("Bearer t{}", accepted.load(Ordering::SeqCst));
        if request.header("authorization") != Some(&wanted) {
            return Some(Reply::new(401, &[("www-authenticate", &challenge)], b""));
        }
        accepted.fetch_add(1, Ordering::SeqCst);
        Some(match request.path.contains("blobs") {
            true => Reply::new(200, &[], &bytes),
            false => manifest_reply(),
        })
    });
    let registry = registry(settings());
    let reference = fake.reference("a");
    for _ in 0..2 {
        registry.manifest(&reference).expect("a manifest");
        pull(&registry, &reference, &blob).1.expect("a blob");
    }
    assert_eq!(issued.load(Ordering::SeqCst), 4);
}

#[test]
fn credentials_stay_with_their_host() {
    let (bytes, blob) = some_blob(50_000);
    let served = bytes.clone();
    let storage = Fake::start(move |request, before| match (before, request.offset()) {
        (0, _) => Some(Reply::short(200, &[], &served, 20_000)),
        (_, Some(offset)) => Some(Reply::new(206, &[], &served[offset..])),
        _ => None,
    });
    let location = format!("http://{}/elsewhere", storage.host);
    let fake = Fake::start(move |request, _| {
        if request.header("authorization") != Some("Basic Ym9iOnB3") {
            return Some(Reply::new(401, &[("www-authenticate", "Basic realm=\"x\"")], b""));
        }
        request.path.contains("blobs").then(|| Reply::new(307, &[("location", &location)], b""))
    });
    let registry = registry(settings_with(password("bob", "pw")));
    let (sink, outcome) = pull(&registry, &fake.reference("a"), &blob);
    outcome.expect("a blob");
    assert_eq!(sink, bytes);
    let requests = storage.requests();
    assert_eq!(requests.iter().map(Request::offset).collect::<Vec<_>>(), [None, Some(20_000)]);
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn redirects_in_circles_end() {
    let fake = Fake::start(|request, _| {
        let again = [("location", request.path.as_str())];
        (request.path != "/v2/").then(|| Reply::new(302, &again, b""))
    });
    let registry = registry(settings());
    registry.manifest(&fake.reference("a")).expect_err("a circle");
    let (_, blob) = some_blob(10);
    pull(&registry, &fake.reference("a"), &blob).1.expect_err("a circle");
}

#[test]
fn credentials_are_asked_for_only_when_needed_and_by_name() {
    let fake = guarded(r#"Basic realm="x""#.to_owned(), "Basic Ym9iOnB3");
    let open = Fake::start(|request, _| request.path.contains("manifests").then(manifest_reply));
    let host = fake.host.clone();
    let credentials = move |name: &str| (name == host).then(|| password("bob", "pw"));
    let settings = RegistrySettings { credentials: Arc::new(credentials), ..settings() };
    registry(settings.clone()).manifest(&fake.reference("a")).expect("a manifest");
    let never = |_: &str| -> Option<Credentials> { panic!("not asked for") };
    let settings = RegistrySettings { credentials: Arc::new(never), ..settings };
    registry(settings).manifest(&open.reference("a")).expect("a manifest");
}
