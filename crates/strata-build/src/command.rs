//! RUN: a process over the snapshots of its root.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use strata_cas::{Action, Change, Item, Layer, LayerId, Metadata, Staging, Time, TreePath};
use strata_dockerfile::{Network, Security};
use strata_engine::Produced;
use strata_exec::{Changed, ExecError, Found, Job, Root, Stdio, Stream, View as Users, passwd};
use strata_image::ImageError;
use strata_oci::{Digest, Platform};
use strata_plan::{RunMount, RunOp};

use crate::layers::{StackedRoot, StepLayer};
use crate::mounts::Mounts;
use crate::redact::Redactor;
use crate::step::{BuildStep, described_as};
use crate::tars::{Files, Hashing};
use crate::view::View;
use crate::{BuildError, Event};

/// What the sandbox ends with when the program is there and does not start.
const NOT_RUNNABLE: i32 = 126;

/// From so many bytes on, what a command has written goes to the disk while it is still read.
const WRITE_EARLY_BYTES: u64 = 1 << 20;

/// With so many bytes in large files, later steps need not wait for the digest of the layer's tar,
/// which one thread makes of some 1.5 GB a second.
const HASH_LATER_BYTES: u64 = 64 << 20;

/// The digest of a layer's tar.
enum Tar {
    Now(Result<(Digest, u64), ImageError>),
    Later(Hashing),
}

impl BuildStep<'_> {
    pub(crate) fn command(&self, op: &RunOp) -> Result<Produced, BuildError> {
        let (session, span) = (self.session, self.planned().span);
        if op.security == Security::Insecure
            && let Some(entitlement) = op.entitlement()
            && !session.request.allow.contains(entitlement)
        {
            return Err(BuildError::NotAllowed { span, entitlement });
        }
        let parent = self.parent()?;
        let store = session.builder.store;
        let lowers = session.lowers(&parent)?;
        let staging = store.stage()?;
        let mut mounts = self.mounts(op, &staging)?;
        let user = passwd::resolve(&Users::new(&lowers), &op.user)
            .map_err(|error| BuildError::copy(span, error.to_string()))?;
        let job = Job {
            argv: op.argv.clone(),
            env: environment(op),
            secret_env: std::mem::take(&mut mounts.secret_env),
            cwd: op.cwd.clone(),
            hostname: op.hostname.clone().unwrap_or_else(|| Job::default().hostname),
            user,
            network: match op.network {
                Network::None => strata_exec::Network::None,
                Network::Default | Network::Host => strata_exec::Network::Host,
            },
            security: match op.security {
                Security::Sandbox => strata_exec::Security::Sandbox,
                Security::Insecure => strata_exec::Security::Insecure,
            },
            mounts: std::mem::take(&mut mounts.mounts),
            extra_hosts: session.request.extra_hosts.clone(),
            limits: session.request.limits.clone(),
            shm_bytes: session.request.shm_bytes.unwrap_or(Job::default().shm_bytes),
            stdio: Stdio::Capture,
            log_limit_bytes: session.builder.sandbox.log_limit_bytes,
            runtime: session.builder.sandbox.runtime.clone(),
            ..Job::default()
        };
        let metadata = strata_cas::load(&session.nodes, &parent.tree)?.metadata;
        let root = Root { lowers, metadata, staging: &staging };
        mounts.count_with(&staging, store)?;
        if let Err(error) = self.process(op, &job, &mounts, &root) {
            if matches!(error, BuildError::Command { .. }) {
                session.set_failed(session.keep_failed(self.index, &root));
            }
            return Err(error);
        }
        let found = strata_exec::find(&root)?;
        drop(mounts);
        self.keep(&parent, found, staging)
    }

    /// Keeps what a command changed. Small files are read once, for their names and for the tar's
    /// digest, large ones by two threads at a time, and all of them are written to the disk
    /// meanwhile. Where the tar's digest takes long, the step is done without it.
    fn keep(
        &self,
        parent: &StackedRoot,
        found: Found,
        staging: Staging,
    ) -> Result<Produced, BuildError> {
        let store = self.session.builder.store;
        let found = Arc::new(found);
        let unread = found.unread();
        let made = self.mount_points(parent, &unread, &staging)?;
        if found.bytes_above(0) >= WRITE_EARLY_BYTES {
            store.expect(&staging);
        }
        let (unread, files) = (with(unread, &made), Files::new(Arc::clone(&found)));
        let is_long = found.bytes_above(strata_image::WHOLE_FILE_BYTES) >= HASH_LATER_BYTES;
        let tar = match is_long {
            true => Tar::Later(Hashing::begin(unread, files)?),
            false => {
                let describe = || strata_image::describe_from(&unread, &files);
                let name = || found.name_larger(strata_image::WHOLE_FILE_BYTES);
                let (described, named) = beside(describe, name)?;
                named?;
                Tar::Now(described)
            }
        };
        let Changed { layer, files } = found.read()?;
        let layer = with(layer, &made);
        let id: LayerId = store.put(&layer.encode())?.into();
        let grow = || strata_cas::apply(store, Some(&parent.tree), &layer);
        let (tree, committed) = beside(grow, || match layer.is_empty() {
            true => Ok(()),
            false => store.commit(staging, &id, &files).map(drop),
        })?;
        committed?;
        let as_added = match tar {
            Tar::Now(described) => {
                // Its files are the snapshot's where there was one before.
                described_as(id, described.or_else(|_| strata_image::describe(&layer, store))?)
            }
            Tar::Later(hashing) => {
                self.session.tars.add(id, hashing);
                StepLayer::Made { made: id }
            }
        };
        self.produced_as(tree?, &layer, as_added)
    }

    /// BuildKit leaves the directories that it mounts `/proc` and the like on in the layer where
    /// the root had none; images are to be the same.
    fn mount_points(
        &self,
        parent: &StackedRoot,
        layer: &Layer,
        staging: &Staging,
    ) -> Result<Vec<Change>, BuildError> {
        let view = self.session.view(parent)?;
        let mut made = Vec::new();
        for name in ["dev", "proc", "sys"] {
            let path = TreePath::normalise(name.as_bytes());
            if layer.get(&path).is_some() || view.get(&path)?.is_some() {
                continue;
            }
            let full = staging.fs().join(name);
            let action = || BuildError::io(format!("create `{}`", full.display()));
            std::fs::create_dir(&full).map_err(action())?;
            let permissions = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&full, permissions).map_err(action())?;
            let (item, metadata) = (Item::Directory { opaque: false }, Metadata::root(0o755));
            let modified = Time(self.session.request.epoch.unwrap_or_default());
            made.push(Change { path, action: Action::Set { item, metadata, modified } });
        }
        Ok(made)
    }

    /// Runs the process, passing its output on and into its log, without the secrets in it.
    fn process(
        &self,
        op: &RunOp,
        job: &Job,
        mounts: &Mounts<'_>,
        root: &Root<'_>,
    ) -> Result<(), BuildError> {
        let session = self.session;
        let log = self.log_path();
        let mut file = File::create(&log).ok();
        let mut show = |stream: Stream, bytes: &[u8]| {
            if bytes.is_empty() {
                return;
            }
            if let Some(file) = &mut file {
                // A log that can not be written is no reason to end a build.
                drop(file.write_all(bytes));
            }
            (session.observe)(Event::Output { step: self.index, stream, bytes });
        };
        let builder = session.builder;
        let mut redactor = Redactor::new(builder.credentials.values());
        let mut sink = |stream: Stream, bytes: &[u8]| show(stream, &redactor.push(stream, bytes));
        let no_room = RefCell::new(None);
        let watch = || match builder.store.allow(root.staging) {
            Ok(pause) => Some(pause),
            Err(error) => {
                no_room.replace(Some(error));
                None
            }
        };
        let run = mounts.attached(&watch, |attached| {
            let program = &builder.sandbox.program;
            strata_exec::run_with(program, job, attached, root, &mut sink, builder.cancel)
        });
        let cut_bytes = run.as_ref().map_or(0, |finished| finished.cut_bytes);
        for stream in [Stream::Out, Stream::Err] {
            show(stream, &redactor.finish(stream, cut_bytes > 0 || run.is_err()));
        }
        if cut_bytes > 0 {
            let limit = builder.sandbox.log_limit_bytes;
            let text = format!(
                "\n[{cut_bytes} more bytes of output are left out: the limit is {limit}]\n"
            );
            show(Stream::Err, text.as_bytes());
        }
        if let Some(error) = no_room.take() {
            return Err(error.into());
        }
        let finished = run.map_err(|error| self.not_run(error))?;
        if finished.status == strata_exec::Status::Exited(0) {
            return Ok(());
        }
        if finished.status == strata_exec::Status::Exited(NOT_RUNNABLE)
            && let Some(error) = self.foreign(op)
        {
            return Err(error);
        }
        Err(BuildError::Command {
            step: self.index,
            span: self.planned().span,
            command: op.command(),
            status: finished.status,
            log: log.exists().then_some(log),
        })
    }

    /// Why a command did not run.
    fn not_run(&self, error: ExecError) -> BuildError {
        match error {
            ExecError::Cancelled => BuildError::Cancelled,
            // What the instruction asks for, and not what the machine lacks.
            ExecError::Mount { .. }
            | ExecError::Job { .. }
            | ExecError::WorkingDirectory { is_read_only: false, .. } => {
                BuildError::copy(self.planned().span, error.to_string())
            }
            ExecError::WorkingDirectory { .. } => BuildError::Copy {
                span: self.planned().span,
                message: error.to_string(),
                hint: Some("let the mount be written to, as by `rw`".to_owned()),
            },
            error => error.into(),
        }
    }

    /// Why a program that could not be started is most likely none for this machine.
    fn foreign(&self, op: &RunOp) -> Option<BuildError> {
        let (wanted, own) = (&op.platform, Platform::native());
        // Linux runs its older sisters' programs by itself.
        let sisters = [("amd64", "386"), ("arm64", "arm")];
        let runs = |one: &str| {
            one == own.architecture || sisters.contains(&(own.architecture.as_str(), one))
        };
        if runs(&wanted.architecture) {
            return None;
        }
        let hint = "install an emulator, such as `apt-get install qemu-user-static binfmt-support` \
                    on Debian and Ubuntu, or `docker run --privileged --rm tonistiigi/binfmt \
                    --install all`, and build again";
        Some(BuildError::Copy {
            span: self.planned().span,
            message: format!("this machine ({own}) does not run programs for {wanted}"),
            hint: Some(hint.to_owned()),
        })
    }

    /// One log for each place in a project: the latest run's.
    fn log_path(&self) -> PathBuf {
        let step = self.planned();
        let name = format!("{}\0{}\0{}", self.session.request.project, step.stage, step.ordinal);
        let name = strata_cas::BlobId::of(name.as_bytes()).to_string();
        self.session.builder.places.logs.join(format!("{}.log", &name[..16]))
    }
}

/// Does one thing on a thread of its own and the other here: neither may wait for a worker of a
/// pool that waits for the disk.
fn beside<A: Send, B>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B,
) -> Result<(A, B), BuildError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, one);
        let thread = thread.map_err(BuildError::io("start a thread"))?;
        let other = other();
        let one = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((one, other))
    })
}

/// A layer with more changes.
fn with(layer: Layer, made: &[Change]) -> Layer {
    if made.is_empty() { layer } else { Layer::new([layer.changes(), made].concat()) }
}

/// The process's environment without secrets. As with BuildKit, it tells where the first agent is
/// to be found, whether there is one or not.
fn environment(op: &RunOp) -> Vec<(String, String)> {
    const SOCKET: &str = "SSH_AUTH_SOCK";
    let given = op.env.iter().chain(&op.proxies).map(|(k, v)| (k.clone(), v.clone()));
    let mut env: Vec<(String, String)> = given.collect();
    let mut agents = op.mounts.iter().filter_map(|mount| match mount {
        RunMount::Ssh { target, .. } => target.clone(),
        _ => None,
    });
    if let Some(socket) = agents.next().filter(|_| !op.env.contains_key(SOCKET)) {
        env.push((SOCKET.to_owned(), socket));
    }
    env
}
