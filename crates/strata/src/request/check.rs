//! What the checks of a Dockerfile need from outside: the context's ignore file, the names of
//! images, the arguments. Of base images counts what the store has, if there is one; nothing is
//! fetched and nothing made.

use std::collections::BTreeMap;
use std::path::Path;

use strata_build::{BuildRequest, Context};
use strata_cas::TreePath;
use strata_dockerfile::{
    BaseImage, CheckReport, CheckRequest, Diagnostic, Outline, Parse, foreign_frontend,
};
use strata_oci::{Platform, Reference};
use strata_scan::IgnoreRules;

use super::planned::Plans;
use super::{Dockerfile, context, options, platform, shipped};
use crate::arguments::CheckArguments;
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::session::{Opening, Session};
use crate::words::build_error;

/// A Dockerfile that was checked.
pub(crate) struct Checked {
    pub(crate) dockerfile: Dockerfile,
    pub(crate) parse: Parse,
    pub(crate) report: CheckReport,
}

/// Finds the files and checks all stages, or those that the target needs.
pub(crate) fn check(
    arguments: &CheckArguments,
    environment: &Environment,
    opening: &Opening<'_>,
) -> Result<Checked, Failure> {
    let found = context::find(&arguments.context, arguments.file.as_deref(), false, opening)?;
    let subject = Subject {
        ignore: ignore_file(&found.main),
        directory: match &found.main {
            Context::Directory { path, .. } => Some(path),
            _ => None,
        },
        build_args: &options::build_args(&arguments.build_args, environment)?,
        target: arguments.target.as_deref(),
        platform: &platform(arguments.platform.as_deref(), environment)?,
        all_stages: arguments.target.is_none(),
        images: opening.existing(),
    };
    let parse = strata_dockerfile::parse(&found.dockerfile.bytes);
    let mut report = subject.check(&parse)?;
    // A file with errors has no plan.
    if !report.findings.iter().any(Diagnostic::is_error) {
        let Subject { build_args, target, platform, .. } = subject;
        let plans = Plans { parse: &parse, build_args, target, platform };
        report.findings.extend(plans.errors());
        report.findings.sort_by_key(|finding| (finding.span.start, !finding.is_error()));
    }
    Ok(Checked { dockerfile: found.dockerfile, parse, report })
}

/// A Dockerfile that was asked about.
pub(crate) struct Outlined {
    pub(crate) parse: Parse,
    pub(crate) outline: Outline,
}

/// Finds the Dockerfile and says what building the target takes. It must be one without errors.
pub(crate) fn outline(
    arguments: &CheckArguments,
    environment: &Environment,
    opening: &Opening<'_>,
) -> Result<Outlined, Failure> {
    let found = context::find(&arguments.context, arguments.file.as_deref(), false, opening)?;
    let parse = strata_dockerfile::parse(&found.dockerfile.bytes);
    let failed = |wrong: Vec<Diagnostic>| {
        let message = wrong.first().map_or_else(String::new, |first| first.message.clone());
        Failure::new(Kind::Build, message).at(&found.dockerfile, wrong)
    };
    let build_args = options::build_args(&arguments.build_args, environment)?;
    let mut wrong = build_error::wrong(&parse.diagnostics);
    wrong.extend(foreign_frontend(&parse.tree, &build_args));
    if !wrong.is_empty() {
        return Err(failed(wrong));
    }
    let request = CheckRequest {
        target: arguments.target.as_deref(),
        platform: &platform(arguments.platform.as_deref(), environment)?.to_string(),
        build_platform: &Platform::native().to_string(),
        ..CheckRequest::new(&build_args)
    };
    let outline = strata_dockerfile::outline(&parse, &request);
    let outline = outline.map_err(|wrong| failed(vec![*wrong]))?;
    Ok(Outlined { parse, outline })
}

/// Checks the stages that a build needs.
pub(crate) fn check_build(
    request: &BuildRequest,
    session: &Session,
) -> Result<CheckReport, Failure> {
    let subject = Subject {
        ignore: request.contexts.get("").map_or(&[], ignore_file),
        // A build reads of its context what it needs, and no more.
        directory: None,
        build_args: &request.build_args,
        target: request.target.as_deref(),
        platform: &request.platform,
        all_stages: false,
        images: Some(session),
    };
    subject.check(&strata_dockerfile::parse(&request.dockerfile))
}

struct Subject<'a> {
    /// The context, if it may be looked through.
    directory: Option<&'a Path>,
    ignore: &'a [u8],
    build_args: &'a BTreeMap<String, String>,
    target: Option<&'a str>,
    platform: &'a Platform,
    all_stages: bool,
    /// Where base images may be.
    images: Option<&'a Session>,
}

impl Subject<'_> {
    fn check(&self, parse: &Parse) -> Result<CheckReport, Failure> {
        let rules = IgnoreRules::parse(self.ignore)
            .map_err(|error| Failure::usage(format!("the ignore file: {error}")))?;
        let is_ignored = |path: &str| rules.excludes(&TreePath::normalise(path.as_bytes()));
        let brings_back =
            |line: &[u8]| line.trim_ascii_start().first().is_some_and(|first| *first == b'!');
        let is_certain =
            !rules.is_empty() && !self.ignore.split(|byte| *byte == b'\n').any(brings_back);
        let found = self.directory.map_or_else(Vec::new, |at| shipped::find(at, &rules));
        let request = CheckRequest {
            shipped: &|source| shipped::taken(&found, source),
            build_args: self.build_args,
            target: self.target,
            all_stages: self.all_stages,
            platform: &self.platform.to_string(),
            build_platform: &Platform::native().to_string(),
            is_ignored: if is_certain { Some(&is_ignored) } else { None },
            is_image_name: &|text| text.parse::<Reference>().is_ok(),
            base_image: &|name| self.base_image(name),
        };
        Ok(strata_dockerfile::check(parse, &request))
    }
}

impl Subject<'_> {
    /// What the store knows of a base image. One that is not there, or can not be read, is the
    /// build's to fetch or to complain of.
    fn base_image(&self, name: &str) -> Option<BaseImage> {
        let name = name.parse::<Reference>().ok()?;
        let image = self.images?.images().by_name(&name, self.platform).ok()??;
        let env = image.config.config.env.iter().flatten();
        let variables = env.filter_map(|variable| variable.split_once('='));
        Some(BaseImage {
            platform: image.config.platform().to_string(),
            env: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            has_shell: image.config.config.shell.is_some(),
        })
    }
}

fn ignore_file(context: &Context) -> &[u8] {
    match context {
        Context::Directory { ignore, .. } => ignore,
        _ => &[],
    }
}
