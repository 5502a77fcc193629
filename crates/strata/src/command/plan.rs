//! `strata plan`: what a build would do. Nothing runs and no file of the context is copied.

use serde_json::{Value, json};
use strata_build::{Event, Forecast, Outlook};
use strata_plan::Entry;

use super::table;
use crate::arguments::{Format, PlanArguments};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::{Label, Printer};
use crate::request;
use crate::session::Opening;
use crate::settings::Settings;
use crate::words::amount::counted;
use crate::words::build_error;

pub(super) fn run(
    arguments: &PlanArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let jobs = settings.jobs;
    let opening = Opening::new(|| Ok(settings), printer);
    let selected = request::select(&arguments.selection, environment, jobs, &opening)?;
    let session = opening.session()?;
    let cancel = strata_exec::Cancel::new()
        .map_err(|error| Failure::environment(crate::failure::plain(&error)))?;
    let observe = |event: Event<'_>| {
        if let Event::Note(text) = event {
            printer.labelled(Label::Note, &text);
        }
    };
    let forecast = session.builder(&cancel).forecast(&selected.request, &observe);
    let forecast =
        forecast.map_err(|error| build_error::in_dockerfile(&error, &selected.dockerfile))?;
    let layers = Layers::of(&forecast);
    match arguments.format {
        Format::Table => printer.data(&format!("{}\n\n{}", rows(&forecast), layers.sentence())),
        Format::Json => printer.data(&format!("{:#}", json(&forecast, &layers))),
    }
    Ok(0)
}

/// What the image will consist of.
#[derive(Debug, PartialEq, Eq)]
struct Layers {
    new: usize,
    base: usize,
    metadata: usize,
}

impl Layers {
    /// The history of the final image tells it: it has a line for each instruction of its chain.
    /// An `ARG` changes nothing about an image.
    fn of(forecast: &Forecast) -> Self {
        let history = &forecast.plan.image.history;
        let new = history.iter().filter(|entry| entry.step.is_some()).count();
        let is_arg = |text: &Option<String>| text.as_deref().is_some_and(|t| t.starts_with("ARG "));
        let metadata =
            history.iter().filter(|e| e.step.is_none() && !is_arg(&e.line.created_by)).count();
        Self { new, base: forecast.base_layers, metadata }
    }

    fn sentence(&self) -> String {
        let Self { new, base, metadata } = self;
        let base = match base {
            0 => "an empty base".to_owned(),
            base => format!("{base} of the base"),
        };
        let all = self.new + self.base;
        let new = counted(*new, "new layer");
        let metadata = counted(*metadata, "metadata-only instruction");
        format!("{new} over {base} ({all} in all), {metadata}")
    }
}

/// What an instruction makes.
fn kind(entry: &Entry, forecast: &Forecast) -> &'static str {
    let is_image = |step: usize| matches!(forecast.plan.steps[step].op, strata_plan::Op::Image(_));
    let keyword = entry.text.split_whitespace().next().unwrap_or_default();
    match entry.step {
        _ if keyword.eq_ignore_ascii_case("FROM") => "base",
        Some(step) if is_image(step) => "base",
        Some(_) => "layer",
        None if keyword.eq_ignore_ascii_case("ARG") => "argument",
        None => "metadata only",
    }
}

fn outlook(entry: &Entry, forecast: &Forecast) -> Option<&'static str> {
    Some(match forecast.outlook.get(entry.step?)? {
        Outlook::Hit => "hit",
        Outlook::Run => "would run",
        Outlook::Depends => "depends",
    })
}

fn rows(forecast: &Forecast) -> String {
    let header = ["STAGE", "KIND", "CACHE", "INSTRUCTION"].map(str::to_owned).to_vec();
    let row = |entry: &Entry| {
        let cache = outlook(entry, forecast).unwrap_or("-");
        let text = crate::progress::one_line(&entry.text);
        vec![entry.stage.clone(), kind(entry, forecast).to_owned(), cache.to_owned(), text]
    };
    let rows = std::iter::once(header).chain(forecast.plan.entries.iter().map(row));
    table::draw(&rows.collect::<Vec<_>>())
}

fn json(forecast: &Forecast, layers: &Layers) -> Value {
    let entry = |entry: &Entry| {
        json!({
            "stage": entry.stage, "instruction": entry.text, "kind": kind(entry, forecast),
            "cache": outlook(entry, forecast), "in_image": entry.in_image,
        })
    };
    let instructions: Vec<Value> = forecast.plan.entries.iter().map(entry).collect();
    json!({
        "platform": forecast.plan.image.platform.to_string(),
        "instructions": instructions,
        "new_layers": layers.new,
        "base_layers": layers.base,
        "layers": layers.new + layers.base,
        "metadata_only": layers.metadata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let check = |new, base, metadata, expected: &str| {
            assert_eq!(Layers { new, base, metadata }.sentence(), expected);
        };
        let over_base = "3 new layers over 1 of the base (4 in all), 3 metadata-only instructions";
        check(3, 1, 3, over_base);
        let over_nothing =
            "1 new layer over an empty base (1 in all), 0 metadata-only instructions";
        check(1, 0, 0, over_nothing);
    }
}
