//! The other side of a run: the program itself, started again, with one thread.
//!
//! Three processes. The **keeper** is the program started again, once, with its own file mounted
//! read-only (or a process inside could write to it through `/proc/self/exe`); it forks the rest,
//! which is cheap, since it has one thread and little memory. The **guard** takes private mount
//! and pid namespaces, forks the **cage** as the first process of the new pid namespace, and kills
//! it when the caller is gone. The cage mounts the root file system and has the runtime start the
//! container below it. When the cage ends, however that happens, the kernel kills everything in
//! its pid namespace and drops the mounts with the last of them. The guard ends only then, so when
//! the guard is gone, everything is.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};
use rustix::thread::UnshareFlags;

use crate::cgroup::Cgroup;
use crate::keeper::KEEPER;
use crate::namespace::in_user_namespace;
use crate::overlay::Stack;
use crate::wire::{self, Order, Reply};
use crate::{
    CHILD, Runtime, Secret, Security, Stdio as JobStdio, cgroup, hide, pass, sandbox, seccomp,
};

/// What the keeper is when nobody can write to its file any more.
const PROTECTED: &str = "protected-keeper";

/// Where the cage, with the built-in runtime, sees an empty file system in memory of its own:
/// good for the runtime's state, which nobody needs to have on a disk.
pub(crate) const SCRATCH: &str = "/sys/fs/scratch";

/// Where libcontainer looks for cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What machines differ in, and what a failure of it begins with.
pub(crate) const TAKE_NAMESPACES: &str = "take new namespaces";
pub(crate) const MOUNT_PROC: &str = "mount `/proc`";
pub(crate) const MOUNT_ROOT: &str = "mount the root file system";
pub(crate) const LIMITS: &str = "set the limits";

/// What a failure of it contains that is the job's own: libcontainer puts words before it.
pub(crate) const WORKING_DIRECTORY: &str = "make the working directory";

/// What fails, in words: the error crosses a process boundary as text.
pub(crate) type Failure = String;

/// Says what was attempted when the system refused.
pub(crate) fn failed<E: std::fmt::Display>(action: &str) -> impl FnOnce(E) -> Failure {
    move |error| format!("{action}: {error}")
}

/// What the program does when its first argument is [`CHILD`], before anything else: before any
/// thread is started, any file opened or any setting read. `arguments` are those after it.
pub fn child_main(arguments: &[OsString]) -> ExitCode {
    let ready = match arguments {
        [role] if role == KEEPER => start_protected(),
        [role] if role == PROTECTED => Ok(()),
        _ => {
            drop(writeln!(io::stderr(), "{CHILD}: it is only for strata to call"));
            return ExitCode::FAILURE;
        }
    };
    match keep(ready) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody is left to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Starts the program once more, from a file that nobody can write to; comes back on failure.
fn start_protected() -> Result<(), Failure> {
    require_one_thread()?;
    forget_ignored_signals();
    rustix::process::setsid().map_err(failed("start a session"))?;
    take_namespaces(UnshareFlags::NEWNS)?;
    // What the machine mounts and unmounts from now on is to be seen here, and not the reverse.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(failed("make all mounts private"))?;
    let program = protected_program()?;
    let error = Command::new(program).args([CHILD, PROTECTED]).env_clear().exec();
    Err(failed("start the program again")(error))
}

/// Who is started in the background, or by `nohup`, ignores signals, and so would every process of
/// every run: Ctrl-C would end none, and `trap` would set none.
#[expect(unsafe_code, reason = "signal(2) has no safe door")]
fn forget_ignored_signals() {
    // The standard library ignores it, and sets it back itself for whom it executes.
    for number in (1..=64).filter(|number| *number != libc::SIGPIPE) {
        // SAFETY: the default action is no code of ours; numbers that can not be set are refused.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// The program's own file where it is, read-only, or a sealed copy where another file has taken
/// its name since it was started.
fn protected_program() -> Result<PathBuf, Failure> {
    const OWN: &str = "/proc/self/exe";
    // `all()` has bits in it that no kernel knows.
    const SEALS: SealFlags =
        SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);
    let is_own = |path: &Path| -> io::Result<bool> {
        let (own, other) = (std::fs::metadata(OWN)?, std::fs::metadata(path)?);
        Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
    };
    let named = std::fs::read_link(OWN).map_err(failed("find the program"))?;
    if is_own(&named).unwrap_or(false) {
        mount_bind(&named, &named).map_err(failed("mount the program"))?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | locked_flags(&named)?;
        mount_remount(&named, flags, "").map_err(failed("make the program read-only"))?;
        if is_own(&named).unwrap_or(false) {
            return Ok(named);
        }
    }
    let copy = || -> io::Result<PathBuf> {
        let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        let memory = rustix::fs::memfd_create("strata", flags)?;
        let mut copy = std::fs::File::from(memory);
        io::copy(&mut std::fs::File::open(OWN)?, &mut copy)?;
        rustix::fs::fcntl_add_seals(&copy, SEALS)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
        // Open until it is executed.
        std::mem::forget(copy);
        Ok(path)
    };
    copy().map_err(failed("copy the program"))
}

/// A guard that was started, and the caller's socket, which stays open until it has ended.
struct Kept {
    process: Pid,
    watch: OwnedFd,
    _control: OwnedFd,
}

/// Starts a guard for each run that is asked for, until the caller is gone. Where the keeper
/// itself could not be set up, each run is told why.
fn keep(ready: Result<(), Failure>) -> Result<(), Failure> {
    let caller = io::stdin().as_fd().try_clone_to_owned().map_err(failed("keep the socket"))?;
    // Before the first fork; who needs it hears of a failure.
    drop(seccomp::compiled());
    let mut kept: Vec<Kept> = Vec::new();
    let mut listening = true;
    while listening || !kept.is_empty() {
        let mut fds: Vec<PollFd<'_>> = kept
            .iter()
            .map(|guard| PollFd::from_borrowed_fd(guard.watch.as_fd(), PollFlags::IN))
            .collect();
        if listening {
            fds.push(PollFd::from_borrowed_fd(caller.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(format!("wait: {error}")),
        }
        let happened: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let asked = listening && happened.last() == Some(&true);
        let mut ended = happened.iter();
        kept.retain(|guard| {
            let is_over = ended.next() == Some(&true);
            if is_over {
                // Its status says nothing that its caller has not been told.
                let _ = rustix::process::waitpid(Some(guard.process), WaitOptions::empty());
            }
            !is_over
        });
        if asked {
            match pass::receive(&caller) {
                Ok(files) => kept = begin(&ready, files, kept),
                Err(_) => listening = false,
            }
        }
    }
    Ok(())
}

/// Forks the guard of a run.
fn begin(ready: &Result<(), Failure>, files: [OwnedFd; 3], mut kept: Vec<Kept>) -> Vec<Kept> {
    let refused = |message: Failure| drop(tell(&files[0], &message));
    if let Err(message) = ready {
        refused(message.clone());
        return kept;
    }
    match fork() {
        Ok(None) => {
            // The sockets of the others would not close while this one has them open.
            drop(std::mem::take(&mut kept));
            end(become_guard(files))
        }
        Ok(Some(process)) => match pidfd_open(process, PidfdFlags::empty()) {
            Ok(watch) => {
                let [control, ..] = files;
                kept.push(Kept { process, watch, _control: control });
                kept
            }
            Err(error) => {
                refused(format!("watch the guard: {error}"));
                kept
            }
        },
        Err(error) => {
            refused(format!("start the guard: {error}"));
            kept
        }
    }
}

fn become_guard([control, out, err]: [OwnedFd; 3]) -> Result<(), Failure> {
    let place = || -> rustix::io::Result<()> {
        rustix::stdio::dup2_stdin(&control)?;
        rustix::stdio::dup2_stdout(&out)?;
        rustix::stdio::dup2_stderr(&err)
    };
    place().map_err(failed("take the run's input and output"))?;
    drop((out, err));
    let answer = guard();
    if let Err(message) = &answer {
        // Nobody is left to tell if this fails.
        drop(tell(&control, message));
    }
    answer
}

/// Ends a forked process, without what the program would do at its end.
#[expect(unsafe_code, reason = "std's exit runs handlers, and this is a copy of another process")]
fn end(answer: Result<(), Failure>) -> ! {
    // SAFETY: it only ends the process.
    unsafe { libc::_exit(i32::from(answer.is_err())) }
}

/// Forks; `None` is the new process.
#[expect(unsafe_code, reason = "fork(2) has no safe door")]
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: keeper and guard have one thread, so the child finds no lock held by another, and
    // may do whatever its parent may. It never returns from its caller: see `end`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Tells the caller why there will be no other reply.
fn tell(control: impl AsFd, message: &str) -> io::Result<()> {
    let mut control = UnixStream::from(control.as_fd().try_clone_to_owned()?);
    wire::send(&mut control, &Reply::Failed(message.to_owned()))
}

fn guard() -> Result<(), Failure> {
    rustix::process::setsid().map_err(failed("start a session"))?;
    die_with_parent()?;
    let mut control = UnixStream::from(
        io::stdin().as_fd().try_clone_to_owned().map_err(failed("keep the socket"))?,
    );
    let _held = hold(&mut control).map_err(failed("receive what is to be kept open"))?;
    let order: Order = wire::receive(&mut control).map_err(failed("receive the order"))?;
    // Before the namespaces: the run sees its own cgroup as the root.
    let cgroup = Cgroup::enter(&order.job.limits, &order.id)?;
    let is_program = matches!(order.job.runtime, Runtime::Command(_));
    let of_runtime = is_program.then(|| cgroup::Runtimes::of(&order.id));
    let answer = guard_cage(&order);
    // From below: a cgroup with others in it stays.
    if let Some(cgroups) = of_runtime {
        cgroups.remove();
    }
    if let Some(cgroup) = cgroup {
        cgroup.leave();
    }
    answer
}

fn guard_cage(order: &Order) -> Result<(), Failure> {
    let mut namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    // A runtime that is a program makes cgroups below its own, which it must find for that; its
    // container gets its namespace from it.
    namespaces.set(UnshareFlags::NEWCGROUP, order.job.runtime == Runtime::Libcontainer);
    take_namespaces(namespaces)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("make all mounts private"))?;
    if let Some(emulator) = &order.emulator {
        // A kernel without such lists: the program does not start, and that is said.
        drop(emulator.register(&order.emulators));
    }
    let cage = match fork().map_err(failed("start the cage"))? {
        None => {
            let answer = cage(order);
            if let Err(message) = &answer {
                drop(tell(io::stdin(), message));
            }
            end(answer)
        }
        Some(cage) => cage,
    };
    let pidfd = pidfd_open(cage, PidfdFlags::empty()).map_err(failed("watch the cage"))?;
    let stdin = io::stdin();
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::RDHUP),
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(format!("wait: {error}")),
        }
        let caller_is_gone = !fds[0].revents().is_empty();
        if caller_is_gone {
            pidfd_send_signal(&pidfd, Signal::KILL).map_err(failed("kill the cage"))?;
        }
        if caller_is_gone || !fds[1].revents().is_empty() {
            break;
        }
    }
    rustix::process::waitpid(Some(cage), WaitOptions::empty())
        .map_err(failed("wait for the cage"))?;
    Ok(())
}

/// Files that the caller wants to stay open as long as anything of the run is there.
fn hold(control: &mut UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut count = [0];
    control.read_exact(&mut count)?;
    (0..count[0]).map(|_| pass::receive(&*control).map(|[file]| file)).collect()
}

/// What a mount has and, in a user namespace, must keep when it is changed.
fn locked_flags(place: &Path) -> Result<MountFlags, Failure> {
    let has = rustix::fs::statvfs(place).map_err(failed("look at a mount"))?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ];
    let kept = pairs.iter().filter(|(flag, _)| has.contains(*flag));
    Ok(kept.fold(MountFlags::empty(), |flags, (_, flag)| flags | *flag))
}

#[expect(unsafe_code, reason = "rustix's unshare is unsafe for the sake of one flag")]
fn take_namespaces(flags: UnshareFlags) -> Result<(), Failure> {
    // SAFETY: the call is unsafe because of `UnshareFlags::FILES`, which is in no caller's flags;
    // the process has one thread besides.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(failed(TAKE_NAMESPACES))
}

/// libcontainer clones without exec: with a second thread, a lock could be held forever.
fn require_one_thread() -> Result<(), Failure> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(failed("count threads"))?.count();
    if threads == 1 { Ok(()) } else { Err(format!("there are {threads} threads, not one")) }
}

fn die_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("ask for a signal at the parent's end"))
}

fn cage(order: &Order) -> Result<(), Failure> {
    require_one_thread()?;
    die_with_parent()?;
    let control = io::stdin().as_fd().try_clone_to_owned();
    let mut control = UnixStream::from(control.map_err(failed("keep the socket"))?);
    let secrets = (0..order.secret_count).map(|_| wire::receive_secret(&mut control));
    let secrets: io::Result<Vec<Secret>> = secrets.collect();
    let secrets = secrets.map_err(failed("receive the secrets"))?;
    let reply = execute(order, secrets, &control).unwrap_or_else(Reply::Failed);
    wire::send(&mut control, &reply).map_err(failed("send the reply"))
}

fn execute(order: &Order, secrets: Vec<Secret>, control: &UnixStream) -> Result<Reply, Failure> {
    let stdin = stdin_of(order, control)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    prepare(order)?;
    hide::files(order, &secrets)?;
    match &order.job.runtime {
        Runtime::Libcontainer => {
            let pid = sandbox::start(order, secrets, stdin, control)?;
            wait(pid, control)
        }
        Runtime::Command(path) => {
            hide::environment(order, &secrets)?;
            let runtime = Command::new(path)
                .arg("--root")
                .arg(&order.state)
                .args(["run", "--bundle"])
                .arg(&order.bundle)
                .arg(&order.id)
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .stdin(stdin.map_or_else(Stdio::inherit, Stdio::from))
                .spawn()
                .map_err(failed(&format!("start `{}`", path.display())))?;
            wait(Pid::from_child(&runtime), control)
        }
    }
}

/// What the process reads from; nothing if it gets a terminal.
fn stdin_of(order: &Order, control: &UnixStream) -> Result<Option<OwnedFd>, Failure> {
    if order.terminal {
        return Ok(None);
    }
    let stdin = match order.job.stdio {
        JobStdio::Capture => std::fs::File::open("/dev/null").map(OwnedFd::from),
        JobStdio::Inherit => pass::receive(control).map(|[stdin]| stdin),
    };
    stdin.map(Some).map_err(failed("get the standard input"))
}

/// Mounts what the runtime must find.
fn prepare(order: &Order) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).map_err(failed(MOUNT_PROC))?;
    if order.job.runtime == Runtime::Libcontainer {
        hide_cgroups().map_err(failed("hide the machine's cgroups"))?;
    }
    let stack = Stack {
        lowers: &order.lowers,
        upper: &order.upper,
        work: &order.work,
        user_attributes: order.user_attributes,
        devices: order.job.security == Security::Insecure,
    };
    stack.mount(&order.root).map_err(failed(MOUNT_ROOT))?;
    for cwd in &order.cwds {
        std::fs::create_dir_all(order.root.join(cwd))
            .map_err(failed(&format!("{WORKING_DIRECTORY} `{}`", order.job.cwd)))?;
    }
    Ok(())
}

/// The container needs no cgroup; libcontainer would insist on making one in every hierarchy that
/// it finds. It finds none: they are unmounted, or, where a user namespace keeps them, it sees the
/// unified one, in which it takes it that it may not write.
fn hide_cgroups() -> io::Result<()> {
    let stay = match unmount(CGROUPS, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => false,
        Err(rustix::io::Errno::INVAL) => in_user_namespace(),
        Err(error) => return Err(error.into()),
    };
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let place = if Path::new("/sys/fs").exists() { "/sys/fs" } else { "/sys" };
    mount("tmpfs", place, "tmpfs", flags, None)?;
    std::fs::create_dir_all(CGROUPS)?;
    std::fs::create_dir_all(SCRATCH)?;
    if stay {
        mount("cgroup", CGROUPS, "cgroup2", flags | MountFlags::RDONLY, None)?;
    }
    Ok(())
}

/// Waits for the container's first process, passing on the signals that the caller sends.
fn wait(pid: Pid, mut control: &UnixStream) -> Result<Reply, Failure> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed("watch the process"))?;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(format!("wait: {error}")),
        }
        if !fds[0].revents().is_empty() {
            break;
        }
        let mut numbers = [0; 16];
        let count = control.read(&mut numbers).map_err(failed("listen to the caller"))?;
        if count == 0 {
            return Err("the caller is gone".to_owned());
        }
        for number in &numbers[..count] {
            if let Some(signal) = Signal::from_named_raw(i32::from(*number)) {
                // It may have ended meanwhile.
                let _ = pidfd_send_signal(&pidfd, signal);
            }
        }
    }
    let ended = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    let Some((_, status)) = ended.map_err(failed("wait for the process"))? else {
        return Err("the process has no status".to_owned());
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ok(Reply::Exited(code)),
        (None, Some(signal)) => Ok(Reply::Signaled(signal)),
        (None, None) => Err("the process stopped".to_owned()),
    }
}
