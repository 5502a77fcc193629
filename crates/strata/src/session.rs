//! The open store, and the builder on it: what commands work with.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use strata_build::{
    BuildStates, Builder, Caches, Context, Far, ImageLinks, Images, Places, Sandbox, SharedCaches,
    StampFiles,
};
use strata_exec::{Cancel, ReexecCommand};
use strata_oci::{Descriptor, Platform, Registry, RegistryError, SharedCache};
use strata_remote::{ObjectCache, ReapiCache, RemoteRegistry};
use strata_store::{DiskStore, OpenOptions, SizeLimit};

use crate::environment::Environment;
use crate::failure::Failure;
use crate::fetcher::RemoteFetcher;
use crate::printer::Printer;
use crate::request::Lent;
use crate::request::cache::{Cache, CacheKind, reapi_of_place, s3_of_place};
use crate::settings::Settings;
use crate::words::{build_error, lower_errors};

/// So long nobody is told that we wait.
const SILENT_WAIT: Duration = Duration::from_secs(1);
/// So long we wait for another process.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A session that is opened when somebody needs it: a context that is not on this machine needs
/// it before the build begins, another one only then.
pub(crate) struct Opening<'a> {
    settings: RefCell<Option<MakeSettings<'a>>>,
    printer: &'a Printer,
    session: OnceCell<Session>,
    cancel: OnceCell<Cancel>,
    /// Contexts that will be scanned.
    contexts: RefCell<Vec<Context>>,
}

type MakeSettings<'a> = Box<dyn FnOnce() -> Result<Settings, Failure> + 'a>;

impl<'a> Opening<'a> {
    /// Nothing is opened, and no setting read.
    pub(crate) fn new(
        settings: impl FnOnce() -> Result<Settings, Failure> + 'a,
        printer: &'a Printer,
    ) -> Self {
        let settings = RefCell::new(Some(Box::new(settings) as MakeSettings<'a>));
        let (session, cancel) = (OnceCell::new(), OnceCell::new());
        Self { settings, printer, session, cancel, contexts: RefCell::default() }
    }

    /// What is known of these contexts will be needed, and can be read while the store is opened.
    pub(crate) fn expect<'b>(&self, contexts: impl Iterator<Item = &'b Context>) {
        self.contexts.borrow_mut().extend(contexts.cloned());
    }

    /// The session, opened by the first who asks.
    pub(crate) fn session(&self) -> Result<&Session, Failure> {
        if self.session.get().is_none() {
            let settings = self.settings.take().map(|settings| settings());
            let settings = settings
                .unwrap_or_else(|| Err(Failure::environment("the store could not be opened")))?;
            let stamps = StampFiles::new(strata_store::stamps_dir(&settings.store));
            stamps.read_ahead(self.contexts.take().iter());
            drop(self.session.set(Session::open_with(settings, stamps, self.printer)?));
        }
        let opened = self.session.get();
        opened.ok_or_else(|| Failure::environment("the store could not be opened"))
    }

    /// The session if there is a store, for those who can do without: none is made, and one that
    /// can not be opened is no error.
    pub(crate) fn existing(&self) -> Option<&Session> {
        if self.session.get().is_none() {
            let settings = self.settings.take()?();
            let is_there = settings.as_ref().is_ok_and(|made| strata_store::is_store(&made.store));
            self.settings.replace(Some(Box::new(move || settings)));
            if !is_there {
                return None;
            }
        }
        self.session().ok()
    }

    /// A switch that nobody turns: before a build begins, a signal just ends the process.
    pub(crate) fn cancel(&self) -> Result<&Cancel, Failure> {
        if self.cancel.get().is_none() {
            let cancel = Cancel::new();
            let cancel =
                cancel.map_err(|error| Failure::environment(crate::failure::plain(&error)))?;
            drop(self.cancel.set(cancel));
        }
        self.cancel.get().ok_or_else(|| Failure::environment("signals can not be handled"))
    }

    /// For telling what takes time.
    pub(crate) fn printer(&self) -> &'a Printer {
        self.printer
    }
}

/// What commands work with.
pub(crate) struct Session {
    store: DiskStore,
    registry: RemoteRegistry,
    fetcher: RemoteFetcher,
    environment: Environment,
    no_caches: SharedCaches<'static>,
    places: Places,
    sandbox: Sandbox,
    lent: OnceLock<Lent>,
    /// Buckets and servers with the keys that this command was given for them, by their places.
    remotes: OnceLock<BTreeMap<String, CacheKind>>,
}

impl Session {
    /// Opens the store.
    pub(crate) fn open(settings: Settings, printer: &Printer) -> Result<Self, Failure> {
        let stamps = StampFiles::new(strata_store::stamps_dir(&settings.store));
        Self::open_with(settings, stamps, printer)
    }

    fn open_with(
        settings: Settings,
        stamps: StampFiles,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let store = open_store(&settings, printer)?;
        let fetcher = RemoteFetcher::new(settings.registry.clone());
        let registry = RemoteRegistry::new(settings.registry);
        let registry = registry.map_err(|error| Failure::usage(lower_errors::chain(&error)))?;
        let places = Places {
            stamps,
            caches: store.caches_dir(),
            logs: store.logs_dir(),
            builds: store.history_dir(),
        };
        let sandbox = Sandbox {
            program: ReexecCommand::default(),
            runtime: settings.runtime,
            log_limit_bytes: settings.log_limit_bytes,
        };
        let (environment, no_caches) = (settings.environment, SharedCaches::default());
        let (lent, remotes) = (OnceLock::new(), OnceLock::new());
        Ok(Self {
            store,
            registry,
            environment,
            no_caches,
            fetcher,
            places,
            sandbox,
            lent,
            remotes,
        })
    }

    /// Who we are to the buckets and servers among these caches, while this command lasts: a place
    /// has no keys. The first time counts.
    pub(crate) fn know_remotes<'a>(&self, caches: impl Iterator<Item = &'a Cache>) {
        let remote = |cache: &Cache| match &cache.kind {
            kind @ (CacheKind::S3(_) | CacheKind::Reapi(_)) => Some((cache.place(), kind.clone())),
            CacheKind::Registry { .. } | CacheKind::Directory(_) => None,
        };
        drop(self.remotes.set(caches.filter_map(remote).collect()));
    }

    /// What builds may use from here on; the first time counts.
    pub(crate) fn lend(&self, lent: Lent) {
        drop(self.lent.set(lent));
    }

    /// What the latest build of a project has left.
    pub(crate) fn states(&self, project: &str) -> Result<Option<BuildStates>, Failure> {
        BuildStates::of_project(&self.store, project).map_err(|error| build_error::plain(&error))
    }

    /// The cache mounts in the store.
    pub(crate) fn caches(&self) -> Caches {
        Caches::new(&self.places.caches)
    }

    /// The store itself.
    pub(crate) fn store(&self) -> &DiskStore {
        &self.store
    }

    /// The images in the store.
    pub(crate) fn images(&self) -> Images<'_> {
        Images::new(&self.store).with_far(self)
    }

    /// A private directory on the store's file system.
    pub(crate) fn stage(&self) -> Result<strata_cas::Staging, Failure> {
        strata_cas::SnapshotStore::stage(&self.store).map_err(|error| lower_errors::store(&error))
    }

    /// The registries.
    pub(crate) fn registry(&self) -> &RemoteRegistry {
        &self.registry
    }

    /// What builds and runs, until `cancel` is turned.
    pub(crate) fn builder<'a>(&'a self, cancel: &'a Cancel) -> Builder<'a> {
        Builder {
            store: &self.store,
            registry: &self.registry,
            fetcher: &self.fetcher,
            far: self,
            caches: &self.no_caches,
            places: &self.places,
            sandbox: &self.sandbox,
            cancel,
            credentials: &self.lent.get_or_init(Lent::default).credentials,
        }
    }

    /// The image with this name or id; none is a failure with the nearest name as a hint.
    pub(crate) fn image(
        &self,
        text: &str,
        platform: &Platform,
    ) -> Result<strata_build::StoredImage, Failure> {
        let images = self.images();
        let plain = |error| build_error::plain(&error);
        if let Some(image) = images.find(text, platform).map_err(plain)? {
            return Ok(image);
        }
        let names = images.list().map_err(plain)?;
        let names: Vec<String> = names.iter().map(|named| named.name.familiar()).collect();
        Err(no_image(text, &names))
    }
}

/// Opens the store, and says so when another process makes us wait.
pub(crate) fn open_store(settings: &Settings, printer: &Printer) -> Result<DiskStore, Failure> {
    let said = Cell::new(false);
    let on_wait = |waited: Duration| {
        if waited >= SILENT_WAIT && !said.replace(true) {
            printer
                .talk("waiting for another strata process that is opening or closing this store");
        }
    };
    let limit = settings.store_size;
    let limit = limit.map(|bytes| SizeLimit { bytes, links: Arc::new(ImageLinks) });
    let options = OpenOptions { wait_limit: LONGEST_WAIT, on_wait: &on_wait, limit };
    let store = DiskStore::open(&settings.store, options);
    let store = store.map_err(|error| lower_errors::open(&error))?;
    check_ids(store.root())?;
    Ok(store)
}

/// A store's layers belong to the ids that they were unpacked with: with others, the same
/// directories would show other owners.
fn check_ids(store: &Path) -> Result<(), Failure> {
    let (path, now) = (store.join("ids-1"), strata_exec::id_maps());
    // A file that is not whole says nothing, and is written anew.
    let whole = |text: &str| {
        let (ids, sum) = text.trim_end().rsplit_once('\n')?;
        let ids = format!("{ids}\n");
        (sum == strata_cas::BlobId::of(ids.as_bytes()).to_string()).then_some(ids)
    };
    let before = match std::fs::read(&path) {
        Ok(bytes) => std::str::from_utf8(&bytes).ok().and_then(whole),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::file("use", &path, &error)),
    };
    match before {
        Some(before) if before == now => Ok(()),
        Some(before) => {
            let text = format!(
                "the store in `{}` was made with other user ids (`{}`, now `{}`)",
                store.display(),
                before.trim().replace('\n', ", "),
                now.trim().replace('\n', ", ")
            );
            Err(Failure::environment(text)
                .hint("name another store with `--store`, or remove this one: docs/rootless.md"))
        }
        None => {
            let text = format!("{now}{}\n", strata_cas::BlobId::of(now.as_bytes()));
            std::fs::write(&path, text).map_err(|error| Failure::file("use", &path, &error))
        }
    }
}

impl Far for Session {
    fn fetch(
        &self,
        place: &str,
        blob: &Descriptor,
        sink: &mut dyn Write,
    ) -> Result<(), RegistryError> {
        let unknown = || RegistryError::Failed {
            registry: place.to_owned(),
            reason: "this is no place that layers are fetched from".to_owned(),
        };
        if let Some(path) = place.strip_prefix("directory:") {
            return ObjectCache::directory(Path::new(path), false)?.blob(blob, sink);
        }
        match self.remotes.get().and_then(|remotes| remotes.get(place)) {
            Some(CacheKind::S3(settings)) => return ObjectCache::s3(settings)?.blob(blob, sink),
            Some(CacheKind::Reapi(settings)) => {
                return ReapiCache::new(settings)?.blob(blob, sink);
            }
            _ => {}
        }
        if let Some(settings) = reapi_of_place(place, &self.environment) {
            return ReapiCache::new(&settings)?.blob(blob, sink);
        }
        if let Some(settings) = s3_of_place(place, &self.environment) {
            return ObjectCache::s3(&settings)?.blob(blob, sink);
        }
        let name = place.strip_prefix("registry:").and_then(|name| name.parse().ok());
        self.registry.blob(&name.ok_or_else(unknown)?, blob, sink, &mut |_| {})
    }
}

/// There is no such image.
pub(crate) fn no_image(text: &str, names: &[String]) -> Failure {
    let failure = Failure::new(crate::failure::Kind::Build, format!("no such image: `{text}`"));
    let other_tag = |name: &&String| name.rsplit_once(':').is_some_and(|(name, _)| name == text);
    let close = strata_dockerfile::suggest(text, names.iter().map(String::as_str));
    match close.or_else(|| names.iter().find(other_tag).map(String::as_str)) {
        Some(close) => failure.hint(format!("did you mean `{close}`?")),
        None => failure.hint("see `strata images` for those in the store"),
    }
}
