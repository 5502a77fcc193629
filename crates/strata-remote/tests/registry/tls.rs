//! TLS: a private authority, trusted and not. The key and the certificates beside this file are
//! good for nothing else.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use strata_oci::{Registry, RegistryError};
use strata_remote::{RegistrySettings, RemoteRegistry, hint};

use crate::fake::{Fake, Stream, manifest_reply, pull, registry, settings, some_blob};

const AUTHORITY: &[u8] = include_bytes!("tls/authority.pem");

fn encrypted() -> Fake {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("a certificate")], key)
        .expect("a key that fits");
    let config = Arc::new(config);
    let wrap = move |stream: TcpStream| -> Option<Box<dyn Stream>> {
        let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
        Some(Box::new(StreamOwned::new(connection, stream)))
    };
    let (bytes, _) = some_blob(50_000);
    Fake::start_wrapped(wrap, move |request, _| match request.path.as_str() {
        path if path.contains("/manifests/") => Some(manifest_reply()),
        path if path.contains("/blobs/") => Some(crate::fake::Reply::new(200, &[], &bytes)),
        _ => None,
    })
}

#[test]
fn a_private_authority_is_trusted_when_we_are_told_so() {
    let fake = encrypted();
    let told = RegistrySettings { extra_certificates: vec![AUTHORITY.to_vec()], ..settings() };
    let registry = registry(told);
    registry.manifest(&fake.reference("a")).expect("a manifest");
    let (bytes, blob) = some_blob(50_000);
    let (sink, outcome) = pull(&registry, &fake.reference("a"), &blob);
    outcome.expect("a blob");
    assert_eq!(sink, bytes);
}

#[test]
fn a_stranger_is_not_trusted() {
    let fake = encrypted();
    let name = fake.reference("a");
    let mut settings = settings();
    let mirror =
        strata_remote::Mirror { endpoint: format!("https://{}", fake.host), plain_http: false };
    settings.mirrors.insert(fake.host.clone(), vec![mirror]);
    let error = registry(settings).manifest(&name).expect_err("no trust");
    assert!(error.to_string().contains("does not trust"), "{error}");
    assert!(hint(&error).is_some());
}

#[test]
fn a_plain_registry_behind_an_https_name() {
    let fake = Fake::start(|_, _| Some(manifest_reply()));
    let mut settings = settings();
    let mirror =
        strata_remote::Mirror { endpoint: format!("https://{}", fake.host), plain_http: false };
    settings.mirrors.insert("127.0.0.1:1".to_owned(), vec![mirror]);
    let name = "127.0.0.1:1/a".parse().expect("a name");
    let error = registry(settings).manifest(&name).expect_err("no TLS");
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[test]
fn a_senseless_certificate_is_told_at_once() {
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
    for file in [broken, b"der?".to_vec()] {
        let settings = RegistrySettings { extra_certificates: vec![file], ..settings() };
        assert!(RemoteRegistry::new(settings).is_err());
    }
}
