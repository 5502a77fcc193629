//! What a RUN gets besides its root: `--mount`, in the order in which BuildKit makes them.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use strata_cas::{Layer, Staging, Store, StoreError, Time, TreePath};
use strata_exec::{Attachments, Mount, MountKind, Secret};
use strata_plan::{RunMount, RunOp, Source};

use crate::agent::LentAgent;
use crate::caches::{CacheName, Lease};
use crate::copy::bring_files;
use crate::lay::Laying;
use crate::selection::Selection;
use crate::step::BuildStep;
use crate::{BuildError, layers};

/// Mounts of one run, and what must live as long as it.
#[derive(Default)]
pub(crate) struct Mounts<'a> {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) secret_env: Vec<(String, usize)>,
    pub(crate) secrets: Vec<&'a Secret>,
    leases: Vec<Lease>,
    agents: Vec<LentAgent>,
    /// Directories that are gone after the run.
    staged: Vec<Staging>,
}

impl Mounts<'_> {
    /// Has what the run writes into its caches counted with what it writes into `staging`. To be
    /// called while nothing is written: what they hold now is there already.
    pub(crate) fn count_with(
        &self,
        staging: &Staging,
        store: &dyn Store,
    ) -> Result<(), StoreError> {
        self.leases.iter().for_each(|lease| staging.write_beside(lease.path().to_owned()));
        store.allow(staging).map(drop)
    }

    /// What of it goes along with the job.
    pub(crate) fn attached<T>(
        &self,
        watch: &dyn Fn() -> Option<Duration>,
        with: impl FnOnce(&Attachments<'_>) -> T,
    ) -> T {
        let held: Vec<BorrowedFd<'_>> =
            self.leases.iter().map(|lease| lease.lock().as_fd()).collect();
        with(&Attachments { secrets: &self.secrets, held: &held, watch: Some(watch) })
    }
}

impl<'s> BuildStep<'s> {
    /// Everything that the run's `--mount`s ask for. A mount inside of another one comes after it,
    /// and secrets and sockets last, whatever the order in the Dockerfile.
    pub(crate) fn mounts(&self, op: &RunOp, staging: &Staging) -> Result<Mounts<'s>, BuildError> {
        let mut mounts = Mounts::default();
        let leases = self.leases(op)?;
        let mut files = Vec::new();
        let mut lent = Vec::new();
        for (number, mount) in op.mounts.iter().enumerate() {
            match mount {
                RunMount::Bind { from, target, read_only, .. } => {
                    let staging = self.session.builder.store.stage()?;
                    let source = self.show(number + 1, from, &staging.fs())?;
                    mounts.staged.push(staging);
                    let kind = MountKind::Bind { source, read_only: *read_only };
                    files.push(Mount { target: target.clone(), kind });
                }
                RunMount::Cache { target, read_only, .. } => {
                    let name = self.cache_name(number + 1, mount)?;
                    let lease = leases.iter().find(|lease| Some(lease.name()) == name.as_ref());
                    let Some(lease) = lease else { continue };
                    let source = lease.path().to_owned();
                    let kind = MountKind::Bind { source, read_only: *read_only };
                    files.push(Mount { target: target.clone(), kind });
                }
                RunMount::Tmpfs { target, size_bytes } => {
                    let kind = MountKind::Tmpfs { size_bytes: *size_bytes };
                    files.push(Mount { target: target.clone(), kind });
                }
                RunMount::Secret { .. } => lent.extend(self.secret(mount, &mut mounts)?),
                RunMount::Ssh { .. } => lent.extend(self.agent(mount, &mut mounts)?),
            }
        }
        files.sort_by(|a, b| a.target.cmp(&b.target));
        mounts.mounts = [files, lent].concat();
        mounts.leases = leases;
        if let Some(script) = &op.script {
            mounts.mounts.push(script_mount(staging, script)?);
        }
        Ok(mounts)
    }

    /// A secret's file; its variable goes into the environment.
    fn secret(
        &self,
        mount: &RunMount,
        mounts: &mut Mounts<'s>,
    ) -> Result<Option<Mount>, BuildError> {
        let RunMount::Secret { id, target, env, required, mode, uid, gid } = mount else {
            return Ok(None);
        };
        let credentials = &self.session.builder.credentials;
        let lent = credentials.secret(id);
        if lent.is_none() && *required {
            return Err(self.not_lent("secret", id));
        }
        let number = mounts.secrets.len();
        mounts.secrets.push(lent.unwrap_or_else(|| credentials.nothing()));
        // As with BuildKit, the variable is there also where the secret is not.
        mounts.secret_env.extend(env.clone().map(|name| (name, number)));
        let (mode, uid, gid) = (*mode, *uid, *gid);
        Ok(target
            .clone()
            .filter(|_| lent.is_some())
            .map(|target| Mount { target, kind: MountKind::Secret { number, mode, uid, gid } }))
    }

    /// An agent's socket.
    fn agent(
        &self,
        mount: &RunMount,
        mounts: &mut Mounts<'s>,
    ) -> Result<Option<Mount>, BuildError> {
        let RunMount::Ssh { id, target: Some(target), required, mode, uid, gid } = mount else {
            return Ok(None);
        };
        let Some(upstream) = self.session.builder.credentials.agent(id) else {
            return if *required { Err(self.not_lent("ssh", id)) } else { Ok(None) };
        };
        let staging = self.session.builder.store.stage()?;
        let lent = LentAgent::lend(upstream, staging.path(), "agent")
            .map_err(BuildError::io("make the ssh agent's socket"))?;
        let source = lent.socket().to_owned();
        mounts.agents.push(lent);
        mounts.staged.push(staging);
        let kind = MountKind::Socket { source, mode: *mode, uid: *uid, gid: *gid };
        Ok(Some(Mount { target: target.clone(), kind }))
    }

    fn not_lent(&self, kind: &'static str, id: &str) -> BuildError {
        let known = match kind {
            "secret" => {
                strata_dockerfile::suggest(id, self.session.builder.credentials.secret_ids())
            }
            _ => None,
        };
        let nearest = known.map(str::to_owned);
        BuildError::NotLent { span: self.planned().span, kind, id: id.to_owned(), nearest }
    }

    /// The directories of the run's cache mounts, each once, locked as their sharing asks. They
    /// are locked in the order of their names, so that no two runs can wait for each other.
    fn leases(&self, op: &RunOp) -> Result<Vec<Lease>, BuildError> {
        let mut wanted: Vec<(CacheName, strata_dockerfile::Sharing, usize)> = Vec::new();
        for (number, mount) in op.mounts.iter().enumerate() {
            let RunMount::Cache { sharing, .. } = mount else { continue };
            let Some(name) = self.cache_name(number + 1, mount)? else { continue };
            match wanted.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, known, _)) => *known = stricter(*known, *sharing),
                None => wanted.push((name, *sharing, number)),
            }
        }
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        let lease = |(name, sharing, number): (CacheName, _, usize)| {
            let make = |place: &Path| match &op.mounts[number] {
                RunMount::Cache { seed: Some((from, _)), .. } => {
                    self.show(number + 1, from, place).map(Some)
                }
                _ => Ok(None),
            };
            self.session.lease(&name, sharing, &make)
        };
        wanted.into_iter().map(lease).collect()
    }

    /// What tells a cache mount from others.
    fn cache_name(&self, number: usize, mount: &RunMount) -> Result<Option<CacheName>, BuildError> {
        let RunMount::Cache { id, seed, mode, uid, gid, .. } = mount else { return Ok(None) };
        let seed = match seed {
            Some((from, _)) => {
                let selection = self.mounted(number, from)?;
                Some(selection.keep(&self.session.nodes)?.to_string())
            }
            None => None,
        };
        Ok(Some(CacheName { id: id.clone(), seed, mode: *mode, uid: *uid, gid: *gid }))
    }

    /// What a mount selects from where its files come from.
    fn mounted(&self, mount: usize, from: &Source) -> Result<Arc<Selection>, BuildError> {
        let session = self.session;
        if let Some(selection) = session.selection(self.index, mount)? {
            return Ok(selection);
        }
        let root = match from {
            Source::Step(step) => session.root(*step)?,
            Source::Context(_) => session.root(None)?,
        };
        Ok(Arc::new(session.select_from(self.index, mount, &session.view(&root)?)?))
    }

    /// Makes a copy of what a mount selects, for this run alone, and says where it stands: what
    /// is written to it is lost.
    fn show(&self, mount: usize, from: &Source, into: &Path) -> Result<PathBuf, BuildError> {
        let session = self.session;
        let selection = self.mounted(mount, from)?;
        let empty = session.root(None)?;
        let target = session.view(&empty)?;
        let mut laying = Laying::new(&target, None, Time::default());
        let failed = |_| BuildError::copy(self.planned().span, "the mount can not be made");
        if let Some(found) = selection.matches.first()
            && matches!(found.picked.what, crate::selection::What::Directory(_))
            // A context's own root is a directory of the machine, which nobody has to know.
            && !(matches!(from, Source::Context(_)) && found.picked.path.is_root())
            && let Ok(shown) = TreePath::new("show")
        {
            laying.make_directory_like(&shown, &found.picked);
        }
        laying.selection(&selection, "/show/").map_err(failed)?;
        if let Source::Context(name) = from
            && let Some(root) = session.context_path(name)
        {
            bring_files(session.builder.store, root, &laying.blobs)?;
        }
        session.fill(from, laying.blobs.iter().map(|(blob, _)| blob))?;
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
}

/// A cache that one RUN mounts twice is one lease: the stricter sharing counts.
fn stricter(
    one: strata_dockerfile::Sharing,
    other: strata_dockerfile::Sharing,
) -> strata_dockerfile::Sharing {
    use strata_dockerfile::Sharing::{Locked, Private, Shared};
    match (one, other) {
        (Locked, _) | (_, Locked) => Locked,
        (Private, _) | (_, Private) => Private,
        (Shared, Shared) => Shared,
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
