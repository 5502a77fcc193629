//! `strata serve`: the store as a cache behind other builders, until a signal ends it.

mod far;
mod sweeper;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use strata_build::{BuildError, Images};
use strata_cas::BlobId;
use strata_oci::{Digest, Reference};
use strata_server::{Config, ConfigError, Library, LibraryError, Offer, Server, Setup, Told};
use strata_store::DiskStore;

use crate::arguments::{AccessLog, ServeArguments};
use crate::environment::Environment;
use crate::failure::{Failure, plain};
use crate::printer::Printer;
use crate::session::open_store;
use crate::settings::Settings;

use sweeper::Limits;

pub(super) fn run(
    arguments: &ServeArguments,
    settings: &Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let config = Config::new(&settings.serve, arguments.listen.as_deref()).map_err(|e| word(&e))?;
    let limits = Limits::new(config.soft_size_bytes(), settings)?;
    let refused = |error: &std::io::Error| {
        Failure::environment(format!("signals can not be handled: {}", plain(error)))
    };
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| refused(&error))?;
    let files = raise_open_files();
    if let Some(files) = files.filter(|files| *files < config.connections() as u64 + OTHER_FILES) {
        printer.talk(&format!(
            "this process may have {files} files open, which is too few for {} connections: \
             `ulimit -n`",
            config.connections()
        ));
    }
    let store = Arc::new(open_store(settings, printer)?);
    store.outlive(LEASE);
    let library = Arc::new(StoreImages { store: Arc::clone(&store) });
    let form = arguments.access_log;
    let log = Printer::new(environment);
    let observer = Arc::new(move |told: &Told| {
        if let Some(line) = line(told, form) {
            log.talk(&line);
        }
    });
    let far = far::open(settings.serve.far.as_ref(), environment)?;
    spawn("lease", renew(&store))?;
    let upstream = upstream::open(settings)?;
    let served = Arc::<DiskStore>::clone(&store);
    let setup = Setup { config, store: served, library, far, observer, upstream };
    let server = Server::start(setup);
    let server = server.map_err(|error| Failure::environment(error.to_string()))?;
    spawn("sweep", sweeper::sweep(&store, limits, server.occupancy()))?;
    let scheme = if settings.serve.tls_cert.is_some() { "https" } else { "http" };
    printer.talk(&format!(
        "serving `{}` on {scheme}://{}; Ctrl-C ends it",
        settings.store.display(),
        server.address()
    ));
    // The first one ends it in order; the next one at once.
    signals.forever().next();
    std::thread::spawn(move || {
        if let Some(number) = signals.forever().next() {
            let _ = signal_hook::low_level::emulate_default_handler(number);
        }
    });
    printer.talk("stopping: what was asked is answered first");
    server.stop();
    Ok(0)
}

/// What is open beside connections: the database, blobs on their way.
const OTHER_FILES: u64 = 512;

/// Each connection is an open file, and the usual limit of 1024 is for programs that use `select`.
/// Gives the limit, if there is one.
fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Until then nothing goes that a client was told of; Bazel relies on three hours.
const LEASE: Duration = Duration::from_secs(4 * 60 * 60);

/// How often the store is asked whether it is time: a machine that slept has not counted its
/// sleep.
const LOOK: Duration = Duration::from_secs(60);

/// Lets go of what nobody has asked for since the last time but one, also while nobody asks for
/// anything.
fn renew(store: &Arc<DiskStore>) -> impl FnOnce() + Send + 'static {
    let store = Arc::downgrade(store);
    move || {
        loop {
            std::thread::sleep(LOOK);
            let Some(store) = store.upgrade() else { return };
            // What can not be let go of stays, and is tried again.
            drop(store.renew_lease());
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).map_err(|error| {
        Failure::environment(format!("a thread can not be started: {}", plain(&error)))
    })
}

pub(super) fn word(error: &ConfigError) -> Failure {
    let failure = Failure::usage(error.to_string());
    match error {
        ConfigError::Open(_) => failure.hint(
            "listen on `127.0.0.1:7878`, or add a `[[serve.token]]` to the configuration file: \
             docs/serve/README.md",
        ),
        ConfigError::Unencrypted(_) => failure.hint(
            "name `tls-cert` and `tls-key`, or say `plain-http = true` where something else \
             encrypts: docs/serve/README.md",
        ),
        _ => failure,
    }
}

fn line(told: &Told, form: AccessLog) -> Option<String> {
    let Told { caller, peer, method, path, protocol, status, bytes, micros } = told;
    match form {
        AccessLog::None => None,
        AccessLog::Text => {
            let who = if caller.is_empty() { "-" } else { caller };
            let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
            let millis = micros / 1000;
            Some(format!("{peer} {who} {protocol} {method} {path} {status} {bytes} B {millis} ms"))
        }
        AccessLog::Json => {
            let line = serde_json::json!({
                "time": strata_build::rfc3339(now()),
                "peer": peer.to_string(),
                "caller": **caller,
                "protocol": protocol,
                "method": method,
                "path": **path,
                "status": status,
                "bytes": bytes,
                "micros": micros,
            });
            Some(line.to_string())
        }
    }
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// The images of the store, as a registry gives them.
struct StoreImages {
    store: Arc<DiskStore>,
}

impl StoreImages {
    fn images(&self) -> Images<'_> {
        Images::new(&*self.store)
    }
}

fn failed(error: BuildError) -> LibraryError {
    LibraryError(crate::words::build_error::plain(&error).message)
}

impl Library for StoreImages {
    fn names(&self) -> Result<Vec<Reference>, LibraryError> {
        self.images().names().map_err(failed)
    }

    fn version(&self, name: &Reference) -> Result<Option<String>, LibraryError> {
        self.images().version(name).map_err(failed)
    }

    fn offer(&self, name: &Reference) -> Result<Option<Offer>, LibraryError> {
        let offered = self.images().offer(name).map_err(failed)?;
        Ok(offered.map(|offered| Offer { root: offered.root, manifests: offered.manifests }))
    }

    fn layer(&self, digest: &Digest) -> Result<Option<Vec<BlobId>>, LibraryError> {
        self.images().layer_pieces(digest).map_err(failed)
    }
}
