//! `strata shell`: a shell in a state of a build or an image. What is changed there is lost, and
//! the shell's exit code is ours.

use std::io::IsTerminal;
use std::path::Path;

use strata_build::{BuildStates, Moment, ShellState, StoredImage};

use super::table;
use crate::arguments::ShellArguments;
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::printer::Printer;
use crate::progress::one_line;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Watch;
use crate::words::build_error;

const DEFAULT_SHELL: &str = "/bin/sh";

pub(super) fn run(
    arguments: &ShellArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let context = Path::new(&arguments.target);
    let file = arguments.file.as_deref();
    let project = context.is_dir().then(|| request::project(context, file)).transpose()?;
    let platform = request::platform(arguments.platform.as_deref(), environment)?;
    let network = super::run::network(&arguments.network)?;
    let mut more = Vec::new();
    for text in &arguments.env {
        more.extend(request::variable(text, environment)?);
    }
    let session = Session::open(settings, printer)?;
    let places = match &project {
        Some(project) => of_build(&session.states(project)?.ok_or_else(|| no_build(context))?),
        None => of_image(&session.image(&arguments.target, &platform)?),
    };
    if arguments.list {
        printer.data(&rows(&places));
        return Ok(0);
    }
    let place = find(&places, arguments.at.as_deref())?;
    let (state, what) = place.state(arguments.before)?;
    printer.talk(&format!("{what}: what you change here is lost"));
    let mut state = ShellState { network, ..state };
    if std::io::stdin().is_terminal() {
        state.env.extend(environment.text("TERM").map(|term| ("TERM".to_owned(), term)));
    }
    for (name, value) in more {
        state.env.retain(|(known, _)| *known != name);
        state.env.push((name, value));
    }
    state.cwd = arguments.workdir.clone().unwrap_or(state.cwd);
    state.user = arguments.user.clone().unwrap_or(state.user);
    if !arguments.command.is_empty() {
        state.command.clone_from(&arguments.command);
    }
    let watch = Watch::for_run()?;
    let status = session.builder(&watch.cancel).shell(&state);
    let status = status.map_err(|error| build_error::plain(&error))?;
    Ok(u8::try_from(status.code()).unwrap_or(crate::EXIT_BUILD))
}

/// A step that has states.
struct Place {
    stage: String,
    text: String,
    /// What came of it: `done`, `failed`, `not done`.
    end: &'static str,
    number: usize,
    before: Option<ShellState>,
    after: Option<ShellState>,
}

impl Place {
    /// The state, and what it is called.
    fn state(&self, before: bool) -> Result<(ShellState, String), Failure> {
        let title = format!("`#{} {}`", self.number, one_line(&self.text));
        let after = self.after.as_ref().filter(|_| !before);
        match (after, &self.before, self.end) {
            (Some(state), _, "failed") => {
                Ok((state.clone(), format!("in what {title} left when it failed")))
            }
            (Some(state), ..) => Ok((state.clone(), format!("in the state after {title}"))),
            (None, Some(state), _) => Ok((state.clone(), format!("in the state before {title}"))),
            (None, None, _) => {
                Err(Failure::new(Kind::Build, format!("the build did not come to {title}"))
                    .hint("`strata shell --list` shows which steps were done"))
            }
        }
    }
}

fn of_build(states: &BuildStates) -> Vec<Place> {
    let failed = states.failed.as_ref().map(|failed| failed.step);
    let place = |(index, step): (usize, &strata_build::StepState)| {
        let command = states.command(index);
        let state = |moment| {
            let shell = command.shell.clone().unwrap_or_else(|| DEFAULT_SHELL.to_owned());
            Some(ShellState {
                layers: states.root(index, moment)?,
                env: command.env.clone().into_iter().collect(),
                cwd: command.cwd.clone(),
                user: command.user.clone(),
                command: vec![shell],
                network: strata_exec::Network::Host,
            })
        };
        let end = match (&step.layers, failed == Some(index)) {
            (Some(_), _) => "done",
            (None, true) => "failed",
            (None, false) => "not done",
        };
        Place {
            stage: step.stage.clone(),
            text: step.text.clone(),
            end,
            number: index + 1,
            before: state(Moment::Before),
            after: state(Moment::After),
        }
    };
    states.steps.iter().enumerate().map(place).collect()
}

/// An image's history: each line is a step, also one that changed no file.
fn of_image(image: &StoredImage) -> Vec<Place> {
    let config = &image.config.config;
    let split = |variable: &String| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        (name.to_owned(), value.to_owned())
    };
    let state = |layers: usize| ShellState {
        layers: image.layers.iter().take(layers).map(|layer| layer.layer).collect(),
        env: config.env.iter().flatten().map(split).collect(),
        cwd: config.working_dir.clone(),
        user: config.user.clone(),
        command: vec![DEFAULT_SHELL.to_owned()],
        network: strata_exec::Network::Host,
    };
    let mut below = 0;
    let mut places = Vec::new();
    for (index, line) in image.config.history.iter().enumerate() {
        let above = below + usize::from(!line.empty_layer);
        places.push(Place {
            stage: String::new(),
            text: line.created_by.clone().unwrap_or_default(),
            end: "done",
            number: index + 1,
            before: Some(state(below)),
            after: Some(state(above)),
        });
        below = above;
    }
    // A history may be missing, or tell less than there is.
    if let Some(last) = places.last_mut() {
        last.after = Some(state(image.layers.len()));
    } else {
        let (stage, text) = (String::new(), image.id.to_string());
        let after = Some(state(image.layers.len()));
        places.push(Place { stage, text, end: "done", number: 1, before: None, after });
    }
    places
}

fn rows(places: &[Place]) -> String {
    let header = ["STEP", "STAGE", "STATE", "INSTRUCTION"].map(str::to_owned).to_vec();
    let row = |place: &Place| {
        let (number, end) = (place.number.to_string(), place.end.to_owned());
        vec![number, place.stage.clone(), end, one_line(&place.text)]
    };
    table::draw(&std::iter::once(header).chain(places.iter().map(row)).collect::<Vec<_>>())
}

/// The step that is meant: a number, a stage (its last step), or a part of one instruction.
fn find<'a>(places: &'a [Place], at: Option<&str>) -> Result<&'a Place, Failure> {
    let nothing = || Failure::new(Kind::Build, "the build has no step").hint("build first");
    let Some(at) = at else {
        let failed = places.iter().find(|place| place.end == "failed");
        return failed.or_else(|| places.last()).ok_or_else(nothing);
    };
    let no_step = || {
        Failure::usage(format!("there is no step `{at}`")).hint("`strata shell --list` shows them")
    };
    if let Ok(number) = at.trim_start_matches('#').parse::<usize>() {
        return places.iter().find(|place| place.number == number).ok_or_else(no_step);
    }
    if let Some(place) = places.iter().rev().find(|place| place.stage == at) {
        return Ok(place);
    }
    let found: Vec<&Place> = places.iter().filter(|place| place.text.contains(at)).collect();
    match found[..] {
        [place] => Ok(place),
        [] => Err(no_step()),
        _ => {
            let numbers: Vec<String> =
                found.iter().map(|place| format!("#{}", place.number)).collect();
            Err(Failure::usage(format!("`{at}` is in {} steps", found.len()))
                .hint(format!("name one by its number: {}", numbers.join(", "))))
        }
    }
}

fn no_build(context: &Path) -> Failure {
    let text = format!("there was no build of `{}` with this store", context.display());
    Failure::new(Kind::Build, text).hint("build it first, or name the Dockerfile with `-f`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: usize, stage: &str, text: &str, end: &'static str) -> Place {
        let (stage, text) = (stage.to_owned(), text.to_owned());
        Place { stage, text, end, number, before: None, after: None }
    }

    #[test]
    fn steps_are_found_by_number_stage_and_words() {
        let places = [
            place(1, "build", "FROM a", "done"),
            place(2, "build", "RUN make all", "done"),
            place(3, "1", "FROM b", "done"),
            place(4, "1", "RUN make check", "failed"),
            place(5, "1", "RUN echo", "not done"),
        ];
        let number = |at: Option<&str>| find(&places, at).map(|place| place.number).ok();
        assert_eq!(number(None), Some(4), "the one that failed");
        assert_eq!(find(&places[..3], None).map(|place| place.number).ok(), Some(3));
        assert_eq!(
            (number(Some("2")), number(Some("#5")), number(Some("9"))),
            (Some(2), Some(5), None)
        );
        assert_eq!((number(Some("build")), number(Some("check"))), (Some(2), Some(4)));
        assert_eq!(number(Some("RUN nothing")), None);
        let failure = find(&places, Some("make")).map(|_| ()).expect_err("two");
        assert_eq!(failure.hint.as_deref(), Some("name one by its number: #2, #4"));
    }
}
