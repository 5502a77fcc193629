//! Advice: the few changes of the newest Dockerfile and ignore file that bring most on this
//! history. Each candidate is replayed; what does not help is not advised.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::edit::{self, Edit};
use crate::history::{HistoryError, SharedHistory};
use crate::model::is_bystander;
use crate::patch::unified;
use crate::replay::{Request, replay};
use crate::report::{WhatIfReport, ignore_line};
use crate::study::Study;
use crate::tally::Tally;
use crate::what_if::WhatIf;
use strata_cas::TreePath;

/// How many ignore lines are tried.
const LINES_MAX: usize = 8;
/// How many changes are advised.
const CHANGES_MAX: usize = 4;
/// What a change must bring, in hundredths of a per cent of time or of steps.
const LEAST_GAIN: f64 = 0.1;

/// What to change, and what it brings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// Each change with the figures before it and with it, in the order in which to make them.
    pub changes: Vec<WhatIfReport>,
    /// All changes together.
    pub together: Option<WhatIfReport>,
    /// A patch of the newest commit with all of them; empty without any.
    pub patch: String,
    /// What to look at before the patch is used.
    pub cautions: Vec<String>,
}

/// One thing that could be changed.
#[derive(Debug, Clone, PartialEq)]
enum Candidate {
    Ignore(String),
    Edit(Edit),
}

impl Candidate {
    fn words(&self, file: &str) -> String {
        match self {
            Self::Ignore(line) => format!("add `{line}` to {file}"),
            Self::Edit(edit) => edit.words().to_owned(),
        }
    }

    /// Makes the change; nothing if there is none to make.
    fn apply(&self, state: &State, request: &Request) -> Option<State> {
        let mut state = state.clone();
        match self {
            Self::Ignore(line) => {
                if state.ignore.lines().any(|known| known.trim() == line) {
                    return None;
                }
                if !state.ignore.is_empty() && !state.ignore.ends_with('\n') {
                    state.ignore.push('\n');
                }
                state.ignore.push_str(line);
                state.ignore.push('\n');
            }
            Self::Edit(edit) => {
                state.dockerfile = edit::apply(edit, &state.dockerfile, &request.asked)?;
            }
        }
        Some(state)
    }
}

/// Both files.
#[derive(Debug, Clone)]
struct State {
    dockerfile: Vec<u8>,
    ignore: String,
}

impl State {
    fn what_if(&self) -> WhatIf {
        WhatIf {
            dockerfile: Some(self.dockerfile.clone()),
            ignore_file: Some(self.ignore.clone().into_bytes()),
            ..WhatIf::default()
        }
    }
}

/// Searches. The newest Dockerfile and ignore file stand in for each commit's own, with and
/// without the changes: that is what a change of them is about. `tell` is told how many replays
/// were made; false ends the search with what was found.
pub fn advise(
    study: &Study<'_>,
    shared: &SharedHistory,
    tell: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Advice>, HistoryError> {
    let Some(dockerfile) = study.newest_dockerfile()? else { return Ok(None) };
    let ignore_path = study.ignore_path()?;
    let ignore_path = ignore_path.to_string_lossy().into_owned();
    let old_ignore = study.newest_file(ignore_relative(study, &ignore_path).as_ref())?;
    let old_ignore = old_ignore.map(|text| String::from_utf8_lossy(&text).into_owned());
    let mut state =
        State { dockerfile: dockerfile.clone(), ignore: old_ignore.clone().unwrap_or_default() };
    let first = study.with(state.what_if(), &mut |_| true)?;
    let mut left = candidates(study, &first)?;
    let mut replays = 1;
    let mut now = first.rates(study);
    let mut advice =
        Advice { changes: Vec::new(), together: None, patch: String::new(), cautions: Vec::new() };
    let mut current = None;
    while advice.changes.len() < CHANGES_MAX && tell(replays) {
        let tried: Vec<(usize, State, Tally)> = left
            .par_iter()
            .enumerate()
            .filter_map(|(number, candidate)| {
                let changed = candidate.apply(&state, study.request)?;
                let history = shared.open();
                let request = Request { what_if: changed.what_if(), ..study.request.clone() };
                let tally = replay(&history, study.commits, &request, &mut |_| true).ok()?;
                Some((number, changed, tally))
            })
            .collect();
        replays += tried.len();
        let gain = |tally: &Tally| {
            let rates = tally.rates(study);
            (rates[1] - now[1]) + (rates[0] - now[0]) / 10.0
        };
        let best = tried
            .into_iter()
            .max_by(|a, b| gain(&a.2).total_cmp(&gain(&b.2)).then_with(|| b.0.cmp(&a.0)));
        let Some((number, changed, tally)) = best.filter(|(_, _, tally)| gain(tally) > LEAST_GAIN)
        else {
            break;
        };
        let candidate = left.remove(number);
        advice.cautions.extend(caution(&candidate));
        let before = current.as_ref().unwrap_or(&first);
        advice.changes.push(study.compare(candidate.words(&ignore_path), before, &tally));
        now = tally.rates(study);
        state = changed;
        current = Some(tally);
    }
    if let Some(last) = &current {
        advice.together = Some(study.compare("all of them".to_owned(), &first, last));
        advice.patch = patch(study, &dockerfile, &state, old_ignore.as_deref(), &ignore_path);
    }
    Ok(Some(advice))
}

fn ignore_relative(study: &Study<'_>, path: &str) -> std::path::PathBuf {
    let path = std::path::Path::new(path);
    path.strip_prefix(&study.request.context).unwrap_or(path).to_path_buf()
}

fn caution(candidate: &Candidate) -> Option<String> {
    match candidate {
        Candidate::Ignore(line) => Some(format!(
            "`{line}`: no instruction names these files, but a command may still read them"
        )),
        Candidate::Edit(Edit::SplitCopy { .. }) => Some(
            "the installer no longer sees the other files: scripts that it runs after installing \
             may need them"
                .to_owned(),
        ),
        Candidate::Edit(Edit::Reorder { .. }) => Some(
            "commands were moved above COPYs that they do not seem to need: check that they do not"
                .to_owned(),
        ),
        Candidate::Edit(Edit::Link) => None,
    }
}

fn patch(
    study: &Study<'_>,
    dockerfile: &[u8],
    state: &State,
    old_ignore: Option<&str>,
    ignore_path: &str,
) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let path = study.request.dockerfile.to_string_lossy();
    let mut patch = unified(&path, Some(&text(dockerfile)), &text(&state.dockerfile));
    if state.ignore != old_ignore.unwrap_or_default() {
        patch.push_str(&unified(ignore_path, old_ignore, &state.ignore));
    }
    patch
}

/// What could help: ignore lines for what broke builds and looks as if nothing needed it, and
/// the edits.
fn candidates(study: &Study<'_>, tally: &Tally) -> Result<Vec<Candidate>, HistoryError> {
    let mut lost: BTreeMap<String, u64> = BTreeMap::new();
    for (path, file) in &tally.files {
        if is_bystander(path) && !tally.named.contains(path) {
            *lost.entry(pattern(path, tally)).or_default() += file.lost_millis;
        }
    }
    let mut lines: Vec<(String, u64)> = lost.into_iter().collect();
    lines.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let lines = lines.into_iter().take(LINES_MAX).map(|(line, _)| Candidate::Ignore(line));
    let mut all: Vec<Candidate> = lines.collect();
    let manifests = study.manifests()?;
    if !manifests.is_empty() {
        all.push(Candidate::Edit(Edit::SplitCopy { manifests }));
    }
    all.push(Candidate::Edit(Edit::Reorder { breaks: Study::breaks(tally) }));
    Ok(all)
}

/// The line that leaves out a file and its like: a directory of documentation or tests, or files
/// of the same ending. Nothing that an instruction names may be among them.
fn pattern(path: &TreePath, tally: &Tally) -> String {
    let spared = |line: &str| {
        let rules = strata_scan::IgnoreRules::new([line]).unwrap_or_default();
        !tally.named.iter().any(|named| rules.excludes(named))
    };
    for above in path.ancestors().into_iter().filter(|above| !above.is_root()) {
        let marker = above.child(b"x").unwrap_or_default();
        let line = ignore_line(&above.to_string());
        if is_bystander(&marker) && spared(&line) {
            return line;
        }
    }
    let name = String::from_utf8_lossy(path.name()).into_owned();
    for ending in [".md", ".rst", ".adoc", "_test.go", ".test.ts", ".test.tsx", ".test.js", ".snap"]
    {
        let line = format!("**/*{ending}");
        if name.ends_with(ending) && spared(&line) {
            return line;
        }
    }
    ignore_line(&path.to_string())
}
