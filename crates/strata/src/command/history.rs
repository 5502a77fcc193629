//! `strata history`: what made each layer of an image, its size, and what the last build of it
//! that ran here did for it.

use serde::{Deserialize, Serialize};
use serde_json::json;
use strata_build::{BuildReport, StoredImage};
use strata_engine::{Found, MissReason, Verdict};

use super::table;
use crate::arguments::{Format, HistoryArguments};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::{amount, build_error};

/// So many characters of an instruction are shown.
const SHOWN_CHARS: usize = 45;

/// What is kept of a build, for each line that it added to the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// `cached`, or why it ran.
    verdict: String,
    /// Wall time of the step when it ran, in milliseconds.
    millis: u64,
}

/// Keeps what a build did, for `strata history`.
pub(super) fn note(session: &Session, report: &BuildReport) -> Result<(), Failure> {
    let of = |step: &Option<usize>| {
        let step = report.steps.get((*step)?)?;
        Some(Note { verdict: verdict(&step.verdict), millis: step.cost.millis })
    };
    let notes: Vec<Option<Note>> = report.history.iter().map(of).collect();
    let text = serde_json::to_vec(&notes)
        .map_err(|error| Failure::environment(format!("notes of the build: {error}")))?;
    let kept = session.images().set_notes(&report.image, &text);
    kept.map_err(|error| build_error::plain(&error))
}

/// What became of a step, in few words.
pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Hit(Found::ByDefinition) => "cached".to_owned(),
        Verdict::Hit(Found::ByContent) => "cached by content".to_owned(),
        Verdict::Hit(Found::ByLink) => "cached, linked".to_owned(),
        Verdict::Miss(why) => format!("ran: {}", kind(why)),
    }
}

/// One word for why a step ran.
fn kind(why: &MissReason) -> &'static str {
    match why {
        MissReason::First => "first",
        MissReason::Forced => "forced",
        MissReason::Expired { .. } => "expired",
        MissReason::Changed(_) => "changed",
        MissReason::Input { .. } => "input",
        MissReason::Evicted => "evicted",
    }
}

pub(super) fn run(
    arguments: &HistoryArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let platform = request::platform(arguments.platform.as_deref(), environment)?;
    let session = Session::open(settings, printer)?;
    let image = session.image(&arguments.name, &platform)?;
    let notes = session.images().notes(&image.id).map_err(|error| build_error::plain(&error))?;
    let notes: Vec<Option<Note>> =
        notes.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let lines = lines(&image, &notes);
    match arguments.format {
        Format::Table => printer.data(&rows(&lines, arguments.no_trunc)),
        Format::Json => lines.iter().for_each(|line| printer.data(&object(line))),
    }
    Ok(0)
}

struct Line {
    created: Option<String>,
    created_by: String,
    comment: Option<String>,
    /// Bytes of its layer's tar; none for a line without a layer.
    bytes: Option<u64>,
    diff_id: Option<String>,
    note: Option<Note>,
}

/// The newest first, as Docker has it.
fn lines(image: &StoredImage, notes: &[Option<Note>]) -> Vec<Line> {
    let history = &image.config.history;
    let first_own = history.len().saturating_sub(notes.len());
    let mut layers = image.layers.iter();
    let mut lines: Vec<Line> = history
        .iter()
        .enumerate()
        .map(|(at, entry)| {
            let layer = if entry.empty_layer { None } else { layers.next() };
            let note = at.checked_sub(first_own).and_then(|at| notes.get(at)?.clone());
            Line {
                created: entry.created.clone(),
                created_by: entry.created_by.clone().unwrap_or_default(),
                comment: entry.comment.clone(),
                bytes: layer.map(|layer| layer.bytes),
                diff_id: layer.map(|layer| layer.diff_id.to_string()),
                note,
            }
        })
        .collect();
    // An image without a history has layers all the same.
    lines.extend(layers.map(|layer| Line {
        created: None,
        created_by: "<missing>".to_owned(),
        comment: None,
        bytes: Some(layer.bytes),
        diff_id: Some(layer.diff_id.to_string()),
        note: None,
    }));
    lines.reverse();
    lines
}

fn rows(lines: &[Line], whole: bool) -> String {
    let header = ["CREATED", "CREATED BY", "SIZE", "TIME", "LAST BUILD"];
    let row = |line: &Line| {
        let created = line.created.as_deref().unwrap_or("-");
        let by = line.created_by.replace(['\n', '\t'], " ");
        let by = match by.char_indices().nth(SHOWN_CHARS) {
            Some((at, _)) if !whole => format!("{}…", &by[..at]),
            _ => by,
        };
        let time = line
            .note
            .as_ref()
            .map(|note| amount::seconds(std::time::Duration::from_millis(note.millis)));
        vec![
            created.chars().take(19).collect(),
            by,
            amount::bytes(line.bytes.unwrap_or(0)),
            time.unwrap_or_else(|| "-".to_owned()),
            line.note.as_ref().map_or_else(|| "-".to_owned(), |note| note.verdict.clone()),
        ]
    };
    let header = header.map(str::to_owned).to_vec();
    table::draw(&std::iter::once(header).chain(lines.iter().map(row)).collect::<Vec<_>>())
}

fn object(line: &Line) -> String {
    json!({
        "CreatedAt": line.created, "CreatedBy": line.created_by, "Comment": line.comment,
        "SizeBytes": line.bytes.unwrap_or(0), "DiffID": line.diff_id,
        "Verdict": line.note.as_ref().map(|note| &note.verdict),
        "Milliseconds": line.note.as_ref().map(|note| note.millis),
    })
    .to_string()
}
