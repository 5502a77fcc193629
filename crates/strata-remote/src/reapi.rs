//! A client of the remote execution API's cache: blobs by digest, results by the digest of an
//! action. It knows calls and messages, and nothing of what is kept in them. One call is one try;
//! when to make another is decided by who asks.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use strata_oci::{Digest, RegistryError};
use strata_reapi::{Raw, proto};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::codegen::tokio_stream::StreamExt as _;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::failure::{Failure, printable};
use crate::network;
use crate::settings::{Secret, Timeouts};
use crate::tls_channel::TlsDoor;

/// A result with a record in it may be larger than gRPC's own limit of 4 MiB.
const MESSAGE_LIMIT_BYTES: usize = 64 << 20;
/// So many blobs are asked for in one message: some 150 KB.
const ASKED_AT_ONCE: usize = 2000;
/// So many results are asked for at a time.
const AT_A_TIME: usize = 16;
/// A transfer is given up where it is slower than this, in bytes a second.
const SLOWEST: u64 = 64 << 10;
/// What a server does with a whole blob before it answers may take so many idle times.
const FINISHING_TIMES: u32 = 4;

/// Where a server is and who we are to it.
#[derive(Clone)]
pub struct ReapiSettings {
    /// `grpc://HOST:PORT`, or `grpcs` with TLS, and after that `/INSTANCE`, if any.
    pub url: String,
    /// What is sent as `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// PEM with certificates of authorities to trust beside the system's.
    pub authorities: Option<Vec<u8>>,
    /// PEM with our certificate, those that lead to its authority, and its key.
    pub identity: Option<(Vec<u8>, Secret)>,
    /// How long to wait for a connection, and for an answer that is small.
    pub timeouts: Timeouts,
}

/// What a URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) is_tls: bool,
    /// Host and port.
    pub(crate) authority: String,
    pub(crate) instance: String,
}

impl Target {
    /// Reads a URL; says what is wrong with it.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (is_tls, rest) = match url.split_once("://") {
            Some(("grpc", rest)) => (false, rest),
            Some(("grpcs", rest)) => (true, rest),
            _ => return Err("a URL is `grpc://HOST:PORT` or `grpcs://HOST:PORT`".to_owned()),
        };
        let (authority, instance) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err("a token does not belong into the URL".to_owned());
        }
        let is_whole = authority.parse::<http::uri::Authority>().is_ok_and(|a| a.port().is_some());
        if !is_whole {
            return Err(format!("`{}` is no `HOST:PORT`", authority.escape_debug()));
        }
        let (authority, instance) = (authority.to_owned(), instance.trim_matches('/').to_owned());
        if instance.chars().any(|sign| sign.is_whitespace() || sign.is_control()) {
            return Err("an instance's name has no spaces".to_owned());
        }
        Ok(Self { is_tls, authority, instance })
    }
}

/// Says what is wrong with the URL of a server.
///
/// # Errors
///
/// When it is not `grpc://HOST:PORT` or `grpcs://HOST:PORT`, with or without an instance.
pub fn check_reapi_url(url: &str) -> Result<(), String> {
    Target::parse(url).map(drop)
}

/// A server; cheap to clone.
#[derive(Clone)]
pub(crate) struct ReapiClient {
    pub(crate) name: String,
    instance: String,
    channel: Channel,
    token: Option<tonic::metadata::MetadataValue<tonic::metadata::Ascii>>,
    timeouts: Timeouts,
}

/// A blob as the API names it.
pub(crate) fn digest(hash: &Digest, size: u64) -> proto::Digest {
    let size_bytes = i64::try_from(size).unwrap_or(i64::MAX);
    proto::Digest { hash: hash.hex(), size_bytes }
}

/// What one call failed with.
fn failure(status: &Status) -> Failure {
    if let Some(source) = std::error::Error::source(status) {
        // Not its answer, but the way to it.
        let reason = network::describe(source);
        return match status.code() {
            Code::Unavailable => unreachable(reason),
            _ => Failure::Dropped(reason),
        };
    }
    let reason = match printable(status.message()).as_str() {
        "" => format!("it answers {:?}", status.code()),
        said => format!("it answers {:?}: {said}", status.code()),
    };
    match status.code() {
        Code::NotFound => Failure::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => Failure::Denied,
        Code::DataLoss => Failure::Wrong { what: "an answer".to_owned(), reason },
        Code::ResourceExhausted => Failure::Limited { reason, wait: None },
        Code::Unavailable | Code::Aborted => Failure::Busy { reason, wait: None },
        // Among them connections that broke.
        Code::Unknown | Code::Internal | Code::Cancelled => Failure::Dropped(reason),
        _ => Failure::Failed(reason),
    }
}

fn unreachable(reason: String) -> Failure {
    match reason.contains("certificate") || reason.contains("TLS") {
        true => Failure::Hopeless(reason),
        false => Failure::Unreachable(reason),
    }
}

fn nonsense(error: &prost::DecodeError) -> Failure {
    Failure::Failed(format!("its answer makes no sense: {}", printable(&error.to_string())))
}

impl ReapiClient {
    /// Connects when something is asked. Must be called where the runtime is.
    pub(crate) fn new(settings: &ReapiSettings) -> Result<Self, RegistryError> {
        let wrong = |reason: String| RegistryError::Failed {
            registry: printable(&settings.url),
            reason: printable(&reason),
        };
        let target = Target::parse(&settings.url).map_err(wrong)?;
        let Timeouts { connect, .. } = settings.timeouts;
        let endpoint = Endpoint::from_shared(format!("http://{}", target.authority));
        let endpoint = endpoint.map_err(|error| wrong(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(connect)
            .initial_connection_window_size(8 << 20)
            .initial_stream_window_size(4 << 20);
        let channel = match target.is_tls {
            false => endpoint.connect_lazy(),
            true => {
                let origin = format!("https://{}", target.authority).parse();
                let origin = origin.map_err(|_| wrong("it is no address".to_owned()))?;
                let door = TlsDoor::new(&target.authority, settings).map_err(wrong)?;
                endpoint.origin(origin).connect_with_connector_lazy(door)
            }
        };
        let bearer = |token: &Secret| format!("Bearer {}", token.reveal()).parse();
        let token = settings.token.as_ref().map(bearer).transpose();
        let token = token.map_err(|_| wrong("its token is no text for a header".to_owned()))?;
        let (name, timeouts) = (printable(&settings.url), settings.timeouts);
        Ok(Self { name, instance: target.instance, channel, token, timeouts })
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    async fn grpc(&self) -> Result<tonic::client::Grpc<Channel>, Failure> {
        let grpc = tonic::client::Grpc::new(self.channel.clone());
        let mut grpc = grpc.max_decoding_message_size(MESSAGE_LIMIT_BYTES);
        grpc.ready().await.map_err(|error| unreachable(network::describe(&error)))?;
        Ok(grpc)
    }

    /// The answer, if it is there within so many idle times.
    async fn within<T>(
        &self,
        times: u32,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let patience = self.timeouts.idle * times;
        let answer = tokio::time::timeout(patience, answer).await;
        answer.unwrap_or_else(|_| Err(late(patience)))
    }

    /// Transfers have a limit, too: pieces may come in time and never end.
    async fn transfer<T>(
        &self,
        size: i64,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let seconds = Duration::from_secs(size.unsigned_abs() / SLOWEST);
        let patience = self.timeouts.idle * FINISHING_TIMES + seconds;
        let answer = tokio::time::timeout(patience, answer).await;
        answer.unwrap_or_else(|_| Err(Failure::Failed("it is too slow".to_owned())))
    }

    async fn unary<A: Message + Default>(
        &self,
        path: &'static str,
        asked: &impl Message,
    ) -> Result<A, Failure> {
        let asked = self.request(Bytes::from(asked.encode_to_vec()));
        let answer = self.within(1, async {
            let mut grpc = self.grpc().await?;
            let answer = grpc.unary(asked, PathAndQuery::from_static(path), Raw).await;
            answer.map_err(|status| failure(&status))
        });
        A::decode(answer.await?.into_inner()).map_err(|error| nonsense(&error))
    }

    /// Those of the digests that are not there, as text.
    pub(crate) async fn missing(
        &self,
        digests: Vec<proto::Digest>,
    ) -> Result<HashSet<String>, Failure> {
        let mut missing = HashSet::new();
        for some in digests.chunks(ASKED_AT_ONCE) {
            let asked = proto::FindMissingBlobsRequest {
                instance_name: self.instance.clone(),
                blob_digests: some.to_vec(),
                digest_function: proto::SHA256,
            };
            let path = "/build.bazel.remote.execution.v2.ContentAddressableStorage/\
                FindMissingBlobs";
            let answer: proto::FindMissingBlobsResponse = self.unary(path, &asked).await?;
            missing.extend(answer.missing_blob_digests.into_iter().map(|digest| digest.hash));
        }
        Ok(missing)
    }

    /// The result of an action; none where there is none.
    pub(crate) async fn result(
        &self,
        action: proto::Digest,
    ) -> Result<Option<proto::ActionResult>, Failure> {
        let asked = proto::GetActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action),
            digest_function: proto::SHA256,
        };
        let path = "/build.bazel.remote.execution.v2.ActionCache/GetActionResult";
        match self.unary(path, &asked).await {
            Ok(result) => Ok(Some(result)),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The same for many of them.
    pub(crate) async fn results(
        &self,
        actions: Vec<proto::Digest>,
    ) -> Result<Vec<Option<proto::ActionResult>>, Failure> {
        let mut results = Vec::with_capacity(actions.len());
        for some in actions.chunks(AT_A_TIME) {
            let ask = |action: &proto::Digest| {
                let (client, action) = (self.clone(), action.clone());
                tokio::spawn(async move { client.result(action).await })
            };
            let asked: Vec<_> = some.iter().map(ask).collect();
            for answer in asked {
                let answer = answer.await;
                results.push(answer.map_err(|error| Failure::Failed(error.to_string()))??);
            }
        }
        Ok(results)
    }

    /// Keeps a result, whose blobs are there.
    pub(crate) async fn set_result(
        &self,
        action: proto::Digest,
        result: &proto::ActionResult,
    ) -> Result<(), Failure> {
        let asked = proto::UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action),
            action_result: result.encode_to_vec().into(),
            digest_function: proto::SHA256,
        };
        let path = "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult";
        self.unary::<proto::ActionResult>(path, &asked).await.map(drop)
    }

    fn resource(&self, parts: &str) -> String {
        match &*self.instance {
            "" => parts.to_owned(),
            instance => format!("{instance}/{parts}"),
        }
    }

    /// Reads a small blob.
    pub(crate) async fn read_small(&self, blob: &proto::Digest) -> Result<Bytes, Failure> {
        let asked = proto::BatchReadBlobsRequest {
            instance_name: self.instance.clone(),
            digests: vec![blob.clone()],
            acceptable_compressors: vec![proto::IDENTITY],
            digest_function: proto::SHA256,
        };
        let path = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs";
        let answer: proto::BatchReadBlobsResponse = self.unary(path, &asked).await?;
        let [one] = <[_; 1]>::try_from(answer.responses).map_err(|_| not_one())?;
        of_item(one.status.as_ref())?;
        Ok(one.data)
    }

    /// Writes a small blob.
    pub(crate) async fn write_small(
        &self,
        blob: &proto::Digest,
        data: Bytes,
    ) -> Result<(), Failure> {
        let (digest, compressor) = (Some(blob.clone()), proto::IDENTITY);
        let asked = proto::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            requests: vec![proto::BlobToUpdate { digest, data, compressor }],
            digest_function: proto::SHA256,
        };
        let path = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs";
        let answer: proto::BatchUpdateBlobsResponse = self.unary(path, &asked).await?;
        let [one] = <[_; 1]>::try_from(answer.responses).map_err(|_| not_one())?;
        of_item(one.status.as_ref())
    }

    /// Reads a blob from an offset on.
    pub(crate) async fn read(
        &self,
        blob: &proto::Digest,
        offset: u64,
        pieces: Sender<Bytes>,
    ) -> Result<(), Failure> {
        let resource_name = self.resource(&format!("blobs/{}/{}", blob.hash, blob.size_bytes));
        let read_offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let asked = proto::ReadRequest { resource_name, read_offset, read_limit: 0 };
        let asked = self.request(Bytes::from(asked.encode_to_vec()));
        let path = PathAndQuery::from_static("/google.bytestream.ByteStream/Read");
        self.transfer(blob.size_bytes, async {
            let stream = self.within(1, async {
                let mut grpc = self.grpc().await?;
                let stream = grpc.server_streaming(asked, path, Raw).await;
                stream.map_err(|status| failure(&status))
            });
            let mut stream = stream.await?.into_inner();
            loop {
                let next = self.within(1, async { Ok(stream.next().await) }).await?;
                let Some(bytes) = next else { return Ok(()) };
                let bytes = bytes.map_err(|status| failure(&status))?;
                let piece = proto::ReadResponse::decode(bytes).map_err(|error| nonsense(&error))?;
                // Who takes them may have gone.
                if pieces.send(piece.data).await.is_err() {
                    return Ok(());
                }
            }
        })
        .await
    }

    /// The name of a new upload of a blob.
    pub(crate) fn upload(&self, blob: &proto::Digest) -> Result<String, Failure> {
        // The id is to keep writers apart that can not know of each other.
        let mut id = [0; 16];
        let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id);
        filled.map_err(|_| Failure::Failed("the system gives no random bytes".to_owned()))?;
        let id = id.map(|byte| format!("{byte:02x}"));
        let id = [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| id[part].concat()).join("-");
        Ok(self.resource(&format!("uploads/{id}/blobs/{}/{}", blob.hash, blob.size_bytes)))
    }

    /// How much of an upload is there.
    pub(crate) async fn committed(&self, upload: String) -> Result<u64, Failure> {
        let asked = proto::QueryWriteStatusRequest { resource_name: upload };
        let path = "/google.bytestream.ByteStream/QueryWriteStatus";
        match self.unary::<proto::QueryWriteStatusResponse>(path, &asked).await {
            Ok(status) => Ok(u64::try_from(status.committed_size).unwrap_or_default()),
            Err(Failure::NotFound) => Ok(0),
            Err(failure) => Err(failure),
        }
    }

    /// Writes a blob of this size from an offset on: the pieces begin there.
    pub(crate) async fn write(
        &self,
        upload: String,
        (offset, size): (u64, i64),
        pieces: Receiver<Bytes>,
    ) -> Result<(), Failure> {
        let (sender, messages) = channel(2);
        let path = PathAndQuery::from_static("/google.bytestream.ByteStream/Write");
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let answer = self.transfer(size, async {
            let mut grpc = self.within(1, self.grpc()).await?;
            let messages = self.request(ReceiverStream::new(messages));
            let answer = async {
                let answer = grpc.client_streaming(messages, path, Raw).await;
                answer.map_err(|status| failure(&status))
            };
            first(answer, self.feed(upload, (offset, size), pieces, sender)).await
        });
        let answer = proto::WriteResponse::decode(answer.await?.into_inner());
        match answer.map_err(|error| nonsense(&error))?.committed_size {
            // -1: somebody else was first.
            committed if committed == size || committed == -1 => Ok(()),
            committed => Err(Failure::Dropped(format!("it kept {committed} bytes of {size}"))),
        }
    }

    /// Sends pieces as messages; fails where the server does not take them, or says nothing to
    /// the last one. What ends too early is not finished, and so nobody keeps it.
    async fn feed<T>(
        &self,
        name: String,
        (offset, size): (i64, i64),
        mut pieces: Receiver<Bytes>,
        messages: Sender<Bytes>,
    ) -> Result<T, Failure> {
        let (mut write_offset, mut is_first) = (offset, true);
        loop {
            let data = match pieces.recv().await {
                Some(data) => data,
                None if is_first && offset == size => Bytes::new(),
                None => return Err(Failure::Failed("its bytes ended too early".to_owned())),
            };
            let after = write_offset.saturating_add(i64::try_from(data.len()).unwrap_or(i64::MAX));
            let resource_name = if is_first { name.clone() } else { String::new() };
            let finish_write = after == size;
            let message = proto::WriteRequest { resource_name, write_offset, finish_write, data };
            let message = Bytes::from(message.encode_to_vec());
            let sent = self.within(1, async { Ok(messages.send(message).await) }).await?;
            if sent.is_err() || finish_write {
                break;
            }
            (write_offset, is_first) = (after, false);
        }
        drop(messages);
        // It has all of it, or takes no more: it is its turn.
        let patience = self.timeouts.idle * FINISHING_TIMES;
        tokio::time::sleep(patience).await;
        Err(late(patience))
    }
}

fn late(patience: Duration) -> Failure {
    Failure::Failed(format!("no answer for {} s", patience.as_secs_f32()))
}

fn not_one() -> Failure {
    Failure::Failed("it does not answer for the blob that it was asked for".to_owned())
}

/// What is said of one blob among several.
fn of_item(status: Option<&proto::Status>) -> Result<(), Failure> {
    match status {
        Some(status) if status.code != 0 => {
            Err(failure(&Status::new(Code::from_i32(status.code), status.message.clone())))
        }
        _ => Ok(()),
    }
}

/// What the first of two says that is done; the other one is dropped.
async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => other.as_mut().poll(context),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url: &str, is_tls, authority: &str, instance: &str| {
            let (authority, instance) = (authority.to_owned(), instance.to_owned());
            assert_eq!(Target::parse(url), Ok(Target { is_tls, authority, instance }), "{url}");
        };
        check("grpc://cache.lan:7878", false, "cache.lan:7878", "");
        check("grpcs://[::1]:1/", true, "[::1]:1", "");
        check("grpc://h:1/team/app/", false, "h:1", "team/app");
        for wrong in
            ["h:1", "http://h:1", "grpc://h", "grpc://", "grpc://u:p@h:1", "grpc://h:1/a b"]
        {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
