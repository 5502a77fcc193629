//! The soft size limit: the store is swept while it is served, so that writing seldom has to wait
//! for room, and is refused only where nothing can go.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use strata_build::ImageLinks;
use strata_server::Occupancy;
use strata_store::DiskStore;

use crate::failure::Failure;
use crate::settings::Settings;

/// How often it is looked at how full the store is.
const LOOK: Duration = Duration::from_secs(5);
/// After a sweep that did not free enough, the next one waits so long, or until a hundredth more
/// has come.
const REST: Duration = Duration::from_secs(600);

/// The limits of a store that is served, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) soft: Option<u64>,
    pub(super) hard: Option<u64>,
}

impl Limits {
    /// Where only the hard limit is named, a tenth of it is for what is written during a sweep.
    pub(super) fn new(soft: Option<u64>, settings: &Settings) -> Result<Self, Failure> {
        let hard = settings.store_size;
        if let (Some(soft), Some(hard)) = (soft, hard)
            && soft > hard
        {
            let text = format!("`soft-size` ({soft} bytes) is above the store's size ({hard})");
            return Err(Failure::usage(text)
                .hint("the store's size is where writing is refused: `soft-size` is to be less"));
        }
        Ok(Self { soft: soft.or(hard.map(|hard| hard / 10 * 9)), hard })
    }
}

/// Sweeps for as long as the store is there.
pub(super) fn sweep(
    store: &Arc<DiskStore>,
    limits: Limits,
    occupancy: Occupancy,
) -> impl FnOnce() + Send + 'static {
    let store = Arc::downgrade(store);
    occupancy.limits(limits.soft, limits.hard);
    move || {
        let Some(soft) = limits.soft else { return };
        let mut sweeper = Sweeper { store, soft, occupancy, futile: None };
        while sweeper.look() {
            std::thread::sleep(LOOK);
        }
    }
}

struct Sweeper {
    store: Weak<DiskStore>,
    soft: u64,
    occupancy: Occupancy,
    /// When the last sweep did not free enough, and what was left.
    futile: Option<(Instant, u64)>,
}

impl Sweeper {
    /// Sweeps if it is time; says whether there is a store.
    fn look(&mut self) -> bool {
        let Some(store) = self.store.upgrade() else { return false };
        // What can not be counted or swept now is the next time.
        if let Ok(bytes) = store.size_bytes() {
            self.occupancy.takes(bytes);
            if bytes > self.soft && self.may_help(bytes) {
                self.sweep(&store);
            }
        }
        true
    }

    fn may_help(&self, bytes: u64) -> bool {
        self.futile.is_none_or(|(when, left)| {
            when.elapsed() >= REST || bytes > left.saturating_add(self.soft / 100)
        })
    }

    fn sweep(&mut self, store: &DiskStore) {
        if let Ok(Some(swept)) = store.sweep_above(self.soft, &ImageLinks) {
            self.occupancy.swept(swept.freed_bytes());
        }
        let left = store.size_bytes().unwrap_or_default();
        self.occupancy.takes(left);
        self.futile = (left > self.soft).then(|| (Instant::now(), left));
    }
}
