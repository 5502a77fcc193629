//! Blobs on their way from far away: whoever wants one reads what has come of it so far, from the
//! file that it goes to, and waits for the rest. Its end comes when all of it was right.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strata_cas::{BlobId, Incoming};
use strata_oci::far::FarName;

use crate::fault::Fault;

/// Nobody waits longer than this for the next bytes: who fetches has given up long before.
const PATIENCE: Duration = Duration::from_secs(600);

/// Those that are under way.
#[derive(Default)]
pub(crate) struct Arrivals(Mutex<HashMap<FarName, Arc<Arrival>>>);

impl Arrivals {
    fn all(&self) -> MutexGuard<'_, HashMap<FarName, Arc<Arrival>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one under way, or a new one; then the caller sees to it that it comes.
    pub(super) fn join(&self, name: FarName) -> (Arc<Arrival>, bool) {
        let mut all = self.all();
        if let Some(arrival) = all.get(&name) {
            return (Arc::clone(arrival), false);
        }
        let arrival = Arc::<Arrival>::default();
        all.insert(name, Arc::clone(&arrival));
        (arrival, true)
    }

    /// Nobody joins it any more.
    pub(super) fn end(&self, name: &FarName, end: End) {
        let arrival = self.all().remove(name);
        if let Some(arrival) = arrival {
            arrival.state().end = Some(end);
            arrival.changed.notify_all();
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It was right, and is kept.
    Kept(BlobId),
    /// It is not there, or wrong.
    Gone,
    /// Nobody answers.
    Away(String),
    /// It can not be kept.
    Failed(String),
}

impl End {
    pub(super) fn of(fetched: Result<Option<BlobId>, Fault>) -> Self {
        match fetched {
            Ok(Some(id)) => Self::Kept(id),
            Ok(None) => Self::Gone,
            Err(Fault::Busy(reason)) => Self::Away(reason),
            Err(fault) => Self::Failed(fault.to_string()),
        }
    }
}

/// One of them.
#[derive(Default)]
pub(crate) struct Arrival {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Where the bytes go; none while they are few.
    file: Option<Arc<File>>,
    /// How many are there.
    size: u64,
    end: Option<End>,
}

impl Arrival {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what has come.
    pub(super) fn came(&self, incoming: &Incoming) -> io::Result<()> {
        let mut state = self.state();
        if state.file.is_none() {
            state.file = incoming.reader()?.map(Arc::new);
        }
        if state.file.is_some() {
            state.size = incoming.size();
            self.changed.notify_all();
        }
        Ok(())
    }

    fn until<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        is_waiting: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| is_waiting(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until it can be read, or has ended.
    ///
    /// # Errors
    ///
    /// When nobody answers, or it can not be kept.
    pub(super) fn begun(self: &Arc<Self>) -> Result<Begun, Fault> {
        let state = self.until(self.state(), |state| state.size == 0 && state.end.is_none());
        match (&state.file, &state.end) {
            (_, Some(End::Kept(id))) => Ok(Begun::Near(*id)),
            (_, Some(End::Gone)) => Ok(Begun::Gone),
            (_, Some(End::Away(reason))) => Err(Fault::Busy(reason.clone())),
            (_, Some(End::Failed(reason))) => Err(Fault::Internal(reason.clone())),
            (Some(_), None) => Ok(Begun::Coming(Follower { arrival: Arc::clone(self), at: 0 })),
            (None, None) => Err(Fault::Busy("nothing comes from far away".to_owned())),
        }
    }
}

/// What has become of it so far.
pub(crate) enum Begun {
    Near(BlobId),
    Coming(Follower),
    Gone,
}

/// Reads one while it comes.
pub(crate) struct Follower {
    arrival: Arc<Arrival>,
    at: u64,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.arrival.state();
        let state = self.arrival.until(state, |state| state.size <= self.at && state.end.is_none());
        let there = usize::try_from(state.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if let Some(file) = state.file.as_ref().filter(|_| there > 0) {
            let file = Arc::clone(file);
            drop(state);
            let most = there.min(buffer.len());
            let count = file.read_at(&mut buffer[..most], self.at)?;
            if count == 0 && most > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += count as u64;
            return Ok(count);
        }
        match &state.end {
            Some(End::Kept(_)) => Ok(0),
            Some(End::Away(reason) | End::Failed(reason)) => Err(io::Error::other(reason.clone())),
            Some(End::Gone) => Err(io::Error::other("it is not what its name says")),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
