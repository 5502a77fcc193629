//! Downloads one file from a URL: redirects followed, patience where it helps, and no byte twice
//! when the server says that the file is what it was. What it is for is not known here.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::OnceLock;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER,
};
use reqwest::{Response, StatusCode, redirect};
use tokio::sync::mpsc::Sender;

use crate::clients;
use crate::door::Door;
use crate::failure::Failure;
use crate::network;
use crate::retry::Patience;
use crate::settings::{RegistrySettings, Secret};

/// As Go's client.
const MOST_REDIRECTS: usize = 10;

/// What is asked for.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    /// Where it is.
    pub url: &'a str,
    /// The `ETag` of what is here already.
    pub etag: Option<&'a str>,
    /// The `Last-Modified` of what is here already.
    pub last_modified: Option<&'a str>,
    /// The value of `Authorization`. It goes to this host alone, also if that redirects.
    pub authorization: Option<&'a Secret>,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpAnswer {
    /// What is here already still holds.
    NotModified,
    /// The file came.
    File {
        /// Its `ETag`.
        etag: Option<String>,
        /// Its `Last-Modified`, as written.
        last_modified: Option<String>,
        /// The same in seconds since 1970; 0 if there is none, or none that is a time.
        modified: i64,
    },
}

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody answers, or nobody who can be trusted, or not to the end.
    #[error("{0}")]
    Unreachable(String),
    /// The server does not give it.
    #[error("{0}")]
    Refused(String),
    /// It can not be written down.
    #[error("its bytes can not be kept: {0}")]
    Sink(#[source] io::Error),
    /// The caller does not want it any more.
    #[error("cancelled")]
    Cancelled,
}

/// Downloads files. Any number of threads may use one at once; async tasks may not.
///
/// Nothing is opened before the first request.
pub struct HttpClient {
    settings: RegistrySettings,
    far: OnceLock<Result<(Door, reqwest::Client), Failure>>,
}

impl HttpClient {
    /// Keeps the settings: timeouts, proxy, patience. Credentials for registries are not used.
    pub fn new(settings: RegistrySettings) -> Self {
        Self { settings, far: OnceLock::new() }
    }

    fn far(&self) -> Result<&(Door, reqwest::Client), Failure> {
        let opened = self.far.get_or_init(|| {
            // Another part of the process may have chosen a provider already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = clients::http_client(&self.settings, &[], follow_anywhere())?;
            let door = Door::open().map_err(|error| {
                Failure::Failed(format!("no thread can be started for it: {error}"))
            })?;
            Ok((door, client))
        });
        opened.as_ref().map_err(Failure::clone)
    }

    /// Downloads a file into an empty one.
    ///
    /// # Errors
    ///
    /// When it does not come as a whole. The file holds nothing of use then.
    pub fn get(
        &self,
        request: &HttpRequest<'_>,
        into: &mut File,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<HttpAnswer, HttpError> {
        let mut patience = Patience::new(self.settings.retries);
        loop {
            if is_cancelled() {
                return Err(HttpError::Cancelled);
            }
            match self.attempt(request, into, is_cancelled) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Sink(error)) => return Err(HttpError::Sink(error)),
                Err(Trouble::Cancelled) => return Err(HttpError::Cancelled),
                Err(Trouble::Far(failure)) => patience.wait(failure).map_err(in_words)?,
            }
        }
    }

    fn attempt(
        &self,
        request: &HttpRequest<'_>,
        into: &mut File,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<HttpAnswer, Trouble> {
        let (door, client) = self.far()?;
        let mut asked = client.get(request.url).header(ACCEPT_ENCODING, "identity");
        let conditions =
            [(IF_NONE_MATCH, request.etag), (IF_MODIFIED_SINCE, request.last_modified)];
        for (name, value) in conditions {
            if let Some(value) = value {
                asked = asked.header(name, value);
            }
        }
        if let Some(secret) = request.authorization {
            let mut value = HeaderValue::from_str(secret.reveal()).map_err(|_| {
                Failure::Failed("its secret has letters that no header can have".to_owned())
            })?;
            value.set_sensitive(true);
            asked = asked.header(AUTHORIZATION, value);
        }
        let sent = door.run(async move { asked.send().await });
        let response = sent.ok_or_else(broken)?.map_err(|error| network::failure(&error))?;
        let is_conditional = request.etag.is_some() || request.last_modified.is_some();
        match response.status() {
            StatusCode::NOT_MODIFIED if is_conditional => return Ok(HttpAnswer::NotModified),
            status if status.is_success() => {}
            status => return Err(refusal(status, response.headers()).into()),
        }
        let answer = described(response.headers());
        into.set_len(0).and_then(|()| into.seek(SeekFrom::Start(0))).map_err(Trouble::Sink)?;
        let take = |piece: Bytes| {
            if is_cancelled() {
                return Err(Trouble::Cancelled);
            }
            into.write_all(&piece).map_err(Trouble::Sink)
        };
        door.pour(|pieces| send(response, pieces), take).ok_or_else(broken)??;
        Ok(answer)
    }
}

/// Sends an answer's body, piece by piece.
async fn send(mut response: Response, pieces: Sender<Bytes>) -> Result<(), Trouble> {
    while let Some(piece) = response.chunk().await.map_err(|error| network::failure(&error))? {
        if pieces.send(piece).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// As browsers and curl: what is asked for with a checksum, or over plain http, is no worse for it.
fn follow_anywhere() -> redirect::Policy {
    redirect::Policy::custom(|attempt| match attempt.previous().len() > MOST_REDIRECTS {
        true => attempt.error("it redirects in circles"),
        false => attempt.follow(),
    })
}

fn described(headers: &HeaderMap) -> HttpAnswer {
    let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let last_modified = text(LAST_MODIFIED);
    let time = last_modified.as_deref().and_then(|text| httpdate::parse_http_date(text).ok());
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0);
    HttpAnswer::File { etag: text(ETAG), last_modified, modified }
}

fn refusal(status: StatusCode, headers: &HeaderMap) -> Failure {
    let wait = headers.get(RETRY_AFTER).and_then(|text| text.to_str().ok()?.parse().ok());
    let wait = wait.map(std::time::Duration::from_secs);
    let words = status.canonical_reason().unwrap_or("no reason is given").to_lowercase();
    let reason = format!("the server answers {}: {words}", status.as_u16());
    match status.as_u16() {
        429 => Failure::Limited { reason, wait },
        408 | 500.. => Failure::Busy { reason, wait },
        _ => Failure::Failed(reason),
    }
}

fn in_words(failure: Failure) -> HttpError {
    match failure {
        Failure::Unreachable(reason) | Failure::Hopeless(reason) => {
            HttpError::Unreachable(format!("the server can not be reached: {reason}"))
        }
        Failure::Dropped(reason) => {
            HttpError::Unreachable(format!("the server stopped answering: {reason}"))
        }
        Failure::Busy { reason, .. } | Failure::Limited { reason, .. } => {
            HttpError::Unreachable(reason)
        }
        other => HttpError::Refused(other.summary()),
    }
}

fn broken() -> Failure {
    Failure::Failed("the server's answer makes no sense".to_owned())
}

/// Why one try failed.
enum Trouble {
    Far(Failure),
    Sink(io::Error),
    Cancelled,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Far(failure)
    }
}
