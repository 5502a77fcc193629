//! The registry over the network: mirrors in turn, then the registry; logins when they are asked
//! for; patience where it helps. Everything here runs on the caller's thread.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use strata_oci::{Descriptor, Digest, ManifestBytes, Reference, Registry, RegistryError};

use crate::blob::{self, Download};
use crate::door::Door;
use crate::endpoint::{self, Endpoint};
use crate::failure::Failure;
use crate::manifest;
use crate::retry::Patience;
use crate::settings::{RegistrySettings, Retries};
use crate::tags;
use crate::wire::Wire;

/// A download that moved on by so many bytes before it broke is not a failing one.
pub(crate) const WORTHWHILE_BYTES: u64 = 1 << 20;

/// Registries and their mirrors. Any number of threads may use one at once; async tasks may not.
///
/// Nothing is opened before the first request.
pub struct RemoteRegistry {
    settings: RegistrySettings,
    certificates: Vec<CertificateDer<'static>>,
    far: OnceLock<Result<Far, Failure>>,
    /// Mirrors that did not answer: waiting for each again, for each blob, would take minutes.
    silent: Mutex<BTreeSet<String>>,
    /// Held while a thread logs in: the others wait for its login.
    logging_in: Mutex<()>,
}

/// What the first request opens.
pub(crate) struct Far {
    pub(crate) door: Door,
    pub(crate) wire: Arc<Wire>,
}

impl RemoteRegistry {
    /// Keeps the settings.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Failed`] when a mirror's address or a certificate makes no sense.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        endpoint::check_mirrors(&settings)?;
        let certificates = read_certificates(&settings.extra_certificates)?;
        Ok(Self {
            settings,
            certificates,
            far: OnceLock::new(),
            silent: Mutex::default(),
            logging_in: Mutex::default(),
        })
    }

    fn silent_mirrors(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settings(&self) -> &RegistrySettings {
        &self.settings
    }

    pub(crate) fn logging_in(&self) -> MutexGuard<'_, ()> {
        self.logging_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn far(&self) -> Result<&Far, Failure> {
        let opened = self.far.get_or_init(|| {
            let wire = Arc::new(Wire::new(&self.settings, &self.certificates)?);
            let door = Door::open().map_err(|error| {
                Failure::Failed(format!("no thread can be started for it: {error}"))
            })?;
            Ok(Far { door, wire })
        });
        opened.as_ref().map_err(Failure::clone)
    }

    /// Asks the mirrors, then the registry. The registry's failure is the one that counts.
    fn each<T>(
        &self,
        reference: &Reference,
        what: &str,
        mut ask: impl FnMut(&Endpoint, Patience) -> Result<T, Failure>,
    ) -> Result<T, RegistryError> {
        let mut endpoints = endpoint::route(&self.settings, reference)?;
        let Some(origin) = endpoints.pop() else {
            return Err(Failure::NotFound.into_error(&reference.registry, what.to_owned(), &[]));
        };
        let mut tried = Vec::new();
        for mirror in &endpoints {
            if self.silent_mirrors().contains(&mirror.host) {
                tried.push(format!("mirror {}: it was silent before", mirror.name));
                continue;
            }
            // The next in line is a better second try than the same again.
            let once = Retries { count: 0, ..self.settings.retries };
            match ask(mirror, Patience::new(once)) {
                Ok(answer) => return Ok(answer),
                Err(failure) if failure.is_final() => {
                    return Err(failure.into_error(&mirror.name, what.to_owned(), &tried));
                }
                Err(failure) => {
                    if failure.is_silence() {
                        self.silent_mirrors().insert(mirror.host.clone());
                    }
                    tried.push(format!("mirror {}: {}", mirror.name, failure.summary()));
                }
            }
        }
        ask(&origin, Patience::new(self.settings.retries))
            .map_err(|failure| failure.into_error(&origin.name, what.to_owned(), &tried))
    }

    /// Makes a request, and once more after a login if that is asked for.
    fn with_login<T>(
        &self,
        endpoint: &Endpoint,
        mut request: impl FnMut(&Far) -> Option<Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let far = self.far()?;
        match request(far).unwrap_or_else(broken) {
            Err(Failure::Unauthorised) => {
                let credentials = (self.settings.credentials)(&endpoint.name);
                let (wire, endpoint) = (Arc::clone(&far.wire), endpoint.clone());
                let login = async move { wire.log_in(&endpoint, credentials).await };
                far.door.run(login).unwrap_or_else(broken)?;
                match request(far).unwrap_or_else(broken) {
                    Err(Failure::Unauthorised) => Err(Failure::Denied),
                    answer => answer,
                }
            }
            answer => answer,
        }
    }
}

/// The library panicked, which the door kept to itself.
pub(crate) fn broken<T>() -> Result<T, Failure> {
    Err(Failure::Failed("its answer makes no sense".to_owned()))
}

fn read_certificates(files: &[Vec<u8>]) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let invalid = |error: String| RegistryError::Failed {
        registry: "(any)".to_owned(),
        reason: format!("an extra certificate can not be read: {error}"),
    };
    let mut certificates = Vec::new();
    for file in files {
        let before = certificates.len();
        for certificate in CertificateDer::pem_slice_iter(file) {
            let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
            let added = RootCertStore::empty().add(certificate.clone());
            added.map_err(|error| invalid(error.to_string()))?;
            certificates.push(certificate);
        }
        if certificates.len() == before {
            return Err(invalid("there is no PEM certificate in it".to_owned()));
        }
    }
    Ok(certificates)
}

impl Registry for RemoteRegistry {
    fn manifest(&self, reference: &Reference) -> Result<ManifestBytes, RegistryError> {
        self.each(reference, &reference.to_string(), |endpoint, patience| {
            patience.insist(|| {
                self.with_login(endpoint, |far| {
                    let (wire, endpoint) = (Arc::clone(&far.wire), endpoint.clone());
                    let (target, pinned) = (reference.target(), reference.digest);
                    far.door.run(
                        async move { manifest::fetch(&wire, &endpoint, &target, pinned).await },
                    )
                })
            })
        })
    }

    fn current(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        let current = self.each(reference, &reference.to_string(), |endpoint, patience| {
            patience.insist(|| {
                self.with_login(endpoint, |far| {
                    let (wire, endpoint) = (Arc::clone(&far.wire), endpoint.clone());
                    let target = reference.target();
                    far.door.run(async move { manifest::current(&wire, &endpoint, &target).await })
                })
            })
        });
        match current? {
            Some(digest) => Ok(digest),
            // Some registries do not say it.
            None => self.manifest(reference).map(|manifest| manifest.digest),
        }
    }

    fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        self.each(reference, &reference.repository, |endpoint, patience| {
            patience.insist(|| {
                self.with_login(endpoint, |far| {
                    let (wire, endpoint) = (Arc::clone(&far.wire), endpoint.clone());
                    far.door.run(async move { tags::all(&wire, &endpoint).await })
                })
            })
        })
    }

    fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        sink: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), RegistryError> {
        let mut download = Download::new(blob, sink, progress);
        let what = format!("{}/{}@{}", reference.registry, reference.repository, blob.digest);
        self.each(reference, &what, |endpoint, mut patience| {
            loop {
                let start = download.received();
                let answer = self.with_login(endpoint, |far| {
                    let (wire, endpoint) = (Arc::clone(&far.wire), endpoint.clone());
                    let (blob, offset) = (blob.clone(), download.received());
                    far.door.pour(
                        |pieces| async move {
                            blob::send(&wire, &endpoint, &blob, offset, pieces).await
                        },
                        |piece| download.take(&piece),
                    )
                });
                let Err(failure) = answer.and_then(|()| download.is_whole()) else {
                    return download.verify();
                };
                if download.received() - start >= WORTHWHILE_BYTES {
                    patience.renew();
                }
                patience.wait(failure)?;
            }
        })
    }
}
