//! Sends blobs and manifests to one endpoint (distribution specification, "Push"): the single
//! requests. Their order, and when to try again, is decided elsewhere.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use strata_oci::{Descriptor, Digest, ManifestBytes, media_type};
use tokio::sync::mpsc::Receiver;

use crate::endpoint::Endpoint;
use crate::failure::{Failure, printable};
use crate::manifest::refusal;
use crate::network;
use crate::token::{self, Rights};
use crate::wire::Wire;

/// What a registry does with a whole blob before it answers may take so many idle times.
const FINISHING_TIMES: u32 = 5;
/// Bytes of a request after another refused a whole blob as too large.
const SMALL_REQUEST_BYTES: u64 = 8 << 20;
const MOST_REDIRECTS: usize = 5;

/// An upload that was begun.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    /// Where its bytes go.
    location: Url,
    /// Bytes that the registry has of it.
    pub(crate) offset: u64,
    /// The least that the registry wants in one request, in bytes.
    least: u64,
}

/// How an upload began.
#[derive(Debug)]
pub(crate) enum Begun {
    /// There is nothing left to do.
    Mounted,
    Upload(Upload),
}

/// Whether the repository has a blob.
pub(crate) async fn has_blob(
    wire: &Wire,
    endpoint: &Endpoint,
    blob: &Descriptor,
) -> Result<bool, Failure> {
    let base = wire.base(endpoint).await?;
    let url = format!("{base}/v2/{}/blobs/{}", endpoint.repository, blob.digest);
    let answer = token::send(wire, endpoint, &Rights::push(endpoint), wire.http.head(url)).await?;
    let elsewhere =
        answer.url().host_str() != Url::parse(&base).ok().as_ref().and_then(Url::host_str);
    match answer.status() {
        StatusCode::OK => Ok(true),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
        // Where blobs lie in an object store, a redirect may be good for a GET alone.
        StatusCode::FORBIDDEN if elsewhere => Ok(false),
        _ => Err(refusal(answer).await),
    }
}

/// The digest of the manifest under a tag or digest.
pub(crate) async fn manifest_digest(
    wire: &Wire,
    endpoint: &Endpoint,
    target: &str,
) -> Result<Option<Digest>, Failure> {
    let url =
        format!("{}/v2/{}/manifests/{target}", wire.base(endpoint).await?, endpoint.repository);
    let accepted = [
        media_type::INDEX,
        media_type::DOCKER_INDEX,
        media_type::MANIFEST,
        media_type::DOCKER_MANIFEST,
    ];
    let request = wire.http.head(url).header(ACCEPT, accepted.join(", "));
    let answer = token::send(wire, endpoint, &Rights::push(endpoint), request).await?;
    match answer.status() {
        StatusCode::OK => Ok(digest_header(answer.headers())),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(None),
        _ => Err(refusal(answer).await),
    }
}

fn digest_header(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// Puts a manifest.
pub(crate) async fn put_manifest(
    wire: &Wire,
    endpoint: &Endpoint,
    target: &str,
    manifest: ManifestBytes,
) -> Result<(), Failure> {
    let url =
        format!("{}/v2/{}/manifests/{target}", wire.base(endpoint).await?, endpoint.repository);
    let request = wire.http.put(url).header(CONTENT_TYPE, &manifest.media_type);
    let request = request.body(manifest.bytes);
    let answer = token::send(wire, endpoint, &Rights::push(endpoint), request).await?;
    if !answer.status().is_success() {
        return Err(refusal(answer).await);
    }
    match digest_header(answer.headers()) {
        Some(digest) if digest != manifest.digest => Err(Failure::Wrong {
            what: "the manifest".to_owned(),
            reason: format!("it was sent {} and keeps {digest}", manifest.digest),
        }),
        _ => Ok(()),
    }
}

/// Begins an upload, or has a blob taken over from another repository.
pub(crate) async fn begin(
    wire: &Wire,
    endpoint: &Endpoint,
    mount: Option<(Digest, String)>,
) -> Result<Begun, Failure> {
    let base = wire.base(endpoint).await?;
    let mut url = parse(&format!("{base}/v2/{}/blobs/uploads/", endpoint.repository))?;
    let rights = match &mount {
        Some((digest, from)) => {
            url.query_pairs_mut()
                .append_pair("mount", &digest.to_string())
                .append_pair("from", from);
            Rights::mount(endpoint, from)
        }
        None => Rights::push(endpoint),
    };
    let request = wire.http.post(url).header(CONTENT_LENGTH, 0);
    let answer = token::send(wire, endpoint, &rights, request).await?;
    match answer.status() {
        StatusCode::CREATED if mount.is_some() => Ok(Begun::Mounted),
        StatusCode::ACCEPTED | StatusCode::CREATED => upload(&answer, 0).map(Begun::Upload),
        _ => Err(refusal(answer).await),
    }
}

fn parse(url: &str) -> Result<Url, Failure> {
    Url::parse(url).map_err(|_| Failure::Failed("its address makes no sense".to_owned()))
}

/// Where an upload goes on, as an answer says it.
fn upload(answer: &Response, offset: u64) -> Result<Upload, Failure> {
    let location = location(answer)?
        .ok_or_else(|| Failure::Failed("it does not say where an upload goes to".to_owned()))?;
    let least = answer.headers().get("oci-chunk-min-length");
    let least = least.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    Ok(Upload { location, offset, least })
}

fn location(answer: &Response) -> Result<Option<Url>, Failure> {
    let Some(text) = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let url = answer.url().join(text);
    let url = url.map_err(|_| Failure::Failed("it names a place that is none".to_owned()))?;
    if answer.url().scheme() == "https" && url.scheme() != "https" {
        let reason = "it wants the upload sent on without https";
        return Err(Failure::Failed(reason.to_owned()));
    }
    Ok(Some(url))
}

/// Asks how much of an upload arrived.
pub(crate) async fn status(
    wire: &Wire,
    endpoint: &Endpoint,
    old: &Upload,
) -> Result<Upload, Failure> {
    let request = wire.http.get(old.location.clone());
    let answer = sent(wire, endpoint, &old.location, request).await?;
    if !answer.status().is_success() {
        return Err(refusal(answer).await);
    }
    let range = answer.headers().get(RANGE).and_then(|value| value.to_str().ok());
    let offset = range.map_or(Some(0), bytes_received);
    let offset =
        offset.ok_or_else(|| Failure::Failed("it does not say how much arrived".to_owned()))?;
    match location(&answer)? {
        Some(_) => upload(&answer, offset),
        None => Ok(Upload { offset, ..old.clone() }),
    }
}

/// `0-N`, with or without its unit: N + 1 bytes. Registries say `0-0` for none, and also for one:
/// taken as none, that byte is sent once more, which a registry that has it refuses.
fn bytes_received(range: &str) -> Option<u64> {
    let (first, last) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    match (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

/// Only the registry's own host gets the login.
async fn sent(
    wire: &Wire,
    endpoint: &Endpoint,
    url: &Url,
    request: RequestBuilder,
) -> Result<Response, Failure> {
    let base = parse(&wire.base(endpoint).await?)?;
    match base.origin() == url.origin() {
        true => token::send(wire, endpoint, &Rights::push(endpoint), request).await,
        false => request.send().await.map_err(|error| network::failure(&error)),
    }
}

/// Sends the bytes of an upload from its offset on, in one request or in several, and gives the
/// upload as it is then.
pub(crate) async fn send_bytes(
    wire: Arc<Wire>,
    endpoint: Endpoint,
    mut upload: Upload,
    size: u64,
    most: Option<u64>,
    pieces: Receiver<Bytes>,
) -> Result<Upload, Failure> {
    let feed = Arc::new(Feed::new(pieces));
    while upload.offset < size {
        let most = most.unwrap_or(u64::MAX).max(upload.least);
        let length = most.min(size - upload.offset);
        upload = send_part(&wire, &endpoint, &upload, &feed, Some(length)).await?;
    }
    Ok(upload)
}

/// Sends all bytes of an upload in one request, however many there will be.
pub(crate) async fn send_all(
    wire: Arc<Wire>,
    endpoint: Endpoint,
    upload: Upload,
    pieces: Receiver<Bytes>,
) -> Result<Upload, Failure> {
    let feed = Arc::new(Feed::new(pieces));
    send_part(&wire, &endpoint, &upload, &feed, None).await
}

/// One request of an upload: so many bytes of the feed, or all that come.
async fn send_part(
    wire: &Wire,
    endpoint: &Endpoint,
    upload: &Upload,
    feed: &Arc<Feed>,
    length: Option<u64>,
) -> Result<Upload, Failure> {
    let body = PartBody { feed: Arc::clone(feed), left: length };
    let mut request = wire
        .uploads
        .request(Method::PATCH, upload.location.clone())
        .header(CONTENT_TYPE, "application/octet-stream");
    if let Some(length) = length {
        let (first, last) = (upload.offset, upload.offset + length - 1);
        request = request.header(CONTENT_RANGE, format!("{first}-{last}"));
    }
    let request = request.body(reqwest::Body::wrap(body));
    let answer = tokio::select! {
        answer = sent(wire, endpoint, &upload.location, request) => answer?,
        () = feed.stall(wire.timeouts().idle) => {
            return Err(Failure::Unreachable("the upload does not move on".to_owned()));
        }
    };
    match answer.status() {
        StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::NO_CONTENT => {
            self::upload(&answer, upload.offset + length.unwrap_or(0))
        }
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
            // No byte may have been read of the body: the way is known for the next try.
            let to = location(&answer)?;
            let to = to.ok_or_else(|| Failure::Failed("it redirects nowhere".to_owned()))?;
            Err(Failure::Moved(to.to_string()))
        }
        StatusCode::PAYLOAD_TOO_LARGE
            if length.is_none_or(|length| length > SMALL_REQUEST_BYTES) =>
        {
            Err(Failure::TooLarge)
        }
        _ => Err(refusal(answer).await),
    }
}

/// How much a request may carry after one was refused as too large.
pub(crate) fn smaller_requests() -> u64 {
    SMALL_REQUEST_BYTES
}

impl Upload {
    /// The same upload under the address that a redirect named.
    pub(crate) fn moved(&self, to: &str) -> Result<Self, Failure> {
        Ok(Self { location: parse(to)?, ..self.clone() })
    }
}

/// Ends an upload: the registry compares its bytes with the digest.
pub(crate) async fn finish(
    wire: &Wire,
    endpoint: &Endpoint,
    upload: &Upload,
    blob: Digest,
) -> Result<(), Failure> {
    let mut url = upload.location.clone();
    for _ in 0..=MOST_REDIRECTS {
        if !url.query_pairs().any(|(name, _)| name == "digest") {
            url.query_pairs_mut().append_pair("digest", &blob.to_string());
        }
        let request = wire.uploads.put(url.clone()).header(CONTENT_LENGTH, 0);
        let request = request.header(CONTENT_TYPE, "application/octet-stream");
        let patience = wire.timeouts().idle * FINISHING_TIMES;
        let answer = tokio::select! {
            answer = sent(wire, endpoint, &url, request) => answer?,
            () = tokio::time::sleep(patience) => {
                return Err(Failure::Unreachable("no answer in time".to_owned()));
            }
        };
        match answer.status() {
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                let to = location(&answer)?;
                url = to.ok_or_else(|| Failure::Failed("it redirects nowhere".to_owned()))?;
            }
            status if status.is_success() => {
                return match digest_header(answer.headers()) {
                    Some(digest) if digest != blob => Err(Failure::Wrong {
                        what: format!("the blob {blob}"),
                        reason: format!("it says that it keeps {digest}"),
                    }),
                    _ => Ok(()),
                };
            }
            _ => return Err(refusal(answer).await),
        }
    }
    Err(Failure::Failed("it redirects in circles".to_owned()))
}

/// Gives an upload up, as far as the registry lets us.
pub(crate) async fn abandon(wire: &Wire, endpoint: &Endpoint, upload: &Upload) {
    let request = wire.http.delete(upload.location.clone());
    // What is left over is the registry's to remove.
    drop(sent(wire, endpoint, &upload.location, request).await);
}

/// The bytes of a blob, over all requests that they take.
struct Feed {
    pieces: Mutex<(Receiver<Bytes>, Bytes)>,
    /// Bytes that the network took.
    taken: AtomicU64,
    /// Whether the network waits for us, and not we for it.
    hungry: AtomicBool,
}

impl Feed {
    fn new(pieces: Receiver<Bytes>) -> Self {
        let pieces = Mutex::new((pieces, Bytes::new()));
        Self { pieces, taken: AtomicU64::new(0), hungry: AtomicBool::new(false) }
    }

    /// Ends when the other side has taken nothing for so long although there was something, or
    /// has not answered to what it took.
    async fn stall(&self, idle: Duration) {
        let mut before = self.taken.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(idle).await;
            let now = self.taken.load(Ordering::Relaxed);
            if now == before && !self.hungry.load(Ordering::Relaxed) {
                return;
            }
            before = now;
        }
    }

    /// The next piece, of at most so many bytes.
    fn poll(&self, context: &mut Context<'_>, most: u64) -> Poll<Option<Bytes>> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let (receiver, rest) = &mut *pieces;
        if rest.is_empty() {
            match receiver.poll_recv(context) {
                Poll::Ready(Some(piece)) => *rest = piece,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    self.hungry.store(true, Ordering::Relaxed);
                    return Poll::Pending;
                }
            }
        }
        self.hungry.store(false, Ordering::Relaxed);
        let count = rest.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Some(rest.split_to(count)))
    }
}

/// The body of one request. Where its length is known, a source that ends too early breaks the
/// request off; where it is not, whoever feeds it says whether that was all.
struct PartBody {
    feed: Arc<Feed>,
    left: Option<u64>,
}

impl Body for PartBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        match self.feed.poll(context, self.left.unwrap_or(u64::MAX)) {
            Poll::Ready(Some(piece)) => {
                self.left = self.left.map(|left| left - piece.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Poll::Ready(None) if self.left.is_none() => Poll::Ready(None),
            Poll::Ready(None) => {
                let ended = std::io::Error::other("the source ended too early");
                Poll::Ready(Some(Err(ended)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What a failure to send is called.
pub(crate) fn source_failure(error: &std::io::Error) -> Failure {
    Failure::Sink(format!("its bytes can not be read here: {}", printable(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::bytes_received;

    #[test]
    fn ranges_say_how_much_arrived() {
        let check = |text: &str, expected| assert_eq!(bytes_received(text), expected, "{text}");
        check("0-0", Some(0));
        check("0-41", Some(42));
        check("bytes=0-41", Some(42));
        check("5-41", None);
        check("x", None);
        check("0-18446744073709551615", None);
    }
}
