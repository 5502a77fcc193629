//! `strata build`: a Dockerfile and its context become an image.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use strata_build::{BuildError, BuildReport, BuildRequest, Event};
use strata_cas::{StoreError, TreeError};
use strata_dockerfile::{Diagnostic, INVALID_CHECK_OPTION};
use strata_image::ImageError;
use strata_oci::Reference;

use crate::arguments::{BuildArguments, ProgressMode};
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::printer::{Label, Printer};
use crate::progress::{self, Kept, Progress, Summary};
use crate::request::{self, Dockerfile, Output};
use crate::session::{Opening, Session};
use crate::settings::Settings;
use crate::signals::Watch;
use crate::words::amount::counted;
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
    let timeout = request::timeout(arguments.timeout.as_deref())?;
    if mode == ProgressMode::Quiet && outputs.iter().any(Output::is_stdout) {
        return Err(Failure::usage("standard output can not be an archive and the image's id")
            .hint("write the id to a file with `--iidfile`, or the archive with `dest=FILE`"));
    }
    let jobs = settings.jobs;
    let opening = Opening::new(|| Ok(settings), printer);
    let selected = request::select(&arguments.selection, environment, jobs, &opening)?;
    let mut request = selected.request;
    for text in &arguments.tags {
        request.tags.push(request::name(text)?);
    }
    if let Some(text) = &arguments.cache_verify {
        request.verify = Some(request::verify(text, arguments.cache_verify_seed)?);
    }
    let findings = check(&request, &selected.dockerfile)?;
    let mut warnings = 0;
    if mode != ProgressMode::Quiet {
        warnings = warn(arguments, &selected.dockerfile, &findings, printer);
    }
    let lent = request::credentials(&arguments.credentials, environment)?;
    let session = opening.session()?;
    session.lend(lent);
    // From here on; while we wait for the store, a signal just ends the process.
    let watch = Watch::for_build(timeout)?;
    let kept = Kept::default();
    let work = Work { session, watch: &watch, outputs: &outputs, kept: &kept };
    let mut progress = progress::new(mode, printer);
    let mut made = work.make(&request, &*progress);
    if let Err(error) = &made
        && is_loss(error)
        && !watch.is_ended()
        && !outputs.iter().any(Output::is_stdout)
        && request.no_cache.insert(String::new())
    {
        progress.finish(None);
        let text = format!("{}: every step is done again", build_error::plain(error).message);
        printer.labelled(Label::Warning, &text);
        progress = progress::new(mode, printer);
        // The failure has cancelled the steps that were running, and all that would follow.
        let watch = Watch::for_build(timeout)?;
        made = Work { watch: &watch, ..work }.make(&request, &*progress);
    }
    for damage in session.store().noticed() {
        let text = format!("the store was damaged, and is mended: {damage}");
        printer.labelled(Label::Warning, &text);
    }
    let written = made
        .map_err(|error| failed(&error, &selected.dockerfile, &*progress))
        .and_then(|report| write_files(arguments, &report, &request.tags).map(|()| report));
    let report = written.map_err(|failure| {
        progress.finish(None);
        watch.blame(failure, kept.notes())
    })?;
    let names = request.tags.iter().map(Reference::familiar).collect();
    progress.finish(Some(&Summary::new(&report, names, began.elapsed())));
    if warnings > 0 && mode != ProgressMode::Rawjson {
        printer.talk(&format!("{}: see `strata check`", counted(warnings, "warning")));
    }
    Ok(0)
}

/// What a build works with, beside its request.
#[derive(Clone, Copy)]
struct Work<'a> {
    session: &'a Session,
    watch: &'a Watch,
    outputs: &'a [Output],
    kept: &'a Kept,
}

impl Work<'_> {
    /// Builds the image and writes it where it was asked for.
    fn make(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
    ) -> Result<BuildReport, BuildError> {
        let builder = self.session.builder(&self.watch.cancel);
        let observe = |event: Event<'_>| {
            self.kept.observe(&event);
            progress.observe(event);
        };
        let report = builder.build(request, &observe)?;
        if self.outputs.is_empty() {
            return Ok(report);
        }
        let (images, id) = (self.session.images(), report.image.to_string());
        let image = images.find(&id, &request.platform)?.ok_or_else(|| BuildError::Damaged {
            what: "image",
            reason: format!("{id} is gone"),
        })?;
        for output in self.outputs {
            let names: Vec<Reference> = request.tags.iter().chain(&output.name).cloned().collect();
            images.export(&image, &names, &output.export)?;
        }
        Ok(report)
    }
}

/// Whether the store does not have what it should: doing every step again puts it there.
fn is_loss(error: &BuildError) -> bool {
    match error {
        BuildError::Damaged { .. } => true,
        BuildError::Tree(error) => matches!(error, TreeError::Missing(_) | TreeError::Damaged(_)),
        BuildError::Image(ImageError::MissingBlob { .. })
        | BuildError::Image(ImageError::Store(StoreError::Damaged { .. }))
        | BuildError::Store(StoreError::Damaged { .. }) => true,
        // A blob that is read as a stream finds out at its end that it is not what it was.
        BuildError::Image(ImageError::Io { source, .. }) | BuildError::Io { source, .. } => {
            source.kind() == std::io::ErrorKind::InvalidData
        }
        _ => false,
    }
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

/// What the checks find, and whether the file wants that to stop the build.
fn check(request: &BuildRequest, dockerfile: &Dockerfile) -> Result<Vec<Diagnostic>, Failure> {
    // What is wrong with the ignore file is the build's to say.
    let Ok(report) = request::check_build(request) else { return Ok(Vec::new()) };
    let violated = report.violated();
    let stops = |finding: &Diagnostic| {
        finding.code == INVALID_CHECK_OPTION || violated.contains(&finding.code)
    };
    let findings = report.findings;
    let stopping: Vec<Diagnostic> = findings.iter().filter(|each| stops(each)).cloned().collect();
    let Some(first) = stopping.first() else { return Ok(findings) };
    let mut failure = Failure::new(Kind::Build, first.message.clone());
    if !violated.is_empty() {
        failure.notes.push("`check=error=true` makes these warnings stop the build".to_owned());
    }
    Err(failure.at(dockerfile, stopping))
}

/// What can be built, but may not mean what its author thinks: shows what the parser found, and
/// gives how many other warnings there are.
fn warn(
    arguments: &BuildArguments,
    dockerfile: &Dockerfile,
    findings: &[Diagnostic],
    printer: &Printer,
) -> usize {
    if arguments.squash {
        printer.labelled(Label::Warning, "`--squash` is not done: layers are kept as they are");
    }
    let parsed = strata_dockerfile::parse(&dockerfile.bytes).diagnostics;
    let warnings = findings.iter().filter(|finding| !finding.is_error());
    let (shown, others): (Vec<_>, Vec<_>) = warnings.partition(|each| parsed.contains(each));
    shown.into_iter().for_each(|warning| printer.finding(dockerfile, warning));
    others.len()
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
