//! What the program decides for the clients: mirrors, credentials, limits. Plain values; reading
//! them from files, flags or the environment is the program's work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A password or token. It has no `Debug` and no `Display`, so that it can not slip into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Shows it, for the one request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Who we are to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password or access token.
    Password {
        /// The account.
        username: String,
        /// Its password or access token.
        secret: Secret,
    },
    /// An OAuth2 refresh token, as `docker login` keeps for registries that issue them.
    IdentityToken(Secret),
}

/// Answers which credentials there are for a host (`docker.io`, `ghcr.io`, `host:5000`). It is
/// called on the thread that asks for an image, and only after the registry demanded a login.
pub type AskCredentials = Arc<dyn Fn(&str) -> Option<Credentials> + Send + Sync>;

/// Another place that has a registry's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `[http://|https://]HOST[:PORT][/PREFIX]`. The image `REPOSITORY` is looked for under
    /// `/v2/PREFIX/REPOSITORY`.
    pub endpoint: String,
    /// Whether plain http may be spoken when the endpoint names no scheme.
    pub plain_http: bool,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next bytes of an answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(15), idle: Duration::from_secs(60) }
    }
}

/// How often, and after which pauses, a request is made again that failed for reasons that pass:
/// no connection, a dropped one, 429, 5xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first; a download that moved on by a mebibyte starts counting afresh.
    pub count: u32,
    /// The first pause; each one doubles the last.
    pub pause: Duration,
    /// The longest pause. A registry that asks for a longer one (`Retry-After`) has refused.
    pub longest_pause: Duration,
    /// After so much time without progress there is no other try: who does not answer at all
    /// costs whole timeouts.
    pub in_all: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        let pause = Duration::from_millis(250);
        let longest_pause = Duration::from_secs(20);
        Self { count: 4, pause, longest_pause, in_all: Duration::from_secs(30) }
    }
}

/// HTTP proxies, in the syntax of the usual environment variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// The proxy for `http://` addresses.
    pub http: Option<String>,
    /// The proxy for `https://` addresses.
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas (`NO_PROXY`). Loopback always is.
    pub exceptions: Option<String>,
}

/// All that a [`RemoteRegistry`](crate::RemoteRegistry) is told.
#[derive(Clone)]
pub struct RegistrySettings {
    /// Where to look first, by the registry's name in references (`docker.io`).
    pub mirrors: BTreeMap<String, Vec<Mirror>>,
    /// Hosts (with port, if not the default one) where plain http will do when there is no https.
    /// Loopback hosts need not be named.
    pub insecure: BTreeSet<String>,
    /// Where credentials come from.
    pub credentials: AskCredentials,
    /// What we call ourselves.
    pub user_agent: &'static str,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retries: Retries,
    /// Which proxies to use.
    pub proxy: ProxySettings,
    /// Certificates to trust beside the system's, each one PEM text with one or more in it.
    pub extra_certificates: Vec<Vec<u8>>,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            insecure: BTreeSet::new(),
            credentials: Arc::new(|_| None),
            user_agent: concat!("strata/", env!("CARGO_PKG_VERSION")),
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            proxy: ProxySettings::default(),
            extra_certificates: Vec::new(),
        }
    }
}
