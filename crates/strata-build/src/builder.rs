//! The façade: a request in, a report back.

use std::collections::BTreeSet;
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Mutex;

use strata_cas::{BuildUse, RecordKey, RecordStore, Store};
use strata_dockerfile::Span;
use strata_engine::{
    Build, Event as Evaluated, Failed, Graph, Input, Outcome, Step as _, StepError, StepId,
};
use strata_exec::{Cancel, ReexecCommand, Runtime};
use strata_oci::{ImageConfig, Registry};
use strata_plan::{
    ContextKind, ImageNeed, Plan, PlanError, RemoteSource, ResolvedImage, StepIndex,
};

use crate::far::{Far, Shelf};
use crate::fetch::{self, Caller, FetchedTree, Fetcher, Fetching};
use crate::images::{Images, StoredImage};
use crate::nodes::Nodes;
use crate::places::Places;
use crate::remember::Remembering;
use crate::request::{BuildReport, BuildRequest, Context, Forecast, Outlook, StepReport};
use crate::resolve::{Base, Resolver};
use crate::session::Session;
use crate::shared::{Sending, SharedCaches, steps_of_image};
use crate::step::BuildStep;
use crate::time::rfc3339;
use crate::{BuildError, Credentials, Event, History, Observer, find, material, why};

/// Builds images.
#[derive(Clone, Copy)]
pub struct Builder<'a> {
    /// Where everything is kept.
    pub store: &'a dyn Store,
    /// Where base images come from.
    pub registry: &'a dyn Registry,
    /// Where layers come from that are elsewhere.
    pub far: &'a dyn Far,
    /// Caches that other machines use, too.
    pub caches: &'a SharedCaches<'a>,
    /// Where everything else comes from that is not on this machine.
    pub fetcher: &'a dyn Fetcher,
    /// Directories beside the store's tables.
    pub places: &'a Places,
    /// How commands are run.
    pub sandbox: &'a Sandbox,
    /// Ends the build.
    pub cancel: &'a Cancel,
    /// Secrets and ssh agents.
    pub credentials: &'a Credentials,
}

/// How commands are run.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The program that is started as a run's child.
    pub program: ReexecCommand,
    /// Who makes the sandbox.
    pub runtime: Runtime,
    /// How many bytes of a command's output are passed on.
    pub log_limit_bytes: u64,
}

impl<'a> Builder<'a> {
    pub(crate) fn shelf(&self) -> Shelf<'a> {
        Shelf { store: self.store, far: self.far }
    }

    pub(crate) fn fetching(&self, observe: Observer<'a>) -> Fetching<'a> {
        let Self { store, fetcher, cancel, credentials, .. } = *self;
        Fetching { store, fetcher, caller: Caller { cancel, credentials }, observe }
    }
}

impl Builder<'_> {
    /// Brings a context into the store that is not on this machine.
    ///
    /// # Errors
    ///
    /// When it can not be had, or is an archive that can not be unpacked.
    pub fn fetch_context(
        &self,
        source: &RemoteSource,
        observe: Observer<'_>,
    ) -> Result<FetchedTree, BuildError> {
        let Self { store, fetcher, cancel, credentials, .. } = *self;
        let fetching = Fetching { store, fetcher, caller: Caller { cancel, credentials }, observe };
        fetching.context(source).map_err(|error| error.of(source, Span::default()))
    }

    /// Brings a context into the store that comes as a tar, compressed or not.
    ///
    /// # Errors
    ///
    /// When it can not be read as one.
    pub fn unpack_context(
        &self,
        source: &mut (dyn Read + Send),
    ) -> Result<FetchedTree, BuildError> {
        let Self { store, fetcher, cancel, credentials, .. } = *self;
        let caller = Caller { cancel, credentials };
        Fetching { store, fetcher, caller, observe: &|_| {} }.unpack(source)
    }

    /// Reads a file of a context that was brought into the store: at most `limit` bytes. None if
    /// there is no such file.
    ///
    /// # Errors
    ///
    /// When the store can not be read.
    pub fn read_context_file(
        &self,
        tree: &FetchedTree,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, BuildError> {
        let path = strata_cas::TreePath::normalise(path.as_bytes());
        fetch::read_file(self.store, tree, &path, limit)
    }

    /// Builds an image and gives it its names.
    ///
    /// # Errors
    ///
    /// See [`BuildError`]. What was done before the failure is kept.
    pub fn build(
        &self,
        request: &BuildRequest,
        observe: Observer<'_>,
    ) -> Result<BuildReport, BuildError> {
        let (plan, bases) = self.plan(request, observe)?;
        let planned = Planned { request, plan: &plan, bases: &bases };
        let forced = planned.forced(observe)?;
        observe(Event::Planned(&plan));
        let remembering = Remembering::begin(request, &plan);
        let made = self.make(planned, forced, &remembering, observe);
        let history = History::new(&self.places.builds);
        if let Err(error) = remembering.finish(&history, &made) {
            observe(Event::Note(format!("this build will not be remembered: {error}")));
        }
        made
    }

    fn make(
        &self,
        planned: Planned<'_>,
        forced: BTreeSet<StepIndex>,
        remembering: &Remembering,
        observe: Observer<'_>,
    ) -> Result<BuildReport, BuildError> {
        let Planned { request, plan, bases } = planned;
        let mut session = Session::begin(self, request, plan, bases, observe)?;
        session.forced = forced;
        let graph = graph(&session);
        let outcomes = self.evaluate(&session, &graph, remembering, observe);
        let remembered = session.remember_states();
        let outcomes = outcomes?;
        remembered?;
        let image = self.assemble(&session, &outcomes)?;
        self.remember(request, &outcomes);
        for name in &request.tags {
            Images::new(self.store).tag(&image, name)?;
        }
        let materials = material::of(&session)?;
        let report = report(plan, &outcomes, &image, remembering.id());
        Ok(BuildReport { materials, ..report })
    }

    /// Tells the store what this build has used: what it did not use is the first to go. That it
    /// can not be written is no reason to fail.
    fn remember(&self, request: &BuildRequest, outcomes: &[Outcome]) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let steps: Vec<_> = outcomes.iter().map(|outcome| outcome.definition).collect();
        let target = request.target.as_deref().unwrap_or_default();
        let used = BuildUse {
            project: &request.project,
            target: &format!("{target} {}", request.platform),
            steps: &steps,
            ended: now.unwrap_or_default().as_secs(),
        };
        drop(self.store.finish_build(&used));
    }

    /// Says what a build would do, without doing any of it.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`], as far as a build would fail before its first step.
    pub fn forecast(
        &self,
        request: &BuildRequest,
        observe: Observer<'_>,
    ) -> Result<Forecast, BuildError> {
        let (plan, bases) = self.plan(request, observe)?;
        let forced = Planned { request, plan: &plan, bases: &bases }.forced(observe)?;
        let mut session = Session::begin(self, request, &plan, &bases, observe)?;
        session.forced = forced;
        let outlook = outlook(&session)?;
        drop(session);
        let base = plan.image.base.as_ref();
        let base_layers = base.map_or(0, |base| base.config.rootfs.diff_ids.len());
        Ok(Forecast { outlook, base_layers, plan })
    }

    /// Plans, looking images up until none is missing.
    fn plan(
        &self,
        request: &BuildRequest,
        observe: Observer<'_>,
    ) -> Result<(Plan, Vec<(ImageNeed, Base)>), BuildError> {
        let parse = strata_dockerfile::parse(&request.dockerfile);
        if parse.has_errors() {
            let errors = parse.diagnostics.into_iter().filter(|d| d.is_error());
            return Err(BuildError::Dockerfile(errors.collect()));
        }
        let asked = plan_request(request, &parse.tree);
        let resolver = Resolver {
            store: self.store,
            registry: self.registry,
            contexts: &request.contexts,
            pull: request.pull,
        };
        let mut bases: Vec<(ImageNeed, Base)> = Vec::new();
        loop {
            let known = |need: &ImageNeed| -> Option<ResolvedImage> {
                let base = bases.iter().find(|(known, _)| known == need);
                base.map(|(_, base)| base.resolved.clone())
            };
            match strata_plan::plan(&asked, &known) {
                Ok(plan) => return Ok((plan, bases)),
                Err(PlanError::Wrong(diagnostics)) => {
                    return Err(BuildError::Dockerfile(diagnostics));
                }
                Err(PlanError::Missing(needs)) => {
                    for need in needs {
                        observe(Event::Resolving { image: need.name.to_string() });
                        let base = resolver.resolve(&need)?;
                        bases.push((need, base));
                    }
                }
            }
        }
    }

    fn evaluate(
        &self,
        session: &Session<'_>,
        graph: &Graph<BuildStep<'_>>,
        remembering: &Remembering,
        observe: Observer<'_>,
    ) -> Result<Vec<Outcome>, BuildError> {
        let broken: Mutex<Option<BuildError>> = Mutex::new(None);
        let watch = |event: Evaluated<'_>| match event {
            Evaluated::Waiting(StepId(step), pid) => observe(Event::Waiting { step, pid }),
            Evaluated::Running(StepId(step), reason) => {
                let why = why::explain(session.plan, step, reason, session.earlier());
                observe(Event::Running { step, why: &why });
                remembering.running(step, why);
            }
            Evaluated::Verified(StepId(step), verification) => {
                let verified = session.verified(step, verification);
                observe(Event::Verified { step, verified: &verified });
                remembering.verified(step, verified);
            }
            Evaluated::Done(StepId(step), outcome) => {
                if let Err(error) = session.done(step, outcome)
                    && let Ok(mut broken) = broken.lock()
                {
                    *broken = Some(error);
                }
                remembering.done(step, outcome);
                let (verdict, millis) = (&outcome.verdict, outcome.record.cost.millis);
                observe(Event::Done { step, verdict, millis });
            }
            Evaluated::Failed(StepId(step)) if self.cancel.is_cancelled() => {
                observe(Event::Cancelled { step });
            }
            Evaluated::Failed(StepId(step)) => {
                remembering.failed(step);
                observe(Event::Failed { step });
                // The other steps that run now are of no use any more.
                self.cancel.cancel();
            }
        };
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let jobs = NonZeroUsize::new(session.request.jobs).unwrap_or(cores);
        let is_cancelled = || self.cancel.is_cancelled();
        let mut build = Build::new(&session.nodes).with_jobs(jobs).until(&is_cancelled);
        if let Some(verify) = session.request.verify {
            build = build.with_verification(verify);
        }
        let outcomes = match self.run_and_send(session, graph, &build, &watch, observe) {
            Some(outcomes) => outcomes,
            None => build.run(graph, &watch),
        };
        if let Ok(Some(error)) = broken.into_inner() {
            return Err(error);
        }
        outcomes.map_err(|failed| match failed.error {
            StepError::Step(error) => error,
            StepError::Store(error) => error.into(),
            StepError::Cancelled => BuildError::Cancelled,
        })
    }

    /// Runs the build while another thread sends what is done to caches that other machines use.
    /// None if there is no such cache.
    fn run_and_send<'g>(
        &self,
        session: &'g Session<'g>,
        graph: &Graph<BuildStep<'g>>,
        build: &Build<'_, Nodes<'_>>,
        watch: &(dyn Fn(Evaluated<'_>) + Sync),
        observe: Observer<'_>,
    ) -> Option<Result<Vec<Outcome>, Failed<BuildError>>> {
        let (sending, outbox, inbox) = Sending::new(self.caches, self.shelf(), observe)?;
        let of_image = steps_of_image(session.plan);
        let watch_and_send = move |event: Evaluated<'_>| {
            let done = match &event {
                Evaluated::Done(StepId(step), outcome) => Some((*step, outcome.record.clone())),
                _ => None,
            };
            watch(event);
            if let Some((step, record)) = done
                && let Some(finished) = session.finished(step, record, &of_image)
            {
                // Nobody listens any more when the thread died: then nothing is sent.
                drop(outbox.send(finished));
            }
        };
        let mut outcomes = None;
        std::thread::scope(|scope| {
            scope.spawn(move || sending.work(&inbox, &session.tars));
            outcomes = Some(build.run(graph, &watch_and_send));
            drop(watch_and_send);
        });
        outcomes
    }

    /// Makes the image's config, keeps it, and says what it is.
    fn assemble(
        &self,
        session: &Session<'_>,
        outcomes: &[Outcome],
    ) -> Result<StoredImage, BuildError> {
        let planned = &session.plan.image;
        let root = session.root(planned.root)?;
        let created = |step: Option<usize>| {
            step.map(|step| i64::try_from(outcomes[step].record.created).unwrap_or_default())
        };
        let base = planned.base.as_ref().map(|base| &base.config);
        let mut config = ImageConfig {
            architecture: planned.platform.architecture.clone(),
            os: planned.platform.os.clone(),
            variant: planned.platform.variant.clone(),
            author: planned.author.clone(),
            config: planned.config.clone(),
            history: base.map(|base| base.history.clone()).unwrap_or_default(),
            ..ImageConfig::default()
        };
        let layers = session.tars.stack(&root.layers)?;
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let epoch = session.request.epoch;
        // A line without a step is as old as the step before it.
        let mut latest = planned.history.iter().find_map(|entry| created(entry.step));
        let mut newest = latest;
        for entry in &planned.history {
            latest = created(entry.step).or(latest);
            newest = newest.max(latest);
            let mut line = entry.line.clone();
            line.created = epoch.or(latest).map(rfc3339);
            config.history.push(line);
        }
        let of_base = base.and_then(|base| base.created.clone());
        let epoch_or_newest = epoch.or(newest).map(rfc3339);
        config.created = epoch_or_newest.or(of_base).or_else(|| Some(rfc3339(0)));
        let bytes = strata_image::config_bytes(&config)?;
        Images::new(self.store).keep(bytes, layers, None)
    }
}

/// A request with all that was found out of it before anything is scanned.
#[derive(Clone, Copy)]
struct Planned<'a> {
    request: &'a BuildRequest,
    plan: &'a Plan,
    bases: &'a [(ImageNeed, Base)],
}

impl Planned<'_> {
    /// The steps that are to run again, because they or their stages were named.
    fn forced(&self, observe: Observer<'_>) -> Result<BTreeSet<StepIndex>, BuildError> {
        let names = || self.plan.steps.iter().map(|step| (step.stage.as_str(), step.text.as_str()));
        let rerun = self.request.rerun.iter();
        let mut forced: BTreeSet<StepIndex> =
            rerun.map(|text| crate::find_step(names(), text)).collect::<Result<_, _>>()?;
        for name in &self.request.no_cache {
            let of_stage = |stage: &str| name.is_empty() || find::is_stage(stage, name);
            let steps = self.plan.steps.iter().enumerate();
            let mut found = steps.filter(|(_, step)| of_stage(&step.stage)).peekable();
            if found.peek().is_none() && !name.is_empty() {
                observe(Event::Note(format!("no stage of this build is called `{name}`")));
            }
            let runs = found.filter(|(_, step)| !matches!(step.op, strata_plan::Op::Image(_)));
            forced.extend(runs.map(|(index, _)| index));
        }
        Ok(forced)
    }
}

fn plan_request<'a>(
    request: &BuildRequest,
    tree: &'a strata_dockerfile::SyntaxTree,
) -> strata_plan::Request<'a> {
    let contexts = request.contexts.iter().filter(|(name, _)| !name.is_empty());
    let kind = |context: &Context| match context {
        Context::Directory { .. } | Context::Tree(_) | Context::Remote(_) => ContextKind::Directory,
        Context::Image(_) | Context::Archive { .. } => ContextKind::Image,
    };
    strata_plan::Request {
        target: request.target.clone(),
        build_args: request.build_args.clone(),
        platform: request.platform.clone(),
        contexts: contexts.map(|(name, context)| (name.clone(), kind(context))).collect(),
        labels: request.labels.clone(),
        network: request.network,
        ..strata_plan::Request::new(tree)
    }
}

/// The plan as the engine's graph: the same numbers.
fn graph<'a>(session: &'a Session<'a>) -> Graph<BuildStep<'a>> {
    let mut graph = Graph::default();
    for (index, step) in session.plan.steps.iter().enumerate() {
        let step_of = BuildStep { session, index };
        let parent = step.parent.map(|parent| Input::Whole(StepId(parent)));
        let slices = step_of.slices().into_iter().map(|(_, step)| Input::Slice(StepId(step)));
        let inputs = parent.into_iter().chain(slices).collect();
        graph.add(step_of, inputs);
    }
    graph
}

fn report(plan: &Plan, outcomes: &[Outcome], image: &StoredImage, build: String) -> BuildReport {
    let steps = plan.steps.iter().zip(outcomes).enumerate();
    let base = plan.image.base.as_ref();
    BuildReport {
        image: image.id,
        build,
        base_layers: base.map_or(0, |base| base.config.rootfs.diff_ids.len()),
        history: plan.image.history.iter().map(|entry| entry.step).collect(),
        steps: steps
            .map(|(index, (step, outcome))| StepReport {
                step: index,
                stage: step.stage.clone(),
                text: step.text.clone(),
                span: step.span,
                verdict: outcome.verdict.clone(),
                cost: outcome.record.cost,
            })
            .collect(),
        materials: Vec::new(),
        layers: image.layers.len(),
        bytes: image.layers.iter().map(|layer| layer.bytes).sum(),
    }
}

/// Looks every step up whose inputs are known, without running or keeping anything.
fn outlook(session: &Session<'_>) -> Result<Vec<Outlook>, BuildError> {
    let graph = graph(session);
    let mut found: Vec<Option<strata_engine::Seen>> = Vec::new();
    let mut outlook = Vec::new();
    for index in 0..graph.len() {
        let step = graph.step(StepId(index));
        let inputs = graph.inputs(StepId(index));
        let known: Option<Vec<strata_engine::Seen>> =
            inputs.iter().map(|input| found[input.step().0]).collect();
        let Some(known) = known else {
            found.push(None);
            outlook.push(Outlook::Depends);
            continue;
        };
        let keys = strata_engine::keys_over(step, inputs, &known)?;
        let record = look_up(session, step, &keys)?;
        let hit = record.filter(|_| !step.definition().forced);
        outlook.push(if hit.is_some() { Outlook::Hit } else { Outlook::Run });
        found.push(
            hit.map(|record| strata_engine::Seen {
                definition: keys.definition,
                tree: record.tree,
            }),
        );
    }
    Ok(outlook)
}

fn look_up(
    session: &Session<'_>,
    step: &BuildStep<'_>,
    keys: &strata_engine::Keys,
) -> Result<Option<strata_cas::Record>, BuildError> {
    for key in [RecordKey::Definition(keys.definition), RecordKey::Content(keys.content)] {
        if let Some(record) = session.nodes.find(&key)?
            && step.usable(&record)?
        {
            return Ok(Some(record));
        }
    }
    Ok(None)
}
