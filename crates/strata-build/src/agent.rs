//! Lends the caller's ssh agent to one run: a socket in the run's staging directory, and threads
//! that pass on what may be asked.
//!
//! As with BuildKit, a run can list keys and have something signed, and nothing else: it can
//! neither add keys to the caller's agent nor remove or lock them.
//!
//! The protocol: <https://datatracker.ietf.org/doc/draft-ietf-sshm-ssh-agent/>, section 3.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const FAILURE: u8 = 5;

/// OpenSSH's own limit.
const MESSAGE_BYTES_MAX: u32 = 256 << 10;

/// Connections that may still be open.
type Open = Arc<Mutex<Vec<Weak<UnixStream>>>>;

/// An agent that is lent until dropped.
pub(crate) struct LentAgent {
    socket: PathBuf,
    ends: Arc<AtomicBool>,
    open: Open,
    listener: Option<JoinHandle<()>>,
}

impl LentAgent {
    /// Lends the agent behind `upstream` on a new socket in `directory`.
    pub(crate) fn lend(upstream: &Path, directory: &Path, name: &str) -> io::Result<Self> {
        // A socket's path must be short, and the directory's may not be.
        let place = std::fs::File::open(directory)?;
        let short = format!("/proc/self/fd/{}/{name}", place.as_raw_fd());
        let listener = UnixListener::bind(&short)?;
        let ends = Arc::new(AtomicBool::new(false));
        let open = Open::default();
        let served = Served { upstream: upstream.to_owned(), open: Arc::clone(&open) };
        let over = Arc::clone(&ends);
        let accept = move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { break };
                served.start(stream);
            }
        };
        let listener = std::thread::Builder::new().name("ssh agent".to_owned()).spawn(accept)?;
        let socket = directory.join(name);
        drop(place);
        Ok(Self { socket, ends, open, listener: Some(listener) })
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for LentAgent {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let wake = || {
            let place = std::fs::File::open(self.socket.parent()?).ok()?;
            let name = self.socket.file_name()?.to_string_lossy();
            UnixStream::connect(format!("/proc/self/fd/{}/{name}", place.as_raw_fd())).ok()
        };
        let woken = wake();
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(stream) = stream.upgrade() {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
        if let Some(listener) = self.listener.take()
            && woken.is_some()
        {
            drop(listener.join());
        }
    }
}

struct Served {
    upstream: PathBuf,
    open: Open,
}

impl Served {
    fn start(&self, client: UnixStream) {
        let client = Arc::new(client);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|stream| stream.strong_count() > 0);
        open.push(Arc::downgrade(&client));
        drop(open);
        let upstream = self.upstream.clone();
        let serve = move || drop(serve(&client, &upstream));
        drop(std::thread::Builder::new().name("ssh agent".to_owned()).spawn(serve));
    }
}

/// Answers one connection's requests.
fn serve(mut client: &UnixStream, upstream: &Path) -> io::Result<()> {
    let mut agent: Option<UnixStream> = None;
    loop {
        let request = receive(&mut client)?;
        let answer = match request.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                let agent = match &mut agent {
                    Some(agent) => agent,
                    none => none.insert(UnixStream::connect(upstream)?),
                };
                send(agent, &request)?;
                receive(agent)?
            }
            _ => vec![FAILURE],
        };
        send(&mut client, &answer)?;
    }
}

fn receive(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length == 0 || length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length as usize];
    from.read_exact(&mut message)?;
    Ok(message)
}

fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_may_list_and_sign_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let upstream = directory.path().join("upstream");
        let listener = UnixListener::bind(&upstream).expect("an agent");
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut seen = Vec::new();
            while let Ok(request) = receive(&mut stream) {
                send(&mut stream, &[request[0] + 1, 7]).expect("answered");
                seen.push(request[0]);
            }
            seen
        });
        let lent = LentAgent::lend(&upstream, directory.path(), "lent").expect("lent");
        let mut client = UnixStream::connect(lent.socket()).expect("connected");
        // 17 adds an identity, 19 removes all, 22 locks, 27 is an extension.
        let answers = [11, 17, 13, 19, 22, 27].map(|kind| {
            send(&mut client, &[kind, 0]).expect("asked");
            receive(&mut client).expect("an answer")
        });
        let refused = vec![FAILURE];
        let expected = [
            vec![12, 7],
            refused.clone(),
            vec![14, 7],
            refused.clone(),
            refused.clone(),
            refused.clone(),
        ];
        assert_eq!(answers, expected);
        drop(lent);
        assert!(send(&mut client, &[11]).and_then(|()| receive(&mut client)).is_err());
        assert_eq!(agent.join().expect("the agent's end"), [11, 13]);
    }
}
