//! The run as an OCI runtime specification, with Docker's defaults.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/config.md>. `noNewPrivileges` is
//! false as with Docker: programs with the setuid bit work.

use oci_spec::runtime::Spec;
use rustix::thread::CapabilitySet;
use serde_json::{Value, json};

use crate::namespace::{Ids, has_ids, in_user_namespace};
use crate::{Job, Network, Runtime, Security, Ulimit, User, seccomp};

/// Docker's default for images that set none.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What Docker lets a process do: `CapEff` a80425fb.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What a privileged process has besides.
const MORE_CAPABILITIES: [&str; 27] = [
    "CAP_DAC_READ_SEARCH",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_LEASE",
    "CAP_AUDIT_CONTROL",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Hidden from a process: they tell about the machine, or reach into it.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Only to be read.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The kernel's file systems that every container has: target, type, options.
pub(crate) const KERNEL_MOUNTS: [(&str, &str, &[&str]); 5] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
];

/// A mount whose target has no links any more.
pub(crate) struct Placed {
    /// Absolute, without links.
    pub(crate) target: String,
    pub(crate) what: What,
}

/// What is mounted there.
pub(crate) enum What {
    Bind { source: String, options: Vec<&'static str> },
    Tmpfs { options: Vec<String> },
}

/// Writes down all that the runtime must know. `root` is where the root file system is mounted.
pub(crate) fn spec(
    job: &Job,
    root: &str,
    placed: &[Placed],
    terminal: bool,
) -> serde_json::Result<Spec> {
    let sandboxed = job.security == Security::Sandbox;
    let mut kinds = vec!["mount", "pid", "ipc", "uts", "cgroup"];
    kinds.extend((job.network == Network::None).then_some("network"));
    let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    let mut linux = json!({ "namespaces": namespaces });
    if sandboxed {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
        if matches!(job.runtime, Runtime::Command(_)) {
            linux["seccomp"] = seccomp::specification();
        }
    }
    serde_json::from_value(json!({
        "ociVersion": "1.0.2",
        "root": { "path": root },
        "hostname": job.hostname,
        "process": process(job, terminal),
        "mounts": mounts(job, placed),
        "linux": linux,
    }))
}

fn process(job: &Job, terminal: bool) -> Value {
    let mut env: Vec<String> =
        job.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let hostname = job.tells_hostname.then_some(("HOSTNAME", &*job.hostname));
    for (name, value) in [("PATH", PATH), ("HOME", &job.user.home)].into_iter().chain(hostname) {
        if !job.env.iter().any(|(given, _)| given == name) {
            env.push(format!("{name}={value}"));
        }
    }
    // As Docker does it, the main group is one of the additional ones too: a process that leaves
    // it can not get out of what the group may not do.
    let User { uid, gid, additional_gids, .. } = &job.user;
    let main = (!additional_gids.contains(gid)).then_some(gid);
    let mut groups: Vec<&u32> = additional_gids.iter().chain(main).collect();
    if Ids::of_process() == Ids::One {
        // The kernel lets nobody change groups there.
        groups.clear();
    }
    let capabilities = capabilities(job);
    let rlimit =
        |limit: &Ulimit| json!({ "type": limit.rlimit(), "soft": limit.soft, "hard": limit.hard });
    let rlimits: Vec<Value> = job.limits.ulimits.iter().map(rlimit).collect();
    json!({
        "terminal": terminal,
        "user": {
            "uid": uid,
            "gid": gid,
            "additionalGids": groups,
        },
        "args": job.argv,
        "env": env,
        "cwd": job.cwd,
        "noNewPrivileges": false,
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
        "rlimits": rlimits,
    })
}

/// With the built-in runtime, CAP_SYS_ADMIN comes on top: installing the system call filter needs
/// it, and the last step before the process starts drops it (see `sandbox`).
///
/// Nobody can give what he does not have: in a container, that may be less.
fn capabilities(job: &Job) -> Vec<&'static str> {
    let mut names = CAPABILITIES.to_vec();
    match (job.security, &job.runtime) {
        (Security::Insecure, _) => names.extend(MORE_CAPABILITIES),
        (Security::Sandbox, Runtime::Libcontainer) => names.push("CAP_SYS_ADMIN"),
        (Security::Sandbox, Runtime::Command(_)) => {}
    }
    if let Ok(own) = rustix::thread::capabilities(None) {
        names.retain(|name| {
            let known = CapabilitySet::from_name(name.trim_start_matches("CAP_"));
            known.is_some_and(|capability| own.permitted.contains(capability))
        });
    }
    names
}

fn mounts(job: &Job, placed: &[Placed]) -> Vec<Value> {
    let mut mounts: Vec<Value> = KERNEL_MOUNTS
        .iter()
        .flat_map(|(target, kind, options)| match *target {
            "/sys" if in_user_namespace() && job.network == Network::Host => machines_sys(),
            _ => vec![kernel_mount(job, target, kind, options)],
        })
        .collect();
    let shm = format!("size={}", job.shm_bytes);
    mounts.push(json!({
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", shm],
    }));
    mounts.extend(placed.iter().map(|Placed { target, what }| match what {
        What::Bind { source, options } => json!({
            "destination": target,
            "type": "bind",
            "source": source,
            "options": options,
        }),
        What::Tmpfs { options } => json!({
            "destination": target,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": options,
        }),
    }));
    mounts
}

fn kernel_mount(job: &Job, target: &str, kind: &str, options: &[&str]) -> Value {
    let left_out = |option: &str| match target {
        "/sys" => job.security == Security::Insecure && option == "ro",
        // Debian's group `tty`, which a namespace of one id has not.
        "/dev/pts" => option == "gid=5" && !has_ids(0, &[5]),
        _ => false,
    };
    let options: Vec<&str> = options.iter().copied().filter(|option| !left_out(option)).collect();
    json!({ "destination": target, "type": kind, "source": kind, "options": options })
}

/// Who does not own the network may not mount its `/sys`: the machine's own is shown, as all
/// rootless runtimes do, without the cgroups in it.
fn machines_sys() -> Vec<Value> {
    let sys = ["rbind", "rro", "nosuid", "noexec", "nodev"];
    let empty = ["ro", "nosuid", "noexec", "nodev", "mode=755", "size=4k"];
    vec![
        json!({ "destination": "/sys", "type": "bind", "source": "/sys", "options": sys }),
        json!({
            "destination": "/sys/fs",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": empty,
        }),
    ]
}
