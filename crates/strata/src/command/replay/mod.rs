//! `strata replay`: a repository's history through the cache, without running anything.

mod advice;
mod execute;
mod gates;
mod policies;
mod progress;
mod subject;

use std::path::Path;

use strata_replay::{Edit, Report, Study, Tally, WhatIf};

use self::progress::Watcher;
use self::subject::Subject;
use crate::arguments::{GlobalArguments, ReplayArguments, ReplayFormat};
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::printer::{Label, Printer};
use crate::settings::Settings;

pub(super) fn run(
    arguments: &ReplayArguments,
    global: &GlobalArguments,
    settings: &dyn Fn() -> Result<Settings, Failure>,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let gates = gates::Gates::read(arguments)?;
    let subject = Subject::find(arguments, settings, environment, printer)?;
    let study = subject.study();
    let mut watcher = Watcher::new(printer)?;
    let what_if = what_if(arguments, &study, &mut watcher)?;
    let first = study.with(WhatIf::default(), &mut |at| watcher.tell("replayed", at));
    let first = first.map_err(|error| subject::unreadable(&error))?;
    let mut report = match what_if.is_nothing() {
        true => study.report(&first, &subject.range, &subject.name),
        false => {
            let with = study.with(what_if.clone(), &mut |at| watcher.tell("replayed", at));
            let with = with.map_err(|error| subject::unreadable(&error))?;
            compared(&subject, what_if.clone(), &first, &with)
        }
    };
    if arguments.policies.policies && !watcher.is_cancelled() {
        report.policies = policies::compare(arguments, &subject, &first, &mut watcher)?;
    }
    let advice = match arguments.what_if.advise && !watcher.is_cancelled() {
        true => Some(advice::search(&study, &mut watcher)?),
        false => None,
    };
    if let Some(count) = arguments.execution.execute
        && !watcher.is_cancelled()
    {
        let executed =
            execute::execute(arguments, global, &subject, &what_if, count, &mut watcher)?;
        report.execution = Some(executed);
    }
    watcher.end();
    report.advice = advice;
    write(arguments, &report, printer)?;
    if watcher.is_cancelled() {
        return Err(Failure::new(Kind::Signal(watcher.signal()), "cancelled"));
    }
    gates.check(&report, printer)
}

/// The report of the counterfactual, with the figures of both.
fn compared(subject: &Subject, what_if: WhatIf, first: &Tally, with: &Tally) -> Report {
    let mut request = subject.request.clone();
    request.what_if = what_if;
    let study = Study { request: &request, ..subject.study() };
    let mut report = study.report(with, &subject.range, &subject.name);
    let words = request.what_if.words().join("; ");
    report.what_ifs.push(study.compare(words, first, with));
    report
}

/// What is to be changed in every commit.
fn what_if(
    arguments: &ReplayArguments,
    study: &Study<'_>,
    watcher: &mut Watcher<'_>,
) -> Result<WhatIf, Failure> {
    let arguments = &arguments.what_if;
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| Failure::file("read", path, &error));
    let mut what_if = WhatIf {
        dockerfile: arguments.what_if.as_deref().map(read).transpose()?,
        ignore_file: arguments.what_if_ignore.as_deref().map(read).transpose()?,
        ignore: arguments.ignore.clone(),
        edits: Vec::new(),
    };
    if arguments.split_copy {
        let manifests = study.manifests().map_err(|error| subject::unreadable(&error))?;
        what_if.edits.push(Edit::SplitCopy { manifests });
    }
    if arguments.reorder {
        // Which instruction changes how often is known after a first replay.
        let first = study.with(WhatIf::default(), &mut |at| watcher.tell("counted", at));
        let first = first.map_err(|error| subject::unreadable(&error))?;
        what_if.edits.push(Edit::Reorder { breaks: Study::breaks(&first) });
    }
    Ok(what_if)
}

fn write(arguments: &ReplayArguments, report: &Report, printer: &Printer) -> Result<(), Failure> {
    let text = match arguments.format {
        ReplayFormat::Text => strata_replay::text(report),
        ReplayFormat::Json => serde_json::to_string_pretty(report)
            .map_err(|error| Failure::environment(format!("the report: {error}")))?,
        ReplayFormat::Html => strata_replay::html(report),
        ReplayFormat::Trace => strata_replay::trace(report),
    };
    match &arguments.output {
        None => printer.data(&text),
        Some(path) => {
            std::fs::write(path, text + "\n")
                .map_err(|error| Failure::file("write", path, &error))?;
            printer.labelled(Label::Note, &format!("the report is in `{}`", path.display()));
        }
    }
    Ok(())
}
