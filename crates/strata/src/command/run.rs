//! `strata run`: a command in an image, with this process's input and output. What it writes is
//! lost, and its exit code is ours.

use strata_build::RunOptions;
use strata_exec::Network;

use crate::arguments::RunArguments;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Watch;
use crate::words::build_error;

pub(super) fn run(
    arguments: &RunArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let options = options(arguments, environment)?;
    let platform = request::platform(arguments.platform.as_deref(), environment)?;
    let session = Session::open(settings, printer)?;
    let image = session.image(&arguments.image, &platform)?;
    let config = &image.config.config;
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let is_named = !options.command.is_empty() || has(&options.entrypoint);
    if !is_named && !has(&config.entrypoint) && !has(&config.cmd) {
        return Err(Failure::usage(format!("image `{}` has no command", arguments.image))
            .hint("name one after the image"));
    }
    let watch = Watch::for_run()?;
    let status = session.builder(&watch.cancel).run(&image, &options);
    let status = status.map_err(|error| build_error::plain(&error))?;
    Ok(u8::try_from(status.code()).unwrap_or(crate::EXIT_BUILD))
}

fn options(arguments: &RunArguments, environment: &Environment) -> Result<RunOptions, Failure> {
    let mut env = Vec::new();
    for text in &arguments.env {
        env.extend(request::variable(text, environment)?);
    }
    let network = network(&arguments.network)?;
    let entrypoint = arguments.entrypoint.as_ref().map(|program| {
        let program = Some(program.clone()).filter(|program| !program.is_empty());
        program.into_iter().collect()
    });
    Ok(RunOptions {
        command: arguments.command.clone(),
        entrypoint,
        env,
        cwd: arguments.workdir.clone(),
        user: arguments.user.clone(),
        network,
        hostname: arguments.hostname.clone(),
        extra_hosts: request::hosts(&arguments.add_hosts)?,
        limits: request::of_run(arguments)?,
        shm_bytes: request::shm_bytes(arguments.limits.shm_size.as_deref())?,
    })
}

/// `--network` of a command that is run at once.
pub(super) fn network(text: &str) -> Result<Network, Failure> {
    match text {
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        other => Err(request::unknown("network", other, &["host", "none"])),
    }
}
