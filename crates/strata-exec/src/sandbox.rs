//! Starts the container with libcontainer.
//!
//! Two things are added to what libcontainer does, as its last step inside the container:
//! the system call filter (libcontainer's own needs a C library, and compiles at every start),
//! and protection of the machine's devices without a cgroup: a process may make device nodes, as
//! with Docker, but they can be opened nowhere, since every file system that it can write to is
//! mounted `nodev`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use oci_spec::runtime::{Process, Spec};
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use rustix::process::Pid;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use seccompiler::BpfProgram;

use crate::child::{Failure, SCRATCH, WORKING_DIRECTORY, failed};
use crate::wire::Order;
use crate::{Secret, Security, seccomp};

/// Docker's nodes in `/dev`.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// As a shell: the program is not there, or can not be run.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;

/// Starts the order's process and returns its number.
pub(crate) fn start(
    order: &Order,
    secrets: Vec<Secret>,
    stdin: Option<OwnedFd>,
    control: &UnixStream,
) -> Result<Pid, Failure> {
    let filter = match order.job.security {
        Security::Sandbox => Some(seccomp::compiled().map_err(|error| error.to_string())?),
        Security::Insecure => None,
    };
    let last_steps = LastSteps {
        enter: order.enter.as_ref().map(|cwd| Path::new("/").join(cwd)),
        filter,
        secret_env: order.job.secret_env.clone().into(),
        secrets: secrets.into(),
    };
    let mut builder = ContainerBuilder::new(order.id.clone(), SyscallType::default())
        .with_root_path(Path::new(SCRATCH).join("state"))
        .map_err(|error| describe(&error))?
        .with_executor(last_steps);
    if let Some(stdin) = stdin {
        builder = builder.with_stdin(stdin);
    }
    let terminal = crate::terminal::Console::listen(order)?;
    if let Some(terminal) = &terminal {
        builder = builder.with_console_socket(Some(terminal.path()));
    }
    let mut container = builder
        .as_init(&order.bundle)
        .with_systemd(false)
        .with_detach(order.terminal)
        .build()
        .map_err(|error| describe(&error))?;
    if let Some(terminal) = terminal {
        terminal.hand_over(control)?;
    }
    container.start().map_err(|error| describe(&error))?;
    let pid = container.pid().and_then(|pid| Pid::from_raw(pid.as_raw()));
    pid.ok_or_else(|| "the container has no process".to_owned())
}

/// An error with its causes; libcontainer's outer errors say little.
fn describe(error: &dyn std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// What happens in the container right before the process starts.
#[derive(Clone)]
struct LastSteps {
    /// The working directory, if it lies in a mount and is not there yet.
    enter: Option<PathBuf>,
    /// With a filter, the process is in the sandbox; without one, it may do anything.
    filter: Option<BpfProgram>,
    /// Variables that are in no configuration: name, and which secret.
    secret_env: Arc<[(String, usize)]>,
    secrets: Arc<[Secret]>,
}

impl LastSteps {
    fn secret_env(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.secret_env.iter().filter_map(|(name, number)| {
            let value = self.secrets.get(*number)?.expose();
            Some((OsStr::new(name), OsStr::from_bytes(value)))
        })
    }
}

impl Executor for LastSteps {
    /// The last step whose failure is reported: the container is complete, and the process has
    /// its capabilities, with CAP_SYS_ADMIN on top for just this.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        if let Some(cwd) = &self.enter {
            make_directories(cwd)
                .and_then(|()| std::env::set_current_dir(cwd))
                .map_err(failed(&format!("{WORKING_DIRECTORY} `{}`", cwd.display())))
                .map_err(ExecutorValidationError::ArgValidationError)?;
        }
        let Some(filter) = &self.filter else { return Ok(()) };
        confine(filter).map_err(ExecutorValidationError::ArgValidationError)
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "as libcontainer: this is a fork without exec")]
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let (message, code) = replace(process, self.secret_env());
        // If this fails too, the exit code still says it.
        drop(writeln!(std::io::stderr(), "{message}"));
        std::process::exit(code)
    }
}

/// Makes a directory with those above it. As with runc they are root's, whoever works in them.
fn make_directories(path: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    std::fs::create_dir_all(path)?;
    missing.iter().try_for_each(|made| std::os::unix::fs::chown(made, Some(0), Some(0)))
}

/// Closes the sandbox for good.
fn confine(filter: &BpfProgram) -> Result<(), Failure> {
    for device in DEVICES {
        let node = Path::new("/dev").join(device);
        mount_bind(&node, &node).map_err(failed("keep the devices usable"))?;
    }
    let flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID;
    mount_remount("/dev", flags, "").map_err(failed("protect the devices"))?;
    rustix::thread::remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN)
        .map_err(failed("drop CAP_SYS_ADMIN"))?;
    seccomp::install(filter).map_err(failed("install the system call filter"))?;
    let mut sets = capabilities(None).map_err(failed("read the capabilities"))?;
    sets.effective.remove(CapabilitySet::SYS_ADMIN);
    sets.permitted.remove(CapabilitySet::SYS_ADMIN);
    set_capabilities(None, sets).map_err(failed("drop CAP_SYS_ADMIN"))
}

/// Becomes the process; comes back only if that fails.
fn replace<'a>(
    process: &Process,
    secret_env: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
) -> (String, i32) {
    let arguments = process.args().as_deref().unwrap_or_default();
    let Some((name, rest)) = arguments.split_first() else {
        return ("there is no command".to_owned(), NOT_FOUND);
    };
    let env: Vec<(&str, &str)> =
        process.env().iter().flatten().filter_map(|variable| variable.split_once('=')).collect();
    let path = env.iter().find(|(name, _)| *name == "PATH").map_or("", |(_, path)| path);
    let Some(program) = find(name, path) else {
        return (format!("exec: `{name}`: executable file not found in $PATH"), NOT_FOUND);
    };
    let mut command = Command::new(program);
    command.arg0(name).args(rest).env_clear().envs(env).envs(secret_env);
    let error = command.exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
    (format!("exec: `{name}`: {error}"), code)
}

/// Where the program is.
fn find(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name));
    }
    path.split(':')
        .map(|directory| Path::new(if directory.is_empty() { "." } else { directory }).join(name))
        .find(|program| {
            let runnable = |metadata: std::fs::Metadata| {
                metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
            };
            program.metadata().is_ok_and(runnable)
        })
}
