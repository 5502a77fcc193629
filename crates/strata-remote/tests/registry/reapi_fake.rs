//! A server of the remote execution API's cache that keeps all in memory, and can be told to do
//! anything else instead.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use strata_oci::Digest;
use strata_reapi::proto::{self, *};
use tonic::Code;
use tonic::codegen::tokio_stream;

/// What it answers: messages, and how it ends.
pub(crate) enum Say {
    Messages(Vec<Bytes>),
    Refuse(Code),
    /// Some of it, and then no more.
    Break(Vec<Bytes>),
    /// Nothing at all.
    Hang,
}

/// Decides instead of the server: given the method and its messages.
type Meddle = dyn Fn(&str, &[Bytes]) -> Option<Say> + Send + Sync;

/// What it has.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) blobs: HashMap<String, Bytes>,
    pub(crate) results: HashMap<String, Bytes>,
    /// How often each method was called.
    pub(crate) calls: BTreeMap<String, usize>,
}

pub(crate) struct ReapiFake {
    pub(crate) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    // Dropped, it stops.
    _runtime: tokio::runtime::Runtime,
}

type Answer =
    Response<StreamBody<tokio_stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>>;

impl ReapiFake {
    pub(crate) fn start() -> Self {
        Self::meddling(|_, _| None)
    }

    pub(crate) fn meddling(
        meddle: impl Fn(&str, &[Bytes]) -> Option<Say> + Send + Sync + 'static,
    ) -> Self {
        let meddle: Arc<Meddle> = Arc::new(meddle);
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let inside = Arc::clone(&kept);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, meddle) = (Arc::clone(&inside), Arc::clone(&meddle));
                let service = hyper::service::service_fn(move |request| {
                    let (kept, meddle) = (Arc::clone(&kept), Arc::clone(&meddle));
                    async move { Ok::<_, Infallible>(answer(request, &kept, &*meddle).await) }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, kept, _runtime: runtime }
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no panic")
    }

    pub(crate) fn calls(&self, method: &str) -> usize {
        self.kept().calls.get(method).copied().unwrap_or_default()
    }
}

async fn answer(request: Request<Incoming>, kept: &Mutex<Kept>, meddle: &Meddle) -> Answer {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await;
    // A client that has gone has sent what it has sent.
    let messages = body.map(|body| messages(body.to_bytes())).unwrap_or_default();
    *kept.lock().expect("no panic").calls.entry(method.clone()).or_default() += 1;
    let say = meddle(&method, &messages)
        .unwrap_or_else(|| kept.lock().expect("no panic").answer(&method, &messages));
    let trailers = |code: Code| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", (code as i32).into());
        Ok(Frame::trailers(trailers))
    };
    let data = |message: Bytes| Ok(Frame::data(framed(&message)));
    let frames = match say {
        Say::Hang => std::future::pending().await,
        Say::Refuse(code) => vec![trailers(code)],
        Say::Messages(messages) => {
            messages.into_iter().map(data).chain([trailers(Code::Ok)]).collect()
        }
        Say::Break(messages) => {
            messages.into_iter().map(data).chain([trailers(Code::Unavailable)]).collect()
        }
    };
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(StreamBody::new(tokio_stream::iter(frames))).expect("a response")
}

fn framed(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("it is small"));
    frame.put_slice(message);
    frame.freeze()
}

fn messages(mut body: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while body.len() >= 5 {
        body.advance(1);
        let length = body.get_u32() as usize;
        messages.push(body.split_to(length.min(body.len())));
    }
    messages
}

pub(crate) fn decoded<M: Message + Default>(messages: &[Bytes]) -> M {
    messages.first().map(|bytes| M::decode(bytes.clone()).expect("a message")).expect("one")
}

pub(crate) fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn code(code: Code) -> Option<proto::Status> {
    Some(proto::Status { code: code as i32, message: String::new() })
}

impl Kept {
    fn answer(&mut self, method: &str, messages: &[Bytes]) -> Say {
        let one = |message: Bytes| Say::Messages(vec![message]);
        match method {
            "FindMissingBlobs" => {
                let asked: FindMissingBlobsRequest = decoded(messages);
                let mut missing = asked.blob_digests;
                missing.retain(|digest| !self.blobs.contains_key(&digest.hash));
                one(encoded(&FindMissingBlobsResponse { missing_blob_digests: missing }))
            }
            "BatchUpdateBlobs" => one(encoded(&self.update(decoded(messages)))),
            "BatchReadBlobs" => one(encoded(&self.batch(decoded(messages)))),
            "GetActionResult" => {
                let asked: GetActionResultRequest = decoded(messages);
                let hash = asked.action_digest.expect("a digest").hash;
                self.results.get(&hash).map_or(Say::Refuse(Code::NotFound), |all| one(all.clone()))
            }
            "UpdateActionResult" => {
                let asked: UpdateActionResultRequest = decoded(messages);
                let hash = asked.action_digest.expect("a digest").hash;
                self.results.insert(hash, asked.action_result.clone());
                one(asked.action_result)
            }
            "Read" => {
                let asked: ReadRequest = decoded(messages);
                let hash = asked.resource_name.rsplit('/').nth(1).expect("a name");
                let offset = usize::try_from(asked.read_offset).expect("an offset");
                let Some(bytes) = self.blobs.get(hash) else {
                    return Say::Refuse(Code::NotFound);
                };
                let piece =
                    |data: &[u8]| encoded(&ReadResponse { data: Bytes::copy_from_slice(data) });
                Say::Messages(bytes[offset..].chunks(100_000).map(piece).collect())
            }
            "Write" => self.write(messages),
            _ => Say::Refuse(Code::Unimplemented),
        }
    }

    fn update(&mut self, asked: BatchUpdateBlobsRequest) -> BatchUpdateBlobsResponse {
        let mut responses = Vec::new();
        for BlobToUpdate { digest, data, .. } in asked.requests {
            let hash = digest.as_ref().expect("a digest").hash.clone();
            let is_it = Digest::of(&data).hex() == hash;
            let status = code(if is_it { Code::Ok } else { Code::InvalidArgument });
            if is_it {
                self.blobs.insert(hash, data);
            }
            responses.push(UpdatedBlob { digest, status });
        }
        BatchUpdateBlobsResponse { responses }
    }

    fn batch(&self, asked: BatchReadBlobsRequest) -> BatchReadBlobsResponse {
        let read = |digest: proto::Digest| {
            let found = self.blobs.get(&digest.hash).cloned();
            let status = code(if found.is_some() { Code::Ok } else { Code::NotFound });
            let data = found.unwrap_or_default();
            ReadBlob { digest: Some(digest), data, status, compressor: IDENTITY }
        };
        BatchReadBlobsResponse { responses: asked.digests.into_iter().map(read).collect() }
    }

    fn write(&mut self, messages: &[Bytes]) -> Say {
        let (mut name, mut bytes, mut is_whole) = (String::new(), Vec::new(), false);
        for message in messages {
            let message = WriteRequest::decode(message.clone()).expect("a message");
            assert_eq!(message.write_offset, i64::try_from(bytes.len()).expect("it is small"));
            if name.is_empty() {
                name = message.resource_name;
            }
            bytes.extend_from_slice(&message.data);
            is_whole = message.finish_write;
        }
        let hash = name.rsplit('/').nth(1).expect("a name").to_owned();
        if !is_whole || Digest::of(&bytes).hex() != hash {
            return Say::Refuse(Code::InvalidArgument);
        }
        let committed_size = i64::try_from(bytes.len()).expect("it is small");
        self.blobs.insert(hash, bytes.into());
        Say::Messages(vec![encoded(&WriteResponse { committed_size })])
    }
}
