//! A terminal for the process, when the caller has one.
//!
//! The container gets a pseudo-terminal of its own; its other side goes to the caller, who
//! connects it with the real one (see `run`). So Ctrl-C is a byte that becomes a signal inside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::child::{Failure, SCRATCH, failed};
use crate::pass;
use crate::wire::{self, Order, Reply};

/// Where the runtime delivers the container's terminal.
pub(crate) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// A place for the delivery, if the order asks for a terminal.
    pub(crate) fn listen(order: &Order) -> Result<Option<Self>, Failure> {
        if !order.terminal {
            return Ok(None);
        }
        // A socket's path must be short, and the staging directory's may not be.
        let path = Path::new(SCRATCH).join("console");
        let listener = UnixListener::bind(&path).map_err(failed("make the console socket"))?;
        Ok(Some(Self { listener, path }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Passes what was delivered on to the caller.
    pub(crate) fn hand_over(self, control: &UnixStream) -> Result<(), Failure> {
        let mut control = control;
        let mut deliver = || -> io::Result<()> {
            let (stream, _) = self.listener.accept()?;
            let [terminal] = pass::receive(&stream)?;
            wire::send(&mut control, &Reply::Terminal)?;
            pass::send(control, &[terminal.as_fd()])
        };
        deliver().map_err(failed("hand over the terminal"))
    }
}

/// The caller's terminal in raw mode, until dropped.
pub(crate) struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    pub(crate) fn enter(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }

    /// Gives the other terminal the size of this one.
    pub(crate) fn copy_size(&self, to: BorrowedFd<'_>) {
        // A wrong size is ugly, not wrong.
        let _ = tcgetwinsize(self.terminal).and_then(|size| tcsetwinsize(to, size));
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
