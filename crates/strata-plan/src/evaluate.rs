//! Walks the stages that the target needs, instruction by instruction.

use std::collections::{BTreeMap, BTreeSet};

use strata_dockerfile::{
    Declaration, Diagnostic, Expander, Expansion, FromArgs, Instruction, Kind, Span, Word,
    foreign_frontend, suggest,
};
use strata_oci::{Platform, Reference};

use crate::onbuild::Trigger;
use crate::stage::{State, clean_path};
use crate::stages::{StageText, alias, stages};
use crate::{
    ContextKind, CopyOp, CopySource, Entry, ImageName, ImageNeed, ImageOp, Op, Plan, PlanError,
    PlannedImage, Request, ResolvedImage, Source, Step, StepIndex,
};

/// What stands in for a PATH that the base image does not have.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What helps when a FROM has a variable without a value.
const DECLARE_GLOBALLY: &str = "declare the `ARG` before the first `FROM`, with a default";

/// One thing wrong, with its place.
pub(crate) type Wrong = Box<Diagnostic>;

pub(crate) struct Evaluation<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) expander: Expander,
    images: &'a dyn Fn(&ImageNeed) -> Option<ResolvedImage>,
    pub(crate) stages: Vec<StageText<'a>>,
    pub(crate) globals: BTreeMap<String, String>,
    states: BTreeMap<usize, State>,
    /// Images that are copied from, by name: each is one step.
    copied_images: BTreeMap<String, Option<StepIndex>>,
    missing: BTreeSet<ImageNeed>,
    pub(crate) steps: Vec<Step>,
    entries: Vec<Entry>,
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(
        request: &'a Request<'a>,
        images: &'a dyn Fn(&ImageNeed) -> Option<ResolvedImage>,
    ) -> Self {
        Self {
            request,
            expander: Expander::new(request.tree.escape()),
            images,
            stages: stages(request.tree.instructions()),
            globals: platform_args(request),
            states: BTreeMap::new(),
            copied_images: BTreeMap::new(),
            missing: BTreeSet::new(),
            steps: Vec::new(),
            entries: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) -> Result<Plan, PlanError> {
        let foreign = foreign_frontend(self.request.tree, &self.request.build_args);
        if let Some(foreign) = foreign {
            return Err(PlanError::Wrong(vec![foreign]));
        }
        let state = self.target();
        // What was made up for an unknown image may look wrong without being so.
        if !self.missing.is_empty() {
            return Err(PlanError::Missing(self.missing.into_iter().collect()));
        }
        let mut state = state.map_err(|wrong| PlanError::Wrong(vec![*wrong]))?;
        if !self.request.labels.is_empty() {
            let labels = state.config.labels.get_or_insert_default();
            labels.extend(self.request.labels.clone());
        }
        let chain = chain(&self.steps, state.root);
        for entry in &mut self.entries {
            entry.in_image = match entry.step {
                Some(step) => chain.contains(&step),
                None => entry.stage == state.name,
            };
        }
        let image = PlannedImage {
            root: state.root,
            platform: state.platform,
            config: state.config,
            author: state.author,
            base: state.base,
            history: state.history.to_vec(),
        };
        Ok(Plan { steps: self.steps, entries: self.entries, image })
    }

    fn target(&mut self) -> Result<State, Wrong> {
        self.global_args()?;
        // Also of stages that nobody needs.
        for stage in &self.stages {
            self.base_name(stage.from)?;
        }
        let last = self.stages.len().checked_sub(1);
        let stage = match &self.request.target {
            Some(name) => Some(self.target_stage(name)?),
            None => last,
        };
        match stage {
            Some(stage) => {
                self.stages_below(stage)?;
                self.stage(stage)
            }
            None => Err(wrong(Span::default(), "the Dockerfile has no stage")),
        }
    }

    fn global_args(&mut self) -> Result<(), Wrong> {
        for instruction in self.request.tree.instructions() {
            match &instruction.kind {
                Kind::Arg(declarations) => {
                    for declaration in declarations {
                        self.global_arg(declaration)?;
                    }
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn global_arg(&mut self, declaration: &Declaration) -> Result<(), Wrong> {
        let name = declaration.name.raw.clone();
        let given = self.request.build_args.get(&name).cloned();
        let value = match (given, &declaration.default) {
            (Some(value), _) => Some(value),
            (None, Some(default)) => Some(self.expand_in(default, &self.globals)?.text),
            (None, None) => None,
        };
        if let Some(value) = value {
            self.globals.insert(name, value);
        }
        Ok(())
    }

    /// Evaluates a stage, once.
    pub(crate) fn stage(&mut self, index: usize) -> Result<State, Wrong> {
        if let Some(state) = self.states.get(&index) {
            return Ok(state.clone());
        }
        let (from, instructions) = (self.stages[index].from, self.stages[index].instructions);
        let name = alias(from).map_or_else(|| index.to_string(), str::to_owned);
        let (mut state, triggers) = self.base(index, from, &instructions[0], &name)?;
        state.name.clone_from(&name);
        if !state.env.contains_key("PATH") {
            state.env.insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
            let env = state.config.env.get_or_insert_default();
            env.push(format!("PATH={DEFAULT_PATH}"));
        }
        if alias(from).is_some_and(|alias| self.context(alias).is_some()) {
            // The context stands for the whole stage, not only for what it begins with.
            self.states.insert(index, state.clone());
            return Ok(state);
        }
        let mut ordinal = 0;
        for trigger in triggers {
            ordinal += 1;
            self.trigger(index, &mut state, &trigger, ordinal)?;
        }
        for instruction in &instructions[1..] {
            ordinal += 1;
            self.instruction(index, &mut state, instruction, instruction.span, ordinal)?;
        }
        self.states.insert(index, state.clone());
        Ok(state)
    }

    /// What FROM starts from, and the triggers that it fires.
    fn base(
        &mut self,
        index: usize,
        from: &FromArgs,
        instruction: &Instruction,
        stage_name: &str,
    ) -> Result<(State, Vec<Trigger>), Wrong> {
        let Expansion { text: name, unset, .. } = self.base_name(from)?;
        let platform = match &from.platform {
            Some(word) => self.platform(word)?,
            None => self.request.platform.clone(),
        };
        let context = alias(from).and_then(|alias| self.context(alias).map(|kind| (alias, kind)));
        if let Some((alias, kind)) = context {
            return self.context_stage(alias, kind, &platform, instruction, stage_name);
        }
        // Here, and only here, capitals count: `FROM Base` is no stage, as in BuildKit.
        let earlier = self.find_stage(&name, index);
        if let Some(earlier) = earlier.filter(|_| name == name.to_lowercase()) {
            let mut state = self.stage(earlier)?;
            let triggers = std::mem::take(&mut state.triggers);
            state.config.on_build = None;
            state.has_cmd = false;
            // An ARG that came after an ENV of its name has no say here.
            state.take_image_env();
            self.entry(stage_name, instruction, instruction.span, None);
            let triggers = triggers.into_iter().map(|(text, written)| {
                let line = self.request.tree.position(written.start).line;
                let origin = format!("stage `{name}`, line {line}");
                Trigger { text, fired: instruction.span, origin }
            });
            return Ok((state, triggers.collect()));
        }
        if name == "scratch" {
            self.entry(stage_name, instruction, instruction.span, None);
            return Ok((State::empty(&platform), Vec::new()));
        }
        if let Some((name, kind)) = self.context_for_image(&name) {
            return self.context_stage(&name, kind, &platform, instruction, stage_name);
        }
        let reference = self.reference(&name, from.image.span).map_err(|mut wrong| {
            if !unset.is_empty() {
                wrong.hint = Some(DECLARE_GLOBALLY.to_owned());
            }
            wrong
        })?;
        let name = ImageName::Reference(reference);
        self.image_stage(name, platform, instruction, stage_name)
    }

    pub(crate) fn base_name(&self, from: &FromArgs) -> Result<Expansion, Wrong> {
        let name = self.expand_in(&from.image, &self.globals)?;
        if name.text.is_empty() {
            let message = format!("`{}` is blank: no such image", from.image);
            let blank = Diagnostic::error("blank-base", from.image.span, message);
            return Err(Box::new(blank.hint(DECLARE_GLOBALLY)));
        }
        Ok(name)
    }

    fn platform(&self, word: &Word) -> Result<Platform, Wrong> {
        let text = self.expand_in(word, &self.globals)?.text;
        text.parse().map_err(|error| wrong(word.span, format!("{error}")))
    }

    fn reference(&self, name: &str, span: Span) -> Result<Reference, Wrong> {
        name.parse().map_err(|error: strata_oci::InvalidReference| {
            let names = self.stages.iter().filter_map(|stage| alias(stage.from));
            let hint = suggest(name, names).map(|close| format!("did you mean `{close}`?"));
            Box::new(Diagnostic::error("bad-image-name", span, error.to_string()).hint_if(hint))
        })
    }

    pub(crate) fn context(&self, name: &str) -> Option<ContextKind> {
        self.request.contexts.get(&name.to_ascii_lowercase()).copied()
    }

    /// A named context that replaces an image: by the name as written or completed.
    fn context_for_image(&self, name: &str) -> Option<(String, ContextKind)> {
        let complete = |name: &str| name.parse::<Reference>().ok();
        let wanted = complete(name);
        let contexts = self.request.contexts.iter();
        let found = contexts.into_iter().find(|(context, _)| {
            *context == name || (wanted.is_some() && complete(context) == wanted)
        });
        found.map(|(context, kind)| (context.clone(), *kind))
    }

    fn context_stage(
        &mut self,
        context: &str,
        kind: ContextKind,
        platform: &Platform,
        instruction: &Instruction,
        stage_name: &str,
    ) -> Result<(State, Vec<Trigger>), Wrong> {
        if kind == ContextKind::Image {
            let name = ImageName::Context(context.to_owned());
            return self.image_stage(name, platform.clone(), instruction, stage_name);
        }
        let step = self.context_root(context, stage_name, instruction.span);
        let mut state = State::empty(platform);
        state.root = Some(step);
        self.entry(stage_name, instruction, instruction.span, Some(step));
        Ok((state, Vec::new()))
    }

    /// A directory as a root.
    fn context_root(&mut self, context: &str, stage: &str, span: Span) -> StepIndex {
        let op = CopyOp {
            from: Source::Context(context.to_owned()),
            sources: vec![CopySource { pattern: String::new(), remote: None, span }],
            dest: "/".to_owned(),
            ..CopyOp::empty()
        };
        let text = format!("FROM {context}");
        self.step(stage, 0, text, span, None, Op::Copy(op))
    }

    fn image_stage(
        &mut self,
        name: ImageName,
        platform: Platform,
        instruction: &Instruction,
        stage_name: &str,
    ) -> Result<(State, Vec<Trigger>), Wrong> {
        let span = match &instruction.kind {
            Kind::From(from) => from.image.span,
            _ => instruction.span,
        };
        let need = ImageNeed { name, platform, span };
        let mut state = State::empty(&need.platform);
        let Some(image) = (self.images)(&need) else {
            self.missing.insert(need);
            return Ok((state, Vec::new()));
        };
        state.config = image.config.config.clone();
        state.author = image.config.author.clone();
        let triggers = state.config.on_build.take().unwrap_or_default();
        state.take_image_env();
        if !state.config.working_dir.is_empty() && !state.config.working_dir.starts_with('/') {
            state.config.working_dir = clean_path(&state.config.working_dir);
        }
        state.base = Some(image.clone());
        let origin = format!("the image `{}`", need.name);
        let step = self.image_step(need, image, stage_name, &instruction.original);
        state.root = step;
        self.entry(stage_name, instruction, instruction.span, step);
        let fired = instruction.span;
        let triggers =
            triggers.into_iter().map(|text| Trigger { text, fired, origin: origin.clone() });
        Ok((state, triggers.collect()))
    }

    fn image_step(
        &mut self,
        need: ImageNeed,
        image: ResolvedImage,
        stage: &str,
        text: &str,
    ) -> Option<StepIndex> {
        if image.config.rootfs.diff_ids.is_empty() {
            return None;
        }
        let span = need.span;
        let op = Op::Image(Box::new(ImageOp { need, image }));
        Some(self.step(stage, 0, text.to_owned(), span, None, op))
    }

    /// Where `--from` leads: a named context, an earlier stage by name or number, or an image.
    pub(crate) fn source(
        &mut self,
        current: usize,
        name: &str,
        span: Span,
    ) -> Result<Source, Wrong> {
        if name.contains('$') {
            let message = format!("`--from={name}`: variables are not expanded here");
            return Err(Box::new(Diagnostic::error("variable-in-from", span, message).hint(
                "give it a stage of its own: `FROM <image> AS <name>`, where variables can stand",
            )));
        }
        let lower = name.to_ascii_lowercase();
        if let Some(stage) = self.find_stage(&lower, current) {
            return Ok(Source::Step(self.stage(stage)?.root));
        }
        if let Ok(number) = name.parse::<usize>() {
            if number < current {
                return Ok(Source::Step(self.stage(number)?.root));
            }
            return Err(wrong(span, format!("`{name}` is not the number of an earlier stage")));
        }
        if self.find_stage(&lower, self.stages.len()).is_some() {
            let message = format!("stage `{name}` must be defined before it is copied from");
            return Err(wrong(span, message));
        }
        match self.context_for_image(name) {
            Some((context, ContextKind::Directory)) => return Ok(Source::Context(context)),
            Some((context, ContextKind::Image)) => {
                return self.copied_image(ImageName::Context(context), span);
            }
            None => {}
        }
        if name == "scratch" {
            return Ok(Source::Step(None));
        }
        let reference = self.reference(name, span)?;
        self.copied_image(ImageName::Reference(reference), span)
    }

    fn copied_image(&mut self, name: ImageName, span: Span) -> Result<Source, Wrong> {
        let key = name.to_string();
        if let Some(step) = self.copied_images.get(&key) {
            return Ok(Source::Step(*step));
        }
        let need = ImageNeed { name, platform: self.request.platform.clone(), span };
        let Some(image) = (self.images)(&need) else {
            self.missing.insert(need);
            return Ok(Source::Step(None));
        };
        let step = self.image_step(need, image, &key, &format!("FROM {key}"));
        self.copied_images.insert(key, step);
        Ok(Source::Step(step))
    }

    /// Adds a step to the plan.
    pub(crate) fn step(
        &mut self,
        stage: &str,
        ordinal: usize,
        text: String,
        span: Span,
        parent: Option<StepIndex>,
        op: Op,
    ) -> StepIndex {
        let instructions = self.request.tree.instructions();
        let after = instructions.partition_point(|it| it.span.start <= span.start);
        let instruction = after.checked_sub(1).map(|last| &instructions[last]);
        let instruction = instruction.filter(|it| it.span.range().contains(&span.start));
        let ttl = instruction.filter(|_| span != Span::default()).and_then(Instruction::cache_ttl);
        let (stage, ttl_seconds) = (stage.to_owned(), ttl.map(|ttl| ttl.as_secs()));
        let step = Step { stage, ordinal, text, span, parent, op, ttl_seconds };
        self.steps.push(step);
        self.steps.len() - 1
    }

    pub(crate) fn entry(
        &mut self,
        stage: &str,
        instruction: &Instruction,
        span: Span,
        step: Option<StepIndex>,
    ) {
        let text = instruction.original.clone();
        self.entries.push(Entry { stage: stage.to_owned(), text, span, step, in_image: false });
    }

    /// A word with the variables of a stage replaced.
    pub(crate) fn expand(&self, word: &Word, state: &State) -> Result<String, Wrong> {
        Ok(self.expand_in(word, &state.env)?.text)
    }

    pub(crate) fn expand_in(
        &self,
        word: &Word,
        variables: &BTreeMap<String, String>,
    ) -> Result<Expansion, Wrong> {
        let lookup = |name: &str| variables.get(name).cloned();
        let expansion = self.expander.expand(&word.raw, &lookup);
        expansion.map_err(|error| wrong(word.span, error.to_string()))
    }
}

/// An error of the plan.
pub(crate) fn wrong(span: Span, message: impl Into<String>) -> Wrong {
    Box::new(Diagnostic::error("plan", span, message))
}

/// The steps that the root of an image consists of.
fn chain(steps: &[Step], root: Option<StepIndex>) -> BTreeSet<StepIndex> {
    std::iter::successors(root, |step| steps[*step].parent).collect()
}

/// `BUILDPLATFORM`, `TARGETARCH` and the like, which `--build-arg` overrides.
fn platform_args(request: &Request<'_>) -> BTreeMap<String, String> {
    let (build, target) = (&request.build_platform, &request.platform);
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    let stage = request.target.clone().unwrap_or_else(|| "default".to_owned());
    let args = [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(build)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", stage),
    ];
    let overridden = |(name, value): (&str, String)| {
        let value = request.build_args.get(name).cloned().unwrap_or(value);
        (name.to_owned(), value)
    };
    args.into_iter().map(overridden).collect()
}
