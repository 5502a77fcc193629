//! Bodies on their way through the door: what passes is counted for its protocol, and no faster
//! than its caller may be.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Sleep;

use crate::body::Body;
use crate::rates::Pace;

/// A request's body.
pub(crate) type Inbound = Flow<Arriving>;

/// A request's body as it arrives.
pub(crate) enum Arriving {
    /// From hyper.
    Body(Incoming),
    /// The request has none, which was seen before hyper had it.
    Nothing,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Body(body) => Pin::new(body).poll_frame(context),
            Self::Nothing => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Body(body) => body.size_hint(),
            Self::Nothing => SizeHint::with_exact(0),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Body(body) => body.is_end_stream(),
            Self::Nothing => true,
        }
    }
}

type Count = Counter<u64, AtomicU64>;

/// A body, counted.
pub(crate) struct Flow<B> {
    body: B,
    count: Count,
    pace: Option<Arc<Pace>>,
    /// Until when nothing more passes.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<B> Flow<B> {
    pub(crate) fn new(body: B, count: Count, pace: Option<Arc<Pace>>) -> Self {
        Self { body, count, pace: pace.filter(|pace| pace.slows()), pause: None }
    }
}

impl Inbound {
    /// Whether the answer is written by `front`, which may keep it.
    pub(crate) fn is_for_front(&self) -> bool {
        matches!(self.body, Arriving::Nothing)
    }
}

impl<B> HttpBody for Flow<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        let length = data.map_or(0, |data| data.len() as u64);
        self.count.inc_by(length);
        if let Some(pace) = &self.pace {
            let wait = pace.bytes(length, Instant::now());
            if !wait.is_zero() {
                self.pause = Some(Box::pin(tokio::time::sleep(wait)));
            }
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// The same for an answer's body. One that is there already and has no limit is counted at once.
pub(crate) fn outbound(body: Body, count: Count, pace: Option<Arc<Pace>>) -> Body {
    let is_slowed = pace.as_ref().is_some_and(|pace| pace.slows());
    match body.size_hint().exact() {
        Some(0) => body,
        Some(size) if !is_slowed && size <= crate::body::SMALL_BYTES => {
            count.inc_by(size);
            body
        }
        _ => Flow::new(body, count, pace).map_err(|error: io::Error| error).boxed_unsync(),
    }
}
