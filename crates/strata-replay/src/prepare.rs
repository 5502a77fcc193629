//! A Dockerfile as a replay needs it: the plan's steps with what each depends on, told apart by
//! what is known of it without running anything.

use std::collections::{BTreeMap, BTreeSet};

use strata_cas::{Fact, TreePath};
use strata_dockerfile::{SyntaxTree, parse};
use strata_oci::{Digest, ImageConfig, Platform};
use strata_plan::{
    ContextKind, Op, Plan, PlanError, Request, ResolvedImage, RunMount, Source, plan,
};

use crate::model::{self, Class, Reads};
use crate::select::Wanted;

/// What a build asks for, the same for all commits.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The stage to build.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// What the image is for; this machine's platform if not given.
    pub platform: Option<Platform>,
}

/// A Dockerfile of some commits.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) steps: Vec<Prep>,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Prep {
    pub(crate) kind: Kind,
    pub(crate) class: Class,
    pub(crate) stage: String,
    /// The instruction in one line.
    pub(crate) text: String,
    /// Its first line, from 1.
    pub(crate) line: usize,
    pub(crate) parent: Option<usize>,
    /// What its result depends on, besides files and other steps.
    pub(crate) facts: Vec<Fact>,
    pub(crate) uses: Vec<Use>,
    pub(crate) slices: Vec<Slice>,
    /// All instructions since its parent, its own last: the classic builder's chain has them all.
    pub(crate) chain: Vec<String>,
    /// The COPYs of context files below it, lowest first.
    pub(crate) copies: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Image,
    Directory,
    Copy,
    Run,
}

/// Files of the context that a step is given.
#[derive(Debug)]
pub(crate) struct Use {
    /// The name of the fact.
    pub(crate) fact: String,
    pub(crate) wanted: Wanted,
    /// The same, as commands look at it.
    pub(crate) sources: Wanted,
    pub(crate) manifests: Wanted,
}

impl Use {
    fn new(fact: String, wanted: Wanted) -> Self {
        let (sources, manifests) =
            (wanted.reading(Reads::Sources), wanted.reading(Reads::Manifests));
        Self { fact, wanted, sources, manifests }
    }
}

/// Files of another step that a step is given.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) step: usize,
    pub(crate) paths: Vec<String>,
    /// What can have had a hand in those files, lowest first.
    pub(crate) origin: Vec<Origin>,
}

/// One of the steps that made a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The step alone, whatever it ran on: a base image, or a command without context.
    Alone(usize),
    /// What a COPY selected.
    Files(usize),
    /// The manifests that were there: the recipe of cargo-chef.
    Manifests(usize),
    /// All that the step ran on.
    Whole(usize),
}

impl Prep {
    /// Whether it counts: RUN, COPY and ADD.
    pub(crate) fn is_work(&self) -> bool {
        matches!(self.kind, Kind::Copy | Kind::Run)
    }

    pub(crate) fn is_run(&self) -> bool {
        self.kind == Kind::Run
    }
}

/// Reads and plans a Dockerfile; `Err` says why no build of it would begin.
pub(crate) fn prepare(text: &[u8], asked: &Asked) -> Result<Prepared, String> {
    let parsed = parse(text);
    if let Some(error) = parsed.diagnostics.iter().find(|diagnostic| diagnostic.is_error()) {
        return Err(error.message.clone());
    }
    let mut request = Request::new(&parsed.tree);
    request.target.clone_from(&asked.target);
    request.build_args.clone_from(&asked.build_args);
    if let Some(platform) = &asked.platform {
        request.platform = platform.clone();
    }
    request.contexts = BTreeMap::<String, ContextKind>::new();
    // No registry is asked: a base image is its text. Its environment, user and working
    // directory are not known, and are the same for all commits that name it alike.
    let image = |need: &strata_plan::ImageNeed| {
        let name = format!("{} {}", need.name, need.platform);
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids.push(Digest::of(name.as_bytes()));
        Some(ResolvedImage { digest: Digest::of(name.as_bytes()), config })
    };
    match plan(&request, &image) {
        Ok(plan) => Preparation::new(&plan, &parsed.tree).run(),
        Err(PlanError::Wrong(errors)) => Err(errors
            .first()
            .map_or_else(|| "it can not be planned".to_owned(), |error| error.message.clone())),
        Err(PlanError::Missing(needs)) => {
            let names: Vec<String> = needs.iter().map(|need| need.name.to_string()).collect();
            Err(format!("nothing is known of {}", names.join(", ")))
        }
    }
}

struct Preparation<'a> {
    plan: &'a Plan,
    tree: &'a SyntaxTree,
    chains: BTreeMap<usize, Vec<String>>,
    steps: Vec<Prep>,
    /// How often an instruction stands in its stage.
    texts: BTreeMap<(String, String), usize>,
}

impl<'a> Preparation<'a> {
    fn new(plan: &'a Plan, tree: &'a SyntaxTree) -> Self {
        // What the classic builder's chain holds: also the instructions that are metadata alone.
        let mut pending: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut chains = BTreeMap::new();
        for entry in &plan.entries {
            let texts = pending.entry(&entry.stage).or_default();
            // The image's name is a fact; how its stage is called is nothing to any builder.
            let is_from = entry.text.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("from"));
            if !is_from {
                texts.push(entry.text.clone());
            }
            if let Some(step) = entry.step {
                chains.insert(step, std::mem::take(texts));
            }
        }
        Self { plan, tree, chains, steps: Vec::new(), texts: BTreeMap::new() }
    }

    fn run(mut self) -> Result<Prepared, String> {
        for index in 0..self.plan.steps.len() {
            let step = self.step(index)?;
            self.steps.push(step);
        }
        Ok(Prepared { steps: self.steps })
    }

    fn step(&mut self, index: usize) -> Result<Prep, String> {
        let step = &self.plan.steps[index];
        let mut copies = match step.parent {
            Some(parent) => {
                let parent = &self.steps[parent];
                let mut copies = parent.copies.clone();
                let is_copy = parent.kind == Kind::Copy && !parent.uses.is_empty();
                copies.extend(is_copy.then_some(step.parent.unwrap_or_default()));
                copies
            }
            None => Vec::new(),
        };
        copies.dedup();
        let mut text = step.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let times = self.texts.entry((step.stage.clone(), text.clone())).or_default();
        *times += 1;
        if *times > 1 {
            text.push_str(&format!(" ({times})"));
        }
        let chain = self.chains.remove(&index).unwrap_or_else(|| vec![step.text.clone()]);
        let mut prep = Prep {
            kind: Kind::Image,
            class: Class::Other,
            stage: step.stage.clone(),
            text,
            line: self.tree.line_of(step.span.start),
            parent: step.parent,
            facts: Vec::new(),
            uses: Vec::new(),
            slices: Vec::new(),
            chain,
            copies,
        };
        self.operation(index, &mut prep)?;
        Ok(prep)
    }

    fn operation(&self, index: usize, prep: &mut Prep) -> Result<(), String> {
        match &self.plan.steps[index].op {
            Op::Image(op) => {
                prep.facts = vec![
                    Fact::text("kind", "image"),
                    Fact::text("image", op.need.name.to_string()),
                    Fact::text("platform", op.need.platform.to_string()),
                ];
            }
            Op::MakeDirectory(op) => {
                prep.kind = Kind::Directory;
                prep.facts = op.facts();
            }
            Op::Copy(op) => {
                prep.kind = Kind::Copy;
                prep.class = Class::Copy;
                prep.facts = op.facts();
                for (number, file) in op.inline.iter().enumerate() {
                    let name = format!("file {number}");
                    prep.facts.push(Fact::text(name, format!("{}\0{}", file.name, file.content)));
                }
                // What is fetched is its address, as a base image is its name.
                for (number, remote) in op.remotes() {
                    let name = format!("address {number}");
                    prep.facts.push(Fact::text(name, format!("{remote:?}")));
                }
                if !op.has_paths() {
                    return Ok(());
                }
                match &op.from {
                    Source::Context(_) => {
                        prep.uses.push(Use::new("files".to_owned(), Wanted::of_copy(op)?));
                    }
                    Source::Step(None) => {}
                    Source::Step(Some(step)) => {
                        let paths = op.sources.iter().map(|source| source.pattern.clone());
                        prep.slices.push(self.slice(*step, paths.collect()));
                        let selection = format!("{:?} {:?}", op.exclude, op.parents);
                        prep.facts.push(Fact::text("selection", selection));
                    }
                }
            }
            Op::Run(op) => {
                prep.kind = Kind::Run;
                prep.facts = op.facts();
                self.mounts(&op.mounts, prep);
                let command = match &op.script {
                    Some(script) => script.body.clone(),
                    None => match op.form() {
                        strata_dockerfile::CommandForm::Shell(text) => text,
                        strata_dockerfile::CommandForm::Exec(argv) => argv.join(" "),
                    },
                };
                prep.class = model::classify(&command);
            }
        }
        Ok(())
    }

    /// Whether files of the context are in front of a step: copied, or from a stage that has them.
    fn has_context(&self, prep: &Prep) -> bool {
        let below = std::iter::successors(prep.parent, |step| self.steps[*step].parent);
        !prep.copies.is_empty()
            || below.into_iter().any(|step| {
                let step = &self.steps[step];
                !step.uses.is_empty()
                    || step.slices.iter().any(|slice| self.slice_has_context(slice))
            })
    }

    fn slice_has_context(&self, slice: &Slice) -> bool {
        slice.origin.iter().any(|origin| !matches!(origin, Origin::Alone(_)))
    }

    fn mounts(&self, mounts: &[RunMount], prep: &mut Prep) {
        for (number, mount) in mounts.iter().enumerate() {
            let (from, source) = match mount {
                RunMount::Bind { from, source, .. } => (from, source),
                RunMount::Cache { seed: Some((from, source)), .. } => (from, source),
                _ => continue,
            };
            match from {
                Source::Context(_) => {
                    let path = TreePath::normalise(source.as_bytes());
                    let name = format!("mount {number} files");
                    prep.uses.push(Use::new(name, Wanted::of_path(&path)));
                }
                Source::Step(Some(step)) => {
                    let slice = self.slice(*step, vec![source.clone()]);
                    prep.slices.push(slice);
                }
                Source::Step(None) => {}
            }
        }
    }

    fn slice(&self, step: usize, paths: Vec<String>) -> Slice {
        let mut origin = BTreeSet::new();
        let mut list: Vec<Origin> = Vec::new();
        for path in &paths {
            for one in self.origin(step, path) {
                let key = format!("{one:?}");
                if origin.insert(key) {
                    list.push(one);
                }
            }
        }
        Slice { step, paths, origin: list }
    }

    /// What can have had a hand in a path below a step's root.
    fn origin(&self, step: usize, path: &str) -> Vec<Origin> {
        let mut chain: Vec<usize> =
            std::iter::successors(Some(step), |step| self.steps[*step].parent).collect();
        chain.reverse();
        let mut origin = Vec::new();
        for index in chain {
            let step = &self.steps[index];
            match (&self.plan.steps[index].op, step.kind) {
                (Op::Copy(copy), _) => {
                    if overlaps(&copy.dest, path) {
                        let whole = step.uses.is_empty() && !step.slices.is_empty();
                        if whole {
                            origin.clear();
                        }
                        origin.push(if whole {
                            Origin::Whole(index)
                        } else {
                            Origin::Files(index)
                        });
                    }
                }
                (Op::Run(run), _) => {
                    let command = run.command();
                    let aside = model::is_system_path(path)
                        && !command.contains(&format!("/{}", path.trim_matches('/')))
                        && !self.is_below_copy(index, path);
                    if !self.has_context(step) && step.uses.is_empty() && step.slices.is_empty() {
                        origin.push(Origin::Alone(index));
                    } else if command.contains("cargo chef prepare") && path.ends_with(".json") {
                        origin.push(Origin::Manifests(index));
                    } else if !aside {
                        // Its key stands for all that is below it.
                        origin.clear();
                        origin.push(Origin::Whole(index));
                    }
                }
                (Op::Image(_), _) => origin.push(Origin::Alone(index)),
                (Op::MakeDirectory(_), _) => {}
            }
        }
        origin
    }

    /// Whether files of the context lie where a path is.
    fn is_below_copy(&self, step: usize, path: &str) -> bool {
        self.steps[step].copies.iter().any(|copy| match &self.plan.steps[*copy].op {
            Op::Copy(copy) => copy.dest != "/" && overlaps(&copy.dest, path),
            _ => false,
        })
    }
}

/// Whether one of two paths is, or may be, above the other. A pattern counts up to its wildcard.
fn overlaps(one: &str, other: &str) -> bool {
    let clean = |path: &str| {
        let path = path.split(['*', '?', '[']).next().unwrap_or_default();
        TreePath::normalise(path.as_bytes())
    };
    let (one, other) = (clean(one), clean(other));
    one.below(&other).is_some() || other.below(&one).is_some()
}
