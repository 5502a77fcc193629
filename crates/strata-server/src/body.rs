//! Bodies: in, hashed piece by piece, with a limit on size and on silence; out, checked before
//! their last piece leaves.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;

use crate::depot::{Content, Depot};
use crate::fault::Fault;

/// A client that sends or takes nothing for so long is given up.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// So much is hashed and written in one go.
const BATCH_BYTES: usize = 512 << 10;
const READ_BYTES: usize = 256 << 10;
/// So many pieces are read before a client takes them.
pub(crate) const AHEAD: usize = 4;
/// Blobs up to this size are read in one go.
pub(crate) const SMALL_BYTES: u64 = 256 << 10;

/// What is answered with.
pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// Bytes as a body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Nothing as a body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Does something that may wait, on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Fault::Internal("the server has a bug, or stops".to_owned())),
    }
}

/// Does something that seldom waits: a look into the store, whose answer is in memory mostly.
/// Handing it to another thread and back would take several times as long as the work, so it is
/// done here, by one thread less than there are: where a disk is slow, one is left that answers.
pub(crate) async fn brief<T: Send + 'static>(
    depot: &Depot,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    // Behind a far tier, any look may wait for a network.
    let place = if depot.tier.is_some() { None } else { depot.places.take() };
    let Some(_place) = place else { return blocking(work).await };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(Fault::Internal("the server has a bug".to_owned())))
}

/// How many of the threads that answer may look into the store at a time.
#[derive(Debug)]
pub(crate) struct Places(AtomicUsize);

/// One of them, given back when dropped.
pub(crate) struct Place<'a>(&'a Places);

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Self(AtomicUsize::new(count))
    }

    pub(crate) fn take(&self) -> Option<Place<'_>> {
        let less = |free: usize| free.checked_sub(1);
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        taken.is_ok().then(|| Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// The next piece of a body; none at its end.
pub(crate) async fn next<B>(body: &mut B) -> Result<Option<Bytes>, Fault>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    loop {
        let Ok(frame) = tokio::time::timeout(IDLE, body.frame()).await else {
            return Err(Fault::Broken(format!("nothing came for {} s", IDLE.as_secs())));
        };
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Fault::Broken(error.to_string())),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                // Trailers say nothing that is of use here.
                Err(_) => continue,
            },
        }
    }
}

/// Bytes on their way in, of either kind.
pub(crate) trait Receiver: Send + 'static {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault>;
}

type Writing<U> = Option<JoinHandle<Result<U, Fault>>>;

/// Adds a body to an upload; while one batch is hashed and written, the next one comes. What came
/// before a failure is in it: an upload that can be resumed goes on from there. `None` where the
/// upload itself is lost.
pub(crate) async fn receive<U, B>(upload: U, body: &mut B) -> (Option<U>, Result<(), Fault>)
where
    U: Receiver,
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut upload = Some(upload);
    let mut writing: Writing<U> = None;
    loop {
        let (mut batch, mut size, mut ended) = (Vec::new(), 0, None);
        while size < BATCH_BYTES && ended.is_none() {
            tokio::select! {
                biased;
                written = written(&mut writing) => match written {
                    Ok(after) => upload = Some(after),
                    Err(error) => return (None, Err(error)),
                },
                piece = next(body) => match piece {
                    Ok(Some(data)) => {
                        size += data.len();
                        batch.push(data);
                    }
                    Ok(None) => ended = Some(Ok(())),
                    Err(error) => ended = Some(Err(error)),
                },
            }
        }
        if writing.is_some() {
            match written(&mut writing).await {
                Ok(after) => upload = Some(after),
                Err(error) => return (None, Err(error)),
            }
        }
        let Some(mut before) = upload.take() else { return (None, Err(bug())) };
        writing = Some(tokio::task::spawn_blocking(move || {
            batch.iter().try_for_each(|data| before.write(data)).map(|()| before)
        }));
        if let Some(ended) = ended {
            return match written(&mut writing).await {
                Ok(after) => (Some(after), ended),
                Err(error) => (None, Err(error)),
            };
        }
    }
}

/// Waits for the batch that is being written; for ever where none is. Given up, it loses nothing.
async fn written<U>(writing: &mut Writing<U>) -> Result<U, Fault> {
    let Some(handle) = writing else { return std::future::pending().await };
    let done = handle.await.unwrap_or_else(|_| Err(bug()));
    *writing = None;
    done
}

fn bug() -> Fault {
    Fault::Internal("the server has a bug".to_owned())
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn collect<B>(body: &mut B, limit: usize) -> Result<Bytes, Fault>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut all = BytesMut::new();
    while let Some(data) = next(body).await? {
        if all.len() + data.len() > limit {
            return Err(Fault::TooLarge { limit: limit as u64 });
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// The bytes of a blob from `start` up to `end`. All of it is read, so that what is sent is known
/// to be right before its last piece is.
pub(crate) async fn send(
    depot: &Arc<Depot>,
    content: &Content,
    (start, end): (u64, u64),
) -> Result<Body, Fault> {
    let part = |bytes: &Bytes| {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        full(bytes.slice(place(start)..place(end)))
    };
    if let Some(bytes) = depot.hot(content) {
        return Ok(part(&bytes));
    }
    let reader = match depot.tier {
        Some(_) => {
            let (its, content) = (Arc::clone(depot), content.clone());
            blocking(move || its.reader_of(&content)).await?
        }
        None => depot.reader(content),
    };
    if content.size <= SMALL_BYTES {
        let size = usize::try_from(content.size).unwrap_or_default();
        let bytes = brief(depot, move || {
            let (mut reader, mut bytes) = (reader, Vec::with_capacity(size));
            let read = reader.read_to_end(&mut bytes);
            read.map_err(|error| Fault::Internal(error.to_string()))?;
            Ok(Bytes::from(bytes))
        });
        let bytes = bytes.await?;
        depot.keep_hot(content, &bytes);
        return Ok(part(&bytes));
    }
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(pump(reader, (start, end), sender));
    Ok(Pumped { first: None, receiver, left: end - start }.boxed_unsync())
}

/// Reads all of a source, and sends what lies in a range of it.
pub(crate) async fn pump<R: Read + Send + 'static>(
    reader: R,
    range: (u64, u64),
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut pump = Pump {
        reader,
        range,
        sender: sender.clone(),
        buffers: Arc::default(),
        at: 0,
        held: None,
        ready: None,
        ended: false,
    };
    loop {
        let step = tokio::task::spawn_blocking(move || {
            let done = pump.run();
            (pump, done)
        });
        match step.await {
            Ok((_, Ok(true))) => return,
            Ok((after, Ok(false))) => pump = after,
            Ok((_, Err(error))) => return drop(sender.send(Err(error)).await),
            Err(error) => return drop(sender.send(Err(io::Error::other(error))).await),
        }
        // Half of the places, so that a thread does not wake for each.
        match tokio::time::timeout(IDLE, sender.reserve_many(AHEAD / 2)).await {
            Ok(Ok(places)) => drop(places),
            // Nobody takes it.
            _ => return,
        }
    }
}

/// A source on its way to a client.
struct Pump<R> {
    reader: R,
    range: (u64, u64),
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffers: Arc<Buffers>,
    at: u64,
    /// What was read last: it goes out only when there is more, or all of it was right.
    held: Option<Bytes>,
    /// What may go out as soon as there is a place for it.
    ready: Option<Bytes>,
    ended: bool,
}

impl<R: Read> Pump<R> {
    /// Reads for as long as there are places for what is read; says whether that was all.
    fn run(&mut self) -> io::Result<bool> {
        loop {
            if let Some(ready) = self.ready.take() {
                match self.sender.try_send(Ok(ready)) {
                    Ok(()) => {}
                    Err(TrySendError::Full(ready)) => {
                        self.ready = ready.ok();
                        return Ok(false);
                    }
                    Err(TrySendError::Closed(_)) => return Ok(true),
                }
            }
            if self.ended {
                return Ok(true);
            }
            let mut lent = self.buffers.lend();
            lent.filled = self.reader.read(&mut lent.buffer)?;
            self.ended = lent.filled == 0;
            let piece = Bytes::from_owner(lent);
            let wanted = cut(&piece, self.at, self.range);
            self.at += piece.len() as u64;
            if self.ended {
                self.ready = self.held.take();
            } else if !wanted.is_empty() {
                self.ready = self.held.replace(wanted);
            }
        }
    }
}

/// Buffers whose bytes have gone out: fresh ones would be cleared for each piece, and be in no
/// processor's cache.
#[derive(Default)]
struct Buffers(Mutex<Vec<Box<[u8]>>>);

/// One of them, with bytes in it; it goes back when dropped.
struct Lent {
    buffer: Box<[u8]>,
    filled: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    fn free(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(self: &Arc<Self>) -> Lent {
        let free = self.free().pop();
        let buffer = free.unwrap_or_else(|| vec![0; READ_BYTES].into());
        Lent { buffer, filled: 0, home: Arc::clone(self) }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.free().push(std::mem::take(&mut self.buffer));
    }
}

/// What of a piece that begins at `at` is wanted.
fn cut(piece: &Bytes, at: u64, (start, end): (u64, u64)) -> Bytes {
    let length = piece.len() as u64;
    let place =
        |wanted: u64| usize::try_from(wanted.saturating_sub(at).min(length)).unwrap_or(piece.len());
    piece.slice(place(start)..place(end).max(place(start)))
}

/// A body of this size whose first piece is here.
pub(crate) fn pumped(
    first: io::Result<Bytes>,
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    size: u64,
) -> Body {
    Pumped { first: Some(first), receiver, left: size }.boxed_unsync()
}

/// A body that comes from a task.
struct Pumped {
    first: Option<io::Result<Bytes>>,
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl HttpBody for Pumped {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let next = match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.receiver.poll_recv(context),
        };
        match next {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(bytes))) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) if self.left > 0 => {
                let error = io::Error::other("the answer was given up");
                self.left = 0;
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_few_and_given_back() {
        let places = Places::new(2);
        let first = places.take().expect("one");
        let second = places.take().expect("two");
        assert!(places.take().is_none());
        drop(first);
        let third = places.take().expect("one again");
        assert!(places.take().is_none());
        drop((second, third));
        assert_eq!(places.0.into_inner(), 2);
    }

    #[test]
    fn ranges_are_cut_out_of_pieces() {
        let check = |at, range, expected: &str| {
            let piece = Bytes::from_static(b"abcdef");
            assert_eq!(cut(&piece, at, range), expected.as_bytes(), "{at} {range:?}");
        };
        check(0, (0, 6), "abcdef");
        check(0, (2, 4), "cd");
        check(10, (0, 100), "abcdef");
        check(10, (12, 100), "cdef");
        check(10, (0, 12), "ab");
        check(10, (0, 10), "");
        check(10, (16, 20), "");
    }
}
