//! `strata stats`: the measures of `strata replay`, of builds that were really made here.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strata_build::{End, PastBuild, PastStep, PastVerdict, Verified};

use super::builds::{history, unreadable};
use super::table;
use crate::arguments::{Format, StatsArguments};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::Settings;

/// How many instructions the table lists.
const INSTRUCTIONS: usize = 10;

pub(super) fn run(
    arguments: &StatsArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let all = history(settings).list(None).map_err(|error| unreadable(settings, &error))?;
    let wanted = |build: &PastBuild| {
        let named = arguments.project.as_ref();
        named.is_none_or(|project| build.project.contains(project.as_str()))
    };
    // Newest first; of each project the newest ones, then oldest first.
    let mut projects: BTreeMap<String, Vec<PastBuild>> = BTreeMap::new();
    for build in all.into_iter().filter(wanted) {
        let builds = projects.entry(build.project.clone()).or_default();
        if builds.len() < arguments.last.unwrap_or(usize::MAX) {
            builds.insert(0, build);
        }
    }
    let stats: Vec<Stats> = projects.values().map(|builds| Stats::of(builds)).collect();
    match arguments.format {
        Format::Json => {
            let projects: Vec<Value> = stats.iter().map(Stats::json).collect();
            printer.data(&format!("{:#}", json!({ "projects": projects })));
        }
        Format::Table if stats.is_empty() => {
            printer.data("no build is remembered");
        }
        Format::Table => {
            let texts: Vec<String> = stats.iter().map(Stats::text).collect();
            printer.data(&texts.join("\n\n"));
        }
    }
    Ok(0)
}

/// Milliseconds and bytes of each instruction, from the latest build that ran it.
pub(super) fn costs(settings: &Settings) -> Result<strata_replay::Costs, Failure> {
    let all = history(settings).list(None).map_err(|error| unreadable(settings, &error))?;
    let mut costs = strata_replay::Costs::default();
    for step in all.iter().flat_map(|build| &build.steps) {
        if is_work(step)
            && matches!(step.verdict, PastVerdict::Ran { .. } | PastVerdict::Hit { .. })
        {
            costs.measured.entry(one_line(&step.text)).or_insert((step.millis, step.bytes));
        }
    }
    Ok(costs)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// RUN, COPY and ADD count; what a failed build never reached does not.
fn is_work(step: &PastStep) -> bool {
    let word = step.text.split_whitespace().next().unwrap_or_default();
    let is_work = ["RUN", "COPY", "ADD"].iter().any(|name| word.eq_ignore_ascii_case(name));
    is_work && step.verdict != PastVerdict::NotReached
}

fn is_hit(step: &PastStep) -> bool {
    matches!(step.verdict, PastVerdict::Hit { .. })
}

/// Parts of wholes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rates {
    hits: u64,
    steps: u64,
    saved_millis: u64,
    all_millis: u64,
    no_run: u64,
    builds: u64,
}

impl Rates {
    fn add(&mut self, build: &PastBuild) {
        let mut ran = false;
        for step in build.steps.iter().filter(|step| is_work(step)) {
            let hit = is_hit(step);
            self.steps += 1;
            self.hits += u64::from(hit);
            self.all_millis += step.millis;
            self.saved_millis += if hit { step.millis } else { 0 };
            ran |= !hit && step.text.trim_start().to_ascii_uppercase().starts_with("RUN");
        }
        self.builds += 1;
        self.no_run += u64::from(!ran);
    }

    fn of<'a>(builds: impl IntoIterator<Item = &'a PastBuild>) -> Self {
        let mut rates = Self::default();
        builds.into_iter().for_each(|build| rates.add(build));
        rates
    }

    /// Steps, time and builds without RUN, in per cent.
    fn percents(&self) -> [f64; 3] {
        [
            percent(self.hits, self.steps),
            percent(self.saved_millis, self.all_millis),
            percent(self.no_run, self.builds),
        ]
    }

    fn words(&self) -> String {
        let [steps, time, no_run] = self.percents();
        format!("{steps:.1}% of steps, {time:.1}% of time, {no_run:.1}% of builds without RUN")
    }
}

fn percent(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { (part as f64 * 10_000.0 / of as f64).round() / 100.0 }
}

/// One instruction over all builds.
#[derive(Debug, Clone, Default)]
struct Instruction {
    hits: u64,
    lookups: u64,
    lost_millis: u64,
}

/// One project.
#[derive(Debug)]
struct Stats {
    project: String,
    rates: Rates,
    /// The older and the newer half.
    halves: [Rates; 2],
    /// Each build's share of hits.
    shares: Vec<f64>,
    failed: usize,
    verified: u64,
    differing: Vec<String>,
    instructions: Vec<(String, Instruction)>,
    builds: Vec<Value>,
}

impl Stats {
    /// Of builds of one project, oldest first.
    fn of(builds: &[PastBuild]) -> Self {
        let (older, newer) = builds.split_at(builds.len() / 2);
        let mut instructions: BTreeMap<String, Instruction> = BTreeMap::new();
        let (mut verified, mut differing) = (0, Vec::new());
        for step in builds.iter().flat_map(|build| &build.steps).filter(|step| is_work(step)) {
            let one = instructions.entry(one_line(&step.text)).or_default();
            one.lookups += 1;
            one.hits += u64::from(is_hit(step));
            one.lost_millis += if is_hit(step) { 0 } else { step.millis };
            match &step.verified {
                Some(Verified::Same) => verified += 1,
                Some(_) => differing.push(one_line(&step.text)),
                None => {}
            }
        }
        let mut instructions: Vec<_> = instructions.into_iter().collect();
        instructions.sort_by(|(a, one), (b, other)| {
            other.lost_millis.cmp(&one.lost_millis).then_with(|| a.cmp(b))
        });
        differing.sort();
        differing.dedup();
        Self {
            project: builds.first().map(|build| build.project.clone()).unwrap_or_default(),
            rates: Rates::of(builds),
            halves: [Rates::of(older), Rates::of(newer)],
            shares: builds.iter().map(|build| Rates::of([build]).percents()[0]).collect(),
            failed: builds.iter().filter(|b| !matches!(b.end, End::Built { .. })).count(),
            verified,
            differing,
            instructions,
            builds: builds.iter().map(build_row).collect(),
        }
    }

    /// The nearest rank.
    fn quantile(&self, percent: usize) -> f64 {
        let mut shares = self.shares.clone();
        shares.sort_by(f64::total_cmp);
        let rank = (shares.len() * percent).div_ceil(100).max(1);
        shares.get(rank - 1).copied().unwrap_or(0.0)
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("{}: {} builds, {} failed", self.project, self.rates.builds, self.failed),
            format!("hits: {}", self.rates.words()),
            format!(
                "p10 {:.1}%, p50 {:.1}% of a build's steps",
                self.quantile(10),
                self.quantile(50)
            ),
        ];
        if self.halves[0].builds > 0 {
            lines.push(format!("older half: {}", self.halves[0].words()));
            lines.push(format!("newer half: {}", self.halves[1].words()));
        }
        if self.verified > 0 || !self.differing.is_empty() {
            let count = self.differing.len();
            lines.push(format!(
                "run again: {} hits gave the same, {count} steps did not",
                self.verified
            ));
            lines.extend(self.differing.iter().map(|step| format!("not deterministic: {step}")));
        }
        let header = ["HITS", "OF", "LOST", "INSTRUCTION"].map(str::to_owned).to_vec();
        let row = |(text, one): &(String, Instruction)| {
            vec![
                format!("{:.1}%", percent(one.hits, one.lookups)),
                one.lookups.to_string(),
                format!("{:.1}s", one.lost_millis as f64 / 1000.0),
                text.chars().take(70).collect(),
            ]
        };
        let rows = self.instructions.iter().take(INSTRUCTIONS).map(row);
        let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
        lines.push(table::draw(&rows));
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let rates = |rates: &Rates| {
            let [steps, time, no_run] = rates.percents();
            json!({
                "builds": rates.builds, "steps_percent": steps, "time_percent": time,
                "no_run_percent": no_run, "hits": rates.hits, "steps": rates.steps,
                "saved_millis": rates.saved_millis, "all_millis": rates.all_millis,
            })
        };
        let instruction = |(text, one): &(String, Instruction)| {
            json!({
                "text": text, "hits": one.hits, "lookups": one.lookups,
                "lost_millis": one.lost_millis,
            })
        };
        json!({
            "project": self.project,
            "all": rates(&self.rates),
            "older_half": rates(&self.halves[0]),
            "newer_half": rates(&self.halves[1]),
            "p10": self.quantile(10),
            "p50": self.quantile(50),
            "failed": self.failed,
            "verified": self.verified,
            "not_deterministic": self.differing,
            "instructions": self.instructions.iter().map(instruction).collect::<Vec<_>>(),
            "builds": self.builds,
        })
    }
}

fn build_row(build: &PastBuild) -> Value {
    let rates = Rates::of([build]);
    json!({
        "id": build.id, "started_millis": build.started_millis, "millis": build.millis,
        "hits": rates.hits, "steps": rates.steps, "saved_millis": rates.saved_millis,
        "ran": rates.no_run == 0,
    })
}
