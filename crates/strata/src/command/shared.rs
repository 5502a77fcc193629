//! The caches that other machines use, opened for a build. One that can not be opened costs the
//! build nothing but a warning.

use std::time::Duration;

use strata_build::{SharedCacheAt, SharedCaches};
use strata_oci::{RegistryError, SharedCache};
use strata_remote::{
    ObjectCache, ReapiCache, RegistryCache, RegistrySettings, RemoteRegistry, Retries, Timeouts,
};

use crate::failure::Failure;
use crate::printer::{Label, Printer};
use crate::request::cache::{Cache, CacheKind};
use crate::session::Session;
use crate::words::lower_errors;

/// What is open.
pub(super) struct Opened {
    /// An own client, which gives up sooner than one for base images may.
    registry: RemoteRegistry,
    from: Vec<One>,
    to: Vec<One>,
}

struct One {
    cache: Cache,
    /// None for a registry.
    objects: Option<Box<dyn SharedCache>>,
}

/// Opens all of them: those to read and those to write. What the session fetches of them is
/// fetched with the keys that they were given with.
pub(super) fn open(
    session: &Session,
    settings: &RegistrySettings,
    [from, to]: [&[Cache]; 2],
    printer: &Printer,
) -> Result<Opened, Failure> {
    session.know_remotes(to.iter().chain(from));
    let settings = RegistrySettings {
        timeouts: Timeouts { connect: Duration::from_secs(5), idle: Duration::from_secs(15) },
        retries: Retries {
            count: 2,
            longest_pause: Duration::from_secs(2),
            in_all: Duration::from_secs(10),
            ..settings.retries
        },
        // What is written to the registry itself is looked for there.
        mirrors: Default::default(),
        ..settings.clone()
    };
    let registry = RemoteRegistry::new(settings);
    let registry = registry.map_err(|error| Failure::usage(lower_errors::chain(&error)))?;
    let opened = |caches: &[Cache], make: bool| -> Vec<One> {
        let one = |cache: &Cache| match objects(cache, make) {
            Ok(objects) => Some(One { cache: cache.clone(), objects }),
            Err(error) => {
                let text = format!("the cache {} is not used: {error}", cache.place());
                printer.labelled(Label::Warning, &text);
                None
            }
        };
        caches.iter().filter_map(one).collect()
    };
    Ok(Opened { registry, from: opened(from, false), to: opened(to, true) })
}

fn objects(cache: &Cache, make: bool) -> Result<Option<Box<dyn SharedCache>>, RegistryError> {
    match &cache.kind {
        CacheKind::Registry { .. } => Ok(None),
        CacheKind::Directory(path) => Ok(Some(Box::new(ObjectCache::directory(path, make)?))),
        CacheKind::S3(settings) => Ok(Some(Box::new(ObjectCache::s3(settings)?))),
        CacheKind::Reapi(settings) => Ok(Some(Box::new(ReapiCache::new(settings)?))),
    }
}

/// The registries among open caches, each as a cache.
pub(super) struct Registries<'a> {
    opened: &'a Opened,
    from: Vec<Option<RegistryCache<'a, RemoteRegistry>>>,
    to: Vec<Option<RegistryCache<'a, RemoteRegistry>>>,
}

impl Opened {
    /// The same, with a client for each registry.
    pub(super) fn with_registries(&self) -> Registries<'_> {
        let registry = |one: &One| match &one.cache.kind {
            CacheKind::Registry { name, .. } => Some(RegistryCache::new(&self.registry, name)),
            _ => None,
        };
        Registries {
            opened: self,
            from: self.from.iter().map(registry).collect(),
            to: self.to.iter().map(registry).collect(),
        }
    }
}

impl Registries<'_> {
    /// What a build is given.
    pub(super) fn caches(&self) -> SharedCaches<'_> {
        SharedCaches::new(at(&self.opened.from, &self.from), at(&self.opened.to, &self.to))
    }
}

fn at<'a>(
    ones: &'a [One],
    registries: &'a [Option<RegistryCache<'a, RemoteRegistry>>],
) -> Vec<SharedCacheAt<'a>> {
    let one = |(one, registry): (&'a One, &'a Option<RegistryCache<'a, RemoteRegistry>>)| {
        let cache: &'a dyn SharedCache = match (&one.objects, registry) {
            (Some(objects), _) => &**objects,
            (None, Some(registry)) => registry,
            (None, None) => return None,
        };
        let (place, image_only) = (one.cache.place(), one.cache.image_only);
        Some(SharedCacheAt { cache, place, image_only })
    };
    ones.iter().zip(registries).filter_map(one).collect()
}
