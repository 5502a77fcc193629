//! What `[serve]` in the configuration file says, and whether it can be served.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use strata_oci::Reference;

use crate::access::{Access, Token};
use crate::config_far::FarTable;
use crate::oci::mirror::{self, Mirrored};
use crate::rates::{Rate, Rates};

/// Where is listened if nobody says otherwise.
const LISTEN: &str = "127.0.0.1:7878";
const CONNECTIONS: usize = 4096;
/// 32 GiB: no cached file and no layer is larger, and a mistake does not fill the disk.
const BODY_LIMIT_BYTES: u64 = 32 << 30;
/// A smaller one is a mistake about its unit.
const LEAST_QUOTA_BYTES: u64 = 1 << 20;
const MAIN: &str = "main";

/// `[serve]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServeTable {
    /// Address and port.
    pub listen: Option<String>,
    /// The certificate and those that it leads to, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Who signs the certificates that clients must show, PEM.
    pub client_ca: Option<PathBuf>,
    /// What may be done without a token.
    pub anonymous: Option<Anonymous>,
    /// Whether tokens may cross the network unencrypted, since something else encrypts.
    pub plain_http: bool,
    /// The largest body, in bytes.
    pub body_limit: Option<u64>,
    /// How many connections there may be at a time.
    pub connections: Option<usize>,
    /// How many requests a token may make in a second, or an address without one.
    pub requests_per_second: Option<NonZeroU64>,
    /// How many bytes it may send and get in a second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// How many bytes namespaces may have, by their names.
    pub quota: BTreeMap<String, u64>,
    /// The size in bytes above which the store is swept while the server goes on.
    pub soft_size: Option<u64>,
    /// Whose entries are not given out any more, by their tokens' names.
    pub revoked: Vec<String>,
    /// Whether GitHub's cache for actions is served.
    pub github_actions: bool,
    /// Who may do what.
    pub token: Vec<TokenTable>,
    /// What lies behind the store.
    pub far: Option<FarTable>,
    /// Registries whose images pass through.
    pub mirror: Vec<MirrorTable>,
}

/// `[[serve.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MirrorTable {
    /// The registry, as it is called in images' names.
    pub registry: String,
    /// For how many seconds a tag is believed before it is compared.
    #[serde(default = "refresh")]
    pub refresh: u64,
    /// Whether names without a registry, which nobody has pushed here, are this one's.
    #[serde(default)]
    pub default: bool,
    /// Whether the server's own login is used there: whoever may read from the server then reads
    /// what it may read.
    #[serde(default)]
    pub login: bool,
}

/// A minute: what was pushed is seen soon, and a hundred machines ask once.
fn refresh() -> u64 {
    60
}

/// What may be done without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// Nothing.
    None,
    /// Reading.
    Read,
    /// Everything, for a server that only this machine reaches.
    Write,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// `[[serve.token]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TokenTable {
    /// What its user is called in entries and logs.
    pub name: String,
    /// The secret.
    pub token: Option<Secret>,
    /// A file with the secret.
    pub token_file: Option<PathBuf>,
    /// What it allows.
    pub scope: Scope,
    /// Where its user writes, and reads first.
    #[serde(default = "main_namespace")]
    pub namespace: String,
    /// Where its user reads what is not in its own namespace, in this order.
    #[serde(default)]
    pub reads: Vec<String>,
    /// How far its user is trusted: what was written with more trust is not replaced.
    #[serde(default = "full_trust")]
    pub trust: u8,
    /// How many requests it may make in a second, where that is not the usual number.
    #[serde(default)]
    pub requests_per_second: Option<NonZeroU64>,
    /// How many bytes it may send and get in a second.
    #[serde(default)]
    pub bytes_per_second: Option<NonZeroU64>,
}

fn main_namespace() -> String {
    MAIN.to_owned()
}

fn full_trust() -> u8 {
    100
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why the configuration can not be served.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address is none.
    #[error("`{0}` is not an address to listen on: `127.0.0.1:7878` is one")]
    Address(String),
    /// Everybody could write.
    #[error(
        "`{0}` can be reached from other machines, and the configuration has no `[[serve.token]]`: \
         everybody could write to the cache"
    )]
    Open(SocketAddr),
    /// Tokens would be readable on the way.
    #[error(
        "`{0}` can be reached from other machines, and the configuration has no `tls-cert`: \
         tokens would cross the network unencrypted"
    )]
    Unencrypted(SocketAddr),
    /// Something in a token's table.
    #[error("the token `{name}`: {reason}")]
    Token {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The keys about the far tier do not fit together.
    #[error("`[serve.far]`: {0}")]
    Far(String),
    /// Something in `quota`.
    #[error("the quota of `{namespace}`: {reason}")]
    Quota {
        /// Whose.
        namespace: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something in a mirror's table.
    #[error("the mirror of `{registry}`: {reason}")]
    Mirror {
        /// Which.
        registry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The keys about TLS do not fit together.
    #[error("{0}")]
    Tls(String),
    /// A file that the configuration names.
    #[error("cannot read `{}`: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// What is served, checked.
#[derive(Debug)]
pub struct Config {
    pub(crate) address: SocketAddr,
    pub(crate) access: Access,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) body_limit_bytes: u64,
    pub(crate) connections: usize,
    pub(crate) revoked: Vec<String>,
    pub(crate) github_actions: bool,
    pub(crate) rates: Rates,
    pub(crate) quotas: BTreeMap<String, u64>,
    pub(crate) mirrors: Vec<Mirrored>,
    soft_size_bytes: Option<u64>,
}

/// What TLS is made of, as PEM.
pub(crate) struct TlsFiles {
    pub(crate) certificates: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) client_ca: Option<Vec<u8>>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsFiles")
    }
}

impl Config {
    /// Checks a table; `listen` beats what it says.
    ///
    /// # Errors
    ///
    /// When it can not be served, or only in a way that nobody can mean.
    pub fn new(table: &ServeTable, listen: Option<&str>) -> Result<Self, ConfigError> {
        let text = listen.or(table.listen.as_deref()).unwrap_or(LISTEN);
        let address = address_of(text)?;
        let tokens = table.token.iter().map(token_of).collect::<Result<Vec<_>, _>>()?;
        for (at, token) in tokens.iter().enumerate() {
            if tokens[..at].iter().any(|other| other.name == token.name) {
                let (name, reason) = (token.name.clone(), "the name is there twice".to_owned());
                return Err(ConfigError::Token { name, reason });
            }
        }
        table.far.as_ref().map_or(Ok(()), FarTable::check)?;
        let tls = tls_of(table)?;
        let is_local = address.ip().is_loopback();
        let by_certificate = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        // Where there are no tokens, whoever gets through may do everything: this machine, or
        // those with a certificate.
        let default = match tokens.is_empty() && (is_local || by_certificate) {
            true => Anonymous::Write,
            false => Anonymous::None,
        };
        let anonymous = table.anonymous.unwrap_or(default);
        if !is_local {
            let is_open = tokens.is_empty() || anonymous == Anonymous::Write;
            if is_open && !by_certificate {
                return Err(ConfigError::Open(address));
            }
            if tls.is_none() && !table.plain_http {
                return Err(ConfigError::Unencrypted(address));
            }
        }
        Ok(Self {
            address,
            access: Access::new(tokens, anonymous),
            tls,
            body_limit_bytes: table.body_limit.unwrap_or(BODY_LIMIT_BYTES),
            connections: table.connections.unwrap_or(CONNECTIONS).max(1),
            revoked: table.revoked.clone(),
            github_actions: table.github_actions,
            rates: rates_of(table),
            quotas: quotas_of(table)?,
            mirrors: mirrors_of(table, address)?,
            soft_size_bytes: table.soft_size,
        })
    }

    /// Above which size in bytes the store is to be swept while it is served.
    pub fn soft_size_bytes(&self) -> Option<u64> {
        self.soft_size_bytes
    }

    /// How many connections there may be at a time.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Where it will be listened.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn address_of(text: &str) -> Result<SocketAddr, ConfigError> {
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| ConfigError::Address(text.to_owned()))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path)
        .map_err(|error| ConfigError::File { path: path.to_owned(), reason: error.to_string() })
}

fn token_of(table: &TokenTable) -> Result<Token, ConfigError> {
    let wrong =
        |reason: &str| ConfigError::Token { name: table.name.clone(), reason: reason.to_owned() };
    let secret = match (&table.token, &table.token_file) {
        (Some(secret), None) => secret.clone(),
        (None, Some(path)) => {
            let bytes = read(path)?;
            let text = String::from_utf8(bytes).map_err(|_| wrong("its file is no text"))?;
            Secret::new(text.trim())
        }
        (Some(_), Some(_)) => return Err(wrong("`token` and `token-file` are one too many")),
        (None, None) => return Err(wrong("it has no `token` and no `token-file`")),
    };
    if secret.reveal().len() < 16 {
        return Err(wrong("it is shorter than 16 characters, which can be guessed"));
    }
    let spaces = || table.reads.iter().chain([&table.namespace]);
    if spaces().any(|name| name == mirror::NAMESPACE) {
        return Err(wrong("the namespace `mirror` holds what passes through, and is nobody's"));
    }
    if table.name.is_empty() || !spaces().all(|name| is_namespace(name)) {
        return Err(wrong("names have letters, digits, `.`, `_` and `-`, 64 at most"));
    }
    Ok(Token {
        name: table.name.clone(),
        secret,
        writes: table.scope == Scope::Write,
        namespace: table.namespace.clone(),
        reads: table.reads.clone(),
        trust: table.trust,
    })
}

fn rates_of(table: &ServeTable) -> Rates {
    let usual = Rate { requests: table.requests_per_second, bytes: table.bytes_per_second };
    let own = |token: &TokenTable| {
        let rate = Rate { requests: token.requests_per_second, bytes: token.bytes_per_second };
        (token.name.clone(), rate)
    };
    Rates::new(usual, table.token.iter().map(own).collect())
}

fn quotas_of(table: &ServeTable) -> Result<BTreeMap<String, u64>, ConfigError> {
    for (namespace, bytes) in &table.quota {
        let wrong = |reason| ConfigError::Quota { namespace: namespace.clone(), reason };
        if !is_namespace(namespace) {
            return Err(wrong("this is no name of a namespace"));
        }
        if *bytes < LEAST_QUOTA_BYTES {
            return Err(wrong("it is in bytes, and a mebibyte (1048576) at least"));
        }
    }
    Ok(table.quota.clone())
}

fn mirrors_of(table: &ServeTable, own: SocketAddr) -> Result<Vec<Mirrored>, ConfigError> {
    let mut all: Vec<Mirrored> = Vec::new();
    for MirrorTable { registry, refresh, default, login: _ } in &table.mirror {
        let wrong = |reason| ConfigError::Mirror { registry: registry.clone(), reason };
        let parsed = format!("{registry}/x/x").parse::<Reference>();
        if parsed.map(|parsed| parsed.registry).as_ref() != Ok(registry) {
            return Err(wrong("a registry is a host, like `docker.io` or `registry.lan:5000`"));
        }
        if own.port() != 0 && registry.to_socket_addrs().is_ok_and(|mut all| all.any(|a| a == own))
        {
            return Err(wrong("that is this server itself"));
        }
        if all.iter().any(|other| other.registry == *registry) {
            return Err(wrong("it is there twice"));
        }
        if *default && all.iter().any(|other| other.is_default) {
            return Err(wrong("another one is the default already"));
        }
        let (registry, refresh) = (registry.clone(), Duration::from_secs(*refresh));
        all.push(Mirrored { registry, refresh, is_default: *default });
    }
    Ok(all)
}

fn is_namespace(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(known) && !name.starts_with('.')
}

fn tls_of(table: &ServeTable) -> Result<Option<TlsFiles>, ConfigError> {
    let client_ca = table.client_ca.as_deref().map(read).transpose()?;
    match (&table.tls_cert, &table.tls_key) {
        (Some(certificates), Some(key)) => {
            let (certificates, key) = (read(certificates)?, read(key)?);
            Ok(Some(TlsFiles { certificates, key, client_ca }))
        }
        (None, None) if client_ca.is_some() => {
            Err(ConfigError::Tls("`client-ca` needs `tls-cert` and `tls-key`".to_owned()))
        }
        (None, None) => Ok(None),
        _ => Err(ConfigError::Tls("`tls-cert` and `tls-key` need each other".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, secret: &str) -> TokenTable {
        TokenTable {
            name: name.to_owned(),
            token: Some(Secret::new(secret)),
            token_file: None,
            scope: Scope::Write,
            namespace: MAIN.to_owned(),
            reads: Vec::new(),
            trust: 100,
            requests_per_second: None,
            bytes_per_second: None,
        }
    }

    #[test]
    fn what_others_reach_is_not_open() {
        let check = |table: &ServeTable, listen: &str| Config::new(table, Some(listen));
        let open = ServeTable::default();
        assert!(check(&open, "127.0.0.1:0").is_ok());
        assert!(check(&open, "[::1]:0").is_ok());
        assert!(matches!(check(&open, "0.0.0.0:0"), Err(ConfigError::Open(_))));
        assert!(matches!(check(&open, "nowhere"), Err(ConfigError::Address(_))));
        let guarded = ServeTable { token: vec![token("ci", "0123456789abcdef")], ..open };
        assert!(matches!(check(&guarded, "0.0.0.0:0"), Err(ConfigError::Unencrypted(_))));
        let proxied = ServeTable { plain_http: true, ..guarded };
        assert!(check(&proxied, "0.0.0.0:0").is_ok());
        let writable = ServeTable { anonymous: Some(Anonymous::Write), ..proxied };
        assert!(matches!(check(&writable, "0.0.0.0:0"), Err(ConfigError::Open(_))));
    }

    #[test]
    fn tokens_that_are_none() {
        let check = |tokens: Vec<TokenTable>, words: &str| {
            let table = ServeTable { token: tokens, ..ServeTable::default() };
            let error = Config::new(&table, None).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        };
        let good = token("a", "0123456789abcdef");
        check(vec![token("a", "short")], "shorter than 16");
        check(vec![good.clone(), good.clone()], "twice");
        check(vec![TokenTable { token: None, ..good.clone() }], "no `token`");
        check(vec![TokenTable { namespace: "../x".to_owned(), ..good }], "letters");
    }

    #[test]
    fn quotas_that_are_none() {
        let check = |namespace: &str, bytes, words: &str| {
            let quota = BTreeMap::from([(namespace.to_owned(), bytes)]);
            let error = Config::new(&ServeTable { quota, ..ServeTable::default() }, None);
            assert!(error.expect_err(words).to_string().contains(words), "{words}");
        };
        check("main", 20, "in bytes");
        check("../x", 1 << 30, "no name");
    }

    #[test]
    fn mirrors_that_are_none() {
        let mirror = |registry: &str, default| MirrorTable {
            registry: registry.to_owned(),
            refresh: 60,
            default,
            login: false,
        };
        let check = |mirror: Vec<MirrorTable>, words: &str| {
            let table = ServeTable { mirror, ..ServeTable::default() };
            let error = Config::new(&table, Some("127.0.0.1:7879")).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        };
        check(vec![mirror("https://docker.io", false)], "a registry is a host");
        check(vec![mirror("127.0.0.1:7879", false)], "this server itself");
        check(vec![mirror("ghcr.io", false), mirror("ghcr.io", false)], "twice");
        check(vec![mirror("ghcr.io", true), mirror("quay.io", true)], "default already");
        let tables =
            vec![TokenTable { namespace: "mirror".to_owned(), ..token("a", &"x".repeat(16)) }];
        let table = ServeTable { token: tables, ..ServeTable::default() };
        assert!(Config::new(&table, None).expect_err("taken").to_string().contains("nobody's"));
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Secret::new("0123456789abcdef")), "Secret");
    }
}
