//! TLS under gRPC, with the system's certificates like all else that is fetched here, and a
//! certificate of our own where that is asked for.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use crate::reapi::ReapiSettings;

/// Connects to one server.
#[derive(Clone)]
pub(crate) struct TlsDoor {
    connector: TlsConnector,
    name: ServerName<'static>,
    authority: String,
    patience: Duration,
}

impl TlsDoor {
    /// Says why it can not be.
    pub(crate) fn new(authority: &str, settings: &ReapiSettings) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let more = match &settings.authorities {
            Some(pem) => certificates(pem, "its authorities")?,
            None => Vec::new(),
        };
        let verifier = Verifier::new_with_extra_roots(more, Arc::clone(&provider))
            .map_err(|error| error.to_string())?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(chain, "our certificate")?;
                let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes());
                let key = key.map_err(|_| "our key is no PEM".to_owned())?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| format!("our certificate: {error}"))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(config));
        let patience = settings.timeouts.connect;
        Ok(Self { connector, name, authority: authority.to_owned(), patience })
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("there is no PEM certificate in {what}")),
    }
}

impl Service<Uri> for TlsDoor {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { connector, name, authority, patience } = self.clone();
        Box::pin(async move {
            let connecting = async {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                connector.connect(name, stream).await
            };
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            Ok(TokioIo::new(tokio::time::timeout(patience, connecting).await.map_err(late)??))
        })
    }
}
