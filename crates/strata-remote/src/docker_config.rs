//! Docker's `config.json`, as far as it is about credentials: what `docker login` wrote, and the
//! helper programs that it names. It reads no file; finding and opening it is the program's work.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::base64;
use crate::settings::{Credentials, Secret};

/// The key under which Docker keeps the login for Docker Hub.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name that marks a helper's secret as an identity token.
const IDENTITY_TOKEN_USER: &str = "<token>";

/// A text that is not a Docker `config.json`.
#[derive(Debug, thiserror::Error)]
#[error("this is not a Docker `config.json`: {reason}")]
pub struct InvalidDockerConfig {
    /// What is wrong, with line and column.
    reason: String,
}

/// Why a credential helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It can not be run.
    #[error("`docker-credential-{name}` can not be run: {source}")]
    Run {
        /// The helper's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It failed, or answered with something else than credentials.
    #[error("`docker-credential-{name}` fails for `{host}`: {reason}")]
    Answer {
        /// The helper's name.
        name: String,
        /// What it was asked about.
        host: String,
        /// What it said.
        reason: String,
    },
}

/// The credentials that a `config.json` has or points to, by host as references name it
/// (`docker.io`, `ghcr.io`, `host:5000`).
#[derive(Clone, Default)]
pub struct DockerConfig {
    logins: BTreeMap<String, Credentials>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    auths: Option<BTreeMap<String, Login>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
struct Login {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl DockerConfig {
    /// Reads the text of a `config.json`. Entries that hold no login (Docker leaves empty ones
    /// behind when a helper keeps the login) are passed over.
    ///
    /// # Errors
    ///
    /// When it is not JSON of that shape.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidDockerConfig> {
        let invalid = |reason: String| InvalidDockerConfig { reason };
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(invalid("it is not a JSON object".to_owned()));
        }
        let document: Document =
            serde_json::from_slice(text).map_err(|error| invalid(error.to_string()))?;
        let auths = document.auths.unwrap_or_default().into_iter();
        let logins = auths.filter_map(|(key, login)| Some((host_of(&key), login.credentials()?)));
        let helpers = document.cred_helpers.unwrap_or_default().into_iter();
        Ok(Self {
            logins: logins.collect(),
            helpers: helpers.map(|(key, name)| (host_of(&key), name)).collect(),
            store: document.creds_store.filter(|name| !name.is_empty()),
        })
    }

    /// The login that stands in the file itself.
    pub fn login(&self, host: &str) -> Option<Credentials> {
        self.logins.get(&host_of(host)).cloned()
    }

    /// The helper to ask for a host: its own (`credHelpers`), else the one for all (`credsStore`).
    pub fn helper(&self, host: &str) -> Option<&str> {
        self.helpers.get(&host_of(host)).or(self.store.as_ref()).map(String::as_str)
    }

    /// The credentials for a host as Docker finds them: the helper's, else the file's.
    ///
    /// # Errors
    ///
    /// When there is a helper and it fails.
    pub fn credentials(&self, host: &str) -> Result<Option<Credentials>, HelperError> {
        match self.helper(host) {
            Some(name) => Ok(ask_helper(name, host)?.or_else(|| self.login(host))),
            None => Ok(self.login(host)),
        }
    }
}

impl Login {
    fn credentials(self) -> Option<Credentials> {
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            return Some(Credentials::IdentityToken(Secret::new(token)));
        }
        let decoded = self.auth.as_deref().and_then(base64::decode);
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.and_then(|text| {
            let (username, secret) = text.split_once(':')?;
            Some((username.to_owned(), secret.trim_end_matches('\0').to_owned()))
        });
        let (username, secret) = pair.or(self.username.zip(self.password))?;
        let secret = Secret::new(secret);
        (!username.is_empty()).then_some(Credentials::Password { username, secret })
    }
}

/// `https://index.docker.io/v1/` and its like → the host as references name it.
fn host_of(key: &str) -> String {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    let host = rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

/// The text of a `config.json` with the login for a host set or, without credentials, removed. All
/// else in it stays.
///
/// # Errors
///
/// When it is not JSON of that shape.
pub fn with_login(
    text: &[u8],
    host: &str,
    credentials: Option<&Credentials>,
) -> Result<Vec<u8>, InvalidDockerConfig> {
    DockerConfig::parse(text)?;
    let invalid = |error: serde_json::Error| InvalidDockerConfig { reason: error.to_string() };
    let mut document: serde_json::Value = serde_json::from_slice(text).map_err(invalid)?;
    if !document["auths"].is_object() {
        document["auths"] = serde_json::json!({});
    }
    if let Some(auths) = document["auths"].as_object_mut() {
        auths.retain(|key, _| host_of(key) != host_of(host));
        let login = credentials.map(|credentials| match credentials {
            Credentials::Password { username, secret } => {
                let pair = format!("{username}:{}", secret.reveal());
                serde_json::json!({"auth": base64::encode(pair.as_bytes())})
            }
            Credentials::IdentityToken(token) => {
                serde_json::json!({"identitytoken": token.reveal()})
            }
        });
        if let Some(login) = login {
            auths.insert(key_of(host).to_owned(), login);
        }
    }
    let mut text = serde_json::to_vec_pretty(&document).map_err(invalid)?;
    text.push(b'\n');
    Ok(text)
}

/// Docker's key for a host.
fn key_of(host: &str) -> &str {
    if host == "docker.io" { DOCKER_HUB_KEY } else { host }
}

/// Has a helper keep the credentials for a host (`docker-credential-NAME store`).
///
/// # Errors
///
/// When the helper can not be run or fails.
pub fn keep_in_helper(
    name: &str,
    host: &str,
    credentials: &Credentials,
) -> Result<(), HelperError> {
    let (username, secret) = match credentials {
        Credentials::Password { username, secret } => (username.as_str(), secret),
        Credentials::IdentityToken(secret) => (IDENTITY_TOKEN_USER, secret),
    };
    let question = serde_json::json!({
        "ServerURL": key_of(host), "Username": username, "Secret": secret.reveal(),
    });
    tell_helper(name, host, "store", question.to_string().as_bytes())
}

/// Has a helper forget the credentials for a host (`docker-credential-NAME erase`).
///
/// # Errors
///
/// When the helper can not be run or fails.
pub fn erase_in_helper(name: &str, host: &str) -> Result<(), HelperError> {
    tell_helper(name, host, "erase", key_of(host).as_bytes())
}

fn tell_helper(name: &str, host: &str, what: &str, question: &[u8]) -> Result<(), HelperError> {
    let output = run_helper(name, what, question)?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    if what == "erase" && said.iter().any(|text| text.contains("credentials not found")) {
        return Ok(());
    }
    let reason = said.iter().find(|text| !text.trim().is_empty());
    let reason = reason.map_or("it says nothing", String::as_str);
    Err(HelperError::Answer {
        name: name.to_owned(),
        host: host.to_owned(),
        reason: crate::failure::printable(reason.trim()),
    })
}

fn run_helper(
    name: &str,
    what: &str,
    question: &[u8],
) -> Result<std::process::Output, HelperError> {
    let run = |source| HelperError::Run { name: name.to_owned(), source };
    if name.is_empty() || name.contains(['/', '\\', '\0']) {
        return Err(run(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this is not a helper's name",
        )));
    }
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(what)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its question fails in its own words.
        let _ = stdin.write_all(question);
    }
    child.wait_with_output().map_err(run)
}

/// Runs `docker-credential-NAME get` for a host. None when it knows nothing of the host.
///
/// # Errors
///
/// When the helper can not be run, fails, or answers with nonsense.
pub fn ask_helper(name: &str, host: &str) -> Result<Option<Credentials>, HelperError> {
    let output = run_helper(name, "get", key_of(host).as_bytes())?;
    read_answer(name, host, output.status.success(), &output.stdout, &output.stderr)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

fn read_answer(
    name: &str,
    host: &str,
    success: bool,
    stdout: &[u8],
    stderr: &[u8],
) -> Result<Option<Credentials>, HelperError> {
    let fails = |reason: &str| HelperError::Answer {
        name: name.to_owned(),
        host: host.to_owned(),
        reason: crate::failure::printable(reason.trim()),
    };
    if !success {
        // Helpers of docker-credential-helpers speak on stdout, others on stderr.
        let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        if said.iter().any(|text| text.contains("credentials not found")) {
            return Ok(None);
        }
        let reason = said.iter().find(|text| !text.trim().is_empty());
        return Err(fails(reason.map_or("it says nothing", String::as_str)));
    }
    // The text itself stays out of the error: it may hold the secret.
    let answer: Answer = serde_json::from_slice(stdout)
        .map_err(|_| fails("its answer has no user name and secret"))?;
    let secret = Secret::new(answer.secret);
    Ok(Some(match answer.username.as_str() {
        IDENTITY_TOKEN_USER => Credentials::IdentityToken(secret),
        _ => Credentials::Password { username: answer.username, secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(credentials: Option<Credentials>) -> String {
        match credentials {
            Some(Credentials::Password { username, secret }) => {
                format!("{username}:{}", secret.reveal())
            }
            Some(Credentials::IdentityToken(token)) => format!("token {}", token.reveal()),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn reads_what_docker_writes() {
        let text = br#"{
            "auths": {
                "https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
                "lan:5000": {"username": "a", "password": "b"},
                "azure.example": {"auth": "MDAwOg==", "identitytoken": "idt"},
                "empty.example": {},
                "bad.example": {"auth": "???"}
            },
            "credHelpers": {"ghcr.io": "gh"},
            "credsStore": "",
            "HttpHeaders": {"x": "y"}
        }"#;
        let config = DockerConfig::parse(text).expect("a config");
        let check = |host: &str, expected: &str| assert_eq!(show(config.login(host)), expected);
        check("docker.io", "user:pa:ss");
        check("lan:5000", "a:b");
        check("azure.example", "token idt");
        check("empty.example", "none");
        check("bad.example", "none");
        assert_eq!(config.helper("ghcr.io"), Some("gh"));
        assert_eq!(config.helper("docker.io"), None);
        assert_eq!(show(config.credentials("docker.io").expect("no helper")), "user:pa:ss");
        let stored = DockerConfig::parse(br#"{"credsStore":"desktop"}"#).expect("a config");
        assert_eq!(stored.helper("docker.io"), Some("desktop"));
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for text in ["", "[]", "{", r#"{"auths":[]}"#, r#"{"auths":{"a":3}}"#] {
            assert!(DockerConfig::parse(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["{}", r#"{"auths":null,"credHelpers":null,"credsStore":null}"#] {
            assert!(DockerConfig::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn logins_come_and_go_and_all_else_stays() {
        let text = br#"{"HttpHeaders":{"x":"y"},"auths":{"lan:5000":{"auth":"YTpi"}}}"#;
        let secret = Secret::new("p:w");
        let login = Credentials::Password { username: "bob".to_owned(), secret };
        let text = with_login(text, "docker.io", Some(&login)).expect("a config");
        let config = DockerConfig::parse(&text).expect("a config");
        assert_eq!(show(config.login("docker.io")), "bob:p:w");
        assert_eq!(show(config.login("lan:5000")), "a:b");
        let shown = String::from_utf8(text.clone()).expect("text");
        assert!(shown.contains("https://index.docker.io/v1/") && shown.contains("HttpHeaders"));
        let text = with_login(&text, "docker.io", None).expect("a config");
        let config = DockerConfig::parse(&text).expect("a config");
        assert_eq!(show(config.login("docker.io")), "none");
        assert_eq!(show(config.login("lan:5000")), "a:b");
        assert!(with_login(b"[]", "a", None).is_err());
    }

    #[test]
    fn reads_what_helpers_say() {
        let check = |success, stdout: &str, expected: &str| {
            let answer = read_answer("x", "h", success, stdout.as_bytes(), b"");
            let shown = answer.map(show).unwrap_or_else(|error| error.to_string());
            assert_eq!(shown, expected);
        };
        check(true, r#"{"ServerURL":"h","Username":"u","Secret":"s"}"#, "u:s");
        check(true, r#"{"ServerURL":"h","Username":"<token>","Secret":"s"}"#, "token s");
        check(false, "credentials not found in native keychain\n", "none");
        check(false, "locked\n", "`docker-credential-x` fails for `h`: locked");
        let nonsense =
            "`docker-credential-x` fails for `h`: its answer has no user name and secret";
        check(true, "s3cret", nonsense);
    }

    #[test]
    fn a_helper_that_is_not_there_or_not_one() {
        for name in ["strata-no-such-helper", "../evil", ""] {
            assert!(matches!(ask_helper(name, "h"), Err(HelperError::Run { .. })), "{name}");
        }
    }
}
