//! `strata builds`: the builds that the store remembers, newest first.

use serde_json::json;
use strata_build::{End, History, PastBuild};

use super::table;
use crate::arguments::{BuildsArguments, Format};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::words::amount;

pub(super) fn run(
    arguments: &BuildsArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let builds = history(settings).list(None).map_err(|error| unreadable(settings, &error))?;
    match arguments.format {
        Format::Table => printer.data(&rows(&builds)),
        Format::Json => builds.iter().for_each(|build| printer.data(&object(build))),
    }
    Ok(0)
}

/// What is remembered of builds. It is beside the database, which need not be opened.
pub(super) fn history(settings: &Settings) -> History {
    History::new(strata_store::history_dir(&settings.store))
}

pub(super) fn unreadable(settings: &Settings, error: &std::io::Error) -> Failure {
    let path = strata_store::history_dir(&settings.store);
    Failure::environment(format!("cannot read `{}`: {error}", path.display()))
}

/// `built sha256:0123456789ab`, `failed`, `cancelled`.
pub(super) fn end(build: &PastBuild) -> String {
    match &build.end {
        End::Built { image } => format!("built {}", image.short()),
        End::Failed { .. } => "failed".to_owned(),
        End::Cancelled => "cancelled".to_owned(),
    }
}

/// When it began, in UTC to the second.
pub(super) fn started(build: &PastBuild) -> String {
    strata_build::rfc3339(i64::try_from(build.started_millis / 1000).unwrap_or(i64::MAX))
}

fn rows(builds: &[PastBuild]) -> String {
    let header = ["", "BUILD", "STARTED", "TIME", "CACHED", "RAN", "RESULT", "NAMES", "PROJECT"];
    let row = |(number, build): (usize, &PastBuild)| {
        let time = amount::seconds(std::time::Duration::from_millis(build.millis));
        let names = if build.names.is_empty() { "-".to_owned() } else { build.names.join(", ") };
        vec![
            (number + 1).to_string(),
            build.id.clone(),
            started(build),
            time,
            build.hits().to_string(),
            build.runs().to_string(),
            end(build),
            names,
            build.project.clone(),
        ]
    };
    let header = header.map(str::to_owned).to_vec();
    let rows = builds.iter().enumerate().map(row);
    table::draw(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn object(build: &PastBuild) -> String {
    json!({
        "build": build.id, "project": build.project, "started": started(build),
        "millis": build.millis, "result": build.end, "target": build.target,
        "platform": build.platform, "names": build.names, "steps": build.steps.len(),
        "cached": build.hits(), "ran": build.runs(),
    })
    .to_string()
}
