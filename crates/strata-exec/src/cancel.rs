//! Stops runs from another thread, or passes a signal on to one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// A switch that any thread can turn while [`run`](crate::run) waits. Cheap to poll, and never
/// turned back: runs that start later are cancelled too.
#[derive(Debug)]
pub struct Cancel {
    stop: OwnedFd,
    ring: OwnedFd,
    signal: AtomicI32,
}

impl Cancel {
    /// A switch that is not turned.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (stop, ring) = (eventfd(0, flags)?, eventfd(0, flags)?);
        Ok(Self { stop, ring, signal: AtomicI32::new(0) })
    }

    /// Kills everything that runs under this switch. May be called from a signal handler.
    pub fn cancel(&self) {
        write(&self.stop);
    }

    /// Whether it was turned.
    pub fn is_cancelled(&self) -> bool {
        readable(self.stop.as_fd())
    }

    /// Passes a signal on to the process of the run under this switch, as its parent would.
    /// For one run at a time; a second signal before the first was passed on replaces it.
    pub fn signal(&self, number: i32) {
        self.signal.store(number, Ordering::SeqCst);
        write(&self.ring);
    }

    pub(crate) fn stop(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    pub(crate) fn ring(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// The signal that was asked for since the last call.
    pub(crate) fn take_signal(&self) -> Option<u8> {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.ring, &mut count);
        match self.signal.swap(0, Ordering::SeqCst) {
            0 => None,
            number => u8::try_from(number).ok(),
        }
    }
}

/// Fails only when the counter is full, and then it is readable anyway.
fn write(eventfd: &OwnedFd) {
    let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_turned_and_passes_each_signal_on_once() {
        let cancel = Cancel::new().expect("eventfd");
        assert!(!cancel.is_cancelled());
        assert_eq!(cancel.take_signal(), None);
        cancel.signal(15);
        assert_eq!((cancel.take_signal(), cancel.take_signal()), (Some(15), None));
        cancel.cancel();
        cancel.cancel();
        assert!(cancel.is_cancelled() && cancel.is_cancelled());
    }
}
