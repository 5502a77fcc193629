//! The server as its owner sees it: it is started, it tells what it does, it is stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use strata_oci::Registry;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::actions::Actions;
use crate::body::blocking;
use crate::config::Config;
use crate::depot::{Depot, Served};
use crate::library::Library;
use crate::listen::{self, Door};
use crate::metrics::{Metrics, Occupancy};
use crate::oci::mirror::Mirrors;
use crate::site::{Protocol, Site};
use crate::tier::{FarSetup, Workers};
use crate::tls;

/// Threads that answer; those that wait for the disk come on top.
pub(crate) const THREADS: usize = 4;
const DISK_THREADS: usize = 64;
/// More of them where some may wait for a network.
const FAR_THREADS: usize = 448;
/// Connections that nobody has accepted yet.
const QUEUE: u32 = 4096;
/// How often it is counted what namespaces have.
const RECOUNT: Duration = Duration::from_secs(60);
/// What is under way when the server is stopped has so long to end.
const GRACE: Duration = Duration::from_secs(30);
/// What is still to be sent to the far tier then, so long; the rest when the server runs again.
const LAST_ERRANDS: Duration = Duration::from_secs(10);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or none of this machine's.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The files for TLS are of no use.
    #[error("{0}")]
    Tls(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The system gives no threads.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
}

/// An answer that was given, for a log.
#[derive(Debug, Clone)]
pub struct Told {
    /// Who has asked, by the token's name.
    pub caller: Arc<str>,
    /// From where.
    pub peer: SocketAddr,
    /// How.
    pub method: &'static str,
    /// For what, without the query.
    pub path: Arc<str>,
    /// In which protocol.
    pub protocol: &'static str,
    /// What was answered.
    pub status: u16,
    /// The announced size of the answer's body in bytes, where it has one.
    pub bytes: Option<u64>,
    /// How long it took to the head of the answer, in microseconds.
    pub micros: u64,
}

/// Takes what is told, from several threads; it must not wait long.
pub type Observer = Arc<dyn Fn(&Told) + Send + Sync>;

/// What a server is made of.
pub struct Setup {
    /// How it serves.
    pub config: Config,
    /// Where everything is kept.
    pub store: Arc<dyn Served>,
    /// The images that are there already.
    pub library: Arc<dyn Library>,
    /// What lies behind the store, if anything does.
    pub far: Option<FarSetup>,
    /// Who is told of each answer.
    pub observer: Observer,
    /// The registries that are mirrored, over the network; none where none are.
    pub upstream: Option<Arc<dyn Registry>>,
}

/// A server that runs.
pub struct Server {
    address: SocketAddr,
    occupancy: Occupancy,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
    accepting: Option<tokio::task::JoinHandle<()>>,
    /// Of the far tier.
    workers: Option<Workers>,
}

impl Server {
    /// Starts to listen. When it returns, clients are answered.
    ///
    /// # Errors
    ///
    /// When the address or the certificate is of no use.
    pub fn start(setup: Setup) -> Result<Self, StartError> {
        let Setup { config, store, library, far, observer, upstream } = setup;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose().map_err(StartError::Tls)?;
        let failed = |source| StartError::Listen { address: config.address, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(DISK_THREADS + far.as_ref().map_or(0, |_| FAR_THREADS))
            .thread_name("strata-server")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let guard = runtime.enter();
        let listener = listen(config.address).map_err(failed)?;
        drop(guard);
        let address = listener.local_addr().map_err(failed)?;
        let mut metrics = Metrics::new(&Protocol::NAMES, config.connections);
        let far = far.map(|far| (far, metrics.of_far()));
        let limit = config.body_limit_bytes;
        let depot = Depot::new(store, library, limit, config.revoked, far, &config.quotas);
        let actions = match config.github_actions {
            true => Some(Actions::new(tls.is_some()).ok_or(StartError::Random)?),
            false => None,
        };
        let (depot, access) = (Arc::new(depot), config.access);
        let workers = Workers::start(&depot).map_err(StartError::Threads)?;
        runtime.spawn(recount(Arc::clone(&depot)));
        let occupancy = metrics.occupancy.clone();
        let mirrors = Mirrors::new(config.mirrors, upstream);
        let rules = (access, config.rates);
        let site = Site::new(depot, rules, actions, (metrics, mirrors), observer);
        let site = Arc::new(site);
        let (stop, stopped) = watch::channel(false);
        let door = Door { site, tls, connections: config.connections, stopped };
        let accepting = runtime.spawn(listen::accept(listener, door));
        let (runtime, accepting) = (Some(runtime), Some(accepting));
        Ok(Self { address, occupancy, stop, runtime, accepting, workers: Some(workers) })
    }

    /// What its owner tells of the store, for the metrics.
    pub fn occupancy(&self) -> Occupancy {
        self.occupancy.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new connections, answers what was asked, and ends: after half a minute in any
    /// case.
    pub fn stop(mut self) {
        // Nobody listens where the task has ended already.
        let _ = self.stop.send(true);
        if let (Some(runtime), Some(accepting)) = (self.runtime.take(), self.accepting.take()) {
            runtime.block_on(async {
                drop(tokio::time::timeout(GRACE, accepting).await);
            });
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        if let Some(workers) = self.workers.take() {
            workers.stop(LAST_ERRANDS);
        }
    }
}

/// Counts what namespaces with a quota have, now and from time to time.
async fn recount(depot: Arc<Depot>) {
    let mut times = tokio::time::interval(RECOUNT);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while depot.quotas.all().next().is_some() {
        times.tick().await;
        let its = Arc::clone(&depot);
        let counted = blocking(move || its.quotas.all().try_for_each(|quota| quota.recount(0)));
        // Whoever needs room is told what the store says; here nobody does.
        drop(counted.await);
    }
}

/// Listens with a queue that a crowd fits into: who finds it full waits for seconds, until the
/// system tries again.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a server that has just ended keep nobody from its place.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
