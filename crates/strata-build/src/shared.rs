//! Steps from and to caches that several machines share. A lookup is by key, step by step; what is
//! found brings no file with it, only the list of what its layers change: bytes are fetched when
//! somebody needs them. What a step gave is sent while the build goes on.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use strata_cas::{
    BlobId, ContentKey, Cost, DefinitionKey, Fact, Layer, LayerId, Record, RecordKey, Slot, Store,
    TreeId,
};
use strata_image::{Decoder, Encoder};
use strata_oci::{Compression, Descriptor, RegistryError, SharedCache};
use strata_plan::{Op, Plan, StepIndex};

use crate::far::{self, Shelf, Whereabouts};
use crate::layers::{self, ImageLayer, Payload, StackedRoot, StepLayer};
use crate::packed_layer::PackedLayer;
use crate::packing::Packing;
use crate::tars::Tars;
use crate::{BuildError, Event, Observer};

/// What a layer's value is, as a blob.
const VALUE_TYPE: &str = "application/vnd.strata.layer.v1+zstd";
/// A layer's value is not larger than this, uncompressed, in bytes.
const LARGEST_VALUE_BYTES: u64 = 1 << 30;
/// The format of what is kept under a key.
const FORMAT: u32 = 1;
/// Lookups that find nothing may take so long in all; then there are no more of them.
const LONGEST_SEARCH: Duration = Duration::from_secs(20);

/// A cache that other machines use, too.
#[derive(Clone)]
pub struct SharedCacheAt<'a> {
    /// The cache.
    pub cache: &'a dyn SharedCache,
    /// Where it is, as [`crate::Far::fetch`] understands it.
    pub place: String,
    /// Whether only steps of the image itself go there, and none of other stages.
    pub image_only: bool,
}

/// The caches that a build looks into, and those that it fills.
#[derive(Clone, Default)]
pub struct SharedCaches<'a> {
    /// Read only.
    pub from: Vec<SharedCacheAt<'a>>,
    /// Written.
    pub to: Vec<SharedCacheAt<'a>>,
    silent: Silent,
}

impl<'a> SharedCaches<'a> {
    /// These to read, and these to write.
    pub fn new(from: Vec<SharedCacheAt<'a>>, to: Vec<SharedCacheAt<'a>>) -> Self {
        Self { from, to, silent: Silent::default() }
    }
}

/// Places that did not answer: whoever finds out spares all others of the build the wait.
#[derive(Clone, Default)]
struct Silent(Arc<Mutex<BTreeSet<String>>>);

impl Silent {
    fn has(&self, place: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(place)
    }

    fn add(&self, place: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place.to_owned());
    }
}

/// A record as other machines get it: without where it stood.
#[derive(Serialize, Deserialize)]
struct Sent {
    format: u32,
    definition: DefinitionKey,
    content: ContentKey,
    /// The key without what it builds on, of a COPY or ADD with `--link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linked: Option<ContentKey>,
    facts: Vec<Fact>,
    inputs: Vec<TreeId>,
    tree: TreeId,
    cost: Cost,
    created: u64,
    layers: Vec<SentLayer>,
}

/// One of its layers.
#[derive(Serialize, Deserialize)]
struct SentLayer {
    image: ImageLayer,
    /// The blob with what it changes; none for a layer that changes nothing.
    value: Descriptor,
    /// The blob with its tar.
    tar: Descriptor,
    /// Where that is, if not in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<String>,
}

/// A key as caches know it.
fn key_text(key: &RecordKey) -> String {
    let bytes = key.to_bytes();
    let hex: String = bytes[1..].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{FORMAT}-{hex}", char::from(bytes[0]))
}

/// The caches that are asked, as long as they answer.
pub(crate) struct Lookups<'a> {
    from: Vec<Guarded<'a>>,
    observe: Observer<'a>,
}

/// A cache that is left alone once it fails.
struct Guarded<'a> {
    at: SharedCacheAt<'a>,
    /// Time that was spent for nothing; None when it is not asked any more.
    spent: Mutex<Option<Duration>>,
    silent: Silent,
}

impl<'a> Guarded<'a> {
    fn all(caches: &[SharedCacheAt<'a>], silent: &Silent) -> Vec<Self> {
        let one = |at: &SharedCacheAt<'a>| {
            let spent = Mutex::new(Some(Duration::ZERO));
            Self { at: at.clone(), spent, silent: silent.clone() }
        };
        caches.iter().map(one).collect()
    }

    /// Uses the cache, unless others found that it does not answer.
    fn using<T>(&self, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
        if self.silent.has(&self.at.place) {
            return Err(Trouble::Silent);
        }
        let done = work();
        if let Err(Trouble::Cache(RegistryError::Unreachable { .. })) = &done {
            self.silent.add(&self.at.place);
        }
        done
    }

    fn is_off(&self) -> bool {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether it is the first to find out.
    fn turn_off(&self) -> bool {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Counts time that was spent for nothing; whether it is too much by now.
    fn spend(&self, time: Duration) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *spent {
            Some(so_far) => {
                *so_far += time;
                *so_far > LONGEST_SEARCH
            }
            None => false,
        }
    }
}

impl<'a> Lookups<'a> {
    pub(crate) fn new(caches: &SharedCaches<'a>, observe: Observer<'a>) -> Self {
        Self { from: Guarded::all(&caches.from, &caches.silent), observe }
    }

    /// The record under a key, from the first cache that has it. What its layers change is in the
    /// store then; their bytes need not be.
    pub(crate) fn find(&self, store: &dyn Store, key: &RecordKey) -> Option<Record> {
        let text = key_text(key);
        for guarded in self.from.iter().filter(|guarded| !guarded.is_off()) {
            let began = Instant::now();
            match guarded.using(|| self.ask(guarded, store, key, &text)) {
                Ok(Some(record)) => return Some(record),
                Ok(None) if guarded.spend(began.elapsed()) && guarded.turn_off() => {
                    self.note(&guarded.at.place, "it is too slow".to_owned());
                }
                Ok(None) => {}
                Err(trouble) => {
                    if guarded.turn_off() {
                        self.note(&guarded.at.place, trouble.to_string());
                    }
                }
            }
        }
        None
    }

    fn note(&self, place: &str, reason: String) {
        let text = format!("the cache {place} is not asked any more: {reason}");
        (self.observe)(Event::Note(text));
    }

    fn ask(
        &self,
        guarded: &Guarded<'_>,
        store: &dyn Store,
        key: &RecordKey,
        text: &str,
    ) -> Result<Option<Record>, Trouble> {
        let found = guarded.at.cache.record(text).map_err(Trouble::Cache)?;
        let Some(bytes) = found else { return Ok(None) };
        let Ok(sent) = serde_json::from_slice::<Sent>(&bytes) else { return Ok(None) };
        let is_it = match key {
            RecordKey::Definition(key) => sent.definition == *key,
            RecordKey::Content(key) => sent.content == *key || sent.linked == Some(*key),
        };
        if sent.format != FORMAT || !is_it {
            return Ok(None);
        }
        for layer in &sent.layers {
            match bring_value(&guarded.at, store, layer) {
                Ok(true) => {}
                // A blob that is gone or wrong is a miss, and the cache's other answers may do.
                Ok(false)
                | Err(Trouble::Cache(
                    RegistryError::NotFound { .. } | RegistryError::Wrong { .. },
                )) => return Ok(None),
                Err(other) => return Err(other),
            }
        }
        Ok(record(sent))
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("it did not answer before")]
    Silent,
    #[error("{0}")]
    Cache(RegistryError),
    #[error("{0}")]
    Build(BuildError),
}

impl From<BuildError> for Trouble {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

/// Sees to it that the store knows what a layer changes, and where its bytes are. False when the
/// cache has something else under its name.
fn bring_value(
    at: &SharedCacheAt<'_>,
    store: &dyn Store,
    layer: &SentLayer,
) -> Result<bool, Trouble> {
    let id = layer.image.layer;
    if layer.place.as_ref().is_some_and(|place| !place.starts_with("registry:")) {
        // A stranger's record must not make this machine read its own files.
        return Ok(false);
    }
    let store_error = |error| Trouble::Build(BuildError::Store(error));
    if !store.has(&id.blob()).map_err(store_error)? {
        if layer.value.size > LARGEST_VALUE_BYTES {
            return Ok(false);
        }
        let mut compressed = Vec::new();
        at.cache.blob(&layer.value, &mut compressed).map_err(Trouble::Cache)?;
        let mut bytes = Vec::new();
        let read = Decoder::new(&compressed[..])
            .and_then(|decoder| decoder.take(LARGEST_VALUE_BYTES).read_to_end(&mut bytes));
        if read.is_err()
            || LayerId::from(BlobId::of(&bytes)) != id
            || Layer::decode(&bytes).is_err()
        {
            return Ok(false);
        }
        store.put(&bytes).map_err(store_error)?;
    }
    let place = layer.place.clone().unwrap_or_else(|| at.place.clone());
    far::remember(store, &id, &Whereabouts { blob: layer.tar.clone(), place })?;
    Ok(true)
}

fn record(sent: Sent) -> Option<Record> {
    let layers = sent.layers.into_iter().map(|layer| StepLayer::Described(layer.image)).collect();
    Some(Record {
        definition: sent.definition,
        content: sent.content,
        facts: sent.facts,
        inputs: sent.inputs,
        tree: sent.tree,
        payload: Payload { layers }.encode().ok()?,
        cost: sent.cost,
        // Nobody's: the engine puts it into the slot that it is found for.
        slot: Slot(String::new()),
        created: sent.created,
    })
}

/// A finished step on its way to other machines.
pub(crate) struct Finished {
    pub(crate) record: Arc<Record>,
    /// The key without what it builds on, of a COPY or ADD with `--link`.
    pub(crate) linked: Option<ContentKey>,
    /// What it gives; its own layers come last.
    pub(crate) root: Arc<StackedRoot>,
    /// Where its layers came from, for a base image of a registry.
    pub(crate) origin: Option<String>,
    /// Whether the image itself is built on it.
    pub(crate) of_image: bool,
}

/// Sends finished steps, one after the other, on a thread of its own. That the build failed or was
/// cancelled meanwhile does not concern it: what was finished is of use to others.
pub(crate) struct Sending<'a> {
    shelf: Shelf<'a>,
    to: Vec<Guarded<'a>>,
    observe: Observer<'a>,
}

/// Where finished steps are handed in.
pub(crate) type Outbox = Sender<Finished>;

impl<'a> Sending<'a> {
    /// Nothing to do without a cache that is written.
    pub(crate) fn new(
        caches: &SharedCaches<'a>,
        shelf: Shelf<'a>,
        observe: Observer<'a>,
    ) -> Option<(Self, Outbox, Receiver<Finished>)> {
        if caches.to.is_empty() {
            return None;
        }
        let to = Guarded::all(&caches.to, &caches.silent);
        let (outbox, inbox) = channel();
        Some((Self { shelf, to, observe }, outbox, inbox))
    }

    /// Works until nobody can hand anything in any more.
    pub(crate) fn work(&self, inbox: &Receiver<Finished>, tars: &Tars<'_>) {
        for finished in inbox {
            for guarded in self.to.iter().filter(|guarded| !guarded.is_off()) {
                if guarded.at.image_only && !finished.of_image {
                    continue;
                }
                if let Err(trouble) = guarded.using(|| self.send(&guarded.at, &finished, tars))
                    && guarded.turn_off()
                {
                    let place = &guarded.at.place;
                    let text = format!("nothing more goes to the cache {place}: {trouble}");
                    (self.observe)(Event::Note(text));
                }
            }
        }
    }

    fn send(
        &self,
        at: &SharedCacheAt<'_>,
        finished: &Finished,
        tars: &Tars<'_>,
    ) -> Result<(), Trouble> {
        let record = &finished.record;
        let own = [RecordKey::Definition(record.definition), RecordKey::Content(record.content)];
        let linked = finished.linked.map(RecordKey::Content);
        let keys: Vec<String> = own.iter().chain(&linked).map(key_text).collect();
        if at.cache.record(&keys[0]).map_err(Trouble::Cache)?.is_some() {
            return Ok(());
        }
        let own = Payload::decode(&record.payload)?.layers;
        let stack = tars.stack(&finished.root.layers)?;
        let below = stack.len().saturating_sub(own.len());
        let mut layers = Vec::new();
        for end in below + 1..=stack.len() {
            layers.push(self.send_layer(at, &stack[..end], finished.origin.as_deref())?);
        }
        let mut blobs: Vec<Descriptor> = Vec::new();
        for layer in &layers {
            let own = layer.place.is_none().then_some(&layer.tar);
            for blob in [Some(&layer.value), own].into_iter().flatten() {
                if !blobs.iter().any(|other| other.digest == blob.digest) {
                    blobs.push(blob.clone());
                }
            }
        }
        let sent = Sent {
            format: FORMAT,
            definition: record.definition,
            content: record.content,
            linked: finished.linked,
            facts: record.facts.clone(),
            inputs: record.inputs.clone(),
            tree: record.tree,
            cost: record.cost,
            created: record.created,
            layers,
        };
        let text = serde_json::to_string(&sent).map_err(BuildError::damaged("record"))?;
        at.cache.keep_record(&keys, &text, &blobs).map_err(Trouble::Cache)
    }

    fn send_layer(
        &self,
        at: &SharedCacheAt<'_>,
        stack: &[ImageLayer],
        origin: Option<&str>,
    ) -> Result<SentLayer, Trouble> {
        let Some(layer) = stack.last() else {
            let reason = "a layer is missing".to_owned();
            return Err(BuildError::Damaged { what: "step result", reason }.into());
        };
        let store = self.shelf.store;
        let value = compressed_value(store, layer)?;
        let (descriptor, bytes) = &value;
        at.cache.keep_blob(descriptor, &|out| out.write_all(bytes)).map_err(Trouble::Cache)?;
        let known = far::whereabouts(store, &layer.layer)?;
        if let (Some(tar), Some(origin)) = (&layer.blob, origin) {
            let (tar, place) = (tar.clone(), Some(origin.to_owned()));
            return Ok(SentLayer { image: layer.clone(), value: value.0, tar, place });
        }
        if let Some(known) = known
            && known.place == at.place
        {
            let (tar, place) = (known.blob, None);
            return Ok(SentLayer { image: layer.clone(), value: value.0, tar, place });
        }
        let packed = PackedLayer::of(self.shelf, stack, &Packing::default())?;
        let lost = Mutex::new(None);
        let bytes = |out: &mut dyn Write| {
            packed.write(out).map_err(|error| {
                let kind = match &error {
                    strata_image::ImageError::Io { source, .. } => source.kind(),
                    _ => std::io::ErrorKind::Other,
                };
                let text = error.to_string();
                *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                std::io::Error::new(kind, text)
            })
        };
        at.cache.keep_blob(&packed.descriptor, &bytes).map_err(Trouble::Cache)?;
        let whereabouts = Whereabouts { blob: packed.descriptor.clone(), place: at.place.clone() };
        far::remember(store, &layer.layer, &whereabouts)?;
        let tar = packed.descriptor.clone();
        Ok(SentLayer { image: layer.clone(), value: value.0, tar, place: None })
    }
}

/// What a layer changes, as a blob.
fn compressed_value(
    store: &dyn Store,
    layer: &ImageLayer,
) -> Result<(Descriptor, Vec<u8>), BuildError> {
    let value = layers::load(store, &layer.layer)?;
    let mut encoder = Encoder::new(Vec::new(), Compression::Zstd, None);
    let compressed = encoder.write_all(&value.encode()).and_then(|()| encoder.finish());
    let compressed = compressed.map_err(BuildError::io("compress a layer"))?;
    Ok((Descriptor::of(VALUE_TYPE, &compressed), compressed))
}

/// The steps that the image itself is built on.
pub(crate) fn steps_of_image(plan: &Plan) -> BTreeSet<StepIndex> {
    std::iter::successors(plan.image.root, |step| plan.steps[*step].parent).collect()
}

/// The registry that a step's layers can be had from, if it is a base image of one.
pub(crate) fn origin(
    step: &strata_plan::Step,
    is_of_registry: impl Fn(&strata_oci::Reference) -> bool,
) -> Option<String> {
    let Op::Image(op) = &step.op else { return None };
    let strata_plan::ImageName::Reference(name) = &op.need.name else { return None };
    is_of_registry(name).then(|| format!("registry:{}", name.with_digest(op.image.digest)))
}
