//! Pushes to a registry that keeps what it is given, and to the same one with each of its answers
//! spoilt.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use strata_oci::{
    Descriptor, Digest, ManifestBytes, PushRegistry, Pushed, Reference, RegistryError, media_type,
};
use strata_remote::{Credentials, RegistrySettings, Secret};

use crate::fake::{Fake, MANIFEST, Reply, Request, impatient, json, registry, settings, some_blob};

/// What a registry keeps.
#[derive(Default)]
pub(crate) struct Kept {
    /// By repository and digest.
    pub(crate) blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest.
    pub(crate) manifests: BTreeMap<(String, String), Vec<u8>>,
    uploads: BTreeMap<String, Vec<u8>>,
    /// How many uploads were begun: what is finished gives its name to no other.
    begun: usize,
}

/// Answers as the distribution specification has it.
pub(crate) fn answer(kept: &Mutex<Kept>, request: &Request) -> Option<Reply> {
    let mut kept = kept.lock().expect("no panic while answering");
    let rest = request.place().strip_prefix("/v2/")?;
    let (repository, what, name) = split(rest)?;
    let key = (repository.clone(), name.clone());
    match (request.method.as_str(), what) {
        ("HEAD" | "GET", "blobs") => {
            let blob = kept.blobs.get(&key)?;
            Some(body(request, blob, "application/octet-stream"))
        }
        ("HEAD" | "GET", "manifests") => {
            let manifest = kept.manifests.get(&key)?;
            Some(body(request, manifest, media_type::MANIFEST))
        }
        ("PUT", "manifests") => {
            let digest = Digest::of(&request.body).to_string();
            for name in [name, digest.clone()] {
                kept.manifests.insert((repository.clone(), name), request.body.clone());
            }
            Some(Reply::bare(201, &[("docker-content-digest", &digest)]))
        }
        ("POST", "uploads") => {
            let mounted = request.query("mount").zip(request.query("from"));
            let mounted = mounted.and_then(|(digest, from)| {
                Some((digest.clone(), kept.blobs.get(&(from, digest))?.clone()))
            });
            if let Some((digest, blob)) = mounted {
                kept.blobs.insert((repository, digest), blob);
                return Some(Reply::bare(201, &[("location", "/")]));
            }
            let id = format!("u{}", kept.begun);
            kept.begun += 1;
            kept.uploads.insert(id.clone(), Vec::new());
            Some(Reply::bare(202, &[("location", &format!("/v2/{repository}/blobs/uploads/{id}"))]))
        }
        ("PATCH", "uploads") => {
            let upload = kept.uploads.get_mut(&name)?;
            // Without a range it is the rest of the blob, whatever there will be of it.
            let range = request.header("content-range").and_then(|range| range.split('-').next());
            if range.is_some_and(|first| first.parse() != Ok(upload.len())) {
                return Some(Reply::bare(416, &[]));
            }
            upload.extend_from_slice(&request.body);
            Some(Reply::bare(202, &[("location", request.place())]))
        }
        ("GET", "uploads") => {
            let length = kept.uploads.get(&name)?.len();
            let range = format!("0-{}", length.saturating_sub(1));
            Some(Reply::bare(204, &[("location", request.place()), ("range", &range)]))
        }
        ("PUT", "uploads") => {
            let upload = kept.uploads.remove(&name)?;
            let digest = request.query("digest")?;
            if Digest::of(&upload).to_string() != digest {
                return Some(json(400, r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#));
            }
            kept.blobs.insert((repository, digest.clone()), upload);
            Some(Reply::bare(201, &[("docker-content-digest", &digest)]))
        }
        ("DELETE", "uploads") => {
            kept.uploads.remove(&name)?;
            Some(Reply::bare(204, &[]))
        }
        _ => None,
    }
}

/// `a/b/blobs/uploads/x` → `a/b`, `uploads`, `x`.
fn split(rest: &str) -> Option<(String, &'static str, String)> {
    for (pattern, what) in
        [("/blobs/uploads/", "uploads"), ("/blobs/", "blobs"), ("/manifests/", "manifests")]
    {
        if let Some((repository, name)) = rest.split_once(pattern) {
            return Some((repository.to_owned(), what, name.to_owned()));
        }
    }
    None
}

fn body(request: &Request, bytes: &[u8], kind: &str) -> Reply {
    let digest = Digest::of(bytes).to_string();
    let headers = [("content-type", kind), ("docker-content-digest", digest.as_str())];
    match request.method.as_str() {
        "HEAD" => Reply::short(200, &headers, bytes, 0),
        _ => Reply::new(200, &headers, bytes),
    }
}

pub(crate) fn honest() -> (Fake, Arc<Mutex<Kept>>) {
    spoilt(|_, _| None)
}

/// The same, where `spoil` answers first.
pub(crate) fn spoilt(
    spoil: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Fake, Arc<Mutex<Kept>>) {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let inside = Arc::clone(&kept);
    let fake = Fake::start(move |request, before| {
        spoil(request, before).or_else(|| answer(&inside, request))
    });
    (fake, kept)
}

fn push(
    settings: RegistrySettings,
    name: &Reference,
    blob: &Descriptor,
    near: &[Reference],
    bytes: &[u8],
) -> Result<Pushed, RegistryError> {
    let send = |out: &mut dyn Write| out.write_all(bytes);
    registry(settings).push_blob(name, blob, near, &send, &mut |_| {})
}

pub(crate) fn kept_blob(
    kept: &Mutex<Kept>,
    repository: &str,
    blob: &Descriptor,
) -> Option<Vec<u8>> {
    let key = (repository.to_owned(), blob.digest.to_string());
    kept.lock().expect("no panic").blobs.get(&key).cloned()
}

pub(crate) fn methods(fake: &Fake) -> Vec<String> {
    fake.requests().iter().map(|request| request.method.clone()).collect()
}

#[test]
fn what_is_there_is_not_sent() {
    let (fake, kept) = honest();
    let (bytes, blob) = some_blob(3_000_000);
    let name = fake.reference("team/app");
    assert_eq!(push(settings(), &name, &blob, &[], &bytes).expect("pushed"), Pushed::Sent);
    assert_eq!(kept_blob(&kept, "team/app", &blob), Some(bytes.clone()));
    assert_eq!(methods(&fake), ["HEAD", "POST", "PATCH", "PUT"]);
    let unread = |_: &mut dyn Write| -> std::io::Result<()> { panic!("it is read") };
    let again = registry(settings()).push_blob(&name, &blob, &[], &unread, &mut |_| {});
    assert_eq!(again.expect("there"), Pushed::Present);
    assert_eq!(methods(&fake).len(), 5);
}

#[test]
fn a_neighbours_blob_is_taken_over() {
    let (fake, kept) = honest();
    let (bytes, blob) = some_blob(1000);
    let (base, app) = (fake.reference("base"), fake.reference("app"));
    push(settings(), &base, &blob, &[], &bytes).expect("pushed");
    let elsewhere: Reference = "other.example/base".parse().expect("a name");
    let near = [elsewhere, base];
    assert_eq!(push(settings(), &app, &blob, &near, &[]).expect("pushed"), Pushed::Mounted);
    assert_eq!(kept_blob(&kept, "app", &blob), Some(bytes.clone()));
    let (other, described) = some_blob(2000);
    let near = [fake.reference("nothing"), fake.reference("base")];
    let pushed = push(settings(), &app, &described, &near, &other).expect("pushed");
    assert_eq!(pushed, Pushed::Sent, "a neighbour without it is no trouble");
}

#[test]
fn an_empty_blob() {
    let (fake, kept) = honest();
    let blob = Descriptor::of("application/octet-stream", b"");
    push(settings(), &fake.reference("a"), &blob, &[], b"").expect("pushed");
    assert_eq!(kept_blob(&kept, "a", &blob), Some(Vec::new()));
}

#[test]
fn every_request_may_fail_once_in_every_way() {
    let (bytes, blob) = some_blob(2_500_000);
    let replies: [fn() -> Reply; 6] = [
        || Reply::new(500, &[], b"oops"),
        || json(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow"}]}"#),
        || Reply::new(503, &[("retry-after", "0")], b""),
        || Reply::raw(b""),
        || Reply::raw(b"HTTP/1.1 20"),
        || Reply::raw(b"").then_stall(),
    ];
    for method in ["HEAD", "POST", "PATCH", "PUT"] {
        for (number, reply) in replies.iter().enumerate() {
            let failed = AtomicUsize::new(0);
            let reply = *reply;
            let (fake, kept) = spoilt(move |request, _| {
                let first = request.method == method && failed.fetch_add(1, Ordering::SeqCst) == 0;
                first.then(reply)
            });
            let settings = if reply().stalls() { impatient() } else { settings() };
            let pushed = push(settings, &fake.reference("a"), &blob, &[], &bytes);
            assert_eq!(pushed.expect("pushed"), Pushed::Sent, "{method}, reply {number}");
            let there = kept_blob(&kept, "a", &blob);
            assert!(there.as_deref() == Some(&bytes[..]), "{method}, reply {number}");
        }
    }
}

#[test]
fn an_upload_goes_on_where_it_broke_off() {
    let (bytes, blob) = some_blob(4_000_000);
    let broken = AtomicUsize::new(0);
    let kept = Arc::new(Mutex::new(Kept::default()));
    let inside = Arc::clone(&kept);
    // The first PATCH keeps a part and breaks off.
    let fake = Fake::start(move |request, _| {
        if request.method == "PATCH" && broken.fetch_add(1, Ordering::SeqCst) == 0 {
            let part = Request { body: request.body[..1_500_000].to_vec(), ..request.clone() };
            answer(&inside, &part);
            return Some(Reply::raw(b""));
        }
        answer(&inside, request)
    });
    let pushed = push(settings(), &fake.reference("a"), &blob, &[], &bytes);
    assert_eq!(pushed.expect("pushed"), Pushed::Sent);
    assert!(kept_blob(&kept, "a", &blob).as_deref() == Some(&bytes[..]));
    let patches: Vec<usize> = fake
        .requests()
        .iter()
        .filter(|request| request.method == "PATCH")
        .map(|request| request.body.len())
        .collect();
    assert_eq!(patches, [4_000_000, 2_500_000], "only the rest is sent again");
}

#[test]
fn an_upload_that_is_forgotten_begins_anew() {
    let (bytes, blob) = some_blob(300_000);
    let broken = AtomicUsize::new(0);
    let (fake, kept) = spoilt(move |request, _| match request.method.as_str() {
        "PATCH" if broken.fetch_add(1, Ordering::SeqCst) == 0 => Some(Reply::raw(b"")),
        "GET" => Some(Reply::bare(404, &[])),
        _ => None,
    });
    push(settings(), &fake.reference("a"), &blob, &[], &bytes).expect("pushed");
    assert_eq!(kept_blob(&kept, "a", &blob), Some(bytes));
}

#[test]
fn a_registry_that_takes_no_large_request_gets_small_ones() {
    let (bytes, blob) = some_blob(20 << 20);
    let (fake, kept) = spoilt(|request, _| {
        let is_large = request.method == "PATCH" && request.body.len() > 9 << 20;
        is_large.then(|| Reply::bare(413, &[]))
    });
    push(settings(), &fake.reference("a"), &blob, &[], &bytes).expect("pushed");
    assert!(kept_blob(&kept, "a", &blob).as_deref() == Some(&bytes[..]));
}

#[test]
fn uploads_may_lead_elsewhere() {
    let (bytes, blob) = some_blob(100_000);
    let kept = Arc::new(Mutex::new(Kept::default()));
    let inside = Arc::clone(&kept);
    let storage = Fake::start(move |request, _| {
        assert_eq!(request.header("authorization"), None, "the login stays at home");
        answer(&inside, request)
    });
    let (host, inside) = (storage.host.clone(), Arc::clone(&kept));
    let fake = Fake::start(move |request, _| {
        if request.header("authorization").is_none() {
            return Some(Reply::bare(401, &[("www-authenticate", "Basic realm=\"x\"")]));
        }
        match request.method.as_str() {
            "POST" => {
                answer(&inside, request);
                let location = format!("http://{host}/v2/a/blobs/uploads/u0");
                Some(Reply::bare(202, &[("location", &location)]))
            }
            _ => answer(&inside, request),
        }
    });
    let secret = Secret::new("pw");
    let login = Credentials::Password { username: "bob".to_owned(), secret };
    let settings =
        RegistrySettings { credentials: Arc::new(move |_| Some(login.clone())), ..settings() };
    push(settings, &fake.reference("a"), &blob, &[], &bytes).expect("pushed");
    assert_eq!(kept_blob(&kept, "a", &blob), Some(bytes));
}

#[test]
fn bytes_that_are_not_as_described_are_not_pushed() {
    let (bytes, blob) = some_blob(100_000);
    for wrong in [&bytes[..50_000], &[&bytes[..], b"x"].concat(), &vec![7; 100_000]] {
        let (fake, kept) = honest();
        let pushed = push(settings(), &fake.reference("a"), &blob, &[], wrong);
        assert!(pushed.is_err());
        assert!(!methods(&fake).contains(&"PUT".to_owned()), "nothing is committed");
        assert_eq!(kept_blob(&kept, "a", &blob), None);
    }
}

#[test]
fn what_does_not_pass_is_an_error_in_bounded_time() {
    let (bytes, blob) = some_blob(200_000);
    let check = |method: &'static str, reply: fn() -> Reply, expected: &str| {
        let (fake, _) = spoilt(move |request, _| (request.method == method).then(reply));
        let settings = if reply().stalls() { impatient() } else { settings() };
        let error = push(settings, &fake.reference("a"), &blob, &[], &bytes);
        let error = error.expect_err(expected).to_string();
        assert!(error.contains(expected), "{method}: {error}");
        assert!(fake.requests().len() < 40, "{method}: {} requests", fake.requests().len());
    };
    check("POST", || Reply::new(500, &[], b""), "it answers 500");
    check("POST", || Reply::bare(202, &[]), "does not say where an upload goes to");
    check("POST", || Reply::bare(403, &[]), "denies access");
    check("POST", || Reply::bare(429, &[("retry-after", "3600")]), "asks to wait 3600 s");
    check("PATCH", || Reply::raw(b"").then_stall(), "");
    check("PATCH", || Reply::bare(307, &[("location", "/x")]), "redirects in circles");
    check("PUT", || Reply::bare(307, &[("location", "/x")]), "redirects in circles");
    check("PUT", || Reply::bare(400, &[]), "it answers 400");
    check("PUT", || Reply::bare(201, &[("docker-content-digest", WRONG)]), "it says that it keeps");
}

#[test]
fn a_name_is_put_and_looked_up() {
    let (fake, kept) = honest();
    let name = fake.reference("team/app:1");
    let digest = Digest::of(MANIFEST);
    let manifest = ManifestBytes {
        digest,
        media_type: media_type::MANIFEST.to_owned(),
        bytes: MANIFEST.to_vec(),
    };
    let registry = registry(settings());
    assert_eq!(registry.manifest_digest(&name).expect("asked"), None);
    registry.push_manifest(&name, &manifest).expect("pushed");
    assert_eq!(registry.manifest_digest(&name).expect("asked"), Some(digest));
    let nameless = Reference { tag: None, ..name.with_digest(digest) };
    registry.push_manifest(&nameless, &manifest).expect("pushed");
    let tags: BTreeSet<String> =
        kept.lock().expect("no panic").manifests.keys().map(|(_, name)| name.clone()).collect();
    assert_eq!(tags, BTreeSet::from(["1".to_owned(), digest.to_string()]));
}

const WRONG: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A token server that gives a token for exactly the scopes that are asked for.
fn token_server() -> Fake {
    Fake::start(move |request, _| {
        let scopes: Vec<&str> =
            request.path.split(['?', '&']).filter_map(|part| part.strip_prefix("scope=")).collect();
        let token = scopes.join("+").replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        Some(match request.header("authorization") {
            Some("Basic Ym9iOnB3") => json(200, &format!(r#"{{"token":"{token}"}}"#)),
            _ => json(401, r#"{"details":"incorrect username or password"}"#),
        })
    })
}

#[test]
fn tokens_have_the_rights_that_a_push_needs() {
    let tokens = token_server();
    let challenge = format!(r#"Bearer realm="http://{}/token",service="fake""#, tokens.host);
    let kept = Arc::new(Mutex::new(Kept::default()));
    let inside = Arc::clone(&kept);
    let fake = Fake::start(move |request, _| {
        let rights = request.header("authorization").unwrap_or_default();
        let mounts = request.query("from");
        let fine = rights.contains("repository:app:pull,push")
            && mounts.is_none_or(|from| rights.contains(&format!("repository:{from}:pull")));
        match fine || request.path.starts_with("/v2/base/") {
            true => answer(&inside, request),
            false => Some(Reply::bare(401, &[("www-authenticate", &challenge)])),
        }
    });
    let (bytes, blob) = some_blob(5000);
    let login = |secret: &str| {
        let secret = Secret::new(secret);
        let login = Credentials::Password { username: "bob".to_owned(), secret };
        RegistrySettings { credentials: Arc::new(move |_| Some(login.clone())), ..settings() }
    };
    push(login("pw"), &fake.reference("base"), &blob, &[], &bytes).expect("pushed");
    let near = [fake.reference("base")];
    let pushed = push(login("pw"), &fake.reference("app"), &blob, &near, &bytes);
    assert_eq!(pushed.expect("pushed"), Pushed::Mounted);
    let error = push(login("wrong"), &fake.reference("app"), &blob, &near, &bytes);
    assert!(matches!(error, Err(RegistryError::Denied { .. })), "{error:?}");
}

#[test]
fn threads_share_a_login() {
    let tokens = token_server();
    let challenge = format!(r#"Bearer realm="http://{}/token",service="fake""#, tokens.host);
    let kept = Arc::new(Mutex::new(Kept::default()));
    let inside = Arc::clone(&kept);
    let fake = Fake::start(move |request, _| match request.header("authorization") {
        Some(_) => answer(&inside, request),
        None => Some(Reply::bare(401, &[("www-authenticate", &challenge)])),
    });
    let secret = Secret::new("pw");
    let login = Credentials::Password { username: "bob".to_owned(), secret };
    let settings =
        RegistrySettings { credentials: Arc::new(move |_| Some(login.clone())), ..settings() };
    let registry = registry(settings);
    let name = fake.reference("app");
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            let (registry, name) = (&registry, &name);
            scope.spawn(move || {
                let bytes = vec![number; 1000];
                let blob = Descriptor::of("application/octet-stream", &bytes);
                let send = |out: &mut dyn Write| out.write_all(&bytes);
                registry.push_blob(name, &blob, &[], &send, &mut |_| {}).expect("pushed");
            });
        }
    });
    assert_eq!(kept.lock().expect("no panic").blobs.len(), 8);
    assert_eq!(tokens.requests().len(), 1, "one login for all");
}
