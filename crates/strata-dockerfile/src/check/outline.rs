//! What can be asked of a file: its targets, and what a target takes. As `docker build
//! --call=targets` and `--call=outline` have it.

use std::collections::{BTreeMap, BTreeSet};

use super::CheckRequest;
use super::subject::{Scope, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Declaration, Instruction, Kind, MountSpec, Parse, RunArgs, Span, SyntaxTree, Word};

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name, in lower case.
    pub name: Option<String>,
    /// What the comment above it says about it.
    pub description: Option<String>,
    /// What it starts from, as written.
    pub base: String,
    /// Its platform, as written.
    pub platform: Option<String>,
    /// Whether it is built if none is named.
    pub is_default: bool,
    /// The `FROM`.
    pub span: Span,
}

/// The stages of a file.
#[must_use]
pub fn targets(tree: &SyntaxTree) -> Vec<Target> {
    let target = |instruction: &Instruction| {
        let Kind::From(from) = &instruction.kind else { return None };
        let name = from.alias.as_ref().map(|alias| alias.value.clone());
        Some(Target {
            description: described(instruction, name.as_deref()),
            name,
            base: from.image.raw.clone(),
            platform: from.platform.as_ref().map(|word| word.raw.clone()),
            is_default: false,
            span: instruction.span,
        })
    };
    let mut targets: Vec<Target> = tree.instructions().iter().filter_map(target).collect();
    if let Some(last) = targets.last_mut() {
        last.is_default = true;
    }
    targets
}

/// What building a target takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The target's name, in lower case.
    pub name: Option<String>,
    /// What the comment above it says about it.
    pub description: Option<String>,
    /// The build arguments, in the order of the file.
    pub arguments: Vec<OutlineArgument>,
    /// The secrets, in the order of the file.
    pub secrets: Vec<OutlineMount>,
    /// The ssh agents, in the order of the file.
    pub agents: Vec<OutlineMount>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArgument {
    /// Its name.
    pub name: String,
    /// What it is with the arguments that were given.
    pub value: Option<String>,
    /// What the comment above it says about it.
    pub description: Option<String>,
    /// The `ARG`.
    pub span: Span,
}

/// A secret or an ssh agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its name.
    pub id: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// The `RUN`.
    pub span: Span,
}

/// What a build of the target takes, with the stages that it needs.
///
/// # Errors
///
/// A diagnostic if there is no such target.
pub fn outline(parse: &Parse, request: &CheckRequest<'_>) -> Result<Outline, Box<Diagnostic>> {
    let request = CheckRequest { all_stages: false, ..*request };
    let subject = Subject::new(&parse.tree, &request);
    if let Some(wrong) = subject.unknown_target() {
        return Err(Box::new(wrong));
    }
    let mut collector = Collector::new(&subject);
    for stage in subject.counting() {
        let platform = stage.from.platform.as_ref();
        [Some(&stage.from.image), platform].into_iter().flatten().for_each(|w| collector.from(w));
    }
    subject.walk(|instruction, scope| match &instruction.kind {
        Kind::Arg(all) => all.iter().for_each(|one| collector.argument(one, instruction, scope)),
        Kind::Run(run) => collector.mounts(run, instruction.span, scope),
        _ => {}
    });
    let target = subject.target();
    let name = target.and_then(|stage| stage.name()).map(str::to_owned);
    let description = target.and_then(|stage| described(stage.instruction, name.as_deref()));
    Ok(Outline { name, description, ..collector.finish() })
}

fn described(instruction: &Instruction, name: Option<&str>) -> Option<String> {
    instruction.doc_comment(name?).map(str::to_owned)
}

struct Collector<'a> {
    subject: &'a Subject<'a>,
    /// Arguments above the first stage, with the names that their defaults use.
    globals: BTreeMap<String, (OutlineArgument, BTreeSet<String>)>,
    /// Names that stages take from there.
    used: BTreeSet<String>,
    arguments: BTreeMap<String, OutlineArgument>,
    secrets: BTreeMap<String, OutlineMount>,
    agents: BTreeMap<String, OutlineMount>,
}

impl<'a> Collector<'a> {
    fn new(subject: &'a Subject<'a>) -> Self {
        let mut globals = BTreeMap::new();
        for instruction in subject.tree.instructions() {
            let Kind::Arg(declarations) = &instruction.kind else { break };
            for Declaration { name, default } in declarations {
                let argument = OutlineArgument {
                    name: name.raw.clone(),
                    value: subject.globals.value(&name.raw),
                    description: described(instruction, Some(&name.raw)),
                    span: instruction.span,
                };
                let used = default.as_ref().map(|word| names(subject, &subject.globals, word));
                globals.insert(name.raw.clone(), (argument, used.unwrap_or_default()));
            }
        }
        Self {
            subject,
            globals,
            used: BTreeSet::new(),
            arguments: BTreeMap::new(),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
        }
    }

    /// A word of a `FROM`.
    fn from(&mut self, word: &Word) {
        names(self.subject, &self.subject.globals, word)
            .into_iter()
            .for_each(|name| self.take(name));
    }

    /// Takes a global argument, with those that its default uses.
    fn take(&mut self, name: String) {
        let mut next = vec![name];
        while let Some(name) = next.pop() {
            let uses = self.globals.get(&name).map(|(_, uses)| uses.clone());
            if self.used.insert(name) {
                next.extend(uses.unwrap_or_default());
            }
        }
    }

    /// An `ARG` of a stage; of several with one name, the last counts.
    fn argument(&mut self, argument: &Declaration, instruction: &Instruction, scope: &Scope) {
        let name = argument.name.raw.clone();
        let given = self.subject.request.build_args.get(&name).cloned();
        let is_bare = given.is_none() && argument.default.is_none();
        if is_bare && self.subject.globals.value(&name).is_some() {
            return self.take(name);
        }
        let default = argument.default.as_ref();
        let value = given.or_else(|| self.subject.expand(scope, default?));
        let description = described(instruction, Some(&name));
        let span = instruction.span;
        self.arguments.insert(name.clone(), OutlineArgument { name, value, description, span });
    }

    fn mounts(&mut self, run: &RunArgs, span: Span, scope: &Scope) {
        for mount in &run.mounts {
            let expander = self.subject.expander();
            let lookup = |name: &str| scope.value(name);
            // A mount of a file with errors may be none; a type with variables may be wrong.
            let Ok(spec) = mount.resolve(&mut |text| expander.word(text, &lookup)) else {
                continue;
            };
            let (list, id, required) = match spec {
                MountSpec::Secret { id, required, .. } => (&mut self.secrets, id, required),
                MountSpec::Ssh { id, required, .. } => (&mut self.agents, id, required),
                _ => continue,
            };
            list.insert(id.clone(), OutlineMount { id, required, span });
        }
    }

    fn finish(mut self) -> Outline {
        for name in &self.used {
            if let Some((global, _)) = self.globals.get(name) {
                self.arguments.entry(name.clone()).or_insert_with(|| global.clone());
            }
        }
        let in_order = |list: BTreeMap<String, OutlineMount>| {
            let mut list: Vec<OutlineMount> = list.into_values().collect();
            list.sort_by_key(|each| each.span.start);
            list
        };
        let mut arguments: Vec<OutlineArgument> = self.arguments.into_values().collect();
        arguments.sort_by_key(|each| self.subject.place(&each.name, each.span));
        Outline {
            arguments,
            secrets: in_order(self.secrets),
            agents: in_order(self.agents),
            ..Outline::default()
        }
    }
}

/// The variables that a word uses, set or not.
fn names(subject: &Subject<'_>, scope: &Scope, word: &Word) -> BTreeSet<String> {
    let expansion = scope.expand(&subject.expander(), &word.raw).unwrap_or_default();
    expansion.used.into_iter().chain(expansion.unset).collect()
}
