//! The file as the rules see it: its stages, which of them count, and what the variables are at
//! each instruction.

use std::collections::{BTreeMap, BTreeSet};

use super::CheckRequest;
use crate::diagnostic::Diagnostic;
use crate::suggest::did_you_mean;
use crate::{
    Declaration, Expander, Expansion, FromArgs, Instruction, Kind, MountKey, Span, SyntaxTree, Word,
};

/// What a caller knows about a base image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseImage {
    /// What it is for, such as `linux/amd64`.
    pub platform: String,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// Whether its config says which shell runs commands.
    pub has_shell: bool,
}

/// What a rule looks at.
pub(super) struct Subject<'a> {
    pub(super) tree: &'a SyntaxTree,
    pub(super) request: &'a CheckRequest<'a>,
    pub(super) stages: Vec<Stage<'a>>,
    /// The arguments above the first stage, and those that say the platform.
    pub(super) globals: Scope,
}

/// From one `FROM` to the next.
pub(super) struct Stage<'a> {
    pub(super) from: &'a FromArgs,
    /// The `FROM`.
    pub(super) instruction: &'a Instruction,
    /// What follows it.
    pub(super) body: &'a [Instruction],
    pub(super) base: Base,
    /// Whether rules about what a stage does look at it.
    pub(super) counts: bool,
}

/// What a stage starts from.
pub(super) enum Base {
    /// An earlier stage.
    Stage(usize),
    /// Nothing.
    Scratch,
    /// An image, and what is known of it.
    Image(Option<BaseImage>),
}

/// The variables at one place.
#[derive(Clone, Default)]
pub(super) struct Scope {
    values: BTreeMap<String, Variable>,
    /// Whether there may be more of them: nobody told us what the base image has.
    pub(super) is_open: bool,
}

#[derive(Clone)]
struct Variable {
    /// None for an argument without a value.
    value: Option<String>,
    is_env: bool,
}

/// What `PATH` is where the base image has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Scope {
    fn env(&mut self, name: String, value: String) {
        self.values.insert(name, Variable { value: Some(value), is_env: true });
    }

    /// Variables of the image beat arguments.
    fn arg(&mut self, name: &str, value: Option<String>) {
        if !self.values.get(name).is_some_and(|variable| variable.is_env) {
            self.values.insert(name.to_owned(), Variable { value, is_env: false });
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.values.get(name)?.value.clone()
    }

    /// Whether the name is declared, with a value or without.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The text with its variables replaced, if it can be read.
    pub(super) fn expand(&self, rules: &Expander, raw: &str) -> Option<Expansion> {
        rules.expand(raw, &|name| self.value(name)).ok()
    }
}

impl<'a> Subject<'a> {
    pub(super) fn new(tree: &'a SyntaxTree, request: &'a CheckRequest<'a>) -> Self {
        let mut subject =
            Self { tree, request, stages: Vec::new(), globals: platform_arguments(request) };
        let instructions = tree.instructions();
        let is_from = |each: &Instruction| matches!(each.kind, Kind::From(_));
        let first = instructions.iter().position(is_from).unwrap_or(instructions.len());
        subject.globals = subject.global_arguments(request.build_args);
        let mut rest = &instructions[first..];
        while let Some((instruction, tail)) = rest.split_first() {
            let length = tail.iter().position(is_from).unwrap_or(tail.len());
            let (body, tail) = tail.split_at(length);
            rest = tail;
            if let Kind::From(from) = &instruction.kind {
                let base = subject.base(from);
                let counts = request.all_stages;
                subject.stages.push(Stage { from, instruction, body, base, counts });
            }
        }
        subject.mark_needed();
        subject
    }

    /// The rules for reading arguments.
    pub(super) fn expander(&self) -> Expander {
        Expander::new(self.tree.escape())
    }

    /// The arguments above the first stage, if these were given to the build.
    pub(super) fn global_arguments(&self, given: &BTreeMap<String, String>) -> Scope {
        let mut scope = platform_arguments(self.request);
        for instruction in self.tree.instructions() {
            match &instruction.kind {
                Kind::Arg(declarations) => self.declare(declarations, given, &mut scope, None),
                Kind::From(_) => break,
                _ => {}
            }
        }
        scope
    }

    fn declare(
        &self,
        declarations: &[Declaration],
        given: &BTreeMap<String, String>,
        scope: &mut Scope,
        outer: Option<&Scope>,
    ) {
        for Declaration { name, default } in declarations {
            let default = default.as_ref().and_then(|word| self.expand(scope, word));
            let inherited = || outer.and_then(|outer| outer.value(&name.raw));
            let value = given.get(&name.raw).cloned();
            scope.arg(&name.raw, value.or(default).or_else(inherited));
        }
    }

    /// The word with its variables replaced.
    pub(super) fn expand(&self, scope: &Scope, word: &Word) -> Option<String> {
        scope.expand(&self.expander(), &word.raw).map(|expansion| expansion.text)
    }

    fn base(&self, from: &FromArgs) -> Base {
        let name = self.expand(&self.globals, &from.image).unwrap_or_default();
        match self.find_stage(&name) {
            Some(stage) => Base::Stage(stage),
            None if name == "scratch" => Base::Scratch,
            None => Base::Image((self.request.base_image)(&name)),
        }
    }

    /// The last stage of this name among those seen so far.
    fn find_stage(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages.iter().rposition(|stage| stage.name() == Some(&name))
    }

    /// The stage that a name or a number means.
    fn stage_or_number(&self, text: &str) -> Option<usize> {
        let number = || text.parse().ok().filter(|number| *number < self.stages.len());
        self.find_stage(text).or_else(number)
    }

    fn target_index(&self) -> Option<usize> {
        match self.request.target {
            Some(target) => self.stage_or_number(target),
            None => self.stages.len().checked_sub(1),
        }
    }

    /// The stage that is to be built.
    pub(super) fn target(&self) -> Option<&Stage<'a>> {
        self.target_index().and_then(|index| self.stages.get(index))
    }

    /// Where a name is declared: its instruction's start, then its place in that.
    pub(super) fn place(&self, name: &str, span: Span) -> (usize, usize) {
        let at = self.tree.text(span).find(name);
        (span.start, at.unwrap_or_default())
    }

    /// Marks the stages that the target needs.
    fn mark_needed(&mut self) {
        let mut next: Vec<usize> = self.target_index().into_iter().collect();
        let mut needed = BTreeSet::new();
        while let Some(index) = next.pop() {
            if needed.insert(index) {
                next.extend(self.sources(&self.stages[index]));
            }
        }
        needed.into_iter().for_each(|index| self.stages[index].counts = true);
    }

    /// What is wrong with the target, if anything is.
    pub(super) fn unknown_target(&self) -> Option<Diagnostic> {
        let target = self.request.target.filter(|name| self.stage_or_number(name).is_none())?;
        let message = format!("target stage `{target}` could not be found");
        let hint = did_you_mean(target, self.stages.iter().filter_map(Stage::name));
        Some(Diagnostic::error("unknown-target", Span::default(), message).hint_if(hint))
    }

    /// The stages that a stage starts from, copies from or mounts.
    fn sources(&self, stage: &Stage<'_>) -> Vec<usize> {
        let mut sources = Vec::new();
        if let Base::Stage(base) = stage.base {
            sources.push(base);
        }
        for instruction in stage.body {
            match &instruction.kind {
                Kind::Copy(copy) => sources
                    .extend(copy.from.as_ref().and_then(|from| self.stage_or_number(&from.raw))),
                Kind::Run(run) => {
                    let names = run.mounts.iter().filter_map(|each| each.value(MountKey::From));
                    sources.extend(names.filter_map(|name| self.stage_or_number(&name.raw)));
                }
                _ => {}
            }
        }
        sources
    }

    /// The stages that count.
    pub(super) fn counting(&self) -> impl Iterator<Item = &Stage<'a>> {
        self.stages.iter().filter(|stage| stage.counts)
    }

    /// Every instruction of stages that count.
    pub(super) fn instructions(&self) -> impl Iterator<Item = &'a Instruction> {
        self.counting().flat_map(|stage| stage.body)
    }

    /// Visits every instruction of stages that count, with the variables that it sees.
    pub(super) fn walk(&self, mut visit: impl FnMut(&'a Instruction, &Scope)) {
        let mut ends: Vec<Scope> = Vec::new();
        for stage in &self.stages {
            let mut scope = match &stage.base {
                Base::Stage(base) => ends.get(*base).cloned().unwrap_or_default(),
                Base::Scratch => Scope::default(),
                Base::Image(None) => Scope { is_open: true, ..Scope::default() },
                Base::Image(Some(image)) => {
                    let mut scope = Scope::default();
                    let env = image.env.clone().into_iter();
                    env.for_each(|(name, value)| scope.env(name, value));
                    scope
                }
            };
            if !scope.has("PATH") {
                scope.env("PATH".to_owned(), DEFAULT_PATH.to_owned());
            }
            for instruction in stage.body {
                if stage.counts {
                    visit(instruction, &scope);
                }
                self.step(instruction, &mut scope);
            }
            ends.push(scope);
        }
    }

    /// What an instruction does to the variables.
    fn step(&self, instruction: &Instruction, scope: &mut Scope) {
        match &instruction.kind {
            Kind::Arg(declarations) => {
                self.declare(declarations, self.request.build_args, scope, Some(&self.globals));
            }
            Kind::Env(pairs) => {
                // All pairs of one instruction see what was before it.
                let new = pairs.iter().map(|pair| {
                    let read = |word| self.expand(scope, word).unwrap_or_default();
                    (read(&pair.key), read(&pair.value))
                });
                let new: Vec<_> = new.collect();
                new.into_iter().for_each(|(name, value)| scope.env(name, value));
            }
            _ => {}
        }
    }
}

impl Stage<'_> {
    /// The stage's name in lower case.
    pub(super) fn name(&self) -> Option<&str> {
        self.from.alias.as_ref().map(|alias| alias.value.as_str())
    }
}

/// `TARGETPLATFORM` and the like, which a build argument overrides.
fn platform_arguments(request: &CheckRequest<'_>) -> Scope {
    let mut scope = Scope::default();
    let mut add = |name: String, value: &str| {
        let value = request.build_args.get(&name).map_or(value, String::as_str).to_owned();
        scope.arg(&name, Some(value));
    };
    for (prefix, platform) in [("BUILD", request.build_platform), ("TARGET", request.platform)] {
        let mut parts = platform.splitn(3, '/');
        add(format!("{prefix}PLATFORM"), platform);
        for part in ["OS", "ARCH", "VARIANT"] {
            add(format!("{prefix}{part}"), parts.next().unwrap_or_default());
        }
    }
    add("TARGETSTAGE".to_owned(), request.target.unwrap_or("default"));
    scope
}
