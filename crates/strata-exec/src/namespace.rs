//! Rights for those who have none: the program starts itself again inside a user namespace.
//!
//! Done once, at the program's start, in place: the process keeps its number, terminal, directory
//! and signals, and everything that follows (unpacking, mounting, removing) finds itself as root
//! of a namespace whose other ids are the user's subordinate ones. So there is one way through
//! the code, for root and for users. See `docs/rootless.md`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, WaitOptions};
use rustix::thread::{CapabilitySet, UnshareFlags};

use crate::subordinate::{Kind, ranges};

/// The first argument of a program that was started again in a user namespace. The next one says
/// why the namespace has one id only; it is empty where it has many.
pub const INSIDE: &str = "strata-in-user-namespace";

/// The number that Linux gives to the machine's own user namespace (`PROC_USER_INIT_INO`).
const INITIAL: u64 = 0xEFFF_FFFD;

/// Where the helpers of Debian's `uidmap` and Fedora's `shadow-utils` are. Not `PATH`: a library
/// reads no environment.
const PLACES: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/run/wrappers/bin"];

/// Why there is no user namespace.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The kernel refuses to make one.
    #[error("this user may make no user namespace: {source}")]
    Refused {
        /// What forbids it, as far as that can be told.
        obstacle: Obstacle,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It was made, and something around it failed.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// What keeps a sandbox from being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// `kernel.unprivileged_userns_clone` is 0.
    Clone,
    /// `user.max_user_namespaces` is reached, or 0.
    Limit,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    AppArmor,
    /// A filter of system calls, as containers have one.
    Filter,
    /// `/proc` is partly hidden, as in containers: no other one may be mounted then.
    MaskedProc,
    /// Overlayfs can not be mounted: the store's file system, such as a container's own files, or
    /// Linux before 5.11 in a user namespace.
    Overlay,
    /// The cgroups that limits need are not there, or not this user's to use.
    Cgroups,
    /// None of these.
    Unknown,
}

/// Which ids there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Those of the machine.
    Every,
    /// Those of a user namespace.
    Many,
    /// Only one, which is root's.
    One,
}

impl Ids {
    /// Those of this process.
    pub fn of_process() -> Self {
        static IDS: OnceLock<Ids> = OnceLock::new();
        *IDS.get_or_init(|| match (in_user_namespace(), own_map("uid_map"), own_map("gid_map")) {
            (false, ..) => Self::Every,
            (true, users, groups) if count(&users) > 1 && count(&groups) > 1 => Self::Many,
            _ => Self::One,
        })
    }
}

/// Which ids of the machine those of this process are, in words that only a comparison reads: a
/// directory of layers means the same only to processes with the same answer.
pub fn id_maps() -> String {
    if !in_user_namespace() {
        return "every\n".to_owned();
    }
    let words = |map: Vec<Line>| {
        let lines =
            map.iter().map(|[inside, outside, count]| format!(" {inside}:{outside}:{count}"));
        lines.collect::<String>()
    };
    format!("users{}\ngroups{}\n", words(own_map("uid_map")), words(own_map("gid_map")))
}

/// Whether this process is in a user namespace other than the machine's own.
pub fn in_user_namespace() -> bool {
    static INSIDE: OnceLock<bool> = OnceLock::new();
    *INSIDE.get_or_init(|| {
        std::fs::metadata("/proc/self/ns/user").is_ok_and(|namespace| namespace.ino() != INITIAL)
    })
}

/// Whether this process may mount and unmount in namespaces of its own.
pub(crate) fn may_mount() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// A line of a map: the first id inside, the first outside, how many.
type Line = [u32; 3];

fn own_map(name: &str) -> Vec<Line> {
    let text = std::fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default();
    let line = |line: &str| -> Option<Line> {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        Some([numbers.next()??, numbers.next()??, numbers.next()??])
    };
    text.lines().filter_map(line).collect()
}

fn count(map: &[Line]) -> u64 {
    map.iter().map(|[_, _, count]| u64::from(*count)).sum()
}

/// Whether there are such a user and such a group in this process's namespace.
pub(crate) fn has_ids(uid: u32, gids: &[u32]) -> bool {
    let holds = |map: &[Line], id: u32| {
        map.iter().any(|[first, _, count]| id.checked_sub(*first).is_some_and(|at| at < *count))
    };
    if Ids::of_process() == Ids::Every {
        return true;
    }
    let groups = own_map("gid_map");
    holds(&own_map("uid_map"), uid) && gids.iter().all(|gid| holds(&groups, *gid))
}

/// Comes back at once where this process may mount. Where it may not, starts the program again in
/// a user namespace, in this process, with [`INSIDE`] before its arguments, and comes back only
/// if that fails. `arguments` are all of the program's, its own name included.
///
/// Must be called before the first thread is started.
pub fn enter(arguments: &[OsString]) -> Result<(), NamespaceError> {
    if may_mount() {
        return Ok(());
    }
    let io = |action| move |source: io::Error| NamespaceError::Io { action, source };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (mut control, theirs) = UnixStream::pair().map_err(io("make a pair of sockets"))?;
    let helper = fork_helper(&control, theirs).map_err(io("start a helper"))?;
    let made = unshare_user();
    if let Err(source) = made {
        drop(control);
        // It ends, now that nothing comes.
        let _ = rustix::process::waitpid(Some(helper), WaitOptions::empty());
        return Err(NamespaceError::Refused { obstacle: obstacle_to_users(), source });
    }
    let mut why = String::new();
    let asked = control
        .write_all(b"!")
        .and_then(|()| control.shutdown(std::net::Shutdown::Write))
        .and_then(|()| control.read_to_string(&mut why));
    asked.map_err(io("talk to the helper"))?;
    let _ = rustix::process::waitpid(Some(helper), WaitOptions::empty());
    // What the helper could not map, everybody may map by one id: his own.
    map_own("uid_map", uid).map_err(io("map the user's id"))?;
    map_own("gid_map", gid).map_err(io("map the group's id"))?;
    let (name, rest) = arguments
        .split_first()
        .ok_or_else(|| io("start the program again")(io::ErrorKind::InvalidInput.into()))?;
    let error = Command::new("/proc/self/exe").arg0(name).arg(INSIDE).arg(why).args(rest).exec();
    Err(io("start the program again")(error))
}

#[expect(unsafe_code, reason = "rustix's unshare is unsafe for the sake of one flag")]
fn unshare_user() -> io::Result<()> {
    // SAFETY: the call is unsafe because of `UnshareFlags::FILES`, which is not given.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }?)
}

/// Starts the process that stays outside and writes the maps: who is inside may not.
#[expect(unsafe_code, reason = "fork(2) has no safe door")]
fn fork_helper(other: &UnixStream, control: UnixStream) -> io::Result<Pid> {
    let parent = rustix::process::getpid();
    // SAFETY: the process has one thread, so the child finds no lock held by another; it ends by
    // `_exit` and never returns from here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: the child uses its copy of the other end nowhere; open, it would hide that
            // the parent has closed its own.
            unsafe { libc::close(other.as_raw_fd()) };
            let (mut control, mut go) = (control, [0]);
            if control.read_exact(&mut go).is_ok() {
                let why = map(parent).err().unwrap_or_default();
                let _ = control.write_all(why.as_bytes());
            }
            // SAFETY: it only ends the process.
            unsafe { libc::_exit(0) }
        }
        pid => {
            // Its end of the pair must not stay open here, or nobody would notice its end.
            drop(control);
            Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidData.into())
        }
    }
}

/// Maps as many ids as the user has; an error says in a sentence why that is only one.
fn map(process: Pid) -> Result<(), String> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if uid == 0 {
        return map_as_root(process);
    }
    let tools = ["newuidmap", "newgidmap"].map(find);
    let [Some(users), Some(groups)] = tools else {
        return Err("`newuidmap` and `newgidmap` are not installed".to_owned());
    };
    let uids = ranges(Kind::Users, uid)?;
    let gids = ranges(Kind::Groups, uid)?;
    let begin = |tool: &Path, own: u32, ranges: &[(u32, u32)]| {
        let mut command = Command::new(tool);
        command.arg(process.as_raw_nonzero().to_string());
        for [inside, outside, count] in lines(own, ranges) {
            command.args([inside, outside, count].map(|number| number.to_string()));
        }
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().map_err(|error| format!("`{}` does not start: {error}", tool.display()))
    };
    let (users_child, groups_child) = (begin(&users, uid, &uids)?, begin(&groups, gid, &gids)?);
    for (tool, child) in [(users, users_child), (groups, groups_child)] {
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().lines().next().unwrap_or("it failed").to_owned();
            return Err(format!("`{}` refuses: {said}", tool.display()));
        }
    }
    Ok(())
}

/// root is the user, and the subordinate ids follow.
fn lines(own: u32, ranges: &[(u32, u32)]) -> Vec<Line> {
    let mut lines = vec![[0, own, 1]];
    let mut next: u32 = 1;
    for (first, count) in ranges {
        let count = (*count).min(u32::MAX - next);
        lines.push([next, *first, count]);
        next += count;
    }
    lines
}

/// root of a container who may not mount, but may give ids: he keeps all that the container has.
fn map_as_root(process: Pid) -> Result<(), String> {
    for name in ["uid_map", "gid_map"] {
        let lines = own_map(name).iter().fold(String::new(), |text, [first, _, count]| {
            format!("{text}{first} {first} {count}\n")
        });
        let path = format!("/proc/{}/{name}", process.as_raw_nonzero());
        std::fs::write(&path, lines)
            .map_err(|error| format!("root of this container may not map its ids: {error}"))?;
    }
    Ok(())
}

/// Maps this process's one id to root's, if nothing is mapped yet.
fn map_own(name: &str, id: u32) -> io::Result<()> {
    if !own_map(name).is_empty() {
        return Ok(());
    }
    if name == "gid_map" {
        // Without it, who is in a group to be kept out could leave the group.
        std::fs::write("/proc/self/setgroups", "deny")?;
    }
    std::fs::write(Path::new("/proc/self").join(name), format!("0 {id} 1\n"))
}

fn find(tool: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(tool)).find(|path| path.is_file())
}

/// Whether this kernel setting has this value.
fn is_set(setting: &str, value: &str) -> bool {
    let path = Path::new("/proc/sys").join(setting);
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

/// Whether a filter of system calls holds this process.
fn filtered() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line == "Seccomp:\t2"))
}

/// What forbids a user namespace.
fn obstacle_to_users() -> Obstacle {
    if is_set("kernel/unprivileged_userns_clone", "0") {
        Obstacle::Clone
    } else if is_set("user/max_user_namespaces", "0") {
        Obstacle::Limit
    } else if filtered() {
        Obstacle::Filter
    } else if is_set("kernel/apparmor_restrict_unprivileged_userns", "1") {
        Obstacle::AppArmor
    } else {
        Obstacle::Unknown
    }
}

/// What is in the way of a sandbox that did not start with these words.
pub(crate) fn obstacle_to(message: &str) -> Option<Obstacle> {
    use crate::child::{LIMITS, MOUNT_PROC, MOUNT_ROOT, TAKE_NAMESPACES};
    if message.starts_with(LIMITS) {
        return Some(Obstacle::Cgroups);
    }
    if message.starts_with(MOUNT_ROOT) {
        return Some(Obstacle::Overlay);
    }
    if !in_user_namespace() {
        // Root of a container that was given the right to mount, and no way to use it.
        return (message.contains("failed syscall") && filtered()).then_some(Obstacle::Filter);
    }
    if message.starts_with(TAKE_NAMESPACES) {
        let restricted = is_set("kernel/apparmor_restrict_unprivileged_userns", "1");
        Some(if restricted { Obstacle::AppArmor } else { Obstacle::Filter })
    } else if message.starts_with(MOUNT_PROC) {
        Some(Obstacle::MaskedProc)
    } else {
        None
    }
}
