//! Sets up the HTTP clients: timeouts, trust, proxies, redirects. What is sent through them is
//! decided elsewhere.

use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use reqwest::{NoProxy, Proxy, redirect};
use rustls::pki_types::CertificateDer;

use crate::failure::Failure;
use crate::network;
use crate::settings::{ProxySettings, RegistrySettings};

const MOST_REDIRECTS: usize = 10;
/// Go's HTTP clients, and so every other container tool, never ask a proxy for these.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1";

/// The HTTP client for manifests, probes and token exchanges.
pub(crate) fn http_client(
    settings: &RegistrySettings,
    certificates: &[CertificateDer<'static>],
    redirects: redirect::Policy,
) -> Result<reqwest::Client, Failure> {
    let builder =
        builder(settings, certificates)?.read_timeout(settings.timeouts.idle).redirect(redirects);
    builder.build().map_err(|error| unusable(&error))
}

/// The HTTP client for uploads. It has no limit on the time until an answer, which would be one
/// on the upload as a whole: whether it moves on is watched where it is fed.
pub(crate) fn upload_client(
    settings: &RegistrySettings,
    certificates: &[CertificateDer<'static>],
) -> Result<reqwest::Client, Failure> {
    let builder = builder(settings, certificates)?.redirect(redirect::Policy::none());
    builder.build().map_err(|error| unusable(&error))
}

fn builder(
    settings: &RegistrySettings,
    certificates: &[CertificateDer<'static>],
) -> Result<reqwest::ClientBuilder, Failure> {
    let certificates: Result<Vec<_>, _> =
        certificates.iter().map(|der| reqwest::Certificate::from_der(der)).collect();
    let mut builder = reqwest::Client::builder()
        .user_agent(settings.user_agent)
        .connect_timeout(settings.timeouts.connect)
        .tls_certs_merge(certificates.map_err(|error| unusable(&error))?)
        .no_proxy();
    let ProxySettings { http, https, exceptions } = &settings.proxy;
    let exceptions = match exceptions {
        Some(exceptions) => format!("{exceptions},{NEVER_PROXIED}"),
        None => NEVER_PROXIED.to_owned(),
    };
    let proxies = [http.as_ref().map(Proxy::http), https.as_ref().map(Proxy::https)];
    for proxy in proxies.into_iter().flatten() {
        let proxy =
            proxy.map_err(|_| Failure::Failed("the proxy's address is wrong".to_owned()))?;
        builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&exceptions)));
    }
    Ok(builder)
}

/// How registries may redirect: not from https to http. Credentials stay with their host: the
/// client drops them when host, port or scheme change.
pub(crate) fn registry_redirects() -> redirect::Policy {
    redirect::Policy::custom(follow)
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error("it redirects in circles");
    }
    match was_secure && attempt.url().scheme() != "https" {
        true => attempt.error("it redirects from https to plain http"),
        false => attempt.follow(),
    }
}

fn unusable(error: &reqwest::Error) -> Failure {
    let reason = network::describe(error);
    Failure::Hopeless(format!("TLS can not be set up, since certificates are missing: {reason}"))
}

/// `oci-client` for one scheme.
pub(crate) fn library_client(
    settings: &RegistrySettings,
    certificates: &[CertificateDer<'static>],
    protocol: ClientProtocol,
) -> Result<Client, Failure> {
    // The library builds a client of all defaults on the side, and panics where that fails: on a
    // system without certificates.
    if !certificates.is_empty() {
        reqwest::Client::builder().build().map_err(|error| unusable(&error))?;
    }
    let certificates = certificates.iter();
    let certificates = certificates
        .map(|der| Certificate { encoding: CertificateEncoding::Der, data: der.to_vec() });
    let ProxySettings { http, https, exceptions } = settings.proxy.clone();
    let exceptions = exceptions.map(|exceptions| format!("{exceptions},{NEVER_PROXIED}"));
    let mut config = ClientConfig {
        protocol,
        extra_root_certificates: certificates.collect(),
        read_timeout: Some(settings.timeouts.idle),
        connect_timeout: Some(settings.timeouts.connect),
        user_agent: settings.user_agent,
        http_proxy: http,
        https_proxy: https,
        no_proxy: Some(exceptions.unwrap_or_else(|| NEVER_PROXIED.to_owned())),
        ..ClientConfig::default()
    };
    if config.http_proxy.is_none() && config.https_proxy.is_none() {
        // The library reads proxies from the environment unless it is given one: so it gets one,
        // for no host at all.
        config.http_proxy = Some("http://127.0.0.1:9".to_owned());
        config.no_proxy = Some("*,0.0.0.0/0,::/0".to_owned());
    }
    Client::try_from(config).map_err(Failure::of_library)
}
