//! The door between plain threads and the async world: one thread drives a tokio runtime, callers
//! block. It knows nothing of HTTP.

use std::future::Future;
use std::io::{self, Write};
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

/// How large the pieces of a stream are that goes out, in bytes.
const PIECE_BYTES: usize = 256 << 10;
/// How many of them may wait for a slow network.
const PIECES_GOING_OUT: usize = 8;
/// How many pieces of a stream (some 16 KiB each) may wait for a slow caller.
const PIECES_IN_FLIGHT: usize = 32;

/// A runtime on its own thread. Callers must not be async tasks themselves.
pub(crate) struct Door {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Starts the thread.
    pub(crate) fn open() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("strata-remote".to_owned());
        let thread = thread.spawn(move || {
            // Sent or dropped: both mean that the door closes.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs a future to its end. None when it panicked.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, outcome) = blocking::sync_channel(1);
        self.handle.spawn(async move {
            let _ = sender.send(future.await);
        });
        outcome.recv().ok()
    }

    /// Runs a future that sends bytes, and takes each on this thread. An error of `take` ends the
    /// future at its next send. None when it panicked.
    pub(crate) fn pour<E: Send + 'static, F>(
        &self,
        source: impl FnOnce(mpsc::Sender<Bytes>) -> F,
        mut take: impl FnMut(Bytes) -> Result<(), E>,
    ) -> Option<Result<(), E>>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (pieces, mut arrivals) = mpsc::channel(PIECES_IN_FLIGHT);
        let (sender, outcome) = blocking::sync_channel(1);
        let future = source(pieces);
        self.handle.spawn(async move {
            let _ = sender.send(future.await);
        });
        while let Some(piece) = arrivals.blocking_recv() {
            if let Err(error) = take(piece) {
                return Some(Err(error));
            }
        }
        outcome.recv().ok()
    }

    /// Runs a future that takes bytes, and gives them on this thread. The outer value is None when
    /// the future panicked, the second one how giving ended: when the future has enough, giving
    /// fails with `BrokenPipe`.
    pub(crate) fn feed<T: Send + 'static, F>(
        &self,
        sink: impl FnOnce(mpsc::Receiver<Bytes>) -> F,
        give: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> (Option<T>, io::Result<()>)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (pieces, arrivals) = mpsc::channel(PIECES_GOING_OUT);
        let (sender, outcome) = blocking::sync_channel(1);
        let future = sink(arrivals);
        self.handle.spawn(async move {
            let _ = sender.send(future.await);
        });
        let mut feeder = Feeder { pieces, waiting: Vec::with_capacity(PIECE_BYTES) };
        let given = give(&mut feeder).and_then(|()| feeder.flush());
        drop(feeder);
        (outcome.recv().ok(), given)
    }
}

/// The writing end of a stream that goes out.
struct Feeder {
    pieces: mpsc::Sender<Bytes>,
    waiting: Vec<u8>,
}

impl Write for Feeder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE_BYTES - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..count]);
        if self.waiting.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.waiting, Vec::with_capacity(PIECE_BYTES));
        let sent = self.pieces.blocking_send(Bytes::from(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_for_several_threads_at_once() {
        let door = Door::open().expect("a thread");
        std::thread::scope(|scope| {
            for number in 0..8_u8 {
                let door = &door;
                scope.spawn(move || {
                    let mut taken = Vec::new();
                    let source = |pieces: mpsc::Sender<Bytes>| async move {
                        for _ in 0..100 {
                            let sent = pieces.send(Bytes::from(vec![number])).await;
                            sent.map_err(|_| "closed")?;
                        }
                        Ok::<(), &str>(())
                    };
                    let take = |piece: Bytes| {
                        taken.extend_from_slice(&piece);
                        Ok(())
                    };
                    assert_eq!(door.pour(source, take), Some(Ok(())));
                    assert_eq!(taken, vec![number; 100]);
                });
            }
        });
    }

    #[test]
    fn a_caller_that_has_enough_is_let_go() {
        let door = Door::open().expect("a thread");
        let source = |pieces: mpsc::Sender<Bytes>| async move {
            while pieces.send(Bytes::from_static(b"x")).await.is_ok() {}
            Ok(())
        };
        assert_eq!(door.pour(source, |_| Err("enough")), Some(Err("enough")));
    }

    #[test]
    fn a_panic_inside_stays_inside() {
        let door = Door::open().expect("a thread");
        let panicking = async { if door_is_open() { panic!("inside") } else { 0 } };
        assert_eq!(door.run(panicking), None);
        assert_eq!(door.run(async { 1 }), Some(1));
    }

    fn door_is_open() -> bool {
        true
    }
}
