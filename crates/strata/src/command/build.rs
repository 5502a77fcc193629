//! `strata build`: a Dockerfile and its context become an image.

use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use strata_build::{BuildError, BuildReport, BuildRequest, Builder, Event, SharedCaches};
use strata_cas::{StoreError, TreeError};
use strata_dockerfile::{Diagnostic, INVALID_CHECK_OPTION};
use strata_image::ImageError;
use strata_oci::{Descriptor, Platform, Reference};

use super::attest::Subject;
use super::deliver::{self, Built, Delivery, NotDelivered};
use super::history;
use super::shared;

use crate::arguments::{BuildArguments, ProgressMode};
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::printer::{Label, Printer};
use crate::progress::{self, Kept, Progress, Summary};
use crate::request::attest::Attestations;
use crate::request::cache::Cache;
use crate::request::{self, Dockerfile, ImageTarget, Output, OutputFlags, Target};
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
    let timeout = request::timeout(arguments.timeout.as_deref())?;
    let flags = Flags::understand(arguments, environment, mode)?;
    let Flags { outputs, names, .. } = &flags;
    let settings = flags.reach(settings);
    let (jobs, registry_settings) = (settings.jobs, settings.registry.clone());
    let opening = Opening::new(|| Ok(settings), printer);
    let selected = request::select(&arguments.selection, environment, jobs, &opening)?;
    let (mut request, dockerfile) = (selected.request, selected.dockerfile);
    if outputs.is_empty() || outputs.iter().any(Output::is_named) {
        request.tags.clone_from(names);
    }
    if let Some(text) = &arguments.cache_verify {
        request.verify = Some(request::verify(text, arguments.cache_verify_seed)?);
    }
    opening.expect(request.contexts.values());
    let session = opening.session()?;
    let findings = check(&request, &dockerfile, session)?;
    let mut warnings = 0;
    if mode != ProgressMode::Quiet {
        flags.warn_of_attestations(printer);
        warnings = warn(arguments, &dockerfile, &findings, printer);
    }
    let lent = request::credentials(&arguments.credentials, environment)?;
    session.lend(lent);
    let opened = shared::open(session, &registry_settings, flags.caches(), printer)?;
    let registries = opened.with_registries();
    // From here on; while we wait for the store, a signal just ends the process.
    let watch = Watch::for_build(timeout)?;
    let kept = Kept::default();
    let work = Work {
        session,
        dockerfile: &dockerfile.shown,
        flags: &flags,
        watch: &watch,
        platforms: &selected.platforms,
        caches: &registries.caches(),
        kept: &kept,
        timeout,
        delivery: Delivery {
            session,
            watch: &watch,
            printer,
            talks: !matches!(mode, ProgressMode::Quiet | ProgressMode::Rawjson),
            names,
            epoch: request.epoch,
            attest: &deliver::nothing_to_attest,
            keep: &|_| Ok(()),
        },
    };
    let (made, progress) = work.make_or_again(&mut request, mode);
    tell_damage(session, printer);
    let made = made.map_err(|error| failed(error, &dockerfile, &*progress));
    let built = made.and_then(|made| write_files(arguments, made, names)).map_err(|failure| {
        progress.finish(None);
        watch.blame(failure, kept.notes())
    })?;
    built.iter().try_for_each(|built| history::note(session, &built.report))?;
    let shown = request.tags.iter().map(Reference::familiar).collect();
    progress.finish(Some(&Summary::new(&whole(&built), shown, began.elapsed())));
    tell_warnings(warnings, mode, printer);
    Ok(0)
}

fn tell_warnings(warnings: usize, mode: ProgressMode, printer: &Printer) {
    if warnings > 0 && mode != ProgressMode::Rawjson {
        printer.talk(&format!("{}: see `strata check`", counted(warnings, "warning")));
    }
}

fn tell_damage(session: &Session, printer: &Printer) {
    for damage in session.store().noticed() {
        let text = format!("the store was damaged, and is mended: {damage}");
        printer.labelled(Label::Warning, &text);
    }
}

/// What is asked for beside the build itself.
struct Flags {
    outputs: Vec<Output>,
    /// All of `-t`; the request has them only if the image gets them in the store.
    names: Vec<Reference>,
    cache_from: Vec<Cache>,
    cache_to: Vec<Cache>,
    attestations: Attestations,
}

impl Flags {
    fn understand(
        arguments: &BuildArguments,
        environment: &Environment,
        mode: ProgressMode,
    ) -> Result<Self, Failure> {
        let outputs = request::outputs(&OutputFlags {
            outputs: &arguments.outputs,
            push: arguments.push,
            load: arguments.load,
            annotations: request::annotation::of_flags(&arguments.annotations)?,
        })?;
        if mode == ProgressMode::Quiet && outputs.iter().any(Output::is_stdout) {
            return Err(Failure::usage("standard output can not be an archive and the image's id")
                .hint("write the id to a file with `--iidfile`, or the archive with `dest=FILE`"));
        }
        let names = arguments.tags.iter().map(|text| request::name(text));
        let names: Vec<Reference> = names.collect::<Result<_, _>>()?;
        deliver::check(&outputs, &names)?;
        let caches = |flag, texts| request::cache::caches(flag, texts, environment);
        let mut cache_from = caches("--cache-from", &arguments.cache_from)?;
        let mut cache_to = caches("--cache-to", &arguments.cache_to)?;
        if let Some(url) = &arguments.remote {
            let remote = request::cache::remote(url, environment)?;
            cache_from.push(remote.clone());
            cache_to.push(remote);
        }
        let (provenance, sbom) = (arguments.provenance.as_deref(), arguments.sbom.as_deref());
        let attestations = Attestations::of_flags(&arguments.attests, provenance, sbom)?;
        Ok(Self { outputs, names, cache_from, cache_to, attestations })
    }

    /// The shared caches to read, and those to write.
    fn caches(&self) -> [&[Cache]; 2] {
        [&self.cache_from, &self.cache_to]
    }

    /// All names that the image gets anywhere.
    fn all_names(&self) -> Vec<Reference> {
        let of_outputs = self.outputs.iter().flat_map(|output| &output.names);
        self.names.iter().chain(of_outputs).cloned().collect()
    }

    /// What is said about an image is kept with it, and goes with it in an index: not every output
    /// has one.
    fn warn_of_attestations(&self, printer: &Printer) {
        let take = self.outputs.is_empty() || self.outputs.iter().any(Output::is_attested);
        if !self.attestations.are_none() && !take {
            let text = "attestations go with `--push` and `-o type=oci`: \
                        what this build writes has none";
            printer.labelled(Label::Warning, text);
        }
    }

    /// The settings, where outputs and caches say of registries that plain http will do.
    fn reach(&self, mut settings: Settings) -> Settings {
        let caches = self.cache_from.iter().chain(&self.cache_to);
        settings.registry.insecure.extend(caches.filter_map(Cache::insecure_registry));
        for output in &self.outputs {
            if let Target::Image(ImageTarget { insecure: true, .. }) = &output.target {
                let names = self.names.iter().chain(&output.names);
                settings.registry.insecure.extend(names.map(|name| name.registry.clone()));
            }
        }
        settings
    }
}

/// What a build works with, beside its request.
#[derive(Clone, Copy)]
struct Work<'a> {
    session: &'a Session,
    /// What the Dockerfile is called.
    dockerfile: &'a str,
    flags: &'a Flags,
    watch: &'a Watch,
    platforms: &'a [Platform],
    caches: &'a SharedCaches<'a>,
    kept: &'a Kept,
    timeout: Option<std::time::Duration>,
    delivery: Delivery<'a>,
}

/// What came of it.
struct Made {
    built: Vec<Built>,
    /// What the image is by its manifest or index, where one was made.
    described: Option<Descriptor>,
    /// How it was built, for each platform, where that is to be told.
    provenance: Vec<serde_json::Value>,
}

impl<'a> Work<'a> {
    /// Builds and delivers; and once more with every step done again, if the store lacks what it
    /// should have.
    fn make_or_again(
        &self,
        request: &mut BuildRequest,
        mode: ProgressMode,
    ) -> (Result<Made, NotDelivered>, Box<dyn Progress + 'a>) {
        let printer = self.delivery.printer;
        let progress = progress::new(mode, printer);
        let error = match self.make(request, &*progress) {
            Err(NotDelivered::Build(error))
                if is_loss(&error)
                    && !self.watch.is_ended()
                    && !self.flags.outputs.iter().any(Output::is_stdout)
                    && request.no_cache.insert(String::new()) =>
            {
                error
            }
            made => return (made, progress),
        };
        progress.finish(None);
        let text = format!("{}: every step is done again", build_error::plain(&error).message);
        printer.labelled(Label::Warning, &text);
        let progress = progress::new(mode, printer);
        // The failure has cancelled the steps that were running, and all that would follow.
        let made = match Watch::for_build(self.timeout) {
            Ok(watch) => {
                let delivery = Delivery { watch: &watch, ..self.delivery };
                Work { watch: &watch, delivery, ..*self }.make(request, &*progress)
            }
            Err(failure) => Err(NotDelivered::Failure(failure)),
        };
        (made, progress)
    }

    /// Builds the image for each platform and delivers it where it was asked for.
    fn make(&self, request: &BuildRequest, progress: &dyn Progress) -> Result<Made, NotDelivered> {
        let session = self.session;
        let began = now();
        let builder = Builder { caches: self.caches, ..session.builder(&self.watch.cancel) };
        let mut built = Vec::new();
        for platform in self.platforms {
            let request = BuildRequest { platform: platform.clone(), ..request.clone() };
            let observe = |event: Event<'_>| {
                self.kept.observe(&event);
                progress.observe(event);
            };
            let report = builder.build(&request, &observe)?;
            let (images, id) = (session.images(), report.image.to_string());
            let image = images.find(&id, platform)?.ok_or_else(|| BuildError::Damaged {
                what: "image",
                reason: format!("{id} is gone"),
            })?;
            built.push(Built { image, report });
        }
        let subject = Subject {
            asked: &self.flags.attestations,
            names: &self.flags.all_names(),
            request,
            dockerfile: self.dockerfile,
            built: &built,
            times: [began, now()],
            said: RefCell::default(),
            unread: RefCell::default(),
        };
        let attest = |image: &_, manifest: &_| subject.attest(session, image, manifest);
        let keep = |image: &_| subject.keep(session, image);
        let delivery = Delivery { attest: &attest, keep: &keep, ..self.delivery };
        let described = delivery.deliver(&self.flags.outputs, &built)?;
        for text in subject.unread.borrow().iter() {
            self.delivery.printer.labelled(Label::Warning, &format!("SBOM: {text}"));
        }
        let platforms = built.iter().map(|built| built.image.config.platform());
        let provenance = platforms.filter_map(|platform| subject.provenance(&platform)).collect();
        Ok(Made { built, described, provenance })
    }
}

/// The time in seconds since 1970.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// The reports of all platforms as one.
fn whole(built: &[Built]) -> BuildReport {
    let mut reports = built.iter().map(|built| built.report.clone());
    let first = reports.next().unwrap_or_else(|| unreachable!("there is at least one platform"));
    reports.fold(first, |mut whole, report| {
        whole.steps.extend(report.steps);
        whole
    })
}

/// Whether the store does not have what it should: doing every step again puts it there.
fn is_loss(error: &BuildError) -> bool {
    match error {
        BuildError::Damaged { .. } | BuildError::Far(_) => true,
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
fn check(
    request: &BuildRequest,
    dockerfile: &Dockerfile,
    session: &Session,
) -> Result<Vec<Diagnostic>, Failure> {
    // What is wrong with the ignore file is the build's to say.
    let Ok(report) = request::check_build(request, session) else { return Ok(Vec::new()) };
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
fn failed(error: NotDelivered, dockerfile: &Dockerfile, progress: &dyn Progress) -> Failure {
    progress.finish(None);
    let error = match error {
        NotDelivered::Failure(failure) => return failure,
        NotDelivered::Build(error) => error,
    };
    let mut failure = build_error::in_dockerfile(&error, dockerfile);
    if let BuildError::Command { step, .. } = error {
        failure.before = progress.unseen_output(step);
    }
    failure
}

/// `--iidfile` and `--metadata-file`, as Docker writes them.
fn write_files(
    arguments: &BuildArguments,
    made: Made,
    names: &[Reference],
) -> Result<Vec<Built>, Failure> {
    let (built, described) = (&made.built, made.described.as_ref());
    let id = deliver::id_of(built, described).map(|id| id.to_string()).unwrap_or_default();
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
    };
    if let Some(path) = &arguments.iidfile {
        write(path, &id)?;
    }
    if let Some(path) = &arguments.metadata_file {
        let mut metadata = json!({});
        if let [only] = &built[..] {
            metadata["containerimage.config.digest"] = only.report.image.to_string().into();
        }
        if let Some(described) = described {
            metadata["containerimage.descriptor"] = json!(described);
            metadata["containerimage.digest"] = described.digest.to_string().into();
        }
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(Reference::to_string).collect();
            metadata["image.name"] = names.join(",").into();
        }
        match &made.provenance[..] {
            [] => {}
            [only] => metadata["buildx.build.provenance"] = only.clone(),
            several => {
                for (built, provenance) in built.iter().zip(several) {
                    let platform = built.image.config.platform();
                    metadata[format!("buildx.build.provenance/{platform}")] = provenance.clone();
                }
            }
        }
        write(path, &format!("{metadata:#}\n"))?;
    }
    Ok(made.built)
}
