//! The report: what a replay found, as one document. `docs/formats/replay.md` describes its JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::advise::Advice;
use crate::execution::Execution;
use crate::keys::Scheme;
use crate::model::{Class, is_bystander};
use crate::policy::PolicyReport;
use crate::tally::{InstructionTally, Row, SchemeTally, Tally};

/// The version of the report's JSON.
pub const SCHEMA: &str = "strata.replay.1";

/// How many files are listed.
const FILES_MAX: usize = 50;

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// What was replayed.
    pub subject: Subject,
    /// What the figures rest on.
    pub model: Model,
    /// The scheme that gates and details are about.
    pub main_scheme: String,
    /// Commits that were built, and those that could not be.
    pub builds: Builds,
    /// Every scheme on the same history.
    pub schemes: Vec<SchemeReport>,
    /// Every instruction, those of the newest Dockerfile first.
    pub instructions: Vec<InstructionReport>,
    /// The files that broke most.
    pub files: Vec<FileReport>,
    /// How many files broke something.
    pub files_total: usize,
    /// Counterfactual replays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub what_ifs: Vec<WhatIfReport>,
    /// Caches of limited size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyReport>,
    /// What to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
    /// Builds that really ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution>,
    /// Every build, oldest first.
    pub commits: Vec<CommitReport>,
}

/// What was replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The repository's name: its directory's.
    pub repository: String,
    /// The oldest commit.
    pub first: String,
    /// The newest commit.
    pub last: String,
    /// `first-parent`, `date` or `topo`.
    pub order: String,
    /// The Dockerfile, below the repository's root.
    pub dockerfile: String,
    /// The build context, below the repository's root.
    pub context: String,
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`, in order.
    pub build_args: BTreeMap<String, String>,
    /// What was changed in every commit.
    pub what_if: Vec<String>,
}

/// What the figures rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// `class model`, `measured`, or `mixed`: some instructions have a measured time, the others
    /// their class's. Each instruction says which.
    pub time: String,
    /// What a command makes is not known without running it.
    pub outputs: String,
    /// How much is kept.
    pub cache: String,
    /// What the base images are.
    pub base_images: String,
    /// Milliseconds of each class.
    pub class_millis: BTreeMap<String, u64>,
}

/// Commits that were built, and those that could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builds {
    /// Commits of the range.
    pub commits: usize,
    /// Builds that were replayed.
    pub built: usize,
    /// Those that count: all but the first, which finds an empty cache.
    pub scored: usize,
    /// False if the replay was ended early.
    pub complete: bool,
    /// Why others were not.
    pub not_built: Vec<NotBuilt>,
    /// What happened to the Dockerfile.
    pub notes: Vec<String>,
}

/// A commit without a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotBuilt {
    /// Which.
    pub commit: String,
    /// Why.
    pub reason: String,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Share {
    /// How many.
    pub hits: u64,
    /// Of how many.
    pub of: u64,
    /// In per cent, two decimals; 0 of nothing.
    pub percent: f64,
}

impl Share {
    pub(crate) fn new(hits: u64, of: u64) -> Self {
        Self { hits, of, percent: percent(hits, of) }
    }

    /// In per cent, not rounded: what is rounded again must not be rounded before.
    #[expect(clippy::cast_precision_loss, reason = "a share of counts")]
    pub(crate) fn exact(&self) -> f64 {
        if self.of == 0 { 0.0 } else { self.hits as f64 * 100.0 / self.of as f64 }
    }
}

/// A share in per cent with two decimals.
#[expect(clippy::cast_precision_loss, reason = "two decimals of a count")]
pub(crate) fn percent(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { (part as f64 * 10_000.0 / of as f64).round() / 100.0 }
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of a replay fit easily")]
pub(crate) fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// One scheme.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchemeReport {
    /// Its name.
    pub scheme: String,
    /// Steps (RUN, COPY, ADD) that hit.
    pub steps: Share,
    /// Milliseconds that hits saved, of what all steps need.
    pub time: Share,
    /// Builds in which no RUN ran.
    pub no_run: Share,
    /// The tenth part of builds had at most this share of hits.
    pub p10: f64,
    /// Half of the builds had at most this share of hits.
    pub p50: f64,
    /// Steps whose result the build before had used.
    pub previous_build: Share,
    /// Hits by kind of work.
    pub classes: BTreeMap<String, Share>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstructionReport {
    /// Its stage.
    pub stage: String,
    /// The instruction in one line.
    pub text: String,
    /// Its line in the newest Dockerfile that has it.
    pub line: usize,
    /// Whether the newest Dockerfile has it.
    pub current: bool,
    /// The kind of work.
    pub class: String,
    /// Seconds that it takes.
    pub seconds: f64,
    /// `measured` or `class model`.
    pub time_from: String,
    /// Hits under the main scheme.
    pub hits: Share,
    /// Seconds that hits saved.
    pub saved_seconds: f64,
    /// Seconds that misses cost.
    pub lost_seconds: f64,
    /// Bytes that it made where it missed or hit, on average.
    pub bytes: u64,
    /// Why it missed, how often.
    pub misses: BTreeMap<String, u64>,
    /// Hits in per cent under every scheme.
    pub schemes: BTreeMap<String, f64>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileReport {
    /// Its path in the context.
    pub path: String,
    /// Builds that it broke, alone or with others.
    pub broke: u64,
    /// Builds that nothing else broke.
    pub alone: u64,
    /// Its share of the seconds lost in those builds.
    pub lost_seconds: f64,
    /// Seconds lost in builds that nothing else broke.
    pub lost_alone_seconds: f64,
    /// The line of an ignore file that would leave it out, if it looks as if nothing needs it.
    pub ignore_line: Option<String>,
}

/// One counterfactual replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhatIfReport {
    /// What was changed.
    pub what: String,
    /// The three rates without it, in per cent: steps, time, builds without RUN.
    pub without: [f64; 3],
    /// The same with it.
    pub with: [f64; 3],
    /// Seconds a build that it saves on average.
    pub saved_seconds_per_build: f64,
}

/// One build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitReport {
    /// The commit.
    pub commit: String,
    /// The first line of its message.
    pub subject: String,
    /// Whether it counts.
    pub scored: bool,
    /// Hits of its steps.
    pub hits: Share,
    /// Whether a RUN would run.
    pub runs: bool,
    /// Seconds that misses cost.
    pub lost_seconds: f64,
    /// The first step that missed by itself.
    pub first_miss: Option<Miss>,
    /// Bytes of the context that changed since the build before.
    pub hashed_bytes: u64,
    /// Those that no earlier build had.
    pub stored_bytes: u64,
    /// Files of the context.
    pub context_files: u64,
    /// Bytes of the context.
    pub context_bytes: u64,
}

/// Why a build was not all hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// The stage.
    pub stage: String,
    /// The instruction in one line.
    pub instruction: String,
    /// `files`, `base image`, `new instruction` or `changed instruction`.
    pub cause: String,
    /// Which facts of the instruction changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The smallest set of paths that made it: `+` is new, `-` is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witness: Vec<String>,
    /// How many paths there are in all.
    pub witness_total: usize,
}

impl Report {
    /// Puts what was counted into words and rates.
    pub fn new(tally: &Tally, subject: Subject, commits: usize, main: Scheme) -> Self {
        let scored = tally.schemes[main as usize].builds;
        Self {
            schema: SCHEMA.to_owned(),
            subject,
            model: model(tally),
            main_scheme: main.name().to_owned(),
            builds: Builds {
                commits,
                built: tally.builds,
                scored: usize::try_from(scored).unwrap_or(usize::MAX),
                complete: tally.complete,
                not_built: not_built(tally),
                notes: tally.notes.clone(),
            },
            schemes: Scheme::ALL
                .into_iter()
                .map(|scheme| scheme_report(scheme, &tally.schemes[scheme as usize]))
                .collect(),
            instructions: instructions(tally, main),
            files: files(tally),
            files_total: tally.files.len(),
            what_ifs: Vec::new(),
            policies: Vec::new(),
            advice: None,
            execution: None,
            commits: tally.rows.iter().map(|row| commit(row, main)).collect(),
        }
    }

    /// The scheme that gates and details are about.
    pub fn main(&self) -> Option<&SchemeReport> {
        self.schemes.iter().find(|scheme| scheme.scheme == self.main_scheme)
    }

    /// Its three rates in per cent: steps, time, builds without RUN.
    pub fn rates(&self) -> [f64; 3] {
        let main = self.main();
        main.map_or([0.0; 3], |s| [s.steps.percent, s.time.percent, s.no_run.percent])
    }
}

fn model(tally: &Tally) -> Model {
    let measured = tally.instructions.values().filter(|one| one.measured).count();
    let time = match measured {
        0 => "class model",
        all if all == tally.instructions.len() => "measured",
        _ => "mixed",
    };
    let classes = [
        Class::Other,
        Class::Copy,
        Class::Trivial,
        Class::NoContext,
        Class::Installer,
        Class::Build,
    ];
    let class_millis = classes.map(|class| (class.name().to_owned(), class.millis())).into();
    Model {
        time: time.to_owned(),
        outputs: "a command that ran is taken to give what no other run gave; the recipe of \
                  cargo-chef follows the manifests, and no build touches the system's paths"
            .to_owned(),
        cache: "everything is kept".to_owned(),
        base_images: "by their names".to_owned(),
        class_millis,
    }
}

fn not_built(tally: &Tally) -> Vec<NotBuilt> {
    let one = |(commit, reason): &(String, String)| NotBuilt {
        commit: commit.clone(),
        reason: reason.clone(),
    };
    tally.not_built.iter().map(one).collect()
}

fn scheme_report(scheme: Scheme, tally: &SchemeTally) -> SchemeReport {
    let classes = tally.classes.iter();
    SchemeReport {
        scheme: scheme.name().to_owned(),
        steps: Share::new(tally.hits, tally.lookups),
        time: Share::new(tally.saved_millis, tally.total_millis),
        no_run: Share::new(tally.no_run, tally.builds),
        p10: quantile(&tally.rates, 10),
        p50: quantile(&tally.rates, 50),
        previous_build: Share::new(tally.again, tally.lookups),
        classes: classes
            .map(|(class, (hits, of))| (class.name().to_owned(), Share::new(*hits, *of)))
            .collect(),
    }
}

/// The nearest rank, in per cent.
fn quantile(rates: &[u16], percent: usize) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_unstable();
    let rank = (rates.len() * percent).div_ceil(100).max(1);
    rates.get(rank - 1).map_or(0.0, |rate| f64::from(*rate) / 100.0)
}

fn instructions(tally: &Tally, main: Scheme) -> Vec<InstructionReport> {
    let mut all: Vec<_> = tally.instructions.iter().collect();
    all.sort_by_key(|(slot, one)| {
        let current = one.last_build == tally.builds;
        (!current, if current { 0 } else { usize::MAX - one.last_build }, one.position, *slot)
    });
    all.into_iter().map(|(slot, one)| instruction(slot, one, tally, main)).collect()
}

fn instruction(
    (stage, text): &(String, String),
    one: &InstructionTally,
    tally: &Tally,
    main: Scheme,
) -> InstructionReport {
    let hits = one.hits[main as usize];
    let rate = |scheme: Scheme| {
        (scheme.name().to_owned(), percent(one.hits[scheme as usize], one.lookups))
    };
    InstructionReport {
        stage: stage.clone(),
        text: text.clone(),
        line: one.line,
        current: one.last_build == tally.builds,
        class: one.class.name().to_owned(),
        seconds: seconds(one.millis),
        time_from: if one.measured { "measured" } else { "class model" }.to_owned(),
        hits: Share::new(hits, one.lookups),
        saved_seconds: seconds(one.millis * hits),
        lost_seconds: seconds(one.millis * (one.lookups - hits)),
        bytes: one.bytes.checked_div(one.lookups).unwrap_or(0),
        misses: one.misses.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        schemes: Scheme::ALL.into_iter().map(rate).collect(),
    }
}

fn files(tally: &Tally) -> Vec<FileReport> {
    let mut all: Vec<_> = tally.files.iter().collect();
    all.sort_by(|(a, one), (b, other)| {
        let key = |file: &crate::tally::FileTally| (file.lost_millis, file.broke);
        key(other).cmp(&key(one)).then_with(|| a.cmp(b))
    });
    let report = |(path, file): (&strata_cas::TreePath, &crate::tally::FileTally)| FileReport {
        path: path.to_string(),
        broke: file.broke,
        alone: file.alone,
        lost_seconds: seconds(file.lost_millis),
        lost_alone_seconds: seconds(file.lost_alone_millis),
        ignore_line: is_bystander(path).then(|| ignore_line(&path.to_string())),
    };
    all.into_iter().take(FILES_MAX).map(report).collect()
}

/// The line that leaves exactly this path out.
pub(crate) fn ignore_line(path: &str) -> String {
    let special = ['*', '?', '[', '\\'];
    let mut line = String::from("/");
    for letter in path.chars() {
        if special.contains(&letter) {
            line.push('\\');
        }
        line.push(letter);
    }
    line
}

fn commit(row: &Row, main: Scheme) -> CommitReport {
    let (hits, no_run) = row.schemes[main as usize];
    let first_miss = row.first_miss.as_ref().map(|miss| Miss {
        stage: miss.stage.clone(),
        instruction: miss.instruction.clone(),
        cause: miss.cause.to_owned(),
        detail: miss.detail.clone(),
        witness: miss.witness.clone(),
        witness_total: miss.witness_total,
    });
    CommitReport {
        commit: row.commit.clone(),
        subject: row.subject.clone(),
        scored: row.scored,
        hits: Share::new(hits as u64, row.steps as u64),
        runs: !no_run,
        lost_seconds: seconds(row.lost_millis),
        first_miss,
        hashed_bytes: row.hashed_bytes,
        stored_bytes: row.stored_bytes,
        context_files: row.context_files,
        context_bytes: row.context_bytes,
    }
}
