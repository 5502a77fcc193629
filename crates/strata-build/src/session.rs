//! One build at work: what its steps share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use strata_cas::{BlobId, Directory, Layer, LayerId, Record, TreeId, TreePath};
use strata_dockerfile::Span;
use strata_engine::{Outcome, Verification};
use strata_plan::{CopyOp, GitSource, Op, Plan, RemoteSource, RunMount, Source, StepIndex};
use strata_scan::{IgnoreRules, Scan, ScanRequest, scan};

use crate::fetch::{BuildOrFetch, Fetching};
use crate::layers::{self, Payload, StackedRoot, StepLayer};
use crate::nodes::Nodes;
use crate::resolve::Base;
use crate::selection::{self, Match, SelectError, Selection, select, select_fetched, select_path};
use crate::shared::{Finished, Lookups};
use crate::states::FailedState;
use crate::tars::Tars;
use crate::view::{ContextView, RootView, View};
use crate::{
    BuildError, BuildRequest, Builder, Context, Event, FetchedTree, History, Observer, PastBuild,
    Verified, why,
};

/// What the steps of one build share.
pub(crate) struct Session<'a> {
    pub(crate) builder: &'a Builder<'a>,
    pub(crate) request: &'a BuildRequest,
    pub(crate) plan: &'a Plan,
    pub(crate) bases: &'a [(strata_plan::ImageNeed, Base)],
    pub(crate) observe: Observer<'a>,
    pub(crate) nodes: Nodes<'a>,
    /// What steps select from contexts, by name only; the second number is the mount's, 0 for a
    /// COPY.
    pub(crate) selected: HashMap<(StepIndex, usize), TreeId>,
    /// Steps that run whatever the cache says, besides those that the plan says so of.
    pub(crate) forced: BTreeSet<StepIndex>,
    earlier: OnceLock<Option<PastBuild>>,
    scans: HashMap<String, Scan>,
    fetched: HashMap<String, FetchedTree>,
    selections: Mutex<HashMap<(StepIndex, usize), Arc<Selection>>>,
    /// What the references of repositories name at the moment.
    commits: HashMap<GitSource, String>,
    /// Held while a repository is checked out: one at a time, each once.
    checkouts: Mutex<()>,
    roots: Mutex<HashMap<StepIndex, Arc<StackedRoot>>>,
    failed: Mutex<Option<FailedState>>,
    pub(crate) tars: Tars<'a>,
    values: Mutex<HashMap<LayerId, Arc<Layer>>>,
}

impl<'a> Session<'a> {
    /// Scans the contexts for what the plan selects.
    pub(crate) fn begin(
        builder: &'a Builder<'a>,
        request: &'a BuildRequest,
        plan: &'a Plan,
        bases: &'a [(strata_plan::ImageNeed, Base)],
        observe: Observer<'a>,
    ) -> Result<Self, BuildError> {
        let mut session = Self {
            builder,
            request,
            plan,
            bases,
            observe,
            nodes: Nodes::new(builder.store, Lookups::new(builder.caches, observe)),
            selected: HashMap::new(),
            forced: BTreeSet::new(),
            earlier: OnceLock::new(),
            scans: HashMap::new(),
            fetched: HashMap::new(),
            selections: Mutex::default(),
            commits: HashMap::new(),
            checkouts: Mutex::default(),
            roots: Mutex::default(),
            failed: Mutex::default(),
            tars: Tars::new(builder.store, builder.cancel),
            values: Mutex::default(),
        };
        session.select_inline()?;
        for (name, users) in users_of_contexts(plan) {
            session.select_in_context(&name, &users)?;
        }
        session.select_remotes()?;
        Ok(session)
    }

    /// Selects for copies that have nothing but here-documents: no context and no root is needed.
    fn select_inline(&mut self) -> Result<(), BuildError> {
        for (index, step) in self.plan.steps.iter().enumerate() {
            if let Op::Copy(copy) = &step.op
                && !copy.has_paths()
            {
                let nothing = RootView::new(self.builder.store, None, Vec::new());
                let selected = selection::name(copy, &nothing)
                    .map_err(|error| self.not_selected(index, 0, error, None))?;
                self.selected.insert((index, 0), selected);
            }
        }
        Ok(())
    }

    /// Downloads what steps want, and asks for the commits that they want.
    fn select_remotes(&mut self) -> Result<(), BuildError> {
        let fetching = self.fetching();
        for (index, step) in self.plan.steps.iter().enumerate() {
            let Op::Copy(copy) = &step.op else { continue };
            for (number, remote) in copy.remotes() {
                let span = copy.sources.get(number).map_or(step.span, |source| source.span);
                match remote {
                    RemoteSource::Git(source) if self.commits.contains_key(source) => {}
                    RemoteSource::Git(source) => {
                        (self.observe)(Event::Fetching { what: &remote.shown() });
                        let commit = fetching.commit(source);
                        let commit =
                            commit.map_err(|error| BuildOrFetch::from(error).of(remote, span))?;
                        self.commits.insert(source.clone(), commit);
                    }
                    RemoteSource::Http(source) => {
                        let fetched = fetching.file(source, &self.nodes);
                        let fetched = fetched.map_err(|error| error.of(remote, span))?;
                        let view = fetched.view(&self.nodes);
                        let matches = select_fetched(copy, number, &view)
                            .map_err(|error| self.not_selected(index, 0, error, None))?;
                        self.add_fetched(index, matches)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds what was downloaded to what a step selects.
    fn add_fetched(&mut self, step: StepIndex, matches: Vec<Match>) -> Result<(), BuildError> {
        let known = self.selection(step, 0)?;
        let mut selection = known.map(|known| Selection::clone(&known)).unwrap_or_default();
        selection.add(matches);
        self.selected.insert((step, 0), selection.keep(&self.nodes)?);
        let selections = self.selections.get_mut().unwrap_or_else(PoisonError::into_inner);
        selections.insert((step, 0), Arc::new(selection));
        Ok(())
    }

    pub(crate) fn fetching(&self) -> Fetching<'a> {
        self.builder.fetching(self.observe)
    }

    /// What contexts that were fetched are.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &crate::Material> {
        self.fetched.values().filter_map(|tree| tree.origin.as_ref())
    }

    /// The commit that a repository's reference names.
    pub(crate) fn commit(&self, source: &GitSource) -> Option<&str> {
        self.commits.get(source).map(String::as_str)
    }

    /// Adds the files of repositories to what a step selects: they are there only when it runs.
    pub(crate) fn select_repositories(
        &self,
        step: StepIndex,
        copy: &CopyOp,
        selection: &mut Selection,
    ) -> Result<(), BuildError> {
        for (number, source) in copy.repositories() {
            let Some(commit) = self.commit(source) else { continue };
            let place = &copy.sources[number];
            let fetched = {
                let _alone = self.checkouts.lock().unwrap_or_else(PoisonError::into_inner);
                self.fetching().check_out(source, commit)
            };
            let remote = RemoteSource::Git(source.clone());
            let fetched = fetched.map_err(|error| error.of(&remote, place.span))?;
            let matches = select_fetched(copy, number, &fetched.view(self.builder.store))
                .map_err(|error| self.not_selected(step, 0, error, None))?;
            selection.add(matches);
        }
        Ok(())
    }

    /// Selects what a context's users want of it.
    fn select_in_context(
        &mut self,
        name: &str,
        users: &[(StepIndex, usize)],
    ) -> Result<(), BuildError> {
        let span = self.plan.steps[users[0].0].span;
        let fetched = match self.request.contexts.get(name) {
            Some(Context::Tree(tree)) => tree.clone(),
            Some(Context::Remote(source)) => {
                self.fetching().context(source).map_err(|error| error.of(source, span))?
            }
            _ => return self.scan(name, users),
        };
        let view = fetched.view(self.builder.store);
        for (step, mount) in users {
            let selected = self.name_for(*step, *mount, &view);
            let selected =
                selected.map_err(|error| self.not_selected(*step, *mount, error, None))?;
            self.selected.insert((*step, *mount), selected);
        }
        drop(view);
        self.fetched.insert(name.to_owned(), fetched);
        Ok(())
    }

    /// Names what a step selects from a view.
    fn name_for(
        &self,
        step: StepIndex,
        mount: usize,
        view: &dyn View,
    ) -> Result<TreeId, SelectError> {
        match &self.plan.steps[step].op {
            Op::Copy(copy) => selection::name(copy, view),
            op => selection::name_path(view, &mount_source(op, mount).unwrap_or_default()),
        }
    }

    /// The name of what a step selects from another step's root.
    pub(crate) fn name_from(
        &self,
        step: StepIndex,
        mount: usize,
        view: &dyn View,
    ) -> Result<TreeId, BuildError> {
        let named = self.name_for(step, mount, view);
        named.map_err(|error| self.not_selected(step, mount, error, None))
    }

    /// What a step selects from a context, file by file; none if it selects nothing from one.
    pub(crate) fn selection(
        &self,
        step: StepIndex,
        mount: usize,
    ) -> Result<Option<Arc<Selection>>, BuildError> {
        let mut selections = self.selections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(selection) = selections.get(&(step, mount)) {
            return Ok(Some(selection.clone()));
        }
        if !self.selected.contains_key(&(step, mount)) {
            return Ok(None);
        }
        let sources = sources(&self.plan.steps[step].op);
        let context = sources.iter().find_map(|(number, source)| match source {
            Source::Context(name) if *number == mount => Some(name),
            _ => None,
        });
        let scanned = context.and_then(|name| self.scans.get(name));
        let fetched = context.and_then(|name| self.fetched.get(name));
        let selection = match (scanned, fetched) {
            (Some(scanned), _) => self.select_from(step, mount, &ContextView(scanned))?,
            (None, Some(fetched)) => {
                self.select_from(step, mount, &fetched.view(self.builder.store))?
            }
            (None, None) => {
                let nothing = RootView::new(self.builder.store, None, Vec::new());
                self.select_from(step, mount, &nothing)?
            }
        };
        let selection = Arc::new(selection);
        selections.insert((step, mount), selection.clone());
        Ok(Some(selection))
    }

    /// The project's build before this one, for explanations only.
    pub(crate) fn earlier(&self) -> Option<&PastBuild> {
        let read = || {
            let history = History::new(&self.builder.places.builds);
            history.latest(&self.request.project).ok().flatten()
        };
        self.earlier.get_or_init(read).as_ref()
    }

    /// What came of running a hit again, in the plan's terms.
    pub(crate) fn verified(&self, step: StepIndex, verification: &Verification) -> Verified {
        match verification {
            Verification::Same => Verified::Same,
            Verification::Failed => Verified::Failed,
            Verification::Differs(paths) => {
                Verified::Differs { files: why::differing_files(self.plan, step, paths) }
            }
        }
    }

    /// Scans one context and selects what its users want.
    fn scan(&mut self, name: &str, users: &[(StepIndex, usize)]) -> Result<(), BuildError> {
        let span = self.plan.steps[users[0].0].span;
        let (path, rules) = self.directory(name, span)?;
        let mut wanted = Vec::new();
        for (step, mount) in users {
            match &self.plan.steps[*step].op {
                Op::Copy(copy) => wanted.extend(selection::wanted(copy)),
                op => wanted
                    .extend(mount_source(op, *mount).map(|path| strata_scan::Glob::literal(&path))),
            }
        }
        let stamps = self.builder.places.stamps.of(&path);
        let request = ScanRequest {
            root: &path,
            rules: &rules,
            wanted: &wanted,
            stamps: stamps.as_deref(),
            threads: 0,
        };
        let scanned = scan(&request)
            .map_err(|source| BuildError::Context { context: name.to_owned(), source })?;
        (self.observe)(Event::Scanned { context: name, stats: scanned.stats() });
        for note in scanned.notes() {
            (self.observe)(Event::Note(words_of(note)));
        }
        let view = ContextView(&scanned);
        for (step, mount) in users {
            let selected = self
                .name_for(*step, *mount, &view)
                .map_err(|error| self.not_selected(*step, *mount, error, Some((&rules, &path))))?;
            self.selected.insert((*step, *mount), selected);
        }
        self.scans.insert(name.to_owned(), scanned);
        Ok(())
    }

    /// A context's directory and ignore rules.
    fn directory(&self, name: &str, span: Span) -> Result<(PathBuf, IgnoreRules), BuildError> {
        match self.request.contexts.get(name) {
            Some(Context::Directory { path, ignore }) => {
                let rules = IgnoreRules::parse(ignore).map_err(|error| BuildError::IgnoreFile {
                    context: name.to_owned(),
                    message: error.to_string(),
                })?;
                Ok((path.clone(), rules))
            }
            _ => Err(BuildError::copy(span, "there is no build context with files")),
        }
    }

    /// Where a context lies on this machine.
    pub(crate) fn context_path(&self, name: &str) -> Option<&Path> {
        match self.request.contexts.get(name) {
            Some(Context::Directory { path, .. }) => Some(path),
            _ => None,
        }
    }

    /// Says what could not be selected, and where it is asked for.
    pub(crate) fn not_selected(
        &self,
        step: StepIndex,
        mount: usize,
        error: SelectError,
        context: Option<(&IgnoreRules, &Path)>,
    ) -> BuildError {
        let step = &self.plan.steps[step];
        let span_of = |source: usize| match &step.op {
            Op::Copy(copy) => copy.sources.get(source).map_or(step.span, |source| source.span),
            _ => step.span,
        };
        let is_of_context = match &step.op {
            Op::Copy(copy) => matches!(copy.from, Source::Context(_)),
            op => sources(op)
                .iter()
                .any(|(number, source)| *number == mount && matches!(source, Source::Context(_))),
        };
        let place = if is_of_context { "the build context" } else { "that stage" };
        match error {
            SelectError::Tree(error) => error.into(),
            SelectError::NothingFits { source, above } => {
                let span = span_of(source);
                let hint = context.and_then(|(rules, root)| why_not(rules, root, &above));
                let message = format!("nothing in `/{above}` of {place} fits this pattern");
                BuildError::Copy { span, message, hint }
            }
            SelectError::BadPattern { source, reason } => BuildError::copy(span_of(source), reason),
            SelectError::LeadsNowhere { source, path } => BuildError::Copy {
                span: span_of(source),
                message: format!("`/{path}` is a link that leads nowhere"),
                hint: Some("`--exclude` does not help here: write a pattern without it".into()),
            },
            SelectError::NotFound { source, path } => {
                let what = if mount > 0 { "mount source" } else { "source" };
                let hint = context.and_then(|(rules, root)| why_not(rules, root, &path));
                let message = format!("{what} `/{path}` is not in {place}");
                BuildError::Copy { span: span_of(source), message, hint }
            }
        }
    }

    /// Remembers what a finished step gives, for the steps that build on it.
    pub(crate) fn done(&self, step: StepIndex, outcome: &Outcome) -> Result<(), BuildError> {
        let own = Payload::decode(&outcome.record.payload)?.layers;
        let mut layers: Vec<StepLayer> = match self.plan.steps[step].parent {
            Some(parent) => self.root(Some(parent))?.layers.clone(),
            None => Vec::new(),
        };
        layers.extend(own);
        let root = StackedRoot { layers, tree: outcome.record.tree };
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        roots.insert(step, Arc::new(root));
        Ok(())
    }

    /// The root that a finished step gives; without one, the empty root.
    pub(crate) fn root(&self, step: Option<StepIndex>) -> Result<Arc<StackedRoot>, BuildError> {
        let Some(step) = step else {
            let tree = Directory::empty_root().keep(self.builder.store)?;
            return Ok(Arc::new(StackedRoot { layers: Vec::new(), tree }));
        };
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        roots.get(&step).cloned().ok_or_else(|| BuildError::Damaged {
            what: "plan",
            reason: format!("step {step} is used before it is done"),
        })
    }

    /// The root that a step has given, if it is done.
    pub(crate) fn known_root(&self, step: StepIndex) -> Option<Arc<StackedRoot>> {
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        roots.get(&step).cloned()
    }

    /// Notes what a command that failed has left; the first one counts.
    pub(crate) fn set_failed(&self, failed: Option<FailedState>) {
        let mut first = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *first = first.take().or(failed);
    }

    /// The command that failed, and what it has left.
    pub(crate) fn failed(&self) -> Option<FailedState> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A step that is done, as other machines get it; none for one without a root of its own.
    pub(crate) fn finished(
        &self,
        step: StepIndex,
        record: Arc<Record>,
        of_image: &BTreeSet<StepIndex>,
    ) -> Option<Finished> {
        let root = self.root(Some(step)).ok()?;
        let planned = &self.plan.steps[step];
        let of_registry = |_: &strata_oci::Reference| {
            let Op::Image(op) = &planned.op else { return false };
            let base = self.bases.iter().find(|(need, _)| *need == op.need);
            base.is_some_and(|(_, base)| base.is_of_registry())
        };
        let origin = crate::shared::origin(planned, of_registry);
        let of_image = of_image.contains(&step);
        let linked = match &planned.op {
            Op::Copy(op) if op.link => {
                let slices = record.inputs.iter().skip(usize::from(planned.parent.is_some()));
                let slices: Vec<TreeId> = slices.copied().collect();
                Some(strata_engine::linked_key(&record.facts, &slices))
            }
            _ => None,
        };
        Some(Finished { record, linked, root, origin, of_image })
    }

    /// A layer's value, read once a build.
    fn value(&self, id: &LayerId) -> Result<Arc<Layer>, BuildError> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layer) = values.get(id) {
            return Ok(layer.clone());
        }
        let layer = layers::load(self.builder.store, id)?;
        values.insert(*id, layer.clone());
        Ok(layer)
    }

    /// The directories that show a root, for a sandbox. Layers that are elsewhere are fetched.
    pub(crate) fn lowers(&self, root: &StackedRoot) -> Result<Vec<PathBuf>, BuildError> {
        (0..root.layers.len()).try_for_each(|at| self.bring(&root.layers[..=at]))?;
        let ids: Vec<LayerId> = root.layers.iter().map(StepLayer::id).collect();
        layers::snapshots(self.builder.store, &ids)
    }

    /// Brings the files of the uppermost layer of a stack here, if they are not.
    fn bring(&self, stack: &[StepLayer]) -> Result<(), BuildError> {
        match stack.last() {
            Some(layer) if !layers::files_are_there(self.builder.store, &layer.id())? => {
                self.builder.shelf().bring(&self.tars.stack(stack)?)
            }
            _ => Ok(()),
        }
    }

    /// Fetches those layers of a source's root that have these blobs, if they are elsewhere.
    pub(crate) fn fill<'b>(
        &self,
        from: &Source,
        blobs: impl Iterator<Item = &'b BlobId>,
    ) -> Result<(), BuildError> {
        let Source::Step(step) = from else { return Ok(()) };
        let store = self.builder.store;
        let mut missing = BTreeSet::new();
        for blob in blobs {
            if !store.has(blob)? {
                missing.insert(*blob);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let root = self.root(*step)?;
        for (at, layer) in root.layers.iter().enumerate() {
            let value = self.value(&layer.id())?;
            if value.blobs().any(|(blob, _)| missing.contains(&blob)) {
                self.bring(&root.layers[..=at])?;
            }
        }
        Ok(())
    }

    /// A look into a step's root, times included.
    pub(crate) fn view(&self, root: &StackedRoot) -> Result<RootView<'_>, BuildError> {
        let layers: Result<Vec<_>, _> =
            root.layers.iter().map(|layer| self.value(&layer.id())).collect();
        Ok(RootView::new(&self.nodes, Some(root.tree), layers?))
    }

    /// A look into a tree alone.
    pub(crate) fn tree_view(&self, tree: TreeId) -> RootView<'_> {
        RootView::new(&self.nodes, Some(tree), Vec::new())
    }

    /// What a step selects from another step's root.
    pub(crate) fn select_from(
        &self,
        step: StepIndex,
        mount: usize,
        view: &dyn View,
    ) -> Result<Selection, BuildError> {
        let selected = match &self.plan.steps[step].op {
            Op::Copy(copy) => select(copy, view),
            op => select_path(view, &mount_source(op, mount).unwrap_or_default()),
        };
        selected.map_err(|error| self.not_selected(step, mount, error, None))
    }
}

/// For each context, which steps' copies (mount 0) and mounts (from 1) use it.
fn users_of_contexts(plan: &Plan) -> BTreeMap<String, Vec<(StepIndex, usize)>> {
    let mut users: BTreeMap<String, Vec<(StepIndex, usize)>> = BTreeMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        for (mount, source) in sources(&step.op) {
            if let Source::Context(name) = source {
                users.entry(name.clone()).or_default().push((index, mount));
            }
        }
    }
    users
}

/// Where a step's files come from, besides its parent: 0 for a COPY, mounts from 1.
pub(crate) fn sources(op: &Op) -> Vec<(usize, &Source)> {
    match op {
        Op::Copy(copy) if !copy.has_paths() => Vec::new(),
        Op::Copy(copy) => vec![(0, &copy.from)],
        Op::Run(run) => {
            let mounts = run.mounts.iter().enumerate().filter_map(|(number, mount)| match mount {
                RunMount::Bind { from, .. } | RunMount::Cache { seed: Some((from, _)), .. } => {
                    Some((number + 1, from))
                }
                _ => None,
            });
            mounts.collect()
        }
        Op::Image(_) | Op::MakeDirectory(_) => Vec::new(),
    }
}

/// The path that a mount shows.
fn mount_source(op: &Op, mount: usize) -> Option<TreePath> {
    let Op::Run(run) = op else { return None };
    match run.mounts.get(mount.checked_sub(1)?)? {
        RunMount::Bind { source, .. } | RunMount::Cache { seed: Some((_, source)), .. } => {
            Some(TreePath::normalise(source.as_bytes()))
        }
        _ => None,
    }
}

/// Why a path is not in a context, if that can be told.
fn why_not(rules: &IgnoreRules, root: &Path, path: &TreePath) -> Option<String> {
    if rules.excludes(path) {
        return Some(format!("the ignore file leaves `{path}` out"));
    }
    if root.join(path.to_string()).is_dir() {
        return Some("a pattern below a directory must fit something".to_owned());
    }
    let parent = path.parent().unwrap_or_default();
    // The scan has seen only what is wanted; what is beside it is asked of the disk.
    let directory = root.join(parent.to_string());
    let names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    let wanted = String::from_utf8_lossy(path.name()).into_owned();
    let others = names.iter().map(String::as_str).filter(|name| *name != wanted);
    let close = strata_dockerfile::suggest(&wanted, others);
    close.map(|close| format!("did you mean `{close}`?"))
}

fn words_of(note: &strata_scan::Note) -> String {
    match note {
        strata_scan::Note::Socket(path) => {
            format!("`{path}` is a socket: it is left out of the context")
        }
        strata_scan::Note::StampsNotKept(error) => {
            format!(
                "the context's stamps could not be kept, so the next scan takes longer: {error}"
            )
        }
    }
}
