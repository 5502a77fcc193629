//! RUN: a process over the snapshots of its root.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strata_cas::{Action, Change, Item, Layer, Metadata, Staging, Time, TreePath};
use strata_dockerfile::{Network, Security, Sharing};
use strata_engine::Produced;
use strata_exec::{ExecError, Job, Mount, MountKind, Root, Stdio, Stream, View as Users, passwd};
use strata_plan::{RunMount, RunOp, Source};

use crate::copy::bring_files;
use crate::lay::Laying;
use crate::layers::{self, StackedRoot};
use crate::selection::Selection;
use crate::step::BuildStep;
use crate::view::View;
use crate::{BuildError, Event};

/// Mounts of one run, and what must live as long as it.
#[derive(Default)]
struct Mounts {
    mounts: Vec<Mount>,
    /// Directories that are gone after the run, and locks that are held until then.
    _staged: Vec<Staging>,
    _locks: Vec<File>,
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
        let lowers = layers::snapshots(store, &parent.layers)?;
        let staging = store.stage()?;
        let mut mounts = self.mounts(op)?;
        if let Some(script) = &op.script {
            mounts.mounts.push(script_mount(&staging, script)?);
        }
        let user = passwd::resolve(&Users::new(&lowers), &op.user)
            .map_err(|error| BuildError::copy(span, error.to_string()))?;
        let job = Job {
            argv: op.argv.clone(),
            env: op.env.iter().chain(&op.proxies).map(|(k, v)| (k.clone(), v.clone())).collect(),
            cwd: op.cwd.clone(),
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
        let root = Root { lowers, staging: &staging };
        self.process(op, &job, &root)?;
        let changed = strata_exec::changes(&root)?;
        drop(mounts);
        let layer = self.with_mount_points(&parent, changed.layer, &staging)?;
        if !layer.is_empty() {
            let id = store.put(&layer.encode())?.into();
            store.commit(staging, &id, &changed.files)?;
        }
        self.produced(&parent, &layer)
    }

    /// BuildKit leaves the directories that it mounts `/proc` and the like on in the layer where
    /// the root had none; images are to be the same.
    fn with_mount_points(
        &self,
        parent: &StackedRoot,
        layer: Layer,
        staging: &Staging,
    ) -> Result<Layer, BuildError> {
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
        Ok(if made.is_empty() { layer } else { Layer::new([layer.changes(), &made].concat()) })
    }

    /// Runs the process, passing its output on and into its log.
    fn process(&self, op: &RunOp, job: &Job, root: &Root<'_>) -> Result<(), BuildError> {
        let session = self.session;
        let log = self.log_path();
        let mut file = File::create(&log).ok();
        let mut sink = |stream: Stream, bytes: &[u8]| {
            if let Some(file) = &mut file {
                // A log that can not be written is no reason to end a build.
                drop(file.write_all(bytes));
            }
            (session.observe)(Event::Output { step: self.index, stream, bytes });
        };
        let builder = session.builder;
        let run = strata_exec::run(&builder.sandbox.program, job, root, &mut sink, builder.cancel);
        let finished = run.map_err(|error| match error {
            ExecError::Cancelled => BuildError::Cancelled,
            error => error.into(),
        })?;
        if finished.cut_bytes > 0 {
            let note = format!("{} bytes of its output were left out", finished.cut_bytes);
            (session.observe)(Event::Note(note));
        }
        if finished.status == strata_exec::Status::Exited(0) {
            return Ok(());
        }
        Err(BuildError::Command {
            step: self.index,
            span: self.planned().span,
            command: op.command(),
            status: finished.status,
            log: log.exists().then_some(log),
        })
    }

    /// One log for each place in a project: the latest run's.
    fn log_path(&self) -> PathBuf {
        let step = self.planned();
        let name = format!("{}\0{}\0{}", self.session.request.project, step.stage, step.ordinal);
        let name = strata_cas::BlobId::of(name.as_bytes()).to_string();
        self.session.builder.places.logs.join(format!("{}.log", &name[..16]))
    }

    fn mounts(&self, op: &RunOp) -> Result<Mounts, BuildError> {
        let mut mounts = Mounts::default();
        for (number, mount) in op.mounts.iter().enumerate() {
            let (target, kind) = match mount {
                RunMount::Bind { from, target, read_only, .. } => {
                    let staging = self.session.builder.store.stage()?;
                    let source = self.show(number + 1, from, &staging.fs())?;
                    mounts._staged.push(staging);
                    (target, MountKind::Bind { source, read_only: *read_only })
                }
                RunMount::Cache { target, read_only, .. } => {
                    let (source, lock) = self.cache(number + 1, mount)?;
                    mounts._locks.push(lock);
                    (target, MountKind::Bind { source, read_only: *read_only })
                }
                RunMount::Tmpfs { target, size_bytes } => {
                    (target, MountKind::Tmpfs { size_bytes: *size_bytes, mode: 0o1777 })
                }
                RunMount::Secret { required: false, .. }
                | RunMount::Ssh { required: false, .. } => {
                    continue;
                }
                RunMount::Secret { .. } => return Err(self.unsupported("a secret mount")),
                RunMount::Ssh { .. } => return Err(self.unsupported("an ssh mount")),
            };
            mounts.mounts.push(Mount { target: target.clone(), kind });
        }
        Ok(mounts)
    }

    fn unsupported(&self, what: &'static str) -> BuildError {
        BuildError::Unsupported { span: self.planned().span, what }
    }

    /// Makes a copy of what a mount selects, for this run alone, and says where it stands: what
    /// is written to it is lost.
    fn show(&self, mount: usize, from: &Source, into: &Path) -> Result<PathBuf, BuildError> {
        let session = self.session;
        let selection: Arc<Selection> = match session.selection(self.index, mount)? {
            Some(selection) => selection,
            None => {
                let root = match from {
                    Source::Step(step) => session.root(*step)?,
                    Source::Context(_) => session.root(None)?,
                };
                Arc::new(session.select_from(self.index, mount, &session.view(&root)?)?)
            }
        };
        let empty = session.root(None)?;
        let target = session.view(&empty)?;
        let mut laying = Laying::new(&target, None, Time::default());
        let failed = |_| BuildError::copy(self.planned().span, "the mount can not be made");
        laying.selection(&selection, "/show/").map_err(failed)?;
        if let Source::Context(name) = from
            && let Some(root) = session.context_path(name)
        {
            bring_files(session.builder.store, root, &laying.blobs)?;
        }
        let layer: Layer = laying.into_layer().map_err(failed)?;
        let form = layers::overlay_form();
        strata_image::materialise(&layer, session.builder.store, into, form)?;
        let file = selection.matches.first().and_then(|found| match &found.picked.what {
            crate::selection::What::Directory(_) => None,
            _ => Some(found.name.clone()),
        });
        let shown = into.join("show");
        Ok(match file.and_then(|name| TreePath::new(name).ok()) {
            Some(name) => shown.join(name.to_string()),
            None => shown,
        })
    }

    /// The directory of a cache mount, locked as its sharing asks.
    fn cache(&self, number: usize, mount: &RunMount) -> Result<(PathBuf, File), BuildError> {
        let RunMount::Cache { id, seed, sharing, mode, uid, gid, .. } = mount else {
            return Err(self.unsupported("this mount"));
        };
        let name = strata_cas::BlobId::of(id.as_bytes()).to_string();
        let base = self.session.builder.places.caches.join(&name[..32]);
        let action = || BuildError::io(format!("make the cache `{}`", base.display()));
        let lock = File::create(base.with_extension("lock")).map_err(action())?;
        // A new cache is made by one process while the others wait.
        lock.lock().map_err(action())?;
        let path = base.join("fs");
        if !path.exists() {
            std::fs::create_dir_all(&base).map_err(action())?;
            let new = base.join("new");
            drop(std::fs::remove_dir_all(&new));
            std::fs::DirBuilder::new().mode(0o700).create(&new).map_err(action())?;
            let mut made = new.clone();
            if let Some((from, _)) = seed {
                made = self.show(number, from, &new)?;
            } else {
                let permissions = std::fs::Permissions::from_mode(*mode);
                std::fs::set_permissions(&made, permissions).map_err(action())?;
                chown(&made, Some(*uid), Some(*gid)).map_err(action())?;
            }
            std::fs::rename(&made, &path).map_err(action())?;
        }
        if *sharing == Sharing::Shared {
            lock.unlock().map_err(action())?;
            lock.lock_shared().map_err(action())?;
        }
        Ok((path, lock))
    }
}

/// The file of a here-document that begins with `#!`.
fn script_mount(
    staging: &Staging,
    script: &strata_dockerfile::Script,
) -> Result<Mount, BuildError> {
    let path = staging.path().join("script");
    let action = || BuildError::io(format!("write `{}`", path.display()));
    std::fs::write(&path, &script.body).map_err(action())?;
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, permissions).map_err(action())?;
    let kind = MountKind::Bind { source: path, read_only: true };
    Ok(Mount { target: script.path.clone(), kind })
}
