//! gRPC calls: messages are decoded and encoded here, faults become statuses.
//!
//! A method is an async function from message to message, or to or from a stream of them; the
//! framing is tonic's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use prost::Message;
use tonic::codegen::{Service, tokio_stream::Stream};
use tonic::metadata::MetadataValue;
use tonic::server::Grpc;
use tonic::{Code, Status, Streaming};

use crate::body::Body;
use crate::fault::Fault;
use crate::flow::Inbound;
use strata_reapi::Raw;

/// The largest message that is read. More than a batch may have by what is announced: its
/// envelope comes on top.
pub(crate) const MESSAGE_LIMIT_BYTES: usize = 16 << 20;

/// Says in an answer's head why it is a refusal.
pub(crate) const REFUSED: &str = "strata-refused";

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let code = match &fault {
            Fault::NotFound => Code::NotFound,
            Fault::Unauthorized => Code::Unauthenticated,
            Fault::Denied(_) => Code::PermissionDenied,
            Fault::Invalid(_) | Fault::Mismatch(_) | Fault::TooLarge { .. } => {
                Code::InvalidArgument
            }
            Fault::NoRoom(_) | Fault::Quota(_) | Fault::TooMany { .. } => Code::ResourceExhausted,
            Fault::Conflict(_) => Code::Aborted,
            Fault::Method => Code::Unimplemented,
            Fault::Range => Code::OutOfRange,
            Fault::Broken(_) => Code::Cancelled,
            Fault::Busy(_) | Fault::Upstream(_) => Code::Unavailable,
            Fault::Internal(_) => Code::Internal,
        };
        let mut status = Self::new(code, fault.to_string());
        if let Some(why) = fault.refusal() {
            let _ = status.metadata_mut().insert(REFUSED, MetadataValue::from_static(why));
        }
        status
    }
}

/// The code of an answer whose head is this, by its name: a stream that fails later has begun
/// well.
pub(crate) fn code(headers: &HeaderMap) -> &'static str {
    match headers.get("grpc-status").map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes())) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A function as the service that tonic wants.
struct Call<F>(Option<F>);

impl<F, Q, A, T> Service<tonic::Request<Q>> for Call<F>
where
    F: FnOnce(Q) -> A,
    A: Future<Output = Result<T, Status>> + Send + 'static,
{
    type Response = tonic::Response<T>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let Some(work) = self.0.take() else {
            return Box::pin(async { Err(Status::internal("a call was made twice")) });
        };
        let answer = work(request.into_inner());
        Box::pin(async move { answer.await.map(tonic::Response::new) })
    }
}

/// The messages of a client that sends several.
pub(crate) struct Messages(Streaming<Bytes>);

impl Messages {
    /// The next one; none at the end.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        match self.0.message().await? {
            Some(bytes) => decode(bytes).map(Some),
            None => Ok(None),
        }
    }
}

/// The messages of a server that sends several, encoded.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Messages that are all there already.
pub(crate) fn of_items(items: Vec<Bytes>) -> Answers {
    Box::pin(tonic::codegen::tokio_stream::iter(items.into_iter().map(Ok)))
}

fn grpc() -> Grpc<Raw> {
    Grpc::new(Raw).apply_max_message_size_config(Some(MESSAGE_LIMIT_BYTES), None)
}

fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// A message as bytes.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// One message in, one out. Those out are bytes, so that what is kept as it came goes as it is.
pub(crate) async fn unary<Q, A>(
    request: Request<Inbound>,
    work: impl FnOnce(Q) -> A + Send + 'static,
) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Future<Output = Result<Bytes, Status>> + Send + 'static,
{
    let call = Call(Some(move |bytes| async move { work(decode(bytes)?).await }));
    body_of(grpc().unary(call, request).await)
}

/// Many in, one out.
pub(crate) async fn incoming<A>(
    request: Request<Inbound>,
    work: impl FnOnce(Messages) -> A + Send + 'static,
) -> Response<Body>
where
    A: Future<Output = Result<Bytes, Status>> + Send + 'static,
{
    let call = Call(Some(move |stream| work(Messages(stream))));
    body_of(grpc().client_streaming(call, request).await)
}

/// One in, many out.
pub(crate) async fn outgoing<Q, A>(
    request: Request<Inbound>,
    work: impl FnOnce(Q) -> A + Send + 'static,
) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Future<Output = Result<Answers, Status>> + Send + 'static,
{
    let call = Call(Some(move |bytes| async move { work(decode(bytes)?).await }));
    body_of(grpc().server_streaming(call, request).await)
}

/// A call that comes to nothing before it begins.
pub(crate) fn refuse(status: Status) -> Response<Body> {
    body_of(status.into_http())
}

fn body_of(response: Response<tonic::body::Body>) -> Response<Body> {
    response.map(|body| body.map_err(std::io::Error::other).boxed_unsync())
}
