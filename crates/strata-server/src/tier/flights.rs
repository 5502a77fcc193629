//! The same question at the same time is asked once.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Nobody waits longer than this for somebody else's answer.
const PATIENCE: Duration = Duration::from_secs(600);

/// The questions that are under way.
#[derive(Default)]
pub(super) struct Flights {
    under_way: Mutex<HashSet<String>>,
    landed: Condvar,
}

/// Whose turn it is.
pub(super) enum Turn<'a> {
    /// The caller asks; others wait until this is dropped.
    Ask(Flight<'a>),
    /// Somebody else has asked; what came of it is where it is kept.
    Asked,
}

/// A question that is under way.
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    key: String,
}

impl Flights {
    /// Waits while somebody asks this.
    pub(super) fn begin(&self, key: String) -> Turn<'_> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.insert(key.clone()) {
            return Turn::Ask(Flight { flights: self, key });
        }
        let is_under_way = |under_way: &mut HashSet<String>| under_way.contains(&key);
        let waited = self.landed.wait_timeout_while(under_way, PATIENCE, is_under_way);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        Turn::Asked
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.key);
        self.flights.landed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn the_same_is_asked_once_at_a_time() {
        let (flights, asking) = (Arc::new(Flights::default()), Arc::new(AtomicUsize::new(0)));
        let (start, asked) = (Arc::new(Barrier::new(8)), Arc::new(AtomicUsize::new(0)));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (flights, asking) = (Arc::clone(&flights), Arc::clone(&asking));
                let (start, asked) = (Arc::clone(&start), Arc::clone(&asked));
                scope.spawn(move || {
                    start.wait();
                    match flights.begin(format!("{}", number % 2)) {
                        Turn::Ask(_flight) => {
                            assert!(asking.fetch_add(1, Ordering::SeqCst) < 2);
                            std::thread::sleep(Duration::from_millis(20));
                            asking.fetch_sub(1, Ordering::SeqCst);
                        }
                        Turn::Asked => drop(asked.fetch_add(1, Ordering::SeqCst)),
                    }
                });
            }
        });
        assert!(matches!(flights.begin("0".to_owned()), Turn::Ask(_)), "it has landed");
    }
}
