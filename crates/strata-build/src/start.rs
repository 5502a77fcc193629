//! `strata run`: a process in an image, with the terminal that is there.

use std::path::PathBuf;

use strata_cas::LayerId;
use strata_exec::{Job, Limits, Network, Root, Status, Stdio, View as Users, passwd};

use crate::images::StoredImage;
use crate::layers;
use crate::{BuildError, Builder};

/// How an image is run, where that is not as its config says.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The arguments, or the program where there is no entrypoint; the image's own if empty.
    pub command: Vec<String>,
    /// The program; an empty one for none.
    pub entrypoint: Option<Vec<String>>,
    /// More environment.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: Option<String>,
    /// Who it runs as, as in `USER`.
    pub user: Option<String>,
    /// Its network.
    pub network: Network,
    /// The machine's name.
    pub hostname: Option<String>,
    /// More lines for `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// How much it may use.
    pub limits: Limits,
    /// Size of `/dev/shm` in bytes, if not the default.
    pub shm_bytes: Option<u64>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            entrypoint: None,
            env: Vec::new(),
            cwd: None,
            user: None,
            network: Network::Host,
            hostname: None,
            extra_hosts: Vec::new(),
            limits: Limits::default(),
            shm_bytes: None,
        }
    }
}

impl Builder<'_> {
    /// Runs an image with this process's input and output. What it writes is lost.
    ///
    /// # Errors
    ///
    /// When the image has no command, its layers can not be read, or the sandbox does not start.
    pub fn run(&self, image: &StoredImage, options: &RunOptions) -> Result<Status, BuildError> {
        let config = &image.config.config;
        self.shelf().bring_all(&image.layers)?;
        let ids: Vec<LayerId> = image.layers.iter().map(|layer| layer.layer).collect();
        let lowers = layers::snapshots(self.store, &ids)?;
        let user = options.user.as_deref().unwrap_or(&config.user);
        let user = passwd::resolve(&Users::new(&lowers), user)?;
        let mut env: Vec<(String, String)> = Vec::new();
        for variable in config.env.iter().flatten() {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            set(&mut env, name, value);
        }
        for (name, value) in &options.env {
            set(&mut env, name, value);
        }
        let cwd = options.cwd.clone().unwrap_or_else(|| config.working_dir.clone());
        let job = Job {
            argv: argv(image, options),
            env,
            cwd: if cwd.is_empty() { "/".to_owned() } else { cwd },
            user,
            tells_hostname: true,
            hostname: options.hostname.clone().unwrap_or_else(|| image.id.short()),
            network: options.network,
            extra_hosts: options.extra_hosts.clone(),
            limits: options.limits.clone(),
            shm_bytes: options.shm_bytes.unwrap_or(Job::default().shm_bytes),
            stdio: Stdio::Inherit,
            runtime: self.sandbox.runtime.clone(),
            ..Job::default()
        };
        self.start(&job, &ids, lowers)
    }
}

/// A state that a shell is wanted in.
#[derive(Debug, Clone)]
pub struct ShellState {
    /// The root's layers, lowest first.
    pub layers: Vec<LayerId>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// Where the shell starts; the root if it is empty.
    pub cwd: String,
    /// Who it runs as, as in `USER`.
    pub user: String,
    /// What to run, with the caller's input and output.
    pub command: Vec<String>,
    /// Its network.
    pub network: Network,
}

impl Builder<'_> {
    /// Runs a command in a state, with this process's input and output. What it writes is lost.
    ///
    /// # Errors
    ///
    /// When the state's layers are not there any more, or the sandbox does not start.
    pub fn shell(&self, state: &ShellState) -> Result<Status, BuildError> {
        let lowers = layers::snapshots(self.store, &state.layers)?;
        let job = Job {
            argv: state.command.clone(),
            env: state.env.clone(),
            cwd: if state.cwd.is_empty() { "/".to_owned() } else { state.cwd.clone() },
            user: passwd::resolve(&Users::new(&lowers), &state.user)?,
            network: state.network,
            stdio: Stdio::Inherit,
            runtime: self.sandbox.runtime.clone(),
            ..Job::default()
        };
        self.start(&job, &state.layers, lowers)
    }

    /// Runs a job on a root of these layers, which is thrown away.
    fn start(&self, job: &Job, of: &[LayerId], lowers: Vec<PathBuf>) -> Result<Status, BuildError> {
        let metadata = layers::root_directory(self.store, of)?;
        let root = Root { lowers, metadata, staging: &self.store.stage()? };
        let program = &self.sandbox.program;
        let finished = strata_exec::run(program, job, &root, &mut |_, _| {}, self.cancel)?;
        Ok(finished.status)
    }
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    env.retain(|(known, _)| known != name);
    env.push((name.to_owned(), value.to_owned()));
}

/// As Docker puts it together: another entrypoint takes the image's command away.
fn argv(image: &StoredImage, options: &RunOptions) -> Vec<String> {
    let config = &image.config.config;
    let own = options.entrypoint.is_none();
    let entrypoint = options.entrypoint.clone().or_else(|| config.entrypoint.clone());
    let command = match (&options.command[..], own) {
        ([], true) => config.cmd.clone().unwrap_or_default(),
        (command, _) => command.to_vec(),
    };
    entrypoint.unwrap_or_default().into_iter().chain(command).collect()
}
