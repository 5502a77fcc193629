//! `strata build`: a Dockerfile and its context become an image.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use strata_build::{BuildError, BuildReport};
use strata_oci::Reference;

use crate::arguments::{BuildArguments, ProgressMode};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::{Label, Printer};
use crate::progress::{self, Progress, Summary};
use crate::request::{self, Dockerfile, Output};
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Watch;
use crate::words::build_error;

pub(super) fn run(
    arguments: &BuildArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let began = Instant::now();
    let mode = mode(arguments, environment)?;
    let outputs = request::outputs(&arguments.outputs)?;
    if mode == ProgressMode::Quiet && outputs.iter().any(Output::is_stdout) {
        return Err(Failure::usage("standard output can not be an archive and the image's id")
            .hint("write the id to a file with `--iidfile`, or the archive with `dest=FILE`"));
    }
    let selected = request::select(&arguments.selection, environment, settings.jobs)?;
    let mut request = selected.request;
    for text in &arguments.tags {
        request.tags.push(request::name(text)?);
    }
    if mode != ProgressMode::Quiet {
        warn(arguments, &selected.dockerfile, printer);
    }
    let session = Session::open(settings, printer)?;
    // From here on; while we wait for the store, a signal just ends the process.
    let watch = Watch::for_build()?;
    let progress = progress::new(mode, printer);
    let built = session.builder(&watch.cancel).build(&request, &|event| progress.observe(event));
    let report = match built {
        Ok(report) => report,
        Err(error) => {
            let failure = failed(&error, &selected.dockerfile, &*progress);
            return Err(watch.blame(failure));
        }
    };
    let write = || -> Result<(), Failure> {
        export(&session, &report, &request.tags, &outputs, &request.platform)?;
        write_files(arguments, &report, &request.tags)
    };
    if let Err(failure) = write() {
        progress.finish(None);
        return Err(watch.blame(failure));
    }
    let names = request.tags.iter().map(Reference::familiar).collect();
    progress.finish(Some(&Summary::new(&report, names, began.elapsed())));
    Ok(0)
}

fn mode(arguments: &BuildArguments, environment: &Environment) -> Result<ProgressMode, Failure> {
    use clap::ValueEnum;
    let from_environment = || {
        let text = environment.text("BUILDKIT_PROGRESS")?;
        ProgressMode::from_str(&text, true).ok()
    };
    match (arguments.quiet, arguments.progress) {
        (true, None | Some(ProgressMode::Auto | ProgressMode::Quiet)) => Ok(ProgressMode::Quiet),
        (true, Some(_)) => {
            Err(Failure::usage("`-q` and another `--progress` contradict each other"))
        }
        (false, Some(mode)) => Ok(mode),
        (false, None) => Ok(from_environment().unwrap_or(ProgressMode::Auto)),
    }
}

/// What can be built, but may not mean what its author thinks.
fn warn(arguments: &BuildArguments, dockerfile: &Dockerfile, printer: &Printer) {
    if arguments.squash {
        printer.labelled(Label::Warning, "`--squash` is not done: layers are kept as they are");
    }
    for warning in strata_dockerfile::parse(&dockerfile.bytes).diagnostics {
        printer.finding(dockerfile, &warning);
    }
}

/// The failure with what the user has not seen of it.
fn failed(error: &BuildError, dockerfile: &Dockerfile, progress: &dyn Progress) -> Failure {
    progress.finish(None);
    let mut failure = build_error::in_dockerfile(error, dockerfile);
    if let BuildError::Command { step, .. } = error {
        failure.before = progress.unseen_output(*step);
    }
    failure
}

fn export(
    session: &Session,
    report: &BuildReport,
    tags: &[Reference],
    outputs: &[Output],
    platform: &strata_oci::Platform,
) -> Result<(), Failure> {
    if outputs.is_empty() {
        return Ok(());
    }
    let image = session.image(&report.image.to_string(), platform)?;
    for output in outputs {
        let names: Vec<Reference> = tags.iter().chain(&output.name).cloned().collect();
        let exported = session.images().export(&image, &names, &output.export);
        exported.map_err(|error| build_error::plain(&error))?;
    }
    Ok(())
}

/// `--iidfile` and `--metadata-file`, as Docker writes them.
fn write_files(
    arguments: &BuildArguments,
    report: &BuildReport,
    tags: &[Reference],
) -> Result<(), Failure> {
    let id = report.image.to_string();
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
    };
    if let Some(path) = &arguments.iidfile {
        write(path, &id)?;
    }
    if let Some(path) = &arguments.metadata_file {
        let mut metadata = json!({"containerimage.config.digest": id});
        if !tags.is_empty() {
            let names: Vec<String> = tags.iter().map(Reference::to_string).collect();
            metadata["image.name"] = names.join(",").into();
        }
        write(path, &format!("{metadata:#}\n"))?;
    }
    Ok(())
}
