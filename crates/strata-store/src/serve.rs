//! The process that holds the database: it answers the others for as long as it lives.
//!
//! Its threads have nothing to do with its own build, so a long step makes nobody wait. When it
//! ends, it hears no new requests, answers those that it has heard, and closes the database; then
//! the lock is free. Killed, it leaves a socket that nobody listens on, and a lock that is free.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::Shutdown;

use crate::OpenError;
use crate::codec;
use crate::database::Database;
use crate::layout::{Layout, SocketPath};
use crate::lock::StoreLock;
use crate::wire::{self, HELLO, Request, Response, WirePair};

/// A client that does not take its answer for so long is given up.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// So many connections are served at a time: a bound on threads, far above any real need.
const CONNECTIONS: usize = 1024;

/// Holds the database and serves it.
#[derive(Debug)]
pub(crate) struct Leader {
    database: Arc<Database>,
    /// None where the file system has no sockets: then the others wait for the lock.
    server: Option<Server>,
    /// Last, so that the lock is released after the database is closed.
    _lock: StoreLock,
}

impl Leader {
    /// Opens the database, making what is missing, and begins to serve.
    pub(crate) fn start(layout: &Layout, lock: StoreLock) -> Result<Self, OpenError> {
        layout.fill()?;
        let database = Arc::new(Database::open(layout)?);
        let server = Server::start(layout, database.clone()).ok();
        Ok(Self { database, server, _lock: lock })
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        drop(self.server.take());
        self.database.finish();
    }
}

#[derive(Debug)]
struct Server {
    shared: Arc<Shared>,
    listener: Arc<UnixListener>,
    accepting: Option<std::thread::JoinHandle<()>>,
    socket: std::path::PathBuf,
}

/// What the server's threads share.
#[derive(Debug)]
struct Shared {
    database: Arc<Database>,
    is_ending: AtomicBool,
    connections: Mutex<HashMap<u64, UnixStream>>,
    changed: Condvar,
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, UnixStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    fn start(layout: &Layout, database: Arc<Database>) -> io::Result<Self> {
        let socket = layout.socket();
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(SocketPath::new(layout)?.path())?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        let listener = Arc::new(listener);
        let shared = Arc::new(Shared {
            database,
            is_ending: AtomicBool::new(false),
            connections: Mutex::default(),
            changed: Condvar::new(),
        });
        let (its, listens) = (shared.clone(), listener.clone());
        let accepting = std::thread::Builder::new()
            .name("strata-accept".to_owned())
            .spawn(move || accept(&its, &listens))?;
        Ok(Self { shared, listener, accepting: Some(accepting), socket })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        drop(std::fs::remove_file(&self.socket));
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(&*self.listener, Shutdown::Both);
        if let Some(thread) = self.accepting.take() {
            drop(thread.join());
        }
        let mut connections = self.shared.connections();
        for stream in connections.values() {
            // What was heard is answered still.
            drop(stream.shutdown(std::net::Shutdown::Read));
        }
        while !connections.is_empty() {
            connections =
                self.shared.changed.wait(connections).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &UnixListener) {
    for number in 0.. {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if shared.is_ending.load(Ordering::SeqCst) => return,
            Err(_) => {
                // Too many open files, or the like: others may close some.
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let Ok(clone) = stream.try_clone() else { continue };
        let mut connections = shared.connections();
        if connections.len() >= CONNECTIONS || shared.is_ending.load(Ordering::SeqCst) {
            continue;
        }
        connections.insert(number, clone);
        drop(connections);
        let its = shared.clone();
        let thread = std::thread::Builder::new().name("strata-serve".to_owned());
        let serving = thread.spawn(move || {
            let _listed = Listed { shared: &its, number };
            // A client that ends or talks nonsense is its own loss.
            drop(serve(&its.database, &stream));
        });
        if serving.is_err() {
            shared.connections().remove(&number);
        }
    }
}

/// A connection that is served, struck off when dropped.
struct Listed<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.shared.connections().remove(&self.number);
        self.shared.changed.notify_all();
    }
}

fn serve(database: &Database, stream: &UnixStream) -> io::Result<()> {
    let user = rustix::net::sockopt::socket_peercred(stream)?.uid;
    if user != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_write_timeout(Some(WRITE_LIMIT))?;
    let (mut from, mut to) = (BufReader::new(stream), stream);
    to.write_all(HELLO)?;
    let mut hello = [0; HELLO.len()];
    from.read_exact(&mut hello)?;
    if hello != *HELLO {
        return Err(io::ErrorKind::InvalidData.into());
    }
    while let Some(frame) = wire::receive(&mut from)? {
        let failed = |error: strata_cas::StoreError| Response::Failed(message_of(error));
        let response = match codec::decode_frame::<Request<'_>>(&frame) {
            Some(request) => answer(database, &request).unwrap_or_else(failed),
            None => Response::Failed("a request is not understood".to_owned()),
        };
        wire::send(&mut to, &response)?;
    }
    Ok(())
}

/// The database's own words, without what this crate says around them.
fn message_of(error: strata_cas::StoreError) -> String {
    match error {
        strata_cas::StoreError::Database { message, .. } => message,
        error => error.to_string(),
    }
}

fn answer(
    database: &Database,
    request: &Request<'_>,
) -> Result<Response<'static>, strata_cas::StoreError> {
    Ok(match request {
        Request::Get { table, key } => {
            Response::Value(database.get(*table, key)?.map(std::borrow::Cow::Owned))
        }
        Request::List { table, prefix, after, sizes } => {
            let (pairs, more) = database.page(*table, prefix, after, *sizes)?;
            Response::Pairs { pairs: pairs.into_iter().map(WirePair::from).collect(), more }
        }
        Request::Apply { ops, sync } => {
            database.apply(ops, *sync)?;
            Response::Done
        }
        Request::Compact => {
            database.compact()?;
            Response::Done
        }
    })
}
