//! The far tier: an object store or another server behind the store that is near, for all
//! protocols at once. It stands between the depot and whoever keeps things far away ([`Far`]), and
//! decides when that is asked, what is believed, and what happens when nobody answers.
//!
//! Three rules. What comes is believed when its bytes hash to its name here. An entry goes there
//! after all blobs that it needs, and is given out only where they are there or here. Whoever is
//! far may be slow, wrong or gone: then it is left alone for some seconds, and the store near
//! answers for itself.

mod arrivals;
mod flights;
mod queue;
mod read;
mod recent;
mod write;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strata_oci::RegistryError;
use strata_oci::far::{Far, FarBlob, FarName};

use crate::depot::Served;
use crate::fault::Fault;
use crate::metrics::{FarMetrics, OfFar};

use arrivals::Arrivals;
pub(crate) use arrivals::{Begun, Follower};
use flights::Flights;
pub(crate) use queue::{Queue, Workers};
pub(crate) use read::Look;
pub(crate) use recent::Recent;

/// How long it is believed that something is there.
const THERE: Duration = Duration::from_secs(60 * 60);
/// How long an entry that may be replaced is believed to be the latest.
const FRESH: Duration = Duration::from_secs(60);
const ANSWERS: usize = 1 << 20;

/// Told of what the server's owner wants to know.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// What becomes of what clients write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FarWrites {
    /// It is there when the client is answered.
    Through,
    /// It is sent afterwards; what is still to be sent outlives the server.
    Back,
    /// It is refused: this server only follows.
    None,
}

/// A far tier, as a server is given it.
#[derive(Clone)]
pub struct FarSetup {
    /// Who keeps things there.
    pub far: Arc<dyn Far>,
    /// What becomes of what clients write.
    pub writes: FarWrites,
    /// So many errands may wait; then writes wait for the far tier.
    pub queue_limit: usize,
    /// Who does not answer is left alone for so long, and what is not there is not asked for again:
    /// another server may bring it.
    pub pause: Duration,
    /// Told when it does not answer, and when it does again.
    pub notice: Notice,
}

/// The far tier does not answer, or not as it should.
#[derive(Debug)]
pub(crate) struct Away(String);

impl From<Away> for Fault {
    fn from(Away(reason): Away) -> Self {
        Self::Busy(format!("the far tier does not answer: {reason}"))
    }
}

/// The far tier with what is known about it.
pub(crate) struct Tier {
    far: Arc<dyn Far>,
    writes: FarWrites,
    notice: Notice,
    metrics: FarMetrics,
    length_of_pause: Duration,
    /// Until when it is left alone.
    pause: Mutex<Option<Instant>>,
    there: Recent<FarName, u64>,
    gone: Recent<FarName, ()>,
    /// Blobs with other bytes than their names say: as good as none until they are sent again.
    damaged: Recent<FarName, ()>,
    no_record: Recent<(String, String), ()>,
    confirmed: Recent<(String, String), ()>,
    flights: Flights,
    arrivals: Arrivals,
    pub(crate) queue: Arc<Queue>,
}

impl Tier {
    pub(crate) fn new(setup: FarSetup, store: &Arc<dyn Served>, metrics: FarMetrics) -> Self {
        let FarSetup { far, writes, queue_limit, pause, notice } = setup;
        metrics.up.set(1);
        let queue = Queue::new(Arc::clone(store), queue_limit, pause, metrics.queue.clone());
        let queue = Arc::new(queue);
        Self {
            far,
            writes,
            notice,
            metrics,
            length_of_pause: pause,
            pause: Mutex::default(),
            there: Recent::new(THERE, ANSWERS),
            gone: Recent::new(pause, ANSWERS / 8),
            damaged: Recent::new(THERE, ANSWERS / 8),
            no_record: Recent::new(pause, ANSWERS / 8),
            confirmed: Recent::new(FRESH, ANSWERS / 8),
            flights: Flights::default(),
            arrivals: Arrivals::default(),
            queue,
        }
    }

    /// Whether this server only follows.
    pub(crate) fn follows(&self) -> bool {
        self.writes == FarWrites::None
    }

    /// Whether it is left alone because it has not answered.
    pub(crate) fn is_away(&self) -> bool {
        self.pause().is_some_and(|until| Instant::now() < until)
    }

    /// Asks, unless nobody has answered lately.
    fn ask<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&dyn Far) -> Result<T, RegistryError>,
    ) -> Result<T, Away> {
        let count = |outcome| {
            self.metrics.requests.get_or_create(&OfFar { operation, outcome }).inc();
        };
        let until = *self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| Instant::now() < until) {
            count("skipped");
            return Err(Away("it is left alone for some seconds".to_owned()));
        }
        match work(&*self.far) {
            Ok(answer) => {
                count("answered");
                if until.is_some() && self.pause().take().is_some() {
                    self.metrics.up.set(1);
                    (self.notice)("the far tier answers again");
                }
                Ok(answer)
            }
            Err(error @ RegistryError::Wrong { .. }) => {
                count("wrong");
                (self.notice)(&format!("the far tier: {error}"));
                Err(Away(error.to_string()))
            }
            Err(error) => {
                count("failed");
                let before = self.pause().replace(Instant::now() + self.length_of_pause);
                if before.is_none() {
                    self.metrics.up.set(0);
                    (self.notice)(&format!(
                        "the far tier does not answer, and is left alone for {} s each time: \
                         {error}",
                        self.length_of_pause.as_secs()
                    ));
                }
                Err(Away(error.to_string()))
            }
        }
    }

    fn pause(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sizes of blobs that are there and have the size that they should have.
    pub(crate) fn sizes(&self, blobs: &[FarBlob]) -> Result<Vec<Option<u64>>, Away> {
        let fits = |blob: &FarBlob, size: &u64| blob.size.is_none_or(|wanted| wanted == *size);
        let is_gone =
            |name: &FarName| self.gone.get(name).is_some() || self.damaged.get(name).is_some();
        let mut sizes: Vec<Option<u64>> = Vec::with_capacity(blobs.len());
        let mut unknown = Vec::new();
        for (at, blob) in blobs.iter().enumerate() {
            let known = self.there.get(&blob.name);
            if known.is_none() && !is_gone(&blob.name) {
                unknown.push(at);
            }
            sizes.push(known);
        }
        if !unknown.is_empty() {
            let asked: Vec<FarBlob> = unknown.iter().map(|at| blobs[*at]).collect();
            let found = self.ask("find", |far| far.sizes(&asked))?;
            for ((at, blob), size) in unknown.into_iter().zip(asked).zip(found) {
                match size {
                    Some(size) => self.there.set(blob.name, size),
                    // Without a size, some can not tell.
                    None if blob.size.is_some() => self.gone.set(blob.name, ()),
                    None => {}
                }
                sizes[at] = size;
            }
        }
        let checked = blobs.iter().zip(sizes);
        Ok(checked.map(|(blob, size)| size.filter(|size| fits(blob, size))).collect())
    }

    /// Notes that a blob is there.
    fn note_there(&self, name: FarName, size: u64) {
        self.gone.forget(&name);
        self.damaged.forget(&name);
        self.there.set(name, size);
    }

    /// Notes that what is there under a blob's name are other bytes.
    fn note_damaged(&self, name: FarName) {
        self.there.forget(&name);
        self.damaged.set(name, ());
        let of = OfFar { operation: "fetch", outcome: "wrong" };
        self.metrics.requests.get_or_create(&of).inc();
        (self.notice)(&format!("the far tier has other bytes than `{name}` says: not used"));
    }
}
