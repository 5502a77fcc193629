//! The process that all runs of a builder start from, and its caller's side.
//!
//! Starting the program costs milliseconds, most of them the dynamic linker's, and forking a
//! small process with one thread costs a fraction of one. So the program is started once, by the
//! first run: the **keeper** does nothing but fork a guard for each run (see `child`).
//!
//! It ends when its caller does, by the end of the socket between them; by then there is either
//! no guard left, or each has noticed the same.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{CHILD, pass};

/// What the program is told to be.
pub(crate) const KEEPER: &str = "keeper";

/// The program that is started for runs: it must call [`child_main`](crate::child_main) when its
/// first argument is [`CHILD`]. Clones share what is started.
#[derive(Debug, Clone)]
pub struct ReexecCommand {
    program: PathBuf,
    keeper: Arc<Mutex<Option<Keeper>>>,
}

impl Default for ReexecCommand {
    /// The program that runs now, even if its file was replaced meanwhile.
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), keeper: Arc::default() }
    }
}

impl ReexecCommand {
    /// Has a guard started, with these files as its standard input (the socket that its order
    /// comes from), output and error.
    pub(crate) fn begin(&self, files: [BorrowedFd<'_>; 3]) -> io::Result<()> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*keeper
            && pass::send(&running.control, &files).is_ok()
        {
            return Ok(());
        }
        // There is none yet, or it was killed.
        *keeper = None;
        let started = keeper.insert(Keeper::start(&self.program)?);
        pass::send(&started.control, &files)
    }
}

#[derive(Debug)]
struct Keeper {
    process: Child,
    control: UnixStream,
}

impl Keeper {
    fn start(program: &Path) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        let process = Command::new(std::path::absolute(program)?)
            .current_dir("/")
            .args([CHILD, KEEPER])
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, control })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Fails only where it is gone already.
        drop(self.control.shutdown(Shutdown::Write));
        drop(self.process.wait());
    }
}

/// Opens the other ends of what a run writes.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// The caller's own output.
pub(crate) fn own_output() -> io::Result<[OwnedFd; 2]> {
    Ok([io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?])
}
