//! The digests of the tars of layers, which images name and steps do not need: while a large one is
//! hashed, its step is recorded already and later steps run.
//!
//! A digest is a function of its layer. It is remembered by the layer's id; where it is not, as
//! after a build that was killed meanwhile, it is made again from what the store has.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strata_cas::{BlobId, BlobStore, Layer, LayerId, NameStore, Store};
use strata_exec::{Cancel, Found};
use strata_image::{Contents, ImageError};
use strata_oci::Digest;

use crate::BuildError;
use crate::layers::{self, ImageLayer, StepLayer};

/// Tars by the ids of their layers.
pub(crate) const TABLE: &str = "tars-1";

/// What is known of a layer's tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tar {
    /// Its digest.
    pub(crate) diff_id: Digest,
    /// Its size in bytes.
    pub(crate) bytes: u64,
}

impl From<(Digest, u64)> for Tar {
    fn from((diff_id, bytes): (Digest, u64)) -> Self {
        Self { diff_id, bytes }
    }
}

/// The files that a command has left, by their numbers.
pub(crate) struct Files {
    found: Arc<Found>,
    stop: Arc<AtomicBool>,
}

impl Files {
    pub(crate) fn new(found: Arc<Found>) -> Self {
        Self { found, stop: Arc::default() }
    }
}

impl Contents for Files {
    fn whole(&self, id: &BlobId) -> Result<Option<Vec<u8>>, ImageError> {
        go_on(&self.stop)
            .and_then(|()| self.found.whole(id))
            .map_err(ImageError::io("read what a command has written"))
    }

    fn open(&self, id: &BlobId) -> Result<Option<Box<dyn Read + Send + '_>>, ImageError> {
        let file = self.found.open(id);
        let file = file.map_err(ImageError::io("open what a command has written"))?;
        let stop = &self.stop;
        Ok(file.map(|file| Box::new(Stoppable { file, stop }) as Box<dyn Read + Send>))
    }
}

fn go_on(stop: &AtomicBool) -> io::Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(io::Error::other("nobody waits for it any more")),
        false => Ok(()),
    }
}

/// Reads until it is told to stop.
struct Stoppable<'a, R> {
    file: R,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        go_on(self.stop)?;
        self.file.read(buffer)
    }
}

/// So often who waits for a tar looks whether to go on.
const PAUSE: Duration = Duration::from_millis(50);

/// A tar that is being hashed, on a thread of its own; dropped, it is hashed no further.
pub(crate) struct Hashing {
    thread: Option<JoinHandle<()>>,
    done: Receiver<Result<(Digest, u64), ImageError>>,
    stop: Arc<AtomicBool>,
}

impl Hashing {
    /// Begins with a layer whose files are named by their numbers. They may be moved meanwhile.
    pub(crate) fn begin(layer: Layer, files: Files) -> Result<Self, BuildError> {
        let stop = Arc::clone(&files.stop);
        Self::of(stop, move || strata_image::describe_from(&layer, &files))
    }

    fn of(
        stop: Arc<AtomicBool>,
        work: impl FnOnce() -> Result<(Digest, u64), ImageError> + Send + 'static,
    ) -> Result<Self, BuildError> {
        let (tell, done) = channel();
        let thread = std::thread::Builder::new().name("tar".to_owned());
        // Nobody may wait for it any more.
        let thread = thread.spawn(move || drop(tell.send(work())));
        let thread = Some(thread.map_err(BuildError::io("start a thread"))?);
        Ok(Self { thread, done, stop })
    }

    fn finish(mut self, cancel: &Cancel) -> Result<Option<Tar>, BuildError> {
        let described = loop {
            match self.done.recv_timeout(PAUSE) {
                Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                    return Err(BuildError::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => {}
                described => break described,
            }
        };
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Whatever went wrong goes wrong again, and is told, when it is made from the store.
        Ok(described.ok().and_then(Result::ok).map(Tar::from))
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed, and there is nobody to hand it to.
            drop(thread.join());
        }
    }
}

/// One layer's tar; nothing when it is to be looked up or made.
enum State {
    Hashing(Hashing),
    Known(Tar),
    Unknown,
}

/// The tars of the layers of one build.
pub(crate) struct Tars<'a> {
    blobs: &'a dyn BlobStore,
    names: &'a dyn NameStore,
    cancel: &'a Cancel,
    states: Mutex<HashMap<LayerId, Arc<Mutex<State>>>>,
}

impl<'a> Tars<'a> {
    pub(crate) fn new(store: &'a dyn Store, cancel: &'a Cancel) -> Self {
        Self::over(store, store, cancel)
    }

    fn over(blobs: &'a dyn BlobStore, names: &'a dyn NameStore, cancel: &'a Cancel) -> Self {
        Self { blobs, names, cancel, states: Mutex::default() }
    }

    /// Takes a layer over whose tar is being hashed.
    pub(crate) fn add(&self, layer: LayerId, hashing: Hashing) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        // Equal layers have equal tars: that of the first one is as good.
        let new = || Arc::new(Mutex::new(State::Hashing(hashing)));
        states.entry(layer).or_insert_with(new);
    }

    /// A layer's tar, once it is hashed.
    pub(crate) fn of(&self, layer: &LayerId) -> Result<Tar, BuildError> {
        let state = {
            let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Mutex::new(State::Unknown));
            Arc::clone(states.entry(*layer).or_insert_with(new))
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let hashed = match std::mem::replace(&mut *state, State::Unknown) {
            State::Known(tar) => {
                *state = State::Known(tar);
                return Ok(tar);
            }
            State::Hashing(hashing) => hashing.finish(self.cancel)?,
            State::Unknown => None,
        };
        let tar = match (hashed, self.remembered(layer)?) {
            (_, Some(tar)) => tar,
            (Some(tar), None) => self.remember(layer, tar)?,
            (None, None) => {
                let value = layers::load(self.blobs, layer)?;
                self.remember(layer, strata_image::describe(&value, self.blobs)?.into())?
            }
        };
        *state = State::Known(tar);
        Ok(tar)
    }

    fn remembered(&self, layer: &LayerId) -> Result<Option<Tar>, BuildError> {
        let value = self.names.name(TABLE, &layer.blob().to_string())?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    fn remember(&self, layer: &LayerId, tar: Tar) -> Result<Tar, BuildError> {
        let value = serde_json::to_vec(&tar).map_err(BuildError::damaged("table of tars"))?;
        self.names.set_name_soon(TABLE, &layer.blob().to_string(), &value)?;
        Ok(tar)
    }

    /// A stack of layers as an image has it.
    pub(crate) fn stack(&self, layers: &[StepLayer]) -> Result<Vec<ImageLayer>, BuildError> {
        let described = |layer: &StepLayer| match layer {
            StepLayer::Described(layer) => Ok(layer.clone()),
            StepLayer::Made { made } => {
                let Tar { diff_id, bytes } = self.of(made)?;
                Ok(ImageLayer { layer: *made, diff_id, bytes, blob: None })
            }
        };
        layers.iter().map(described).collect()
    }
}

#[cfg(test)]
mod tests {
    use strata_cas::{Action, Change, Item, MemoryStore, Metadata, Time, TreePath};

    use super::*;

    fn over(store: &MemoryStore) -> Tars<'_> {
        let cancel = Box::leak(Box::new(Cancel::new().expect("a switch")));
        Tars::over(store, store, cancel)
    }

    /// A layer with one file, and the layer's id.
    fn layer(store: &MemoryStore, bytes: &[u8]) -> (Layer, LayerId) {
        let item = Item::File { blob: BlobId::of(bytes), size: bytes.len() as u64 };
        let action = Action::Set { item, metadata: Metadata::root(0o644), modified: Time(1) };
        let path = TreePath::new("file").expect("a path");
        let layer = Layer::new(vec![Change { path, action }]);
        let id = store.put(&layer.encode()).expect("put").into();
        (layer, id)
    }

    fn hashing(
        made: impl FnOnce() -> Result<(Digest, u64), ImageError> + Send + 'static,
    ) -> Hashing {
        Hashing::of(Arc::default(), made).expect("a thread")
    }

    #[test]
    fn what_was_hashed_is_remembered_and_not_made_again() {
        let store = MemoryStore::default();
        // Its file is not in the store: nobody can make the tar from there.
        let (_, id) = layer(&store, b"gone");
        let tars = over(&store);
        let expected = (Digest::of(b"tar"), 7);
        tars.add(id, hashing(move || Ok(expected)));
        tars.add(id, hashing(|| Ok((Digest::of(b"later"), 8))));
        for tars in [&tars, &tars, &over(&store)] {
            assert_eq!(tars.of(&id).expect("known"), Tar::from(expected));
        }
        let other = layer(&store, b"gone, too").1;
        let error = tars.of(&other).expect_err("it can not be made");
        assert!(error.to_string().contains("file"), "{error}");
    }

    #[test]
    fn what_was_not_hashed_to_its_end_is_made_from_the_store() {
        let store = MemoryStore::default();
        let bytes = vec![7; 10 << 20];
        store.put(&bytes).expect("put");
        let (value, id) = layer(&store, &bytes);
        let expected = Tar::from(strata_image::describe(&value, &store).expect("described"));
        let tars = over(&store);
        let broken = || Err(ImageError::io("read")(io::Error::other("broken")));
        tars.add(id, hashing(broken));
        assert_eq!(tars.of(&id).expect("made"), expected);
        assert_eq!(over(&store).of(&id).expect("remembered"), expected);
        // A row that nobody can read is as good as none.
        store.set_name(TABLE, &id.blob().to_string(), Some(b"{")).expect("set");
        assert_eq!(over(&store).of(&id).expect("made"), expected);
    }

    #[test]
    fn dropped_it_is_hashed_no_further() {
        let store = MemoryStore::default();
        let tars = over(&store);
        let (_, id) = layer(&store, b"x");
        tars.add(id, endless());
        std::thread::sleep(Duration::from_millis(10));
        // Would not come back.
        drop(tars);
    }

    /// What ends only when it is stopped.
    fn endless() -> Hashing {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let work = move || {
            let mut endless = Stoppable { file: io::repeat(0), stop: &seen };
            io::copy(&mut endless, &mut io::sink()).map_err(ImageError::io("read"))?;
            Ok((Digest::of(b""), 0))
        };
        Hashing::of(stop, work).expect("a thread")
    }

    #[test]
    fn who_waits_for_it_can_be_cancelled() {
        let (store, cancel) = (MemoryStore::default(), Cancel::new().expect("a switch"));
        let (_, id) = layer(&store, b"x");
        let tars = &Tars::over(&store, &store, &cancel);
        tars.add(id, endless());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| tars.of(&id));
            cancel.cancel();
            let answer = waiting.join().expect("no panic");
            assert!(matches!(answer, Err(BuildError::Cancelled)), "{answer:?}");
        });
    }

    #[test]
    fn many_may_wait_for_one() {
        let store = MemoryStore::default();
        let (_, id) = layer(&store, b"gone");
        let tars = &over(&store);
        tars.add(
            id,
            hashing(|| {
                std::thread::sleep(Duration::from_millis(20));
                Ok((Digest::of(b"tar"), 7))
            }),
        );
        std::thread::scope(|scope| {
            let all = (0..8).map(|_| scope.spawn(|| tars.of(&id).expect("known")));
            let all: Vec<_> = all.collect();
            for one in all {
                assert_eq!(one.join().expect("no panic").bytes, 7);
            }
        });
    }
}
