//! How much the store may take, over all processes.
//!
//! One number in a small file, changed under a lock, says how much the store takes and how much
//! was promised to those who write at this moment. Who wants to write asks for a slice first and
//! gives back at its end what is left of it, so the number is never too small; a killed process
//! leaves it too large by a slice, until somebody measures again. It is measured when the machine
//! was started anew, and after each sweep.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strata_cas::{Links, Staging, StoreError};

use crate::inventory::size_of_tree;
use crate::layout::Layout;
use crate::lease;
use crate::{DiskStore, SweepRequest, Swept};

/// What a process asks for at a time, at most: a hundredth of the limit if that is less.
const SLICE_BYTES: u64 = 16 << 20;

/// A sweep makes room for so many parts of the limit in a hundred, so that not every build sweeps.
const HEADROOM_PERCENT: u64 = 10;

/// How long it is between two looks at what a command writes, at most and at least.
pub(crate) const SLOWEST: Duration = Duration::from_millis(5);
const FASTEST: Duration = Duration::from_millis(1);

/// So long it takes to end a command.
const TO_END: Duration = Duration::from_millis(2);

/// So often a process looks whether another one has finished its sweep.
const PAUSE: Duration = Duration::from_millis(50);

/// The first line of the file.
const FORMAT: &str = "strata size 1";

/// How much the store may take.
#[derive(Clone)]
pub struct SizeLimit {
    /// In bytes on disk, with everything in the store's directory.
    pub bytes: u64,
    /// Knows what leads where, for the sweep that makes room.
    pub links: Arc<dyn Links>,
}

impl std::fmt::Debug for SizeLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SizeLimit({} bytes)", self.bytes)
    }
}

/// What this process may write.
#[derive(Debug)]
pub(crate) struct Budget {
    layout: Layout,
    limit: Option<SizeLimit>,
    /// What is left of this process's slice.
    slice: AtomicU64,
    /// Held while a slice is asked for, and while room is made for one.
    asking: Mutex<()>,
    /// When it was last looked at how much is free, and how much it was.
    last: Mutex<Option<(Instant, u64)>>,
}

/// What may be written before the next look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// How long that is.
    pub(crate) pause: Duration,
    /// How many bytes at most, at the speed of now.
    pub(crate) bytes: u64,
}

impl Ahead {
    /// After a time in which anybody has filled the disk with so much, and the command was seen to
    /// have written so much. The next look comes before more than `uncounted` bytes are written, if
    /// it can; what the command writes until then, and until it could be ended, is counted before.
    fn at(filled: u64, seen: u64, since: Duration, uncounted: u64) -> Self {
        // A leap between two looks close to each other is no speed.
        let nanos = since.max(FASTEST).as_nanos();
        let until = u128::from(uncounted) * nanos / u128::from(filled.max(1));
        let pause = Duration::from_nanos(u64::try_from(until).unwrap_or(u64::MAX));
        let pause = pause.clamp(FASTEST, SLOWEST);
        let bytes = u128::from(seen) * (pause + TO_END).as_nanos() / nanos;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Self { pause, bytes: bytes.saturating_add(uncounted) }
    }
}

impl Budget {
    pub(crate) fn new(layout: &Layout, limit: Option<SizeLimit>) -> Self {
        let layout = layout.clone();
        let (slice, asking, last) = (AtomicU64::default(), Mutex::default(), Mutex::default());
        Self { layout, limit, slice, asking, last }
    }

    /// Whether anybody counts: this process, or one that has left the file.
    fn counts(&self) -> bool {
        self.limit.is_some() || self.layout.size().exists()
    }

    /// Whether it is worth while to count what a staging directory takes: not where the file
    /// system has as much room as before.
    pub(crate) fn is_worth_counting(&self, staging: &Staging, free: u64) -> bool {
        staging.may_have_grown(free, self.uncounted_bytes())
    }

    /// So much may have been written without having been counted.
    fn uncounted_bytes(&self) -> u64 {
        self.slice_for(0) / 4
    }

    /// What must be promised before it is written, where so much is free and a command was seen to
    /// have written so much since this was asked last.
    pub(crate) fn ahead(&self, free: u64, seen: u64) -> Ahead {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = last.map_or(0, |(_, before)| u64::saturating_sub(before, free));
        let since = last.map_or(SLOWEST, |(then, _)| now.saturating_duration_since(then));
        *last = Some((now, free));
        Ahead::at(filled, seen, since, self.uncounted_bytes())
    }

    /// Gives back what was taken from the slice and not used.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.slice.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Takes from the slice.
    fn take(&self, bytes: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes);
        self.slice.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// A slice that holds at least `bytes`.
    fn slice_for(&self, bytes: u64) -> u64 {
        let part = self.limit.as_ref().map_or(u64::MAX, |limit| limit.bytes / 100);
        bytes.max(SLICE_BYTES.min(part))
    }

    /// Promises bytes to this process, if they fit; says what the store takes.
    fn promise(&self, bytes: u64) -> io::Result<Result<(), u64>> {
        let mut size = Size::open(&self.layout)?;
        let used = size.used.saturating_add(bytes);
        if self.limit.as_ref().is_some_and(|limit| used > limit.bytes) {
            return Ok(Err(size.used));
        }
        size.set(used)?;
        Ok(Ok(()))
    }

    /// Counts anew what the store takes.
    fn measure(&self) -> io::Result<u64> {
        let mut size = Size::open(&self.layout)?;
        let used = measured(&self.layout);
        // What others hold of their slices is not on disk yet.
        let others = lease::count(&self.layout)?.saturating_sub(1);
        let used = used + others * self.slice_for(0).min(SLICE_BYTES);
        size.set(used)?;
        Ok(used)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        let left = *self.slice.get_mut();
        if left > 0
            && let Ok(mut size) = Size::open(&self.layout)
        {
            drop(size.set(size.used.saturating_sub(left)));
        }
    }
}

fn measured(layout: &Layout) -> u64 {
    size_of_tree(layout.root())
}

/// The number, locked.
struct Size {
    file: File,
    used: u64,
}

impl Size {
    fn open(layout: &Layout) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(layout.size())?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let used = parse(&text, &boot()).unwrap_or_else(|| measured(layout));
        Ok(Self { file, used })
    }

    fn set(&mut self, used: u64) -> io::Result<()> {
        self.used = used;
        let text = text_of(&boot(), used);
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

/// One length always, so that a write replaces what was there.
fn text_of(boot: &str, used: u64) -> String {
    format!("{FORMAT}\n{boot}\n{used:020}\n")
}

fn parse(text: &str, boot: &str) -> Option<u64> {
    let mut lines = text.lines();
    let known = lines.next() == Some(FORMAT) && lines.next() == Some(boot);
    known.then(|| lines.next()?.parse().ok()).flatten()
}

/// What tells this run of the machine from earlier ones (random(4)).
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

impl DiskStore {
    /// Whether anybody counts what is written.
    pub(crate) fn is_limited(&self) -> bool {
        self.budget.counts()
    }

    /// Asks for room before something is written, and makes some where there is none. Must not be
    /// called with the gate or one of the store's locks held.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        let budget = &self.budget;
        if bytes == 0 || !budget.counts() || budget.take(bytes) {
            return Ok(());
        }
        let _one = budget.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let action = || StoreError::io("count what the store takes");
        loop {
            if budget.take(bytes) {
                return Ok(());
            }
            let wanted = budget.slice_for(bytes);
            let used = match budget.promise(wanted).map_err(action())? {
                Ok(()) => {
                    budget.slice.fetch_add(wanted, Ordering::SeqCst);
                    continue;
                }
                Err(used) => used,
            };
            let Some(limit) = &budget.limit else { return Ok(()) };
            if !self.make_room(limit, wanted)? {
                let (limit_bytes, used_bytes) = (limit.bytes, used);
                return Err(StoreError::NoRoom { needed_bytes: bytes, used_bytes, limit_bytes });
            }
        }
    }

    /// What the store takes, in bytes, as all who write to it count it from the first call on;
    /// what they were promised and have not written is in it.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        let action = || StoreError::io("count what the store takes");
        let is_counted = self.layout.size().exists();
        let mut size = Size::open(&self.layout).map_err(action())?;
        let used = size.used;
        if !is_counted {
            size.set(used).map_err(action())?;
        }
        Ok(used)
    }

    /// Sweeps if the store takes more than so many bytes, until a tenth of them is free: what a
    /// sweep for a full store would remove. None where it takes no more.
    ///
    /// # Errors
    ///
    /// When the system or the store fails.
    pub fn sweep_above(
        &self,
        soft_bytes: u64,
        links: &dyn Links,
    ) -> Result<Option<Swept>, StoreError> {
        let action = || StoreError::io("count what the store takes");
        // The number may be too large.
        if self.budget.measure().map_err(action())? <= soft_bytes {
            return Ok(None);
        }
        let keep_bytes = soft_bytes.saturating_sub(soft_bytes / 100 * HEADROOM_PERCENT);
        let request = SweepRequest { keep_bytes: Some(keep_bytes), ..SweepRequest::default() };
        let swept = self.sweep(&request, links)?;
        self.budget.measure().map_err(action())?;
        Ok(Some(swept))
    }

    /// Sweeps until so many bytes fit; says whether they do.
    fn make_room(&self, limit: &SizeLimit, bytes: u64) -> Result<bool, StoreError> {
        let action = || StoreError::io("count what the store takes");
        let fits = |used: u64| used.saturating_add(bytes) <= limit.bytes;
        // The number may be too large.
        if fits(self.budget.measure().map_err(action())?) {
            return Ok(true);
        }
        let headroom = limit.bytes / 100 * HEADROOM_PERCENT;
        let keep_bytes = Some(limit.bytes.saturating_sub(bytes).saturating_sub(headroom));
        let request = SweepRequest { keep_bytes, ..SweepRequest::default() };
        loop {
            let swept = self.sweep(&request, &*limit.links)?;
            let used = self.budget.measure().map_err(action())?;
            if !swept.is_busy || fits(used) {
                return Ok(fits(used));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Reads from a source, with room for what it gives.
pub(crate) struct Metered<'a> {
    source: &'a mut dyn Read,
    store: &'a DiskStore,
    /// Why there was none.
    pub(crate) failed: Option<StoreError>,
}

impl<'a> Metered<'a> {
    pub(crate) fn new(source: &'a mut dyn Read, store: &'a DiskStore) -> Self {
        Self { source, store, failed: None }
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.store.reserve(count as u64).map_err(|error| {
            self.failed = Some(error);
            io::Error::from(io::ErrorKind::QuotaExceeded)
        })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_it_is_filled_the_sooner_is_the_next_look() {
        let (millis, mib) = (Duration::from_millis, |count: u64| count << 20);
        let check = |written, since, pause, bytes| {
            assert_eq!(Ahead::at(written, written, since, mib(4)), Ahead { pause, bytes });
            // What others write is a reason to look, and not to refuse anything.
            assert_eq!(Ahead::at(written, 0, since, mib(4)), Ahead { pause, bytes: mib(4) });
        };
        // Nothing, a little, as much as may be uncounted, and faster than anybody can look.
        check(0, millis(5), SLOWEST, mib(4));
        check(mib(1), millis(5), SLOWEST, mib(4) + mib(7) / 5);
        check(mib(4), millis(2), millis(2), mib(4) + mib(8));
        check(mib(40), millis(5), FASTEST, mib(4) + mib(24));
        // Time stands still.
        let Ahead { pause, bytes } = Ahead::at(u64::MAX, u64::MAX, Duration::ZERO, mib(4));
        assert_eq!((pause, bytes), (FASTEST, u64::MAX));
    }

    #[test]
    fn the_size_does_not_drift() {
        let (boot, golden) = ("a-boot", include_str!("../tests/golden/size-1.txt"));
        assert_eq!(text_of(boot, 1 << 30), golden);
        assert_eq!(parse(golden, boot), Some(1 << 30));
        // Of another run of the machine, another format, or cut off.
        let other = golden.replace("size 1", "size 2");
        let all = [(golden, "b-boot"), (&other, boot), (&golden[..21], boot), ("", boot)];
        assert_eq!(all.map(|(text, boot)| parse(text, boot)), [None; 4]);
    }
}
