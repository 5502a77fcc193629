//! `RUN`: which process, in which environment, with which mounts.

use std::collections::BTreeMap;

use strata_dockerfile::{
    CommandForm, Diagnostic, Instruction, MountSpec, Network, RunArgs, Security, Span,
};

use crate::evaluate::{Evaluation, Wrong, wrong};
use crate::metadata::with_shell;
use crate::stage::{State, clean_path};
use crate::{Op, RunMount, RunOp, Source, StepIndex};

const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// A build argument that keeps the cache mounts of one project from those of others.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// A build argument that names the machine which commands see.
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

impl Evaluation<'_> {
    pub(crate) fn run_instruction(
        &mut self,
        stage: usize,
        state: &mut State,
        run: &RunArgs,
        instruction: &Instruction,
        span: Span,
        ordinal: usize,
    ) -> Result<StepIndex, Wrong> {
        if let Some(device) = run.devices.first() {
            return Err(wrong(device.span, "`RUN --device` is not supported"));
        }
        let argv = with_shell(state, &run.form);
        if argv.is_empty() {
            return Err(wrong(span, "`RUN` needs a command"));
        }
        let line = run_line(state, &argv);
        let network = match run.network {
            Network::Default => self.request.network,
            network => network,
        };
        let op = RunOp {
            argv,
            script: run.script.clone(),
            env: state.env.clone(),
            proxies: self.proxies(),
            // Where a `..` leads is for the root to say: the kernel follows the path as it is.
            cwd: match state.cwd() {
                path if path.split('/').any(|name| name == "..") => path.to_owned(),
                path => clean_path(path),
            },
            user: state.config.user.clone(),
            hostname: self.hostname(),
            network,
            security: run.security,
            mounts: self.mounts(stage, state, run)?,
            platform: state.platform.clone(),
        };
        let (name, text) = (state.name.clone(), shown(instruction, run));
        let step = self.step(&name, ordinal, text, span, state.root, Op::Run(op));
        state.root = Some(step);
        state.commit(format!("{line} # buildkit"), Some(step));
        Ok(step)
    }

    fn hostname(&self) -> Option<String> {
        self.request.build_args.get(HOSTNAME).filter(|name| !name.is_empty()).cloned()
    }

    /// The proxies that were given, each in both cases, as BuildKit hands them on: some programs
    /// read one, some the other.
    fn proxies(&self) -> BTreeMap<String, String> {
        let given = self.request.build_args.iter().filter(|(_, value)| !value.is_empty());
        let given = given.filter(|(name, _)| PROXIES.contains(&&*name.to_ascii_uppercase()));
        let mut proxies = BTreeMap::new();
        for (name, value) in given.clone() {
            for name in [name.to_ascii_uppercase(), name.to_ascii_lowercase()] {
                proxies.insert(name, value.clone());
            }
        }
        // Where both cases were given, each keeps its own value.
        for (name, value) in given {
            if let Some(own) = proxies.get_mut(name) {
                own.clone_from(value);
            }
        }
        proxies
    }

    fn mounts(
        &mut self,
        stage: usize,
        state: &State,
        run: &RunArgs,
    ) -> Result<Vec<RunMount>, Wrong> {
        let mut mounts = Vec::new();
        let mut agents = 0;
        for mount in &run.mounts {
            let lookup = |name: &str| state.env.get(name).cloned();
            let expander = self.expander.clone();
            let spec = mount.resolve(&mut |text| expander.word(text, &lookup))?;
            let span = mount.raw.span;
            mounts.push(self.mount(stage, state, spec, span, &mut agents)?);
        }
        Ok(mounts)
    }

    fn mount(
        &mut self,
        stage: usize,
        state: &State,
        spec: MountSpec,
        span: Span,
        agents: &mut usize,
    ) -> Result<RunMount, Wrong> {
        let place = |target: &str| clean_path(&state.absolute(target));
        Ok(match spec {
            MountSpec::Bind { from, source, target, read_only } => {
                let from = self.mount_source(stage, from.as_deref(), span)?;
                let (source, target) = (relative(&source), mount_point(place(&target), span)?);
                RunMount::Bind { from, source, target, read_only }
            }
            MountSpec::Cache { id, target, from, source, sharing, mode, uid, gid, read_only } => {
                // As for BuildKit the target as it is written, wherever that leads from.
                let id = id.unwrap_or_else(|| match clean_path(&target) {
                    clean if target.starts_with('/') => clean,
                    clean => clean[1..].to_owned(),
                });
                let target = mount_point(place(&target), span)?;
                let seed = match from {
                    Some(from) => {
                        let from = self.mount_source(stage, Some(&from), span)?;
                        Some((from, relative(&source)))
                    }
                    None => None,
                };
                let id = match self.request.build_args.get(CACHE_NAMESPACE) {
                    Some(namespace) if !namespace.is_empty() => format!("{namespace}/{id}"),
                    _ => id,
                };
                RunMount::Cache { id, target, seed, sharing, mode, uid, gid, read_only }
            }
            MountSpec::Tmpfs { target, size_bytes } => {
                RunMount::Tmpfs { target: mount_point(place(&target), span)?, size_bytes }
            }
            MountSpec::Secret { id, target, env, required, mode, uid, gid } => {
                let target = target.map(|target| place(&target));
                RunMount::Secret { id, target, env, required, mode, uid, gid }
            }
            MountSpec::Ssh { id, target, required, mode, uid, gid } => {
                let socket = format!("/run/buildkit/ssh_agent.{agents}");
                *agents += 1;
                let target = Some(target.map_or(socket, |target| place(&target)));
                RunMount::Ssh { id, target, required, mode, uid, gid }
            }
        })
    }

    fn mount_source(
        &mut self,
        stage: usize,
        from: Option<&str>,
        span: Span,
    ) -> Result<Source, Wrong> {
        match from {
            Some(name) => self.source(stage, name, span),
            None => Ok(Source::Context(String::new())),
        }
    }
}

fn relative(path: &str) -> String {
    clean_path(&format!("/{path}"))[1..].to_owned()
}

fn mount_point(target: String, span: Span) -> Result<String, Wrong> {
    if target == "/" {
        return Err(Box::new(
            Diagnostic::error("mount-on-root", span, "a mount can not replace the root")
                .hint("give `target=` a directory"),
        ));
    }
    Ok(target)
}

/// What progress shows: the instruction, with the first line of a script.
fn shown(instruction: &Instruction, run: &RunArgs) -> String {
    match run.heredocs.first() {
        Some(heredoc) => format!("{} ({})", instruction.original, heredoc.summary()),
        None => instruction.original.clone(),
    }
}

/// The history's line: the ARGs in sight, counted, then the command.
fn run_line(state: &State, argv: &[String]) -> String {
    let mut args: Vec<(String, String)> = Vec::new();
    for (name, given) in &state.args {
        let value = state.env.get(name).or(given.as_ref()).cloned().unwrap_or_default();
        match args.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => args.push((name.clone(), value)),
        }
    }
    let mut words = vec!["RUN".to_owned()];
    if !args.is_empty() {
        words.push(format!("|{}", args.len()));
        words.extend(args.into_iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend(argv.iter().cloned());
    words.join(" ")
}

/// Whether a step may only run when the caller allows it, and what it is called then.
pub(crate) fn entitlement(op: &RunOp) -> Option<&'static str> {
    match (op.security, op.network) {
        (Security::Insecure, _) => Some("security.insecure"),
        (_, Network::Host) => Some("network.host"),
        _ => None,
    }
}

impl RunOp {
    /// The entitlement that the caller must grant for this step, if it needs one.
    pub fn entitlement(&self) -> Option<&'static str> {
        entitlement(self)
    }

    /// The command as a person reads it.
    pub fn command(&self) -> String {
        self.argv.join(" ")
    }

    /// Whether the command is in shell form: program, `-c`, text.
    pub fn form(&self) -> CommandForm {
        match &self.argv[..] {
            [_, flag, text] if flag == "-c" => CommandForm::Shell(text.clone()),
            argv => CommandForm::Exec(argv.to_vec()),
        }
    }
}
