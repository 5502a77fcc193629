//! Selection arguments → what the façade is asked for. All files that the command line names are
//! found here, and all texts in it are understood here, so that wrong usage fails before the store
//! is opened or anything runs.

pub(crate) mod annotation;
pub(crate) mod attest;
pub(crate) mod cache;
mod check;
mod context;
mod credentials;
mod limits;
mod options;
mod output;
mod planned;
mod remote;
mod shipped;

use std::path::{Path, PathBuf};

use strata_build::BuildRequest;
use strata_oci::{Platform, Reference};

pub(crate) use check::{Checked, check, check_build, outline};
pub(crate) use credentials::{Lent, credentials};
pub(crate) use limits::{of_run, shm_bytes};
pub(crate) use options::{build_args, hosts, timeout, unknown, verify};
pub(crate) use output::{CHUNKED, ImageTarget, Output, OutputFlags, Target, compression, outputs};

use crate::arguments::SelectionArguments;
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::session::Opening;
use crate::words::build_error;

/// A Dockerfile and what people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dockerfile {
    /// Its path as the user would write it.
    pub(crate) shown: String,
    pub(crate) bytes: Vec<u8>,
    /// Where it is, if it is a file.
    pub(crate) path: Option<PathBuf>,
}

/// A build that was asked for, and the Dockerfile for messages about it.
pub(crate) struct Selected {
    pub(crate) request: BuildRequest,
    pub(crate) dockerfile: Dockerfile,
    /// What the image is for; the request names the first one.
    pub(crate) platforms: Vec<Platform>,
}

/// Finds the files, understands the options.
pub(crate) fn select(
    arguments: &SelectionArguments,
    environment: &Environment,
    jobs: Option<usize>,
    opening: &Opening<'_>,
) -> Result<Selected, Failure> {
    let build_args = options::build_args(&arguments.build_args, environment)?;
    let keep_git_dir = options::keeps_git_dir(&build_args);
    let file = arguments.file.as_deref();
    let found = context::find(&arguments.context, file, keep_git_dir, opening)?;
    let dockerfile = found.dockerfile;
    let parse = strata_dockerfile::parse(&dockerfile.bytes);
    let wrong = build_error::wrong(&parse.diagnostics);
    if !wrong.is_empty() {
        let failure = Failure::new(Kind::Build, wrong[0].message.clone());
        return Err(failure.at(&dockerfile, wrong));
    }
    let mut request = BuildRequest::new(dockerfile.bytes.clone());
    request.contexts.insert(String::new(), found.main);
    for text in &arguments.build_contexts {
        let (name, context) = context::named(text)?;
        request.contexts.insert(name, context);
    }
    request.target.clone_from(&arguments.target);
    request.build_args = build_args;
    request.epoch = options::epoch(request.build_args.get(options::EPOCH))?;
    request.labels = options::labels(&arguments.labels)?;
    let platforms = platforms(arguments.platform.as_deref(), environment)?;
    request.platform = platforms[0].clone();
    request.network = options::network(arguments.network.as_deref())?;
    request.no_cache.extend(arguments.no_cache_filter.iter().cloned());
    if arguments.no_cache {
        request.no_cache.insert(String::new());
    }
    request.rerun.clone_from(&arguments.reruns);
    request.pull = arguments.pull;
    request.allow = options::entitlements(&arguments.allow)?;
    request.extra_hosts = options::hosts(&arguments.add_hosts)?;
    request.limits = limits::limits(&arguments.limits)?;
    request.shm_bytes = limits::shm_bytes(arguments.limits.shm_size.as_deref())?;
    request.jobs = arguments.jobs.or(jobs).unwrap_or(0);
    request.project = found.project;
    Ok(Selected { request, dockerfile, platforms })
}

/// The platforms that were asked for, or this machine's.
pub(crate) fn platforms(
    text: Option<&str>,
    environment: &Environment,
) -> Result<Vec<Platform>, Failure> {
    let default = environment.text("DOCKER_DEFAULT_PLATFORM");
    let Some(text) = text.or(default.as_deref()) else { return Ok(vec![Platform::native()]) };
    let mut platforms: Vec<Platform> = Vec::new();
    for text in text.split(',') {
        let platform = platform(Some(text.trim()), environment)?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// What tells the project of this context and Dockerfile from others.
pub(crate) fn project(context: &Path, file: Option<&Path>) -> Result<String, Failure> {
    context::project(context, file)
}

/// The platform that was asked for, or this machine's.
pub(crate) fn platform(text: Option<&str>, environment: &Environment) -> Result<Platform, Failure> {
    let default = environment.text("DOCKER_DEFAULT_PLATFORM");
    let Some(text) = text.or(default.as_deref()) else { return Ok(Platform::native()) };
    if text.contains(',') {
        return Err(Failure::usage("only one platform can be named here"));
    }
    text.parse().map_err(|error| Failure::usage(format!("{error}")))
}

/// A name for an image.
pub(crate) fn name(text: &str) -> Result<Reference, Failure> {
    let name: Reference = text.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    match name.digest {
        None => Ok(name),
        Some(_) => Err(Failure::usage(format!("`{text}`: a new name has a tag, not a digest"))),
    }
}

/// The time that files are to be given, from the environment alone.
pub(crate) fn epoch(environment: &Environment) -> Result<Option<i64>, Failure> {
    options::epoch(environment.text(options::EPOCH).as_ref())
}

/// `NAME=VALUE`, or `NAME` with its value from the environment, if it is there.
pub(crate) fn variable(
    text: &str,
    environment: &Environment,
) -> Result<Option<(String, String)>, Failure> {
    options::variable("-e", text, environment)
}

/// A path without the `./` that nobody writes.
fn shown(path: &Path) -> String {
    let clean: PathBuf =
        path.components().filter(|part| *part != std::path::Component::CurDir).collect();
    clean.display().to_string()
}
