//! What ends a build before its end: SIGINT, SIGTERM, the terminal that closes, and its time. The
//! first of them cancels it, a second signal ends it on the spot. What a run has mounted and
//! started, the kernel takes away in any case.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use strata_exec::Cancel;

use crate::failure::{Failure, Kind};

/// A network that does not answer keeps a build from ending; it is ended then.
const GRACE: Duration = Duration::from_secs(10);

/// In place of a signal's number: the time was over.
const TIME: u8 = u8::MAX;

/// The switch that signals turn.
pub(crate) struct Watch {
    pub(crate) cancel: Arc<Cancel>,
    received: Arc<AtomicU8>,
    timeout: Option<Duration>,
}

impl Watch {
    /// Turns signals, and the end of the build's time, into its end.
    pub(crate) fn for_build(timeout: Option<Duration>) -> Result<Self, Failure> {
        let watch = Self { timeout, ..Self::new()? };
        let mut signals = signals(&[SIGINT, SIGTERM, SIGHUP])?;
        let (cancel, received) = (Arc::clone(&watch.cancel), Arc::clone(&watch.received));
        spawn(move || {
            for number in signals.forever() {
                cancel.cancel();
                let first = received.swap(u8::try_from(number).unwrap_or(0), Ordering::SeqCst) == 0;
                if first {
                    spawn(move || end_after(GRACE, number)).ok();
                } else {
                    end_after(Duration::ZERO, number);
                }
            }
        })?;
        if let Some(timeout) = timeout {
            let (cancel, received) = (Arc::clone(&watch.cancel), Arc::clone(&watch.received));
            spawn(move || {
                std::thread::sleep(timeout);
                let order = Ordering::SeqCst;
                if received.compare_exchange(0, TIME, order, order).is_ok() {
                    cancel.cancel();
                    end_after(GRACE, SIGTERM);
                }
            })?;
        }
        Ok(watch)
    }

    /// Turns the first signal into an early end of a replay, which reports what it has so far.
    pub(crate) fn for_replay() -> Result<Self, Failure> {
        Self::for_build(None)
    }

    /// The signal that came, if one did; 0 if none.
    pub(crate) fn signal(&self) -> u8 {
        self.received.load(Ordering::SeqCst)
    }

    /// Passes signals on to the command that runs.
    pub(crate) fn for_run() -> Result<Self, Failure> {
        let watch = Self::new()?;
        let mut signals = signals(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2])?;
        let cancel = Arc::clone(&watch.cancel);
        spawn(move || signals.forever().for_each(|number| cancel.signal(number)))?;
        Ok(watch)
    }

    fn new() -> Result<Self, Failure> {
        let cancel = Cancel::new().map_err(|error| refused(&error))?;
        Ok(Self { cancel: Arc::new(cancel), received: Arc::default(), timeout: None })
    }

    /// Whether the build was ended from outside.
    pub(crate) fn is_ended(&self) -> bool {
        self.received.load(Ordering::SeqCst) != 0
    }

    /// The failure that a build reports, as the doing of what ended it if something did.
    pub(crate) fn blame(&self, failure: Failure, notes: Vec<String>) -> Failure {
        let ended = match self.received.load(Ordering::SeqCst) {
            0 => return failure,
            TIME => {
                let time = self.timeout.unwrap_or_default();
                Failure::new(Kind::Build, format!("the build took longer than {time:?}"))
                    .hint("`--timeout` says how long it may take; the next build goes on from here")
            }
            number => Failure::new(Kind::Signal(number), "cancelled"),
        };
        Failure { notes, ..ended }
    }
}

fn end_after(grace: Duration, number: i32) {
    std::thread::sleep(grace);
    // The store survives it, as it survives a power cut.
    let _ = signal_hook::low_level::emulate_default_handler(number);
}

/// Who was started by `nohup` outlives the terminal.
fn signals(numbers: &[i32]) -> Result<Signals, Failure> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let numbers = numbers.iter().filter(|number| **number != SIGHUP || !ignores(&status, SIGHUP));
    Signals::new(numbers).map_err(|error| refused(&error))
}

/// Whether a process of this status in `/proc` ignores a signal.
fn ignores(status: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) & 1 << (number - 1) != 0
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(work);
    thread.map(drop).map_err(|error| refused(&error))
}

fn refused(error: &std::io::Error) -> Failure {
    Failure::environment(format!("signals can not be handled: {}", crate::failure::plain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_status() {
        let status = "Name:\tsleep\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SIGHUP));
        assert!(!ignores(status, SIGINT));
        assert!(!ignores("", SIGHUP));
    }
}
