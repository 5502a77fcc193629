//! The HTTP clients of one [`RemoteRegistry`](crate::RemoteRegistry), and what they remember of
//! the hosts that they talk to: the scheme that works, and logins.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use oci_client::client::ClientProtocol;
use oci_client::secrets::RegistryAuth;
use oci_client::token_cache::{RegistryToken, RegistryTokenType};
use oci_client::{Client, RegistryOperation};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use rustls::pki_types::CertificateDer;

use crate::clients;
use crate::endpoint::{Endpoint, Scheme};
use crate::failure::Failure;
use crate::network;
use crate::settings::{Credentials, RegistrySettings, Secret};
use crate::token::{self, Rights};

/// Clients and their memory.
pub(crate) struct Wire {
    pub(crate) http: reqwest::Client,
    /// For uploads: it follows no redirect, and waits as long as they move on.
    pub(crate) uploads: reqwest::Client,
    settings: RegistrySettings,
    certificates: Vec<CertificateDer<'static>>,
    plain: OnceLock<Result<Client, Failure>>,
    secure: OnceLock<Result<Client, Failure>>,
    schemes: Mutex<HashMap<String, Scheme>>,
    logins: Mutex<HashMap<(String, String), HeaderValue>>,
    push_logins: Mutex<HashMap<(String, Rights), HeaderValue>>,
    challenges: Mutex<HashMap<String, String>>,
}

impl Wire {
    /// Sets the clients up, which reads the system's certificates.
    pub(crate) fn new(
        settings: &RegistrySettings,
        certificates: &[CertificateDer<'static>],
    ) -> Result<Self, Failure> {
        // Another part of the process may have chosen a provider already; that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            http: clients::http_client(settings, certificates, clients::registry_redirects())?,
            uploads: clients::upload_client(settings, certificates)?,
            settings: settings.clone(),
            certificates: certificates.to_vec(),
            plain: OnceLock::new(),
            secure: OnceLock::new(),
            schemes: Mutex::default(),
            logins: Mutex::default(),
            push_logins: Mutex::default(),
            challenges: Mutex::default(),
        })
    }

    /// The scheme that an endpoint answers to. Where there is a choice, it is made by asking, once.
    pub(crate) async fn scheme(&self, endpoint: &Endpoint) -> Result<Scheme, Failure> {
        if let [only] = endpoint.schemes {
            return Ok(*only);
        }
        if let Some(scheme) = lock(&self.schemes).get(&endpoint.host) {
            return Ok(*scheme);
        }
        let mut first = None;
        for scheme in endpoint.schemes {
            let url = format!("{}://{}/v2/", scheme.name(), endpoint.host);
            let failure = match self.http.get(url).send().await {
                // What TLS servers say to plain http.
                Ok(answer)
                    if *scheme == Scheme::Http && answer.status() == StatusCode::BAD_REQUEST =>
                {
                    Failure::Failed("it does not speak plain http".to_owned())
                }
                Ok(_) => {
                    lock(&self.schemes).insert(endpoint.host.clone(), *scheme);
                    return Ok(*scheme);
                }
                Err(error) => network::failure(&error),
            };
            if failure.is_distrust() {
                return Err(failure);
            }
            first.get_or_insert(failure);
        }
        Err(first.unwrap_or(Failure::NotFound))
    }

    /// `SCHEME://HOST`.
    pub(crate) async fn base(&self, endpoint: &Endpoint) -> Result<String, Failure> {
        Ok(format!("{}://{}", self.scheme(endpoint).await?.name(), endpoint.host))
    }

    /// The header that a login left for this endpoint.
    pub(crate) fn login(&self, endpoint: &Endpoint) -> Option<HeaderValue> {
        lock(&self.logins).get(&login_key(endpoint)).cloned()
    }

    /// The header that a login for a push left.
    pub(crate) fn push_login(&self, endpoint: &Endpoint, rights: &Rights) -> Option<HeaderValue> {
        lock(&self.push_logins).get(&(endpoint.host.clone(), rights.clone())).cloned()
    }

    /// Keeps the header of a login for a push.
    pub(crate) fn keep_push_login(&self, endpoint: &Endpoint, rights: &Rights, login: HeaderValue) {
        lock(&self.push_logins).insert((endpoint.host.clone(), rights.clone()), login);
    }

    /// Remembers what a host's 401 asked for.
    pub(crate) fn note_challenge(&self, endpoint: &Endpoint, header: &str) {
        lock(&self.challenges).insert(endpoint.host.clone(), header.to_owned());
    }

    /// What a host's last 401 asked for.
    pub(crate) fn challenge(&self, endpoint: &Endpoint) -> Option<String> {
        lock(&self.challenges).get(&endpoint.host).cloned()
    }

    /// How long to wait.
    pub(crate) fn timeouts(&self) -> crate::settings::Timeouts {
        self.settings.timeouts
    }

    /// `oci-client` for a scheme. It is set up at its first use.
    pub(crate) fn library(&self, scheme: Scheme) -> Result<&Client, Failure> {
        let (slot, protocol) = match scheme {
            Scheme::Http => (&self.plain, ClientProtocol::Http),
            Scheme::Https => (&self.secure, ClientProtocol::Https),
        };
        let client = slot
            .get_or_init(|| clients::library_client(&self.settings, &self.certificates, protocol));
        client.as_ref().map_err(Failure::clone)
    }

    /// The endpoint in the library's words. A digest, where there is one, is passed beside it.
    pub(crate) fn library_reference(endpoint: &Endpoint) -> oci_client::Reference {
        let (host, repository) = (endpoint.host.clone(), endpoint.repository.clone());
        oci_client::Reference::with_tag(host, repository, "latest".to_owned())
    }

    /// Logs in, anonymously if there are no credentials, and remembers the outcome for manifests
    /// (here) and for blobs (in the library).
    pub(crate) async fn log_in(
        &self,
        endpoint: &Endpoint,
        credentials: Option<Credentials>,
    ) -> Result<(), Failure> {
        let client = self.library(self.scheme(endpoint).await?)?;
        let reference = Self::library_reference(endpoint);
        let pull = RegistryOperation::Pull;
        let header = match credentials {
            Some(Credentials::IdentityToken(identity)) => {
                let token = token::of_identity(self, endpoint, identity).await?;
                let header = bearer(&token)?;
                let kept = RegistryToken::Token { token: token.clone() };
                // Without some login on file the library does not look for tokens.
                client.store_auth_if_needed(&endpoint.host, &RegistryAuth::Bearer(token)).await;
                client.tokens.insert(&reference, pull, RegistryTokenType::Bearer(kept)).await;
                header
            }
            Some(Credentials::Password { username, secret }) => {
                let password = secret.reveal().to_owned();
                let login = RegistryAuth::Basic(username.clone(), password.clone());
                match client.auth(&reference, &login, pull).await.map_err(Failure::of_library)? {
                    Some(token) => bearer(&token)?,
                    None => {
                        let header = basic(&username, &secret)?;
                        let kept = RegistryTokenType::Basic(username, password);
                        client.tokens.insert(&reference, pull, kept).await;
                        header
                    }
                }
            }
            None => {
                let token = client.auth(&reference, &RegistryAuth::Anonymous, pull).await;
                bearer(&token.map_err(Failure::of_library)?.ok_or(Failure::Denied)?)?
            }
        };
        lock(&self.logins).insert(login_key(endpoint), header);
        Ok(())
    }
}

fn login_key(endpoint: &Endpoint) -> (String, String) {
    (endpoint.host.clone(), endpoint.repository.clone())
}

/// A lock that outlives a panic elsewhere: what it guards is replaced whole, never half.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    secret_header(format!("Bearer {token}"))
}

pub(crate) fn basic(username: &str, secret: &Secret) -> Result<HeaderValue, Failure> {
    let pair = format!("{username}:{}", secret.reveal());
    secret_header(format!("Basic {}", crate::base64::encode(pair.as_bytes())))
}

fn secret_header(text: String) -> Result<HeaderValue, Failure> {
    let header = HeaderValue::try_from(text);
    let unfit = |_| Failure::Failed("its token server sent an unusable token".to_owned());
    let mut header = header.map_err(unfit)?;
    header.set_sensitive(true);
    Ok(header)
}
