//! What most clients of a cache send over HTTP/1.1, read and answered without hyper: GET and HEAD
//! without a body, one after the other. Hyper and the hand-overs around it cost more than all that
//! such a request needs.
//!
//! Whatever is anything else goes to hyper from its first byte on, with all that comes after it on
//! its connection. So nothing is understood in two ways: what is read here is read by hyper's own
//! parser (`httparse`), and every answer has the bytes that hyper would write (but for the second
//! in its date). The rules, the limits and what is counted are `site`'s in both cases.

mod answer;
mod head;
mod rewound;

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::body::Body;
use crate::ready::Seed;
use crate::site::Site;

use answer::{Framing, Length};
use head::Reading;

pub(crate) use head::Head;
pub(crate) use rewound::Rewound;

/// Room for the heads of usual requests.
const BUFFER_BYTES: usize = 4 << 10;
/// A longer head is hyper's.
const LONGEST_HEAD_BYTES: usize = 32 << 10;

/// A connection that goes on with hyper.
pub(crate) struct Rest<S> {
    pub(crate) stream: Rewound<S>,
    /// Until when what has come of a request's head must be all of it.
    pub(crate) deadline: Instant,
}

/// Answers what can be answered here; gives a connection that is for hyper.
pub(crate) async fn serve<S>(
    site: &Arc<Site>,
    stream: S,
    peer: SocketAddr,
    mut stopped: watch::Receiver<bool>,
    head_limit: Duration,
) -> Option<Rest<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let now = Instant::now();
    let mut front = Front {
        site,
        peer,
        stream,
        bytes: vec![0; BUFFER_BYTES],
        filled: 0,
        out: Vec::new(),
        wait: Wait {
            deadline: now + head_limit,
            sleep: Box::pin(tokio::time::sleep(head_limit)),
            stop: stopped.clone(),
            stopped: Box::pin(async move { drop(stopped.wait_for(|stopped| *stopped).await) }),
            waker: None,
        },
    };
    loop {
        match front.next(head_limit).await {
            Next::Again => {}
            Next::End => return None,
            Next::Hyper => break,
        }
    }
    front.bytes.truncate(front.filled);
    let stream = Rewound::new(front.bytes.into(), front.stream);
    Some(Rest { stream, deadline: front.wait.deadline })
}

struct Front<'s, S> {
    site: &'s Arc<Site>,
    peer: SocketAddr,
    stream: S,
    /// What came and was not answered.
    bytes: Vec<u8>,
    filled: usize,
    /// The head of an answer.
    out: Vec<u8>,
    wait: Wait,
}

/// What becomes of a connection.
enum Next {
    Again,
    Hyper,
    End,
}

impl<S> Front<'_, S>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    /// Reads until a request is whole, and answers it.
    async fn next(&mut self, head_limit: Duration) -> Next {
        // Who has always asked for more already would never be waited for.
        if self.wait.stop.has_changed().unwrap_or(true) {
            return Next::End;
        }
        loop {
            let mut headers = [httparse::EMPTY_HEADER; head::HEADERS];
            let head = match head::read(&self.bytes[..self.filled], &mut headers) {
                Reading::Other => return Next::Hyper,
                Reading::Whole(head) => head,
                Reading::Begun if self.filled >= LONGEST_HEAD_BYTES => return Next::Hyper,
                Reading::Begun => {
                    if self.filled == self.bytes.len() {
                        self.bytes.resize(2 * self.filled, 0);
                    }
                    let room = &mut self.bytes[self.filled..];
                    match self.wait.read(&mut self.stream, room).await {
                        Some(count) if count > 0 => self.filled += count,
                        _ => return Next::End,
                    }
                    continue;
                }
            };
            self.out.clear();
            let size = head.size;
            let Front { site, peer, stream, out, .. } = self;
            let done = match site.again(&head, *peer, out) {
                Some(body) => {
                    answer::end_head(out);
                    write(stream, out, &body).await.is_ok()
                }
                None => match long(site, *peer, stream, out, &head).await {
                    Long::Done => true,
                    Long::Hyper => return Next::Hyper,
                    Long::Failed => false,
                },
            };
            if !done {
                return Next::End;
            }
            self.bytes.copy_within(size..self.filled, 0);
            self.filled -= size;
            self.wait.deadline = Instant::now() + head_limit;
            return Next::Again;
        }
    }
}

enum Long {
    Done,
    Hyper,
    /// The client went away, or has its last answer.
    Failed,
}

/// Answers as hyper's service does.
async fn long<S>(
    site: &Arc<Site>,
    peer: SocketAddr,
    stream: &mut S,
    out: &mut Vec<u8>,
    head: &Head<'_, '_>,
) -> Long
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Some(request) = head.request() else { return Long::Hyper };
    let response = site.answer(request, peer).await;
    let written = respond(site, stream, out, head, response).await;
    match written {
        Ok(()) if head.closes => {
            // It has all that it wanted.
            drop(stream.shutdown().await);
            Long::Failed
        }
        Ok(()) => Long::Done,
        Err(_) => Long::Failed,
    }
}

async fn respond<S: AsyncWrite + Unpin>(
    site: &Arc<Site>,
    stream: &mut S,
    out: &mut Vec<u8>,
    asked: &Head<'_, '_>,
    response: Response<Body>,
) -> io::Result<()> {
    let (mut parts, mut body) = response.into_parts();
    let seed = parts.extensions.remove::<Seed>();
    if asked.closes {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let length = match body.size_hint().exact() {
        _ if body.is_end_stream() => Length::Nothing,
        Some(size) => Length::Known(size),
        None => Length::Unknown,
    };
    let framing = answer::head(out, &parts, length, asked.is_question);
    let until_date = out.len();
    answer::end_head(out);
    if framing == Framing::None {
        return write(stream, out, b"").await;
    }
    let first = match body.frame().await {
        Some(frame) => frame?.into_data().unwrap_or_default(),
        None => Bytes::new(),
    };
    let is_all = length == Length::Known(first.len() as u64);
    if let Some(seed) = seed.filter(|_| is_all && parts.status == StatusCode::OK) {
        site.keep_ready(asked, seed, &out[..until_date], &first);
    }
    if framing == Framing::Plain {
        write(stream, out, &first).await?;
    } else {
        write(stream, out, b"").await?;
        chunk(stream, &first).await?;
    }
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame?.into_data() else { continue };
        match framing {
            Framing::Chunked => chunk(stream, &data).await?,
            _ => write(stream, &data, b"").await?,
        }
    }
    match framing {
        Framing::Chunked => write(stream, b"0\r\n\r\n", b"").await,
        _ => Ok(()),
    }
}

async fn chunk<S: AsyncWrite + Unpin>(stream: &mut S, data: &[u8]) -> io::Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    write(stream, format!("{:X}\r\n", data.len()).as_bytes(), data).await?;
    write(stream, b"\r\n", b"").await
}

/// Writes both, in one go where they fit.
async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    mut first: &[u8],
    mut second: &[u8],
) -> io::Result<()> {
    while !first.is_empty() || !second.is_empty() {
        let count = if second.is_empty() {
            stream.write(first).await?
        } else {
            stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]).await?
        };
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_first = count.min(first.len());
        first = &first[of_first..];
        second = &second[count - of_first..];
    }
    stream.flush().await
}

/// What a connection waits for besides bytes.
struct Wait {
    deadline: Instant,
    /// It may end before the deadline, which moves on with each request.
    sleep: Pin<Box<Sleep>>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    stop: watch::Receiver<bool>,
    /// Who is woken by both.
    waker: Option<Waker>,
}

impl Wait {
    /// Reads some bytes, none at their end; `None` where it took too long or the server stops.
    async fn read<S>(&mut self, stream: &mut S, room: &mut [u8]) -> Option<usize>
    where
        S: AsyncRead + Unpin,
    {
        poll_fn(|context| {
            let mut buffer = ReadBuf::new(room);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) => return Poll::Ready(Some(buffer.filled().len())),
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            // Where neither has come, both know whom to wake: to tell them again takes locks.
            let has_come = self.sleep.is_elapsed() || self.stop.has_changed().unwrap_or(true);
            let is_known = |waker: &Waker| waker.will_wake(context.waker());
            if !has_come && self.waker.as_ref().is_some_and(is_known) {
                return Poll::Pending;
            }
            self.poll_end(context).map(|()| None)
        })
        .await
    }

    /// Waits for the deadline, or until the server stops.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.waker = Some(context.waker().clone());
        if self.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        loop {
            ready!(self.sleep.as_mut().poll(context));
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.deadline);
        }
    }
}
