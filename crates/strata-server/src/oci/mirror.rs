//! Repositories of other registries, as they pass through: what is asked for is fetched once, kept
//! like anything else that a cache has, and given out from here from then on. A digest is believed
//! for ever; a tag for as long as the configuration says, and when the other registry does not
//! answer.
//!
//! What two ask for at the same time is fetched once. The first one gets a blob's bytes while they
//! come, its last piece when all were right; the others wait until it is here.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value as Json;
use strata_cas::BlobId;
use strata_cas::entry::Entry;
use strata_oci::{Descriptor, Digest, ManifestBytes, Reference, Registry, RegistryError};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore, mpsc};

use super::manifests;
use super::path::is_tag;
use crate::access::Caller;
use crate::body::{self, AHEAD, Body, IDLE, blocking};
use crate::depot::{Content, Depot, Piece, Upload, Value, need_of, now};
use crate::fault::Fault;
use crate::metrics::{Metrics, Upstream};
use crate::request::Asked;
use crate::tier::Recent;

/// The namespace of all that passes through: nobody writes to it but this module.
pub(crate) const NAMESPACE: &str = "mirror";
const BLOBS: &str = "oci-mirrored-blobs";
/// The attribute of a tag that says when it was compared with the other registry's last.
const CHECKED: &str = "checked";
/// So much is fetched at a time; each takes a thread.
const FETCHES: usize = 16;
/// A registry that did not answer is left alone for so long, as far as that is possible.
const REST: Duration = Duration::from_secs(30);

/// Between a manifest and its blobs is no more time, for who can not be told from what is kept.
const BETWEEN: Duration = Duration::from_secs(60 * 60);
const SIZES: usize = 1 << 16;

/// A registry whose repositories pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirrored {
    /// As it is called in images' names.
    pub(crate) registry: String,
    /// For how long a tag is believed.
    pub(crate) refresh: Duration,
    /// Whether names without a registry, which nobody has pushed here, are its.
    pub(crate) is_default: bool,
}

/// All of them, and the way there.
pub(crate) struct Mirrors {
    all: Vec<Mirrored>,
    upstream: Option<Arc<dyn Registry>>,
    fetches: Arc<Semaphore>,
    /// Held by who fetches something, by what that is.
    flights: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    /// When registries did not answer.
    silent: Mutex<HashMap<String, Instant>>,
    /// Sizes of blobs, as manifests say that were given out lately.
    sizes: Recent<Digest, u64>,
}

/// Where a name leads that passes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passing {
    mirrored: Mirrored,
    /// In the other registry, without tag and digest.
    pub(super) repository: Reference,
    /// Whether the name itself says so; otherwise what is here comes first.
    pub(super) is_named: bool,
}

impl Passing {
    /// What it is called here.
    fn name(&self) -> String {
        format!("{}/{}", self.repository.registry, self.repository.repository)
    }

    fn with_tag(&self, tag: &str) -> Reference {
        Reference { tag: Some(tag.to_owned()), digest: None, ..self.repository.clone() }
    }
}

impl Mirrors {
    pub(crate) fn new(all: Vec<Mirrored>, upstream: Option<Arc<dyn Registry>>) -> Self {
        let fetches = Arc::new(Semaphore::new(FETCHES));
        let (flights, silent) = (Mutex::default(), Mutex::default());
        let sizes = Recent::new(BETWEEN, SIZES);
        Self { all, upstream, fetches, flights, silent, sizes }
    }

    /// Where a repository's name leads, if it passes through.
    pub(super) fn passing(&self, name: &str) -> Option<Passing> {
        let of = |mirrored: &Mirrored, whole: &str, is_named| {
            let mut repository: Reference = whole.parse().ok()?;
            (repository.tag, repository.digest) = (None, None);
            let is_its = repository.registry == mirrored.registry;
            is_its.then(|| Passing { mirrored: mirrored.clone(), repository, is_named })
        };
        self.upstream.as_ref()?;
        let is_below =
            |registry: &str| name.strip_prefix(registry).is_some_and(|rest| rest.starts_with('/'));
        let named = self.all.iter().find(|mirrored| is_below(&mirrored.registry));
        if let Some(mirrored) = named {
            return of(mirrored, name, true);
        }
        let default = self.all.iter().find(|mirrored| mirrored.is_default)?;
        // A name with another registry's in it is not this one's.
        let has_registry = name.parse::<Reference>().is_ok_and(|r| r.registry != "docker.io")
            || name.starts_with("docker.io/");
        let whole = format!("{}/{name}", default.registry);
        (!has_registry).then(|| of(default, &whole, false)).flatten()
    }

    fn upstream(&self) -> Result<Arc<dyn Registry>, Fault> {
        self.upstream.clone().ok_or_else(|| Fault::Internal("there is no way out".to_owned()))
    }

    /// Waits until nobody else fetches the same.
    async fn flight(&self, what: String) -> OwnedMutexGuard<()> {
        let lock = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, lock| lock.strong_count() > 0);
            let known = flights.get(&what).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::<AsyncMutex<()>>::default();
                flights.insert(what, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }

    fn silent(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_silent(&self, registry: &str) -> bool {
        self.silent().get(registry).is_some_and(|since| since.elapsed() < REST)
    }

    /// Notes whether a registry has answered.
    fn heard<T>(&self, registry: &str, answer: &Result<T, RegistryError>) {
        match answer {
            Err(RegistryError::Unreachable { .. }) => {
                self.silent().insert(registry.to_owned(), Instant::now());
            }
            _ => drop(self.silent().remove(registry)),
        }
    }
}

/// Who keeps what passes through.
fn keeper() -> Caller {
    Caller {
        name: "mirror".to_owned(),
        is_token: false,
        reads: true,
        writes: true,
        trust: 0,
        namespaces: vec![NAMESPACE.to_owned()],
    }
}

/// Keeps an entry: also for the other servers with this far tier, while that answers.
pub(super) fn enter(
    depot: &Depot,
    key: (&str, &str),
    body: (BlobId, u64),
    value: Value,
) -> Result<Entry, Fault> {
    match depot.set_entry(&keeper(), key, body, value.clone()) {
        Err(Fault::Busy(_)) => {
            depot.set_entry(&keeper(), key, body, Value { is_local: true, ..value })
        }
        entered => entered,
    }
}

/// Whether something is given out although it can not be kept: there is no room, or the far tier
/// does not answer.
fn passes_all_the_same(fault: &Fault) -> bool {
    matches!(fault, Fault::NoRoom(_) | Fault::Quota(_) | Fault::Busy(_) | Fault::TooLarge { .. })
}

fn failed(error: &RegistryError) -> Fault {
    Fault::Upstream(error.to_string())
}

/// Registries hide what somebody may not see; it is as good as not there.
fn is_missing(error: &RegistryError) -> bool {
    matches!(error, RegistryError::NotFound { .. } | RegistryError::Denied { .. })
}

fn outcome<T>(answer: &Result<T, RegistryError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(error) if is_missing(error) => "missing",
        Err(_) => "failed",
    }
}

/// What is needed to answer for another registry.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) mirrors: Arc<Mirrors>,
    pub(crate) depot: Arc<Depot>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Way {
    /// Asks the other registry, on a thread that may wait.
    async fn ask<T: Send + 'static>(
        &self,
        what: Upstream,
        registry: &str,
        work: impl FnOnce(&dyn Registry) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<Result<T, RegistryError>, Fault> {
        let upstream = self.mirrors.upstream()?;
        let stops = |_| Fault::Internal("the server stops".to_owned());
        let place = Arc::clone(&self.mirrors.fetches).acquire_owned().await.map_err(stops)?;
        let answer = blocking(move || {
            let _place = place;
            Ok(work(&*upstream))
        });
        let answer = answer.await?;
        self.mirrors.heard(registry, &answer);
        self.metrics.fetched(what, outcome(&answer));
        Ok(answer)
    }

    /// The manifest under a tag or digest.
    pub(super) async fn manifest(
        &self,
        passing: &Passing,
        reference: &str,
    ) -> Result<Option<(Entry, Bytes)>, Fault> {
        if reference.contains(':') {
            let digest = super::digest_of(reference)?;
            return self.by_digest(passing, digest).await;
        }
        self.by_tag(passing, reference).await
    }

    async fn by_digest(
        &self,
        passing: &Passing,
        digest: Digest,
    ) -> Result<Option<(Entry, Bytes)>, Fault> {
        if let Some(found) = self.stored(passing, digest).await? {
            return Ok(Some(found));
        }
        let _flight = self.mirrors.flight(format!("{} {digest}", passing.name())).await;
        if let Some(found) = self.stored(passing, digest).await? {
            return Ok(Some(found));
        }
        let registry = &passing.repository.registry;
        let wanted = passing.repository.with_digest(digest);
        let asked = self.ask(Upstream::Manifest, registry, move |far| far.manifest(&wanted));
        match asked.await? {
            Ok(manifest) => self.keep(passing, manifest).await.map(Some),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn stored(
        &self,
        passing: &Passing,
        digest: Digest,
    ) -> Result<Option<(Entry, Bytes)>, Fault> {
        let (depot, name) = (Arc::clone(&self.depot), passing.name());
        blocking(move || manifests::stored(&depot, &keeper(), &name, &digest)).await
    }

    async fn by_tag(&self, passing: &Passing, tag: &str) -> Result<Option<(Entry, Bytes)>, Fault> {
        if let Some((found, true)) = self.tagged(passing, tag).await? {
            return Ok(Some(found));
        }
        let _flight = self.mirrors.flight(format!("{}:{tag}", passing.name())).await;
        let known = match self.tagged(passing, tag).await? {
            Some((found, true)) => return Ok(Some(found)),
            Some((found, false)) => Some(found),
            None => None,
        };
        let registry = passing.repository.registry.clone();
        if let Some(known) = known.clone()
            && self.mirrors.is_silent(&registry)
        {
            return Ok(Some(known));
        }
        // Asking what it stands for now is cheaper, and no pull where pulls are counted.
        if let Some(known) = &known {
            let wanted = passing.with_tag(tag);
            let asked = self.ask(Upstream::Check, &registry, move |far| far.current(&wanted));
            match asked.await? {
                Ok(digest) if digest == Digest::of(&known.1) => {
                    self.tag(passing, tag, digest).await?;
                    return Ok(Some(known.clone()));
                }
                Ok(_) => {}
                Err(error) if is_missing(&error) => return Ok(None),
                Err(_) => return Ok(Some(known.clone())),
            }
        }
        let wanted = passing.with_tag(tag);
        let asked = self.ask(Upstream::Manifest, &registry, move |far| far.manifest(&wanted));
        match (asked.await?, known) {
            (Ok(manifest), _) => {
                let digest = manifest.digest;
                let kept = self.keep(passing, manifest).await?;
                self.tag(passing, tag, digest).await?;
                Ok(Some(kept))
            }
            (Err(error), _) if is_missing(&error) => Ok(None),
            (Err(_), Some(known)) => Ok(Some(known)),
            (Err(error), None) => Err(failed(&error)),
        }
    }

    /// What a tag stood for when it was looked at last, and whether that was just now.
    async fn tagged(
        &self,
        passing: &Passing,
        tag: &str,
    ) -> Result<Option<((Entry, Bytes), bool)>, Fault> {
        let (depot, name, tag) = (Arc::clone(&self.depot), passing.name(), tag.to_owned());
        let refresh = passing.mirrored.refresh.as_secs();
        blocking(move || {
            let space = manifests::space_of_tags(&name);
            let Some(entry) = depot.entry(&keeper(), &space, &tag)? else { return Ok(None) };
            let checked = entry.attributes.get(CHECKED).and_then(|text| text.parse::<u64>().ok());
            let digest = entry.attributes.get("digest").and_then(|text| text.parse().ok());
            let (Some(checked), Some(digest)) = (checked, digest) else { return Ok(None) };
            let found = manifests::stored(&depot, &keeper(), &name, &digest)?;
            // A clock that was set back makes nothing fresh.
            let is_fresh = now().checked_sub(checked).is_some_and(|age| age < refresh);
            Ok(found.map(|found| (found, is_fresh)))
        })
        .await
    }

    /// Notes what a tag stands for now.
    async fn tag(&self, passing: &Passing, tag: &str, digest: Digest) -> Result<(), Fault> {
        let (depot, name, tag) = (Arc::clone(&self.depot), passing.name(), tag.to_owned());
        blocking(move || {
            let Some((entry, _)) = manifests::stored(&depot, &keeper(), &name, &digest)? else {
                return Ok(());
            };
            let attributes = BTreeMap::from([
                ("digest".to_owned(), digest.to_string()),
                (CHECKED.to_owned(), now().to_string()),
            ]);
            let value = Value { attributes, ..Value::default() };
            let (space, body) = (manifests::space_of_tags(&name), (entry.body, entry.size));
            match enter(&depot, (&space, &tag), body, value) {
                Err(fault) if !passes_all_the_same(&fault) => Err(fault),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn keep(
        &self,
        passing: &Passing,
        manifest: ManifestBytes,
    ) -> Result<(Entry, Bytes), Fault> {
        let (depot, name) = (Arc::clone(&self.depot), passing.name());
        for (digest, size) in sizes_in(&manifest.bytes) {
            self.mirrors.sizes.set(digest, size);
        }
        blocking(move || {
            let entry = match manifests::keep_passing(&depot, &keeper(), &name, &manifest) {
                Err(fault) if passes_all_the_same(&fault) => manifests::passing_entry(&manifest),
                kept => kept?,
            };
            Ok((entry, Bytes::from(manifest.bytes)))
        })
        .await
    }

    /// The tags of a repository there; those that were asked for here when it does not answer.
    pub(super) async fn tags(&self, passing: &Passing) -> Result<Option<Vec<String>>, Fault> {
        let (depot, space) = (Arc::clone(&self.depot), manifests::space_of_tags(&passing.name()));
        let known = blocking(move || Ok(depot.entries(&keeper(), &space)?.into_keys().collect()));
        let registry = &passing.repository.registry;
        if self.mirrors.is_silent(registry) {
            return Ok(Some(known.await?));
        }
        let wanted = passing.repository.clone();
        let asked = self.ask(Upstream::Tags, registry, move |far| far.tags(&wanted));
        match asked.await? {
            Ok(tags) => Ok(Some(tags.into_iter().filter(|tag| is_tag(tag)).collect())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => match known.await? {
                known if known.is_empty() => Err(failed(&error)),
                known => Ok(Some(known)),
            },
        }
    }

    /// A blob's bytes: how many, and where they are or as they come.
    pub(super) async fn blob(
        &self,
        passing: &Passing,
        asked: &Asked,
        digest: Digest,
    ) -> Result<Option<Passed>, Fault> {
        if let Some(content) = self.find(digest).await? {
            return Ok(Some(Passed::Here(content)));
        }
        let Some(described) = self.described(passing, digest).await? else { return Ok(None) };
        if super::is_head(asked) {
            return Ok(Some(Passed::There(described.size)));
        }
        let flight = self.mirrors.flight(digest.to_string()).await;
        if let Some(content) = self.find(digest).await? {
            return Ok(Some(Passed::Here(content)));
        }
        let (sender, mut receiver) = mpsc::channel(AHEAD);
        let coming = self.clone().fetch(passing.clone(), described.clone(), sender, flight);
        let fetching = tokio::spawn(coming);
        let is_part = asked.header(http::header::RANGE).is_some();
        match receiver.recv().await {
            Some(Ok(first)) if !is_part => {
                let size = described.size;
                Ok(Some(Passed::Coming(size, body::pumped(Ok(first), receiver, size))))
            }
            _ => {
                // Part of it is given when all of it is here.
                while receiver.recv().await.is_some() {}
                let fetched = fetching.await.unwrap_or(Ok(()));
                let found = self.find(digest).await?.map(Passed::Here);
                if found.is_some() { Ok(found) } else { fetched.map(|()| None) }
            }
        }
    }

    /// Finds a blob that is here, and notes that it was of use.
    async fn find(&self, digest: Digest) -> Result<Option<Content>, Fault> {
        let depot = Arc::clone(&self.depot);
        blocking(move || {
            drop(depot.entry(&keeper(), BLOBS, &digest.to_string())?);
            depot.find_if_answered(&digest)
        })
        .await
    }

    /// What a manifest of the repository says of a blob: who asks for one has seen a manifest.
    async fn described(
        &self,
        passing: &Passing,
        digest: Digest,
    ) -> Result<Option<Descriptor>, Fault> {
        let describe = |size| Descriptor {
            media_type: "application/octet-stream".to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
        };
        if let Some(size) = self.mirrors.sizes.get(&digest) {
            return Ok(Some(describe(size)));
        }
        let (depot, name) = (Arc::clone(&self.depot), passing.name());
        let size = blocking(move || {
            let space = manifests::space_of_manifests(&name);
            for entry in depot.entries(&keeper(), &space)?.into_values() {
                let content = Content::of_entry(&entry);
                let Some(bytes) = depot.read(&content)? else { continue };
                let found = sizes_in(&bytes).into_iter().find(|(of, _)| *of == digest);
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        });
        Ok(size.await?.map(|(_, size)| describe(size)))
    }

    /// Fetches a blob into the store, and tells `sender` of it while it comes.
    async fn fetch(
        self,
        passing: Passing,
        described: Descriptor,
        sender: mpsc::Sender<io::Result<Bytes>>,
        flight: OwnedMutexGuard<()>,
    ) -> Result<(), Fault> {
        let (depot, handle) = (Arc::clone(&self.depot), Handle::current());
        let registry = passing.repository.registry.clone();
        let fetched = self.metrics.fetched_bytes.clone();
        let answer = self.ask(Upstream::Blob, &registry, move |far| {
            let _flight = flight;
            // Where it can not be kept it passes through all the same.
            let upload = depot.begin(&keeper(), described.size, Some(described.size)).ok();
            let mut tee = Tee { upload, sender: Some(sender), held: None, handle, fetched };
            let repository = passing.repository.with_digest(described.digest);
            let answer = far.blob(&repository, &described, &mut tee, &mut |_| {});
            let answer = answer.and_then(|()| tee.keep(&depot, &repository));
            tee.end(&answer);
            answer
        });
        match answer.await? {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// A blob that passes through.
pub(super) enum Passed {
    /// It is in the store.
    Here(Content),
    /// It is not, and nobody wants its bytes now.
    There(u64),
    /// It comes.
    Coming(u64, Body),
}

/// What a manifest says of blobs' sizes.
fn sizes_in(bytes: &[u8]) -> Vec<(Digest, u64)> {
    let Ok(document) = serde_json::from_slice::<Json>(bytes) else { return Vec::new() };
    let layers = document["layers"].as_array().into_iter().flatten();
    let cached = document["manifests"].as_array().into_iter().flatten();
    let all = [&document["config"]].into_iter().chain(layers).chain(cached);
    let size = |one: &Json| Some((one["digest"].as_str()?.parse().ok()?, one["size"].as_u64()?));
    all.filter_map(size).collect()
}

/// Bytes on their way to the store and to whoever has asked first. The last piece is held back
/// until all are known to be right.
struct Tee {
    upload: Option<Upload>,
    sender: Option<mpsc::Sender<io::Result<Bytes>>>,
    held: Option<Bytes>,
    handle: Handle,
    fetched: prometheus_client::metrics::counter::Counter<u64, AtomicU64>,
}

impl Tee {
    fn send(&mut self, piece: io::Result<Bytes>) {
        let Some(sender) = &self.sender else { return };
        let sent = self.handle.block_on(tokio::time::timeout(IDLE, sender.send(piece)));
        // Nobody takes it any more; the store does.
        if !matches!(sent, Ok(Ok(()))) {
            self.sender = None;
        }
    }

    /// Keeps the blob, if it could be kept so far and is the one that was wanted.
    fn keep(&mut self, depot: &Depot, wanted: &Reference) -> Result<(), RegistryError> {
        let (Some(upload), Some(digest)) = (self.upload.take(), wanted.digest) else {
            return Ok(());
        };
        if upload.digest() != digest {
            return Err(RegistryError::Wrong {
                registry: wanted.registry.clone(),
                what: format!("the blob {digest}"),
                reason: format!("they hash to {}", upload.digest()),
            });
        }
        // What can not be kept was right all the same.
        let kept = match depot.keep(upload, Some(&digest)) {
            // Here it is, if not far away.
            Err(Fault::Busy(_)) => depot.find_near(&digest).ok().flatten(),
            kept => kept.ok().map(|kept| Content::of_id(kept.id, kept.size)),
        };
        if let Some(Content { pieces, size }) = kept
            && let [Piece::Id(id)] = pieces[..]
        {
            let value = Value { needs: vec![need_of(&digest)], ..Value::default() };
            let body = (id, size);
            // Without an entry it stays for as long as a blob does that nothing needs.
            drop(enter(depot, (BLOBS, &digest.to_string()), body, value));
        }
        Ok(())
    }

    /// Gives the last piece out, or breaks off the answer that the others are in.
    fn end(mut self, answer: &Result<(), RegistryError>) {
        if let Some(held) = self.held.take() {
            let answer = answer.as_ref().map_err(|error| io::Error::other(error.to_string()));
            self.send(answer.map(|()| held));
        }
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.fetched.inc_by(bytes.len() as u64);
        if let Some(upload) = &mut self.upload
            && upload.write(bytes).is_err()
        {
            self.upload = None;
        }
        if let Some(before) = self.held.replace(Bytes::copy_from_slice(bytes)) {
            self.send(Ok(before));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl Registry for Nowhere {
        fn manifest(&self, reference: &Reference) -> Result<ManifestBytes, RegistryError> {
            let registry = reference.registry.clone();
            Err(RegistryError::NotFound { reference: reference.to_string(), registry })
        }

        fn blob(
            &self,
            reference: &Reference,
            _: &Descriptor,
            _: &mut dyn Write,
            _: &mut dyn FnMut(u64),
        ) -> Result<(), RegistryError> {
            self.manifest(reference).map(drop)
        }

        fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
            self.manifest(reference).map(|_| Vec::new())
        }
    }

    #[test]
    fn names_that_pass_through() {
        let mirrored = |registry: &str, is_default| Mirrored {
            registry: registry.to_owned(),
            refresh: Duration::from_secs(60),
            is_default,
        };
        let all = vec![mirrored("ghcr.io", false), mirrored("docker.io", true)];
        let mirrors = Mirrors::new(all.clone(), Some(Arc::new(Nowhere)));
        let check = |name: &str, expected: Option<(&str, bool)>| {
            let found = mirrors.passing(name).map(|passing| (passing.name(), passing.is_named));
            assert_eq!(found, expected.map(|(name, named)| (name.to_owned(), named)), "{name}");
        };
        check("ghcr.io/x/y", Some(("ghcr.io/x/y", true)));
        check("docker.io/library/alpine", Some(("docker.io/library/alpine", true)));
        check("docker.io/alpine", Some(("docker.io/library/alpine", true)));
        check("library/alpine", Some(("docker.io/library/alpine", false)));
        check("team/app", Some(("docker.io/team/app", false)));
        check("quay.io/x/y", None);
        check("ghcr.iox/x", Some(("docker.io/ghcr.iox/x", false)).filter(|_| false));
        let none = Mirrors::new(all.clone(), None);
        assert!(none.passing("ghcr.io/x/y").is_none());
        let named = Mirrors::new(all[..1].to_vec(), Some(Arc::new(Nowhere)));
        assert!(named.passing("library/alpine").is_none());
    }

    #[test]
    fn sizes_are_those_of_manifests() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let text = format!(
            "{{\"config\":{{\"digest\":\"{one}\",\"size\":3}},\
             \"layers\":[{{\"digest\":\"{two}\",\"size\":4}}]}}"
        );
        assert_eq!(sizes_in(text.as_bytes()), [(one, 3), (two, 4)]);
        assert_eq!(sizes_in(b"{"), []);
    }
}
