//! Asking the process that holds the database.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strata_cas::StoreError;

use crate::OpenError;
use crate::codec;
use crate::layout::{Layout, SocketPath};
use crate::tables::Unanswered;
use crate::wire::{self, HELLO, Request, Response};

/// An answer takes microseconds, on a busy machine milliseconds. A process that does not answer
/// for so long has been stopped, and who waits for it is told.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// So many connections are kept for the next request.
const IDLE: usize = 16;

/// Connections to the process that holds the database.
#[derive(Debug)]
pub(crate) struct Follower {
    layout: Layout,
    idle: Mutex<Vec<BufReader<UnixStream>>>,
}

impl Follower {
    /// Connects; `None` when nobody listens.
    pub(crate) fn connect(layout: &Layout) -> Result<Option<Self>, OpenError> {
        let Some(connection) = connect(layout)? else { return Ok(None) };
        Ok(Some(Self { layout: layout.clone(), idle: Mutex::new(vec![connection]) }))
    }

    /// Sends a request and reads its answer with `read`, which gives `None` for one that fits
    /// another request.
    pub(crate) fn ask<T>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(Response<'_>) -> Option<T>,
    ) -> Result<T, Unanswered> {
        let mut connection = self.connection()?;
        let answer = exchange(&mut connection, request);
        let frame = match answer {
            Ok(Some(frame)) => frame,
            Err(error) if is_late(&error) => return Err(Unanswered::Failed(self.is_stopped())),
            Err(error) if error.kind() == io::ErrorKind::Other => {
                return Err(Unanswered::Failed(failed(error.to_string())));
            }
            // The other side is gone. Its other connections are of no use either.
            Ok(None) | Err(_) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return Err(Unanswered::Gone);
            }
        };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(connection);
        }
        drop(idle);
        match codec::decode_frame::<Response<'_>>(&frame) {
            Some(Response::Failed(message)) => Err(Unanswered::Failed(failed(message))),
            Some(response) => read(response).ok_or_else(|| Unanswered::Failed(misunderstood())),
            None => Err(Unanswered::Failed(misunderstood())),
        }
    }

    fn connection(&self) -> Result<BufReader<UnixStream>, Unanswered> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = kept {
            return Ok(connection);
        }
        match connect(&self.layout) {
            Ok(Some(connection)) => Ok(connection),
            Ok(None) | Err(_) => Err(Unanswered::Gone),
        }
    }

    fn is_stopped(&self) -> StoreError {
        let connection = self.connection().ok();
        let peer = connection.and_then(|connection| {
            rustix::net::sockopt::socket_peercred(connection.get_ref()).ok()
        });
        let who = peer.map_or_else(String::new, |peer| format!(" (pid {})", peer.pid));
        failed(format!(
            "the strata process that holds it{who} has not answered for {} seconds: continue or \
             end it",
            ANSWER_LIMIT.as_secs()
        ))
    }
}

fn exchange(
    connection: &mut BufReader<UnixStream>,
    request: &Request<'_>,
) -> io::Result<Option<Vec<u8>>> {
    let limit = match request {
        // Rewrites the database if need be.
        Request::Compact => None,
        _ => Some(ANSWER_LIMIT),
    };
    connection.get_ref().set_read_timeout(limit)?;
    wire::send(connection.get_mut(), request)?;
    wire::receive(connection)
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn failed(message: String) -> StoreError {
    StoreError::Database { action: "do what another process asked of it", message }
}

fn misunderstood() -> StoreError {
    failed("its answer is not understood".to_owned())
}

/// Connects and says hello; `None` when nobody is there, or nobody any more.
fn connect(layout: &Layout) -> Result<Option<BufReader<UnixStream>>, OpenError> {
    let socket: PathBuf = layout.socket();
    let path = SocketPath::new(layout).map_err(OpenError::io("connect to", &socket))?;
    let Ok(stream) = UnixStream::connect(path.path()) else { return Ok(None) };
    let mut connection = BufReader::new(stream);
    let mut hello = [0; HELLO.len()];
    let greeted = connection
        .get_ref()
        .set_read_timeout(Some(ANSWER_LIMIT))
        .and_then(|()| connection.get_ref().set_write_timeout(Some(ANSWER_LIMIT)))
        .and_then(|()| connection.read_exact(&mut hello))
        .and_then(|()| connection.get_mut().write_all(HELLO));
    if greeted.is_err() {
        return Ok(None);
    }
    if hello != *HELLO {
        let found = String::from_utf8_lossy(&hello).trim_end().to_owned();
        let path = layout.root().to_owned();
        return Err(OpenError::OtherVersion { path, found, known: "strata socket 1" });
    }
    Ok(Some(connection))
}
