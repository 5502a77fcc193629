//! `strata why`: why the steps of a build ran, with all that is known of it.

use std::time::Duration;

use serde_json::{Value, json};
use strata_build::{End, PastBuild, PastStep, PastVerdict};

use super::builds;
use crate::arguments::{Format, WhyArguments};
use crate::failure::{Failure, Kind};
use crate::printer::Printer;
use crate::progress::{step_names, tame};
use crate::settings::Settings;
use crate::words::{amount, build_error, reason};

pub(super) fn run(
    arguments: &WhyArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let found = builds::history(settings).find(None, &arguments.build);
    let build = found
        .map_err(|error| builds::unreadable(settings, &error))?
        .ok_or_else(|| no_build(&arguments.build))?;
    let names = names(&build);
    let chosen = match &arguments.step {
        Some(text) => {
            let step = build.find_step(text).map_err(|error| build_error::no_step(&error))?;
            step..step + 1
        }
        None => 0..build.steps.len(),
    };
    match (arguments.format, &arguments.step) {
        (Format::Json, Some(_)) => {
            let steps = chosen.map(|step| object(step, &names[step], &build.steps[step]));
            steps.for_each(|step| printer.data(&step.to_string()));
        }
        (Format::Json, None) => printer.data(&whole(&build, &names).to_string()),
        (Format::Table, step) => {
            let mut text = if step.is_none() { heading(&build) } else { Vec::new() };
            for step in chosen {
                text.extend(lines(step, &names[step], &build.steps[step]));
            }
            let text: Vec<String> = text.iter().map(|line| tame(line)).collect();
            printer.data(&text.join("\n"));
        }
    }
    Ok(0)
}

fn no_build(which: &str) -> Failure {
    let message = match which {
        "1" => "no build is remembered in this store".to_owned(),
        which => format!("no build, or more than one, is called `{which}`"),
    };
    Failure::new(Kind::Build, message).hint("see `strata builds` for those that are remembered")
}

fn names(build: &PastBuild) -> Vec<String> {
    let steps = build.steps.iter().map(|step| (step.stage.as_str(), step.text.as_str()));
    step_names(&steps.collect::<Vec<_>>())
}

fn heading(build: &PastBuild) -> Vec<String> {
    let time = amount::seconds(Duration::from_millis(build.millis));
    let end = match &build.end {
        End::Built { image } => format!("image {image}"),
        End::Failed { message } => format!("failed: {message}"),
        End::Cancelled => "cancelled".to_owned(),
    };
    let started = builds::started(build);
    vec![format!("build {} of {}, {started}, {time}", build.id, build.project), end]
}

fn lines(number: usize, name: &str, step: &PastStep) -> Vec<String> {
    let number = number + 1;
    let mut lines = vec![format!("#{number} {name}")];
    let mut add = |text: String| lines.push(format!("    {text}"));
    let time = amount::seconds(Duration::from_millis(step.millis));
    match &step.verdict {
        PastVerdict::Hit { by_link: true, .. } => {
            let why = "linked, independent of the step above, which gave another root";
            add(format!("cached: {why}"));
        }
        PastVerdict::Hit { by_content: false, .. } => add("cached".to_owned()),
        PastVerdict::Hit { by_content: true, .. } => {
            add("cached: what it builds on was made anew and is what it was".to_owned());
        }
        PastVerdict::Ran { why } => {
            add(format!("ran in {time}"));
            reason::lines(why).into_iter().for_each(&mut add);
        }
        PastVerdict::Failed { why } => {
            add("failed".to_owned());
            why.iter().flat_map(reason::lines).for_each(&mut add);
        }
        PastVerdict::NotReached => add("not reached".to_owned()),
    }
    if let Some(verified) = &step.verified {
        add(reason::verified(verified));
        reason::verified_lines(verified).into_iter().for_each(&mut add);
    }
    lines
}

/// A step as it is remembered, with its number and its name.
fn object(number: usize, name: &str, step: &PastStep) -> Value {
    let mut object = json!({"number": number + 1, "name": name});
    if let (Value::Object(object), Ok(Value::Object(step))) =
        (&mut object, serde_json::to_value(step))
    {
        object.extend(step);
    }
    object
}

fn whole(build: &PastBuild, names: &[String]) -> Value {
    let steps = build.steps.iter().enumerate();
    let steps: Vec<Value> =
        steps.map(|(number, step)| object(number, &names[number], step)).collect();
    json!({
        "build": build.id, "project": build.project, "started": builds::started(build),
        "millis": build.millis, "result": build.end, "target": build.target,
        "platform": build.platform, "names": build.names, "steps": steps,
    })
}
