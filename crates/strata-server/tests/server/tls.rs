//! TLS, and clients that must show who they are.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use strata_server::{Config, ServeTable};

use crate::client::Host;

/// An authority, and what it has signed, in files.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a certificate").pem();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), &root).expect("written");
        Self { folder, issuer: Issuer::new(params, key), root }
    }

    /// A certificate and its key, as PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn table(&self) -> ServeTable {
        let (certificate, key) = self.sign("127.0.0.1");
        let path = |name: &str| Some(self.folder.path().join(name));
        std::fs::write(self.folder.path().join("cert.pem"), certificate).expect("written");
        std::fs::write(self.folder.path().join("key.pem"), key).expect("written");
        ServeTable { tls_cert: path("cert.pem"), tls_key: path("key.pem"), ..ServeTable::default() }
    }

    /// What a client gets, or that it is not let in.
    fn get(&self, host: &Host, client: Option<&(String, String)>) -> Option<String> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.root.as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![chain], key).expect("a client")
            }
        };
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = StreamOwned::new(connection, host.connect());
        let request = b"GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).ok()?;
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer));
        answer.lines().next().map(str::to_owned)
    }
}

#[test]
fn encrypted_and_only_with_a_certificate_where_that_is_asked_for() {
    let authority = Authority::new();
    let host = Host::with(&authority.table());
    assert_eq!(authority.get(&host, None).as_deref(), Some("HTTP/1.1 200 OK"));
    // Who does not encrypt is not answered.
    let mut stream = host.connect();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").expect("send");
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"));

    let client_ca = Some(authority.folder.path().join("ca.pem"));
    let host = Host::with(&ServeTable { client_ca, ..authority.table() });
    assert_eq!(authority.get(&host, None), None);
    let stranger = Authority::new().sign("client");
    assert_eq!(authority.get(&host, Some(&stranger)), None);
    let client = authority.sign("client");
    assert_eq!(authority.get(&host, Some(&client)).as_deref(), Some("HTTP/1.1 200 OK"));
}

#[test]
fn files_that_are_no_certificates() {
    let authority = Authority::new();
    let table = authority.table();
    let missing = Some(authority.folder.path().join("nowhere.pem"));
    let refused = Config::new(&ServeTable { tls_key: missing, ..table.clone() }, None);
    assert!(refused.expect_err("no key").to_string().contains("nowhere.pem"));
    let half = Config::new(&ServeTable { tls_key: None, ..table.clone() }, None);
    assert!(half.expect_err("no key").to_string().contains("need each other"));
    let alone = ServeTable { client_ca: table.tls_cert, ..ServeTable::default() };
    assert!(Config::new(&alone, None).expect_err("no key").to_string().contains("client-ca"));
}
