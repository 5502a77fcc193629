//! Errands that were put off: they are in the store before a client is answered, so that they
//! outlive the server however it ends, and are done by a few threads until none is left.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::gauge::Gauge;
use strata_oci::far::{Errand, QUEUE};

use crate::depot::{Depot, Served};
use crate::fault::Fault;

const THREADS: usize = 4;

/// What is still to be done.
pub(crate) struct Queue {
    store: Arc<dyn Served>,
    limit: usize,
    /// After a failure, so long until the next try.
    pause: Duration,
    length: Gauge<i64, AtomicI64>,
    next: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(String, Errand)>,
    /// The same as a set: what waits already need not wait twice.
    known: HashSet<Errand>,
    /// Entries that wait or are under way, and how often.
    held: HashMap<(String, String), usize>,
    under_way: usize,
    stops: bool,
}

fn key_of(errand: &Errand) -> Option<(String, String)> {
    match errand {
        Errand::Blob(_) => None,
        Errand::Record { table, name } | Errand::Removal { table, name } => {
            Some((table.clone(), name.clone()))
        }
    }
}

impl State {
    fn push(&mut self, row: String, errand: Errand) {
        if let Some(key) = key_of(&errand) {
            *self.held.entry(key).or_default() += 1;
        }
        self.known.insert(errand.clone());
        self.waiting.push_back((row, errand));
    }
}

impl Queue {
    pub(super) fn new(
        store: Arc<dyn Served>,
        limit: usize,
        pause: Duration,
        length: Gauge<i64, AtomicI64>,
    ) -> Self {
        // Rows sort by when they were put off.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let next = AtomicU64::new(u64::try_from(since.as_micros()).unwrap_or_default());
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { store, limit, pause, length, next, state, changed }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an errand off; false where too many wait. When it returns, the errand outlives the
    /// server.
    pub(super) fn add(&self, errand: Errand) -> Result<bool, Fault> {
        {
            let state = self.state();
            if state.known.contains(&errand) && matches!(errand, Errand::Blob(_)) {
                return Ok(true);
            }
            if state.waiting.len() + state.under_way >= self.limit || state.stops {
                return Ok(false);
            }
        }
        let row = format!("{:020}", self.next.fetch_add(1, Ordering::SeqCst));
        self.store.set_name_soon(QUEUE, &row, &errand.encode())?;
        self.state().push(row, errand);
        self.count();
        self.changed.notify_one();
        Ok(true)
    }

    fn count(&self) {
        let state = self.state();
        let length = state.waiting.len() + state.under_way;
        self.length.set(i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// Whether an entry is still to be sent or taken back.
    pub(crate) fn holds(&self, table: &str, name: &str) -> bool {
        let state = self.state();
        !state.held.is_empty() && state.held.contains_key(&(table.to_owned(), name.to_owned()))
    }

    /// Finds what an earlier server has left.
    fn load(&self) -> Result<(), Fault> {
        for (row, value) in self.store.names(QUEUE)? {
            match Errand::decode(&value) {
                Some(errand) => self.state().push(row, errand),
                None => self.store.set_name(QUEUE, &row, None)?,
            }
        }
        self.count();
        Ok(())
    }

    /// The next errand; none when the server stops.
    fn take(&self) -> Option<(String, Errand)> {
        let mut state = self.state();
        loop {
            if state.stops {
                return None;
            }
            if let Some((row, errand)) = state.waiting.pop_front() {
                state.known.remove(&errand);
                state.under_way += 1;
                return Some((row, errand));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, row: &str, errand: &Errand) -> Result<(), Fault> {
        self.store.set_name(QUEUE, row, None)?;
        let mut state = self.state();
        state.under_way = state.under_way.saturating_sub(1);
        self.let_go(&mut state, errand);
        drop(state);
        self.count();
        self.changed.notify_all();
        Ok(())
    }

    fn let_go(&self, state: &mut State, errand: &Errand) {
        let Some(key) = key_of(errand) else { return };
        if let Some(count) = state.held.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&key);
            }
        }
    }

    /// Puts an errand back that could not be done, and waits a little.
    fn put_back(&self, row: String, errand: Errand) {
        let mut state = self.state();
        state.under_way = state.under_way.saturating_sub(1);
        self.let_go(&mut state, &errand);
        if state.stops {
            return;
        }
        if let Some(key) = key_of(&errand) {
            *state.held.entry(key).or_default() += 1;
        }
        state.known.insert(errand.clone());
        // Behind the others: what fails for a reason of its own holds nobody up.
        state.waiting.push_back((row, errand));
        let until = Instant::now() + self.pause;
        while !state.stops && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until nothing is left to do, but not for long.
    fn drain(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state();
        while !state.waiting.is_empty() || state.under_way > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn stop(&self) {
        self.state().stops = true;
        self.changed.notify_all();
    }
}

/// The threads that do errands. Dropped, they end; what is left waits for the next server.
pub(crate) struct Workers {
    depot: Arc<Depot>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts them with what an earlier server has left.
    pub(crate) fn start(depot: &Arc<Depot>) -> Result<Self, std::io::Error> {
        let mut workers = Self { depot: Arc::clone(depot), threads: Vec::new() };
        let Some(tier) = depot.tier.as_ref().filter(|tier| !tier.follows()) else {
            return Ok(workers);
        };
        tier.queue.load().map_err(|fault| std::io::Error::other(fault.to_string()))?;
        for _ in 0..THREADS {
            let depot = Arc::clone(depot);
            let thread = std::thread::Builder::new().name("strata-far".to_owned());
            workers.threads.push(thread.spawn(move || work(&depot))?);
        }
        Ok(workers)
    }

    /// Sends what is left, as long as `patience` allows, and ends them.
    pub(crate) fn stop(self, patience: Duration) {
        if let Some(tier) = &self.depot.tier {
            tier.queue.drain(patience);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(tier) = &self.depot.tier {
            tier.queue.stop();
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn work(depot: &Depot) {
    let Some(tier) = &depot.tier else { return };
    while let Some((row, errand)) = tier.queue.take() {
        let ran = depot.run_errand(tier, &errand);
        let ended = match ran {
            // What refers to something that is lost here can not be sent any more.
            Err(Fault::Invalid(reason)) => {
                (tier.notice)(&format!("an entry is not sent: {reason}"));
                tier.queue.done(&row, &errand)
            }
            Err(fault) => Err(fault),
            Ok(()) => tier.queue.done(&row, &errand),
        };
        if ended.is_err() {
            tier.queue.put_back(row, errand);
        }
    }
}
