//! What a replay counts. Numbers only: rates and words are the report's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strata_cas::TreePath;

use crate::context::{Change, Directory};
use crate::history::Commit;
use crate::keys::Scheme;
use crate::model::Class;
use crate::prepare::{Prep, Prepared};
use crate::replay::WITNESS_PATHS;
use crate::study::Study;
use crate::trace::Trace;

/// Why a step missed.
#[derive(Debug, Clone)]
pub(crate) enum Cause {
    /// The base image's name is another one.
    Base,
    /// The step itself: it is new, or a fact of it changed.
    Instruction { what: String, by_files: bool },
    /// Its own files.
    Files { paths: Vec<(TreePath, Change)>, total: usize },
    /// Only what it is built on.
    Upstream { by_files: bool },
}

impl Cause {
    /// Whether files of the context are to blame, here or further up.
    pub(crate) fn is_by_files(&self) -> bool {
        match self {
            Self::Files { .. } => true,
            Self::Upstream { by_files } | Self::Instruction { by_files, .. } => *by_files,
            Self::Base => false,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Base => "base image",
            Self::Instruction { what, .. } if what == "first" => "new instruction",
            Self::Instruction { .. } => "changed instruction",
            Self::Files { .. } => "files",
            Self::Upstream { .. } => "upstream",
        }
    }
}

/// All that was counted.
#[derive(Debug)]
pub struct Tally {
    /// Whether all commits were replayed.
    pub(crate) complete: bool,
    pub(crate) notes: Vec<String>,
    /// Builds so far, the first one, which is not scored, included.
    pub(crate) builds: usize,
    pub(crate) not_built: Vec<(String, String)>,
    pub(crate) schemes: Vec<SchemeTally>,
    pub(crate) instructions: BTreeMap<(String, String), InstructionTally>,
    pub(crate) files: BTreeMap<TreePath, FileTally>,
    pub(crate) rows: Vec<Row>,
    pub(crate) trace: Trace,
    /// Paths that an instruction of some Dockerfile names.
    pub(crate) named: BTreeSet<TreePath>,
    pub(crate) last_context: Option<Arc<Directory>>,
    pub(crate) hashed_bytes: u64,
    pub(crate) context_bytes: u64,
}

/// One scheme's hits.
#[derive(Debug, Clone, Default)]
pub(crate) struct SchemeTally {
    pub(crate) hits: u64,
    pub(crate) lookups: u64,
    /// Hits on what the build before used.
    pub(crate) again: u64,
    pub(crate) saved_millis: u64,
    pub(crate) total_millis: u64,
    pub(crate) no_run: u64,
    pub(crate) builds: u64,
    pub(crate) classes: BTreeMap<Class, (u64, u64)>,
    /// Each build's hits in ten-thousandths.
    pub(crate) rates: Vec<u16>,
}

impl SchemeTally {
    pub(crate) fn step(&mut self, step: &Prep, millis: u64, hit: bool, again: bool) {
        let one = u64::from(hit);
        self.lookups += 1;
        self.hits += one;
        self.again += u64::from(again);
        self.total_millis += millis;
        self.saved_millis += one * millis;
        let class = self.classes.entry(step.class).or_default();
        class.0 += one;
        class.1 += 1;
    }

    /// A step that counts in time only.
    pub(crate) fn aside(&mut self, millis: u64, hit: bool) {
        self.total_millis += millis;
        self.saved_millis += u64::from(hit) * millis;
    }

    pub(crate) fn build(&mut self, hits: usize, lookups: usize, ran: bool) {
        self.builds += 1;
        self.no_run += u64::from(!ran);
        let rate = (hits * 10_000).checked_div(lookups).unwrap_or(10_000);
        self.rates.push(u16::try_from(rate).unwrap_or(10_000));
    }
}

/// One instruction over all builds.
#[derive(Debug, Clone)]
pub(crate) struct InstructionTally {
    pub(crate) class: Class,
    pub(crate) millis: u64,
    pub(crate) measured: bool,
    pub(crate) line: usize,
    pub(crate) position: usize,
    pub(crate) last_build: usize,
    pub(crate) lookups: u64,
    pub(crate) hits: Vec<u64>,
    pub(crate) bytes: u64,
    pub(crate) misses: BTreeMap<&'static str, u64>,
}

impl InstructionTally {
    pub(crate) fn new(step: &Prep, millis: u64, measured: bool) -> Self {
        Self {
            class: step.class,
            millis,
            measured,
            line: 0,
            position: 0,
            last_build: 0,
            lookups: 0,
            hits: vec![0; Scheme::ALL.len()],
            bytes: 0,
            misses: BTreeMap::new(),
        }
    }
}

/// What one file broke.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FileTally {
    pub(crate) broke: u64,
    pub(crate) alone: u64,
    pub(crate) lost_millis: u64,
    pub(crate) lost_alone_millis: u64,
}

/// One build.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) commit: String,
    pub(crate) subject: String,
    pub(crate) scored: bool,
    pub(crate) steps: usize,
    /// Hits under each scheme, and whether no RUN ran.
    pub(crate) schemes: Vec<(usize, bool)>,
    pub(crate) lost_millis: u64,
    pub(crate) first_miss: Option<FirstMiss>,
    pub(crate) hashed_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) context_files: u64,
    pub(crate) context_bytes: u64,
}

/// The first step that missed by itself, and the smallest set of files that made it.
#[derive(Debug, Clone)]
pub(crate) struct FirstMiss {
    pub(crate) stage: String,
    pub(crate) instruction: String,
    pub(crate) cause: &'static str,
    pub(crate) detail: String,
    pub(crate) witness: Vec<String>,
    pub(crate) witness_total: usize,
}

impl Tally {
    pub(crate) fn new(notes: Vec<String>) -> Self {
        Self {
            complete: true,
            notes,
            builds: 0,
            not_built: Vec::new(),
            schemes: vec![SchemeTally::default(); Scheme::ALL.len()],
            instructions: BTreeMap::new(),
            files: BTreeMap::new(),
            rows: Vec::new(),
            trace: Trace::default(),
            named: BTreeSet::new(),
            last_context: None,
            hashed_bytes: 0,
            context_bytes: 0,
        }
    }

    pub(crate) fn not_built(&mut self, commit: &Commit, reason: String) {
        self.not_built.push((commit.id.to_string(), reason));
    }

    /// Adds a build. `rates` has hits under each scheme and whether no RUN ran; `lost` is
    /// milliseconds; `moved` is bytes hashed and stored; `context` is files and bytes.
    pub(crate) fn row(&mut self, commit: &Commit, built: Built<'_>) {
        let first_miss = built.first.map(|step| {
            let prep = &built.prepared.steps[step];
            first_miss(prep, built.causes[step].as_ref())
        });
        if built.scored {
            self.hashed_bytes += built.moved.0;
            self.context_bytes += built.context.1;
        }
        self.rows.push(Row {
            commit: commit.id.to_string(),
            subject: commit.subject.clone(),
            scored: built.scored,
            steps: built.steps,
            schemes: built.rates,
            lost_millis: built.lost_millis,
            first_miss,
            hashed_bytes: built.moved.0,
            stored_bytes: built.moved.1,
            context_files: built.context.0,
            context_bytes: built.context.1,
        });
    }

    /// The three rates of the main scheme in per cent: steps, time, builds without RUN.
    pub(crate) fn rates(&self, study: &Study<'_>) -> [f64; 3] {
        let main = study.main;
        let rates = [self.steps(main), self.time(main), self.no_run(main)];
        rates.map(|(part, of)| crate::report::percent(part, of))
    }

    /// What was asked of the cache, in order.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Hits and lookups under a scheme.
    pub fn steps(&self, scheme: Scheme) -> (u64, u64) {
        let tally = &self.schemes[scheme as usize];
        (tally.hits, tally.lookups)
    }

    /// Milliseconds that hits saved, of all.
    pub fn time(&self, scheme: Scheme) -> (u64, u64) {
        let tally = &self.schemes[scheme as usize];
        (tally.saved_millis, tally.total_millis)
    }

    /// Builds in which no RUN ran, of all.
    pub fn no_run(&self, scheme: Scheme) -> (u64, u64) {
        let tally = &self.schemes[scheme as usize];
        (tally.no_run, tally.builds)
    }
}

/// What a row is made of.
pub(crate) struct Built<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) first: Option<usize>,
    pub(crate) causes: &'a [Option<Cause>],
    pub(crate) rates: Vec<(usize, bool)>,
    pub(crate) steps: usize,
    pub(crate) lost_millis: u64,
    pub(crate) moved: (u64, u64),
    pub(crate) context: (u64, u64),
    pub(crate) scored: bool,
}

fn first_miss(prep: &Prep, cause: Option<&Cause>) -> FirstMiss {
    let mut miss = FirstMiss {
        stage: prep.stage.clone(),
        instruction: prep.text.clone(),
        cause: cause.map_or("", Cause::name),
        detail: String::new(),
        witness: Vec::new(),
        witness_total: 0,
    };
    match cause {
        Some(Cause::Files { paths, total }) => {
            let shown = |(path, change): &(TreePath, Change)| {
                let sign = match change {
                    Change::Added => '+',
                    Change::Removed => '-',
                    Change::Changed => ' ',
                };
                format!("{sign}{path}")
            };
            miss.witness = paths.iter().take(WITNESS_PATHS).map(shown).collect();
            miss.witness_total = *total;
        }
        Some(Cause::Instruction { what, .. }) => miss.detail.clone_from(what),
        _ => {}
    }
    miss
}
