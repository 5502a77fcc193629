//! Results of work on many threads, taken in the order in which the work was given out.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use rayon::Scope;

use crate::ImageError;

/// Work that is underway, oldest first.
pub(crate) struct InOrder<T> {
    underway: VecDeque<Receiver<T>>,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { underway: VecDeque::new() }
    }
}

impl<T> InOrder<T> {
    /// A place behind all others; what is sent to it is that work's result.
    pub(crate) fn place(&mut self) -> SyncSender<T> {
        let (to, from) = sync_channel(1);
        self.underway.push_back(from);
        to
    }

    /// Whether more is underway than keeps all threads busy, even while the oldest takes long.
    pub(crate) fn is_full(&self) -> bool {
        self.underway.len() > most_underway()
    }

    /// Waits for the oldest result; none if nothing is underway. A thread of rayon's works on
    /// others' tasks meanwhile, or all of them could end up waiting.
    pub(crate) fn oldest(&mut self) -> io::Result<Option<T>> {
        let Some(oldest) = self.underway.pop_front() else { return Ok(None) };
        let lost = || io::Error::other("a compressing thread died");
        loop {
            match oldest.try_recv() {
                Ok(result) => return Ok(Some(result)),
                Err(TryRecvError::Disconnected) => return Err(lost()),
                Err(TryRecvError::Empty) => {}
            }
            if rayon::yield_now() == Some(rayon::Yield::Executed) {
                continue;
            }
            match oldest.recv_timeout(Duration::from_millis(1)) {
                Ok(result) => return Ok(Some(result)),
                Err(RecvTimeoutError::Disconnected) => return Err(lost()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// How much is underway at most.
pub(crate) fn most_underway() -> usize {
    2 * rayon::current_num_threads() + 4
}

/// Parts of a layer that are made on many threads and taken in order.
pub(crate) struct Line<'l, 'scope, T, F> {
    scope: &'l Scope<'scope>,
    underway: InOrder<Result<T, ImageError>>,
    take: F,
}

impl<'l, 'scope, T, F> Line<'l, 'scope, T, F>
where
    T: Send + 'scope,
    F: FnMut(T) -> Result<(), ImageError>,
{
    pub(crate) fn new(scope: &'l Scope<'scope>, take: F) -> Self {
        Self { scope, underway: InOrder::default(), take }
    }

    /// Begins a part behind all others.
    pub(crate) fn begin(
        &mut self,
        make: impl FnOnce() -> Result<T, ImageError> + Send + 'scope,
    ) -> Result<(), ImageError> {
        let place = self.underway.place();
        // Nobody waits for it when another part failed.
        self.scope.spawn(move |_| drop(place.send(make())));
        while self.underway.is_full() {
            self.take_oldest()?;
        }
        Ok(())
    }

    /// Waits for the oldest part; false if there is none.
    fn take_oldest(&mut self) -> Result<bool, ImageError> {
        let oldest = self.underway.oldest().map_err(ImageError::io("compress a layer"))?;
        let Some(made) = oldest else { return Ok(false) };
        (self.take)(made?)?;
        Ok(true)
    }

    pub(crate) fn finish(mut self) -> Result<(), ImageError> {
        while self.take_oldest()? {}
        Ok(())
    }
}
