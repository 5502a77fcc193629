//! What can go wrong on the way, finer than [`RegistryError`]: what passes and what does not. And
//! what to tell the user next.

use std::time::Duration;

use oci_client::errors::{OciDistributionError, OciEnvelope, OciErrorCode};
use strata_oci::RegistryError;

use crate::network;

/// Why one try failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection, for a reason that may pass.
    Unreachable(String),
    /// No connection, for a reason that will not pass by itself: no such name, no trust.
    Hopeless(String),
    /// The connection broke in the middle of an answer.
    Dropped(String),
    /// A server's own trouble (5xx, 408).
    Busy { reason: String, wait: Option<Duration> },
    /// 429.
    Limited { reason: String, wait: Option<Duration> },
    /// 401: it wants a login, or another one.
    Unauthorised,
    /// 403, or 401 after a login.
    Denied,
    /// 404.
    NotFound,
    /// The bytes are not what their name says.
    Wrong { what: String, reason: String },
    /// The same, found out when the sink had them already: nobody else can mend that.
    Spoilt { what: String, reason: String },
    /// The sink fails. It may have taken a part, so nothing can go on from there.
    Sink(String),
    /// An upload is to go elsewhere.
    Moved(String),
    /// 413: it does not take so much at once.
    TooLarge,
    /// Anything else.
    Failed(String),
}

impl Failure {
    /// An answer that is not a success, by its status (distribution specification, "error codes").
    pub(crate) fn of_status(code: u16, body: &[u8], wait: Option<Duration>) -> Self {
        let said = said(body);
        match code {
            401 => Self::Unauthorised,
            403 => Self::Denied,
            404 => Self::NotFound,
            429 => Self::limited(&said, wait),
            408 | 500.. => Self::Busy { reason: format!("it answers {code}{said}"), wait },
            _ => Self::Failed(format!("it answers {code}{said}")),
        }
    }

    fn limited(said: &str, wait: Option<Duration>) -> Self {
        let asked = wait.map(|wait| format!("; it asks to wait {} s", wait.as_secs()));
        let asked = asked.unwrap_or_default();
        let reason = format!("it limits how often it is asked (429){said}{asked}");
        Self::Limited { reason, wait }
    }

    /// A failure of the client library.
    pub(crate) fn of_library(error: OciDistributionError) -> Self {
        use OciDistributionError as Error;
        match error {
            Error::RequestError(error) => network::failure(&error),
            Error::UnauthorizedError { .. } => Self::Unauthorised,
            Error::AuthenticationFailure(text) => Self::of_token_server(&text),
            Error::RegistryError { envelope, .. } => Self::of_envelope(&envelope),
            Error::ServerError { code, message, .. } => {
                Self::of_status(code, message.as_bytes(), None)
            }
            Error::DigestError(error) => {
                Self::Wrong { what: "an answer".to_owned(), reason: error.to_string() }
            }
            Error::IoError(error) => Self::Dropped(network::describe(&error)),
            Error::RegistryTokenDecodeError(_) => {
                Self::Failed("its token server does not answer with a token".to_owned())
            }
            other => Self::Failed(printable(&other.to_string())),
        }
    }

    /// The library does not tell a token server's status, only its words.
    fn of_token_server(text: &str) -> Self {
        let lower = text.to_lowercase();
        let refusals = ["unauthorized", "denied", "incorrect", "invalid", "forbidden"];
        if lower.contains("toomanyrequests") || lower.contains("too many") {
            return Self::limited(&said(text.as_bytes()), None);
        }
        if text.trim().is_empty() || refusals.iter().any(|word| lower.contains(word)) {
            return Self::Denied;
        }
        Self::Busy {
            reason: format!("its token server fails{}", said(text.as_bytes())),
            wait: None,
        }
    }

    fn of_envelope(envelope: &OciEnvelope) -> Self {
        use OciErrorCode as Code;
        let said = said_in(envelope);
        match envelope.errors.first().map(|error| &error.code) {
            Some(
                Code::BlobUnknown | Code::ManifestUnknown | Code::NameUnknown | Code::NotFound,
            ) => Self::NotFound,
            Some(Code::Denied | Code::Unauthorized) => Self::Denied,
            Some(Code::Toomanyrequests) => Self::limited(&said, None),
            _ => Self::Failed(format!("it refuses the request{said}")),
        }
    }

    /// Whether a certificate is at fault: then the scheme was right.
    pub(crate) fn is_distrust(&self) -> bool {
        matches!(self, Self::Hopeless(reason) if reason.contains("certificate"))
    }

    /// Whether asking somebody else is of no use.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Spoilt { .. } | Self::Sink(_))
    }

    /// Whether nobody answered.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Hopeless(_))
    }

    /// One sentence, for a list of mirrors that failed.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Unreachable(reason)
            | Self::Hopeless(reason)
            | Self::Dropped(reason)
            | Self::Failed(reason)
            | Self::Sink(reason)
            | Self::Busy { reason, .. }
            | Self::Limited { reason, .. }
            | Self::Spoilt { reason, .. }
            | Self::Wrong { reason, .. } => reason.clone(),
            Self::Unauthorised | Self::Denied => "it denies access".to_owned(),
            Self::NotFound => "it does not have it".to_owned(),
            Self::Moved(_) => "it redirects in circles".to_owned(),
            Self::TooLarge => "it does not take a request of this size (413)".to_owned(),
        }
    }

    /// The failure as the rest of strata knows it. `mirrors` tells of those asked before.
    pub(crate) fn into_error(
        self,
        registry: &str,
        reference: String,
        mirrors: &[String],
    ) -> RegistryError {
        let tried = match mirrors {
            [] => String::new(),
            mirrors => format!(" (and before that {})", mirrors.join("; ")),
        };
        let with_mirrors = |reason: String| format!("{reason}{tried}");
        let plain = registry.to_owned();
        let asked = format!("{registry}{tried}");
        match self {
            Self::Unreachable(reason) | Self::Hopeless(reason) => {
                RegistryError::Unreachable { registry: plain, reason: with_mirrors(reason) }
            }
            Self::Unauthorised | Self::Denied => {
                RegistryError::Denied { reference, registry: asked }
            }
            Self::NotFound => RegistryError::NotFound { reference, registry: asked },
            Self::Wrong { what, reason } | Self::Spoilt { what, reason } => {
                RegistryError::Wrong { registry: plain, what, reason: with_mirrors(reason) }
            }
            Self::Sink(reason) => RegistryError::Failed { registry: plain, reason },
            Self::Moved(_) | Self::TooLarge => {
                RegistryError::Failed { registry: plain, reason: self.summary() }
            }
            Self::Dropped(reason)
            | Self::Failed(reason)
            | Self::Busy { reason, .. }
            | Self::Limited { reason, .. } => {
                RegistryError::Failed { registry: plain, reason: with_mirrors(reason) }
            }
        }
    }
}

/// `: …` with what a registry says in an error document, or nothing.
fn said(body: &[u8]) -> String {
    serde_json::from_slice(body).map(|envelope| said_in(&envelope)).unwrap_or_default()
}

fn said_in(envelope: &OciEnvelope) -> String {
    match envelope.errors.first().map(|error| printable(&error.message)) {
        Some(message) if !message.is_empty() => format!(": {message}"),
        _ => String::new(),
    }
}

/// A stranger's text, made fit for a terminal and short.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}

/// What the user can do about an error, when there is something beyond what it says.
pub fn hint(error: &RegistryError) -> Option<&'static str> {
    match error {
        RegistryError::Denied { registry, .. } if registry.starts_with("docker.io") => Some(
            "Docker Hub answers so for images that do not exist, too: check the name, or log in",
        ),
        RegistryError::Denied { .. } => {
            Some("check the name, or log in: many registries answer so for what does not exist")
        }
        RegistryError::NotFound { .. } => Some("check the name and the tag"),
        RegistryError::Unreachable { reason, .. } if reason.contains("certificate") => {
            Some("add the authority's certificate to the system's, or point SSL_CERT_FILE at it")
        }
        RegistryError::Unreachable { reason, .. } if reason.contains("TLS") => {
            Some("if the registry speaks plain http, name it as an insecure registry")
        }
        RegistryError::Unreachable { .. } => {
            Some("check the registry's name and port, the network and the proxy settings")
        }
        RegistryError::Failed { reason, .. } if reason.contains("(429)") => {
            Some("wait, log in for a higher limit, or use a mirror")
        }
        RegistryError::Failed { reason, .. } if reason.contains("No space left") => {
            Some("the disk is full: make room, or name another store with `--store`")
        }
        RegistryError::Wrong { .. } => {
            Some("does a proxy or a login page between here and the registry change its answers?")
        }
        RegistryError::Failed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_strangers_are_tamed() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m\nway"}]}"#;
        assert_eq!(said(body), ": no[31mway");
        assert_eq!(said(b"<html>"), "");
        assert_eq!(said(br#"{"errors":[]}"#), "");
        assert_eq!(printable(&"x".repeat(1000)).len(), 200);
    }

    #[test]
    fn statuses_mean_something() {
        let check = |code, expected: &str| {
            let error = Failure::of_status(code, b"", None).into_error("r", "n".into(), &[]);
            assert!(error.to_string().contains(expected), "{code}: {error}");
        };
        check(401, "denies access to `n`");
        check(403, "denies access to `n`");
        check(404, "`n` is not in the registry `r`");
        check(429, "limits how often");
        check(500, "it answers 500");
        check(418, "it answers 418");
    }

    #[test]
    fn a_full_disk_is_not_the_registrys_matter() {
        let full = Failure::Sink("its bytes can not be kept: No space left on device".to_owned());
        let hint = hint(&full.into_error("r", "n".into(), &[])).expect("a hint");
        assert!(hint.starts_with("the disk is full"), "{hint}");
    }

    #[test]
    fn a_token_servers_words_are_sorted() {
        let check = |text: &str, expected| assert_eq!(Failure::of_token_server(text), expected);
        check(r#"{"details":"incorrect username or password"}"#, Failure::Denied);
        check("", Failure::Denied);
        let reason = "its token server fails".to_owned();
        check("<h1>bad gateway</h1>", Failure::Busy { reason, wait: None });
    }
}
