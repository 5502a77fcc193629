//! When to try again: a bounded number of times, after pauses that double. It waits on the
//! caller's thread.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::settings::Retries;

/// The tries that are left.
pub(crate) struct Patience {
    retries: Retries,
    used: u32,
    since: Instant,
}

impl Patience {
    pub(crate) fn new(retries: Retries) -> Self {
        Self { retries, used: 0, since: Instant::now() }
    }

    /// Starts counting afresh, since there was progress.
    pub(crate) fn renew(&mut self) {
        self.used = 0;
        self.since = Instant::now();
    }

    /// Makes a request until it succeeds or shall not be made again.
    pub(crate) fn insist<T>(
        mut self,
        mut request: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        loop {
            match request() {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.wait(failure)?,
            }
        }
    }

    /// Waits before the next try; gives the failure back when there shall be none.
    pub(crate) fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        match self.pause(&failure) {
            Some(pause) => {
                self.used += 1;
                std::thread::sleep(pause);
                Ok(())
            }
            None => Err(failure),
        }
    }

    fn pause(&self, failure: &Failure) -> Option<Duration> {
        let asked = match failure {
            Failure::Unreachable(_) | Failure::Dropped(_) => None,
            Failure::Busy { wait, .. } | Failure::Limited { wait, .. } => *wait,
            _ => return None,
        };
        if self.used >= self.retries.count || self.since.elapsed() >= self.retries.in_all {
            return None;
        }
        let longest = self.retries.longest_pause;
        let doubled = self.retries.pause.saturating_mul(1 << self.used.min(16)).min(longest);
        match asked {
            Some(asked) if asked > longest => None,
            Some(asked) => Some(asked.max(doubled)),
            None => Some(doubled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(used: u32) -> Patience {
        let pause = Duration::from_secs(1);
        let longest_pause = Duration::from_secs(5);
        let retries = Retries { count: 4, pause, longest_pause, ..Retries::default() };
        Patience { retries, used, since: Instant::now() }
    }

    #[test]
    fn pauses_double_and_end() {
        let dropped = Failure::Dropped(String::new());
        let pauses: Vec<_> = (0..6).map(|used| patience(used).pause(&dropped)).collect();
        let seconds = |number| Some(Duration::from_secs(number));
        assert_eq!(pauses, [seconds(1), seconds(2), seconds(4), seconds(5), None, None]);
    }

    #[test]
    fn a_registry_may_ask_for_a_pause_but_not_for_any() {
        let limited = |wait| Failure::Limited {
            reason: String::new(),
            wait: Some(Duration::from_secs(wait)),
        };
        assert_eq!(patience(0).pause(&limited(3)), Some(Duration::from_secs(3)));
        assert_eq!(patience(1).pause(&limited(0)), Some(Duration::from_secs(2)));
        assert_eq!(patience(0).pause(&limited(3600)), None);
    }

    #[test]
    fn who_was_silent_for_long_is_not_asked_again() {
        let silent = Failure::Unreachable(String::new());
        let retries = Retries { in_all: Duration::ZERO, ..Retries::default() };
        assert_eq!(Patience::new(retries).pause(&silent), None);
        assert!(Patience::new(Retries::default()).pause(&silent).is_some());
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        for failure in [Failure::NotFound, Failure::Denied, Failure::Failed(String::new())] {
            assert_eq!(patience(0).pause(&failure), None);
        }
    }
}
