//! Proxies: registries behind one are reached through it, by pulls and by pushes.

use strata_oci::{Descriptor, PushRegistry, Registry};
use strata_remote::{ProxySettings, RegistrySettings};

use crate::fake::{Fake, Reply, Request, manifest_reply, pull, registry, settings, some_blob};

const HOST: &str = "registry.invalid";

/// Answers for the registry `registry.invalid`, which only a proxy can find.
fn proxy(bytes: Vec<u8>) -> Fake {
    Fake::start(move |request: &Request, _| {
        let path = request.path.strip_prefix("http://registry.invalid")?;
        let reply = match (&*request.method, path) {
            ("GET" | "HEAD", "/v2/") => Reply::new(200, &[], b"{}"),
            ("GET", path) if path.contains("/manifests/") => manifest_reply(),
            ("GET", path) if path.contains("/blobs/sha256") => Reply::new(200, &[], &bytes),
            ("POST", path) if path.contains("/uploads/") => {
                Reply::new(202, &[("location", "/v2/a/blobs/uploads/1")], b"")
            }
            ("PATCH", _) => Reply::new(202, &[("location", "/v2/a/blobs/uploads/1")], b""),
            ("PUT", _) => Reply::new(201, &[], b""),
            _ => return None,
        };
        Some(reply)
    })
}

fn behind(proxy: &Fake, exceptions: Option<&str>) -> RegistrySettings {
    let url = Some(format!("http://{}", proxy.host));
    let exceptions = exceptions.map(str::to_owned);
    let mut settings = settings();
    settings.proxy = ProxySettings { http: url.clone(), https: url, exceptions };
    settings
}

#[test]
fn pulls_and_pushes_go_through_it() {
    let (bytes, blob) = some_blob(50_000);
    let proxy = proxy(bytes.clone());
    let mut settings = behind(&proxy, None);
    settings.insecure.insert(HOST.to_owned());
    let registry = registry(settings);
    let name = format!("{HOST}/a:1").parse().expect("a name");
    let manifest = registry.manifest(&name).expect("a manifest");
    let (sink, outcome) = pull(&registry, &name, &blob);
    outcome.expect("a blob");
    assert_eq!(sink, bytes);
    let other = Descriptor::of("application/octet-stream", b"other");
    let write = |out: &mut dyn std::io::Write| out.write_all(b"other");
    registry.push_blob(&name, &other, &[], &write, &mut |_| {}).expect("pushed");
    registry.push_manifest(&name, &manifest).expect("named");
    let asked = proxy.requests();
    let has = |method: &str| asked.iter().any(|request| request.method == method);
    assert!(has("CONNECT"), "https is asked for first, in a tunnel");
    assert!(has("GET") && has("POST") && has("PUT"));
    let tunnel = asked.iter().find(|request| request.method == "CONNECT").expect("it");
    assert_eq!(tunnel.path, format!("{HOST}:443"));
}

#[test]
fn exceptions_and_this_machine_are_reached_directly() {
    let proxy = proxy(Vec::new());
    let mut settings = behind(&proxy, Some("other.invalid, .invalid"));
    settings.insecure.insert(HOST.to_owned());
    settings.retries.count = 0;
    let error = registry(settings).manifest(&format!("{HOST}/a").parse().expect("a name"));
    assert!(error.expect_err("nobody there").to_string().contains("can not be reached"));
    let near = Fake::start(|request, _| request.path.contains("/manifests/").then(manifest_reply));
    registry(behind(&proxy, None)).manifest(&near.reference("a")).expect("without the proxy");
    assert!(proxy.requests().is_empty());
}
