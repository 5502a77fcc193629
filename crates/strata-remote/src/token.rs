//! Logins for pushes: tokens whose scopes are what a push needs, or the password itself. Pulls
//! have theirs by way of `oci-client`, which asks for one repository at a time only.

use oci_client::token_cache::RegistryToken;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode};

use crate::challenge::{Challenge, form};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::manifest;
use crate::network;
use crate::settings::{Credentials, Secret};
use crate::wire::{Wire, basic, bearer};

/// The largest answer of a token server that is read, in bytes.
const LARGEST_TOKEN_BYTES: usize = 1 << 20;

/// What a login is to allow: pushing to the endpoint's repository, and reading from another one
/// of the same registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rights {
    pub(crate) repository: String,
    pub(crate) reads: Option<String>,
}

impl Rights {
    pub(crate) fn push(endpoint: &Endpoint) -> Self {
        Self { repository: endpoint.repository.clone(), reads: None }
    }

    pub(crate) fn mount(endpoint: &Endpoint, from: &str) -> Self {
        Self { reads: Some(from.to_owned()), ..Self::push(endpoint) }
    }

    fn scopes(&self) -> Vec<String> {
        let own = format!("repository:{}:pull,push", self.repository);
        let other = self.reads.as_ref().map(|other| format!("repository:{other}:pull"));
        [own].into_iter().chain(other).collect()
    }
}

/// Makes a request with the login that there is, and remembers what a refusal asks for.
pub(crate) async fn send(
    wire: &Wire,
    endpoint: &Endpoint,
    rights: &Rights,
    request: RequestBuilder,
) -> Result<Response, Failure> {
    let request = match wire.push_login(endpoint, rights) {
        Some(login) => request.header(AUTHORIZATION, login),
        None => request,
    };
    let response = request.send().await.map_err(|error| network::failure(&error))?;
    if response.status() == StatusCode::UNAUTHORIZED {
        let header = response.headers().get(WWW_AUTHENTICATE).and_then(|text| text.to_str().ok());
        wire.note_challenge(endpoint, header.unwrap_or_default());
    }
    Ok(response)
}

/// Trades an identity token for one to pull with, which the library can not.
pub(crate) async fn of_identity(
    wire: &Wire,
    endpoint: &Endpoint,
    identity: Secret,
) -> Result<String, Failure> {
    let url = format!("{}/v2/", wire.base(endpoint).await?);
    let answer = wire.http.get(url).send().await.map_err(|error| network::failure(&error))?;
    let challenge = challenge_of(&answer).ok_or(Failure::Denied)?;
    let scope = format!("repository:{}:pull", endpoint.repository);
    let identity = Credentials::IdentityToken(identity);
    token(wire, endpoint, &challenge, &[scope], Some(identity)).await
}

/// How an answer wants a token to be asked for.
fn challenge_of(answer: &Response) -> Option<Challenge> {
    let header = answer.headers().get(WWW_AUTHENTICATE)?;
    Challenge::parse(header.to_str().ok()?)
}

/// Logs in for a push, and remembers it.
pub(crate) async fn log_in(
    wire: &Wire,
    endpoint: &Endpoint,
    rights: &Rights,
    credentials: Option<Credentials>,
) -> Result<(), Failure> {
    let header = wire.challenge(endpoint).unwrap_or_default();
    let login = match (Challenge::parse(&header), credentials) {
        (Some(challenge), credentials) => {
            let scopes = rights.scopes();
            bearer(&token(wire, endpoint, &challenge, &scopes, credentials).await?)?
        }
        (None, Some(Credentials::Password { username, secret })) => basic(&username, &secret)?,
        (None, _) => return Err(Failure::Denied),
    };
    wire.keep_push_login(endpoint, rights, login);
    Ok(())
}

/// Whether a registry takes these credentials at all, for `login`.
pub(crate) async fn check(
    wire: &Wire,
    endpoint: &Endpoint,
    credentials: &Credentials,
) -> Result<(), Failure> {
    let base = wire.base(endpoint).await?;
    let url = format!("{base}/v2/");
    let failed = |error: reqwest::Error| network::failure(&error);
    let answer = wire.http.get(&url).send().await.map_err(failed)?;
    if answer.status() == StatusCode::OK {
        return Ok(());
    }
    if answer.status() != StatusCode::UNAUTHORIZED {
        return Err(manifest::refusal(answer).await);
    }
    let login = match (challenge_of(&answer), credentials) {
        (Some(challenge), _) => {
            bearer(&token(wire, endpoint, &challenge, &[], Some(credentials.clone())).await?)?
        }
        (None, Credentials::Password { username, secret }) => basic(username, secret)?,
        (None, Credentials::IdentityToken(_)) => return Err(Failure::Denied),
    };
    let answer = wire.http.get(&url).header(AUTHORIZATION, login).send().await.map_err(failed)?;
    match answer.status() {
        StatusCode::OK => Ok(()),
        StatusCode::UNAUTHORIZED => Err(Failure::Denied),
        _ => Err(manifest::refusal(answer).await),
    }
}

/// Asks a token server (distribution's token specification; `oauth2.md` for identity tokens).
async fn token(
    wire: &Wire,
    endpoint: &Endpoint,
    challenge: &Challenge,
    scopes: &[String],
    credentials: Option<Credentials>,
) -> Result<String, Failure> {
    let is_secure = wire.base(endpoint).await?.starts_with("https:");
    if is_secure && !challenge.realm.starts_with("https:") {
        let reason = "it wants the login sent to a token server without https";
        return Err(Failure::Failed(reason.to_owned()));
    }
    let request = match &credentials {
        Some(Credentials::IdentityToken(identity)) => {
            let scope = scopes.join(" ");
            let mut fields = vec![
                ("grant_type", "refresh_token"),
                ("service", &challenge.service),
                ("client_id", "strata"),
            ];
            if !scope.is_empty() {
                fields.push(("scope", &scope));
            }
            fields.push(("refresh_token", identity.reveal()));
            let request = wire.http.post(&challenge.realm).body(form(&fields));
            request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        }
        other => {
            let mut fields = vec![("service", challenge.service.as_str())];
            fields.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
            let joint = if challenge.realm.contains('?') { '&' } else { '?' };
            let url = format!("{}{joint}{}", challenge.realm, form(&fields));
            let request = wire.http.get(url);
            match other {
                Some(Credentials::Password { username, secret }) => {
                    request.header::<_, HeaderValue>(AUTHORIZATION, basic(username, secret)?)
                }
                _ => request,
            }
        }
    };
    let mut answer = request.send().await.map_err(|error| network::failure(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(match manifest::refusal(answer).await {
            Failure::Unauthorised | Failure::Failed(_) => Failure::Denied,
            other => other,
        });
    }
    let body = manifest::read(&mut answer, LARGEST_TOKEN_BYTES).await?.unwrap_or_default();
    let token: Option<RegistryToken> = serde_json::from_slice(&body).ok();
    let token = token.map(|token| token.token().to_owned());
    token.ok_or_else(|| Failure::Failed("its token server does not answer with a token".to_owned()))
}
