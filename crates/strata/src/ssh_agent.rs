//! An agent for keys that `--ssh ID=KEY` names: OpenSSH's own, since it knows every kind of key,
//! asks for passphrases, and keeps keys in memory as well as they can be kept.
//!
//! It is started around a command that ends when we do, however that happens; the agent looks
//! for its parent every ten seconds and ends with it. In the ordinary case it is ended at once.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::failure::Failure;

/// So long an agent is waited for that was told to end.
const LONGEST_END: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Ends with its standard input, and says first where the agent is.
const COMMAND: &str = "echo \"$SSH_AUTH_SOCK\"; echo \"$SSH_AGENT_PID\"; exec cat >/dev/null";

/// An agent that runs until dropped.
pub(crate) struct KeyAgent {
    around: Child,
    socket: PathBuf,
    pid: String,
}

impl KeyAgent {
    /// Starts one with these keys.
    pub(crate) fn start(keys: &[&Path]) -> Result<Self, Failure> {
        let read = |path: &&Path| {
            let text = std::fs::read(path);
            text.map_err(|error| Failure::file("read the ssh key", path, &error))
        };
        let keys: Vec<(&Path, Vec<u8>)> =
            keys.iter().map(|path| Ok((*path, read(path)?))).collect::<Result<_, Failure>>()?;
        let agent = Self::empty()?;
        for (path, key) in keys {
            agent.add(path, key)?;
        }
        Ok(agent)
    }

    fn empty() -> Result<Self, Failure> {
        let around = Command::new("ssh-agent")
            .args(["sh", "-c", COMMAND])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut around = around.map_err(|error| missing("ssh-agent", &error))?;
        let mut lines = around.stdout.take().map(|out| BufReader::new(out).lines());
        let mut line = || lines.as_mut().and_then(|lines| lines.next()?.ok()).unwrap_or_default();
        let (socket, pid) = (PathBuf::from(line()), line());
        let agent = Self { around, socket, pid };
        if agent.pid.is_empty() {
            return Err(Failure::environment("`ssh-agent` did not start"));
        }
        Ok(agent)
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The key goes in by a pipe: a file's mode, at which `ssh-add` would take offence, is the
    /// user's matter.
    fn add(&self, path: &Path, key: Vec<u8>) -> Result<(), Failure> {
        let adding = Command::new("ssh-add")
            .args(["-q", "-"])
            .env("SSH_AUTH_SOCK", &self.socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut adding = adding.map_err(|error| missing("ssh-add", &error))?;
        if let Some(mut stdin) = adding.stdin.take() {
            // If it does not read, it says why.
            drop(stdin.write_all(&key));
        }
        let ended = adding.wait_with_output();
        let ended = ended.map_err(|error| missing("ssh-add", &error))?;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let said = said.lines().next().unwrap_or("it is no key").to_owned();
        let message = format!("`{}` can not be used as an ssh key: {said}", path.display());
        Err(Failure::usage(message)
            .hint("for a key with a passphrase, use an agent: `ssh-add KEY` and `--ssh default`"))
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        let agent = self.pid.parse().ok().and_then(Pid::from_raw);
        let agent = agent.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut end = Command::new("ssh-agent");
        end.arg("-k").env("SSH_AGENT_PID", &self.pid).env("SSH_AUTH_SOCK", &self.socket);
        drop(end.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status());
        // It is only told to end: what comes after us is not to meet it.
        if let Some(agent) = agent {
            let _ = poll(&mut [PollFd::new(&agent, PollFlags::IN)], Some(&LONGEST_END));
        }
        drop(self.around.stdin.take());
        drop(self.around.wait());
    }
}

fn missing(program: &str, error: &std::io::Error) -> Failure {
    let why = crate::failure::plain(error);
    Failure::environment(format!("`{program}` can not be started: {why}")).hint(
        "`--ssh ID=KEY` needs OpenSSH (`apt-get install openssh-client`); `--ssh default` does not",
    )
}
