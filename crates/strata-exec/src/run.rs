//! The caller's side of a run: starts the child, passes output on, and sees to it that nothing
//! is left, whatever happens.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::isatty;

use crate::keeper::{self, ReexecCommand};
use crate::prepare::prepare;
use crate::terminal::Raw;
use crate::wire::{self, Order, Reply};
use crate::{Attachments, Cancel, ExecError, Job, Root, Runtime, Stdio, child, namespace, pass};

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code; 0 is success.
    Exited(i32),
    /// By a signal with this number.
    Signaled(i32),
}

/// A run that took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// How the process ended.
    pub status: Status,
    /// How many bytes of output were beyond the job's limit and not passed on.
    pub cut_bytes: u64,
}

impl Status {
    /// The code as a shell gives it: 128 and the number for a signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(number) => 128 + number,
        }
    }
}

/// How the system says that something is mounted read-only (`EROFS`).
const READ_ONLY: &str = "Read-only file system";

/// So soon who watches a run is asked first.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// Runs the job over the root and waits for its end. What it changed is in the staging
/// directory then: see [`changes`](crate::changes). One run for each staging directory.
///
/// Output goes to `sink` as it comes, in order within each stream, from this thread. When this
/// returns, with whatever result, no process, no mount and no cgroup of the run is left; when
/// this process is killed, the kernel sees to the same.
pub fn run(
    program: &ReexecCommand,
    job: &Job,
    root: &Root<'_>,
    sink: &mut dyn FnMut(Stream, &[u8]),
    cancel: &Cancel,
) -> Result<Finished, ExecError> {
    run_with(program, job, &Attachments::default(), root, sink, cancel)
}

/// As [`run`], with what can not be written down.
pub fn run_with(
    program: &ReexecCommand,
    job: &Job,
    attachments: &Attachments<'_>,
    root: &Root<'_>,
    sink: &mut dyn FnMut(Stream, &[u8]),
    cancel: &Cancel,
) -> Result<Finished, ExecError> {
    if cancel.is_cancelled() {
        return Err(ExecError::Cancelled);
    }
    let stdin = io::stdin();
    // A runtime that is a program has its own way with terminals: it gets the caller's as it is.
    let terminal = job.stdio == Stdio::Inherit
        && job.runtime == Runtime::Libcontainer
        && isatty(stdin.as_fd());
    let order = prepare(job, attachments, root, terminal)?;
    let raw = terminal.then(|| Raw::enter(stdin.as_fd())).transpose();
    let raw = raw.map_err(ExecError::io("set the terminal up"))?;
    let child = Running::start(program, &order, attachments, stdin.as_fd())
        .map_err(ExecError::io("start the sandbox"))?;
    let deadline = job.timeout_millis.map(|limit| Instant::now() + Duration::from_millis(limit));
    let watch = attachments.watch.map(|ask| Watch { ask, next: Instant::now() + FIRST_PAUSE });
    let session = Session { child, job, cancel, raw, sink, deadline, watch, ended: None };
    session.attend()
}

/// The child and what connects it. Dropped early, it is stopped first.
struct Running {
    control: UnixStream,
    output: [Option<OwnedFd>; 2],
    terminal: Option<OwnedFd>,
}

impl Running {
    fn start(
        program: &ReexecCommand,
        order: &Order,
        attachments: &Attachments<'_>,
        stdin: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        let ([out, err], output) = match order.job.stdio {
            Stdio::Capture => {
                let ((out, their_out), (err, their_err)) = (keeper::pipe()?, keeper::pipe()?);
                ([their_out, their_err], [Some(out), Some(err)])
            }
            Stdio::Inherit => (keeper::own_output()?, [None, None]),
        };
        program.begin([theirs.as_fd(), out.as_fd(), err.as_fd()])?;
        drop((theirs, out, err));
        let mut running = Self { control, output, terminal: None };
        // If the child is gone already, it has said why, or its silence will be noticed.
        if running.instruct(order, attachments).is_ok()
            && order.job.stdio == Stdio::Inherit
            && !order.terminal
        {
            drop(pass::send(&running.control, &[stdin]));
        }
        Ok(running)
    }

    /// What the guard keeps open, then the order, then the secrets.
    fn instruct(&mut self, order: &Order, attachments: &Attachments<'_>) -> io::Result<()> {
        let count = u8::try_from(attachments.held.len()).map_err(io::Error::other)?;
        self.control.write_all(&[count])?;
        for file in attachments.held {
            pass::send(&self.control, &[*file])?;
        }
        wire::send(&mut self.control, order)?;
        let send = |secret: &&crate::Secret| wire::send_secret(&mut self.control, secret);
        attachments.secrets.iter().try_for_each(send)
    }

    /// Has the guard kill everything.
    fn stop(&self) {
        // Fails only when the guard is gone already.
        drop(self.control.shutdown(Shutdown::Write));
    }

    /// Waits until everything is gone: the keeper holds the socket until the guard has ended.
    fn wait(&mut self) -> io::Result<()> {
        std::io::copy(&mut self.control, &mut io::sink()).map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        drop(self.wait());
    }
}

/// Why the run was stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    Cancelled,
    TimedOut,
}

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Output(Stream),
    Control,
    Stop,
    Ring,
    Input,
    Terminal,
}

struct Session<'a> {
    child: Running,
    job: &'a Job,
    cancel: &'a Cancel,
    raw: Option<Raw<'a>>,
    sink: &'a mut dyn FnMut(Stream, &[u8]),
    deadline: Option<Instant>,
    watch: Option<Watch<'a>>,
    ended: Option<Stopped>,
}

/// Who is asked from time to time whether the run may go on.
struct Watch<'a> {
    ask: &'a dyn Fn() -> Option<Duration>,
    next: Instant,
}

/// What has happened so far.
struct Progress {
    reply: Option<Reply>,
    talking: bool,
    passed_bytes: u64,
    cut_bytes: u64,
    input: Vec<u8>,
    buffer: Vec<u8>,
}

impl Session<'_> {
    /// Attends to the child until it is gone.
    fn attend(mut self) -> Result<Finished, ExecError> {
        let mut progress = Progress {
            reply: None,
            talking: true,
            passed_bytes: 0,
            cut_bytes: 0,
            input: Vec::new(),
            buffer: vec![0; 64 << 10],
        };
        while progress.talking
            || self.child.output.iter().any(Option::is_some)
            || self.child.terminal.is_some()
        {
            let events = self.wait(&progress).map_err(ExecError::io("wait for the sandbox"))?;
            for source in events {
                self.handle(source, &mut progress).map_err(ExecError::io("talk to the sandbox"))?;
            }
        }
        self.child.wait().map_err(ExecError::io("wait for the sandbox"))?;
        let cut_bytes = progress.cut_bytes;
        match (self.ended, progress.reply) {
            (_, Some(Reply::Exited(code))) if self.ended.is_none() => {
                Ok(Finished { status: Status::Exited(code), cut_bytes })
            }
            (_, Some(Reply::Signaled(number))) if self.ended.is_none() => {
                Ok(Finished { status: Status::Signaled(number), cut_bytes })
            }
            (Some(Stopped::Cancelled), _) => Err(ExecError::Cancelled),
            (Some(Stopped::TimedOut), _) => {
                let seconds = self.job.timeout_millis.unwrap_or_default().div_ceil(1000);
                Err(ExecError::TimedOut { seconds })
            }
            (None, Some(Reply::Failed(message))) => Err(why_not(message)),
            (None, _) => {
                let message = "it was killed".to_owned();
                Err(ExecError::Start { message, obstacle: None })
            }
        }
    }

    /// Waits until something happens and says what.
    fn wait(&mut self, progress: &Progress) -> io::Result<Vec<Source>> {
        let stdin = io::stdin();
        let mut sources = Vec::with_capacity(6);
        let mut fds = Vec::with_capacity(6);
        let mut watch = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        for (stream, output) in [Stream::Out, Stream::Err].into_iter().zip(&self.child.output) {
            if let Some(output) = output {
                watch(Source::Output(stream), output.as_fd(), PollFlags::IN);
            }
        }
        if progress.talking {
            watch(Source::Control, self.child.control.as_fd(), PollFlags::IN);
        }
        if self.ended.is_none() {
            watch(Source::Stop, self.cancel.stop(), PollFlags::IN);
            watch(Source::Ring, self.cancel.ring(), PollFlags::IN);
        }
        if let Some(terminal) = &self.child.terminal {
            let waiting = !progress.input.is_empty();
            let flags = if waiting { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            watch(Source::Terminal, terminal.as_fd(), flags);
            if !waiting {
                watch(Source::Input, stdin.as_fd(), PollFlags::IN);
            }
        }
        let next = self.deadline.into_iter().chain(self.watch.as_ref().map(|watch| watch.next));
        let next = next.min().filter(|_| self.ended.is_none());
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        let limit = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            answer => answer?,
        };
        let happened = fds.iter().zip(sources).filter(|(fd, _)| !fd.revents().is_empty());
        let happened = happened.map(|(_, source)| source).collect();
        self.look_at_the_clock();
        Ok(happened)
    }

    /// Ends what has run for too long, and asks those who watch.
    fn look_at_the_clock(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.ended = Some(Stopped::TimedOut);
        } else if let Some(watch) = self.watch.as_mut().filter(|watch| now >= watch.next) {
            if let Some(pause) = (watch.ask)() {
                watch.next = Instant::now() + pause;
                return;
            }
            self.ended = Some(Stopped::Cancelled);
        } else {
            return;
        }
        self.child.stop();
    }

    fn handle(&mut self, source: Source, progress: &mut Progress) -> io::Result<()> {
        match source {
            Source::Output(stream) => self.pass_on(stream, progress),
            Source::Control => self.listen(progress),
            Source::Stop => {
                self.ended = Some(Stopped::Cancelled);
                self.child.stop();
                Ok(())
            }
            Source::Ring => self.signal(),
            Source::Input => read_input(progress),
            Source::Terminal => self.pump(progress),
        }
    }

    fn pass_on(&mut self, stream: Stream, progress: &mut Progress) -> io::Result<()> {
        let output = &mut self.child.output[stream as usize];
        let Some(open) = output else { return Ok(()) };
        let count = rustix::io::read(open, &mut progress.buffer[..])?;
        if count == 0 {
            *output = None;
            return Ok(());
        }
        let room = self.job.log_limit_bytes.saturating_sub(progress.passed_bytes);
        let passed = usize::try_from(room).map_or(count, |room| room.min(count));
        progress.passed_bytes += passed as u64;
        progress.cut_bytes += (count - passed) as u64;
        if passed > 0 && self.ended.is_none() {
            (self.sink)(stream, &progress.buffer[..passed]);
        }
        Ok(())
    }

    /// Hears what the child has to say.
    fn listen(&mut self, progress: &mut Progress) -> io::Result<()> {
        match wire::receive(&mut self.child.control) {
            Ok(Reply::Terminal) => {
                let [terminal] = pass::receive(&self.child.control)?;
                if let Some(raw) = &self.raw {
                    raw.copy_size(terminal.as_fd());
                }
                self.child.terminal = Some(terminal);
            }
            Ok(reply) => drop(progress.reply.get_or_insert(reply)),
            Err(_) => progress.talking = false,
        }
        Ok(())
    }

    fn signal(&mut self) -> io::Result<()> {
        let Some(number) = self.cancel.take_signal() else { return Ok(()) };
        match (&self.raw, &self.child.terminal) {
            (Some(raw), Some(terminal)) if i32::from(number) == libc::SIGWINCH => {
                raw.copy_size(terminal.as_fd());
                Ok(())
            }
            // It may be gone meanwhile.
            _ => {
                drop(self.child.control.write_all(&[number]));
                Ok(())
            }
        }
    }

    /// Moves bytes between the caller's terminal and the process's.
    fn pump(&mut self, progress: &mut Progress) -> io::Result<()> {
        let Some(terminal) = &self.child.terminal else { return Ok(()) };
        let mut fds = [PollFd::from_borrowed_fd(terminal.as_fd(), PollFlags::IN | PollFlags::OUT)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        let ready = fds[0].revents();
        if ready.contains(PollFlags::OUT) && !progress.input.is_empty() {
            let written = rustix::io::write(terminal, &progress.input).unwrap_or_default();
            drop(progress.input.drain(..written));
        }
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            match rustix::io::read(terminal, &mut progress.buffer[..]) {
                // The other side is closed for good.
                Ok(0) | Err(_) => self.child.terminal = None,
                Ok(count) => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&progress.buffer[..count])?;
                    stdout.flush()?;
                }
            }
        }
        Ok(())
    }
}

/// Why nothing ran, by what the sandbox says.
fn why_not(message: String) -> ExecError {
    if let Some(at) = message.find(child::WORKING_DIRECTORY) {
        // Errors of the standard library end with their number.
        let (message, _) = message[at..].split_once(" (os error").unwrap_or((&message[at..], ""));
        let (message, is_read_only) = (message.to_owned(), message.ends_with(READ_ONLY));
        return ExecError::WorkingDirectory { message, is_read_only };
    }
    let obstacle = namespace::obstacle_to(&message);
    ExecError::Start { message, obstacle }
}

fn read_input(progress: &mut Progress) -> io::Result<()> {
    let mut bytes = [0; 1024];
    let count = rustix::io::read(io::stdin(), &mut bytes)?;
    progress.input.extend_from_slice(&bytes[..count]);
    Ok(())
}
