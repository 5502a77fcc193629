//! What is to run, as plain data. Nothing here touches the system.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ExecError, Limits, Secret};

/// One process and what it may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The program and its arguments. A name without `/` is looked up in the job's own `PATH`.
    pub argv: Vec<String>,
    /// The environment, in order. `PATH` and `HOME` are added when missing.
    pub env: Vec<(String, String)>,
    /// Variables that hold secrets: name, and which of the
    /// [attached](crate::Attachments) ones.
    pub secret_env: Vec<(String, usize)>,
    /// Working directory, absolute. It is created when missing, and stays in the layer then.
    pub cwd: String,
    /// Who runs it, as numbers; see [`passwd::resolve`](crate::passwd::resolve).
    pub user: User,
    /// The name of the machine as the process sees it.
    pub hostname: String,
    /// Whether `HOSTNAME` and `/etc/hostname` tell that name too: Docker's containers have them,
    /// BuildKit's runs have not.
    pub tells_hostname: bool,
    /// Which network it has.
    pub network: Network,
    /// How much it may do.
    pub security: Security,
    /// What is mounted besides the root file system, in order.
    pub mounts: Vec<Mount>,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: u64,
    /// More lines for `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// How much it may use.
    pub limits: Limits,
    /// Where its input and output go.
    pub stdio: Stdio,
    /// How many bytes of output are passed on; the rest is read and counted.
    pub log_limit_bytes: u64,
    /// How long it may take, in milliseconds.
    pub timeout_millis: Option<u64>,
    /// Who makes the sandbox.
    pub runtime: Runtime,
}

impl Default for Job {
    /// Nothing to run yet, root in `/`, and Docker's defaults for the rest.
    fn default() -> Self {
        Self {
            argv: Vec::new(),
            env: Vec::new(),
            secret_env: Vec::new(),
            cwd: "/".to_owned(),
            user: User::default(),
            hostname: "buildkitsandbox".to_owned(),
            tells_hostname: false,
            network: Network::Host,
            security: Security::Sandbox,
            mounts: Vec::new(),
            shm_bytes: 64 << 20,
            extra_hosts: Vec::new(),
            limits: Limits::default(),
            stdio: Stdio::Capture,
            log_limit_bytes: u64::MAX,
            timeout_millis: None,
            runtime: Runtime::Libcontainer,
        }
    }
}

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id in the container.
    pub uid: u32,
    /// Primary group id in the container.
    pub gid: u32,
    /// Further group ids.
    pub additional_gids: Vec<u32>,
    /// What `HOME` is set to when the environment has none.
    pub home: String,
}

impl Default for User {
    /// root, without a look into `/etc/passwd`.
    fn default() -> Self {
        Self { uid: 0, gid: 0, additional_gids: Vec::new(), home: "/root".to_owned() }
    }
}

/// Which network a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The machine's own.
    Host,
    /// Only a loopback interface.
    None,
}

/// How much a process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Security {
    /// Docker's default capabilities, system call filter and masked paths.
    Sandbox,
    /// Everything that strata itself may do (`RUN --security=insecure`).
    Insecure,
}

/// Something that is mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, as an absolute path in the container. Missing mount points are made for the time of
    /// the run and are not in the layer; symbolic links are followed inside the container only.
    pub target: String,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the machine.
    Bind {
        /// Which one, as an absolute path.
        source: PathBuf,
        /// Whether the process may not write to it.
        read_only: bool,
    },
    /// An empty file system in memory. Its root has the permission bits of the directory that it
    /// hides, and 1777 where there is none, as runc has it.
    Tmpfs {
        /// At most this many bytes; without it, the kernel's default (half of the memory).
        size_bytes: Option<u64>,
    },
    /// A file in memory with a secret, read-only.
    Secret {
        /// Which of the [attached](crate::Attachments) ones.
        number: usize,
        /// Permission bits.
        mode: u32,
        /// Its owner in the container.
        uid: u32,
        /// Its group in the container.
        gid: u32,
    },
    /// A socket of the machine, which must be the caller's own: it gets this mode and owner.
    Socket {
        /// Which one, as an absolute path.
        source: PathBuf,
        /// Permission bits.
        mode: u32,
        /// Its owner in the container.
        uid: u32,
        /// Its group in the container.
        gid: u32,
    },
}

/// Where input and output go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Output to the sink, no input.
    Capture,
    /// The caller's own. With a terminal as standard input, the process gets a terminal of its
    /// own that the caller's is connected to.
    Inherit,
}

/// Who makes the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    /// youki's libcontainer, built in.
    Libcontainer,
    /// A program with runc's command line, such as runc or crun.
    Command(PathBuf),
}

impl Job {
    /// Refuses what no process can have, before anything is set up.
    pub(crate) fn check(&self, secrets: &[&Secret]) -> Result<(), ExecError> {
        self.check_secrets(secrets)?;
        let refuse = |what, reason| Err(ExecError::Job { what, reason });
        let has_nul = |text: &String| text.contains('\0');
        if self.argv.first().is_none_or(String::is_empty) {
            return refuse("command", "it is empty");
        }
        if self.argv.iter().any(has_nul) {
            return refuse("command", "it contains a NUL");
        }
        if self.env.iter().any(|(name, value)| has_nul(name) || has_nul(value)) {
            return refuse("environment", "it contains a NUL");
        }
        let names = self.env.iter().map(|(name, _)| name);
        let mut names = names.chain(self.secret_env.iter().map(|(name, _)| name));
        if names.any(|name| name.is_empty() || name.contains('=') || has_nul(name)) {
            return refuse("environment", "a name is empty or contains `=`");
        }
        if !self.cwd.starts_with('/') || has_nul(&self.cwd) {
            return refuse("working directory", "it is not an absolute path");
        }
        if self.hostname.is_empty() || self.hostname.len() > 64 || has_nul(&self.hostname) {
            return refuse("hostname", "it is empty or longer than 64 bytes");
        }
        self.limits.check()?;
        for mount in &self.mounts {
            let target = || mount.target.clone();
            if !mount.target.starts_with('/') || has_nul(&mount.target) {
                let reason = "it is not an absolute path";
                return Err(ExecError::Mount { target: target(), reason });
            }
            let source = match &mount.kind {
                MountKind::Bind { source, .. } | MountKind::Socket { source, .. } => Some(source),
                _ => None,
            };
            if source.is_some_and(|source| !source.is_absolute()) {
                let reason = "its source is not an absolute path";
                return Err(ExecError::Mount { target: target(), reason });
            }
        }
        Ok(())
    }

    fn check_secrets(&self, secrets: &[&Secret]) -> Result<(), ExecError> {
        let refuse = |reason| Err(ExecError::Job { what: "secret", reason });
        for (_, number) in &self.secret_env {
            match secrets.get(*number) {
                None => return refuse("it is not attached"),
                Some(secret) if secret.expose().contains(&0) => {
                    return refuse("a variable can not hold a NUL");
                }
                Some(_) => {}
            }
        }
        let attached = |mount: &Mount| match mount.kind {
            MountKind::Secret { number, .. } => number < secrets.len(),
            _ => true,
        };
        if self.mounts.iter().all(attached) { Ok(()) } else { refuse("it is not attached") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_no_process_can_have() {
        let job = |change: fn(&mut Job)| {
            let mut job = Job { argv: vec!["true".to_owned()], ..Job::default() };
            change(&mut job);
            job.check(&[]).is_ok()
        };
        assert!(job(|_| {}));
        assert!(!job(|job| job.argv.clear()));
        assert!(!job(|job| job.argv.push("a\0b".to_owned())));
        assert!(!job(|job| job.env.push(("A=B".to_owned(), String::new()))));
        assert!(!job(|job| job.env.push((String::new(), String::new()))));
        assert!(!job(|job| job.cwd = "work".to_owned()));
        assert!(!job(|job| job.hostname.clear()));
        let kind = MountKind::Tmpfs { size_bytes: None };
        let mount = Mount { target: "cache".to_owned(), kind };
        let relative = Job { argv: vec!["true".to_owned()], mounts: vec![mount], ..Job::default() };
        assert!(relative.check(&[]).is_err());
        let secret_env = vec![("TOKEN".to_owned(), 0)];
        let job = Job { argv: vec!["true".to_owned()], secret_env, ..Job::default() };
        assert!(job.check(&[]).is_err());
        assert!(job.check(&[&Secret::new(b"a\0b".to_vec())]).is_err());
        assert!(job.check(&[&Secret::new(b"a b".to_vec())]).is_ok());
    }
}
