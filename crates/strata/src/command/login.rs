//! `strata login` and `strata logout`: credentials in Docker's `config.json`, or in the helper that
//! it names. They are tried before they are kept.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use strata_remote::docker_config::{self, DockerConfig};
use strata_remote::{Credentials, RemoteRegistry, Secret};

use crate::arguments::{LoginArguments, LogoutArguments};
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::printer::{Label, Printer};
use crate::settings::{Settings, docker_config_path};
use crate::words::lower_errors;

pub(super) fn log_in(
    arguments: &LoginArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let registry = host(&arguments.registry);
    let credentials = asked(arguments, printer)?;
    let client = RemoteRegistry::new(settings.registry);
    let client = client.map_err(|error| Failure::usage(lower_errors::chain(&error)))?;
    client.check_login(&registry, &credentials).map_err(|error| {
        let message = match &error {
            strata_oci::RegistryError::Denied { .. } => {
                format!("registry `{registry}` does not take this name and password")
            }
            error => lower_errors::chain(error),
        };
        Failure::new(lower_errors::registry_kind(&error), message)
            .hint_if(strata_remote::hint(&error).map(str::to_owned))
    })?;
    let (path, text) = read_config(environment)?;
    let config = parse(&path, &text)?;
    match config.helper(&registry) {
        Some(helper) => {
            let kept = docker_config::keep_in_helper(helper, &registry, &credentials);
            kept.map_err(|error| Failure::environment(error.to_string()))?;
        }
        None => {
            write(&path, &edited(&path, &text, &registry, Some(&credentials))?)?;
            let text = format!("the password is in `{}`, and not encrypted", path.display());
            printer.labelled(Label::Warning, &text);
        }
    }
    printer.talk(&format!("logged in to {registry}"));
    Ok(0)
}

pub(super) fn log_out(
    arguments: &LogoutArguments,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let registry = host(&arguments.registry);
    let (path, text) = read_config(environment)?;
    let config = parse(&path, &text)?;
    if let Some(helper) = config.helper(&registry) {
        let erased = docker_config::erase_in_helper(helper, &registry);
        erased.map_err(|error| Failure::environment(error.to_string()))?;
    }
    if config.login(&registry).is_none() && config.helper(&registry).is_none() {
        printer.talk(&format!("not logged in to {registry}"));
        return Ok(0);
    }
    write(&path, &edited(&path, &text, &registry, None)?)?;
    printer.talk(&format!("logged out of {registry}"));
    Ok(0)
}

/// What people paste: with a scheme, a path, or in Docker Hub's other names.
fn host(text: &str) -> String {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

fn asked(arguments: &LoginArguments, printer: &Printer) -> Result<Credentials, Failure> {
    let hint = "`strata login REGISTRY -u NAME --password-stdin < FILE`";
    let username = arguments.username.clone().filter(|name| !name.is_empty());
    let username = username.ok_or_else(|| Failure::usage("`--username` is missing").hint(hint))?;
    let password = match &arguments.password {
        Some(password) => {
            let text = "other users of this machine can see a password on the command line";
            printer.labelled(Label::Warning, text);
            password.clone()
        }
        None if arguments.password_stdin || !std::io::stdin().is_terminal() => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| {
                Failure::usage(format!(
                    "the password can not be read: {}",
                    crate::failure::plain(&error)
                ))
            })?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => return Err(Failure::usage("`--password-stdin` is missing").hint(hint)),
    };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty").hint(hint));
    }
    Ok(Credentials::Password { username, secret: Secret::new(password) })
}

fn read_config(environment: &Environment) -> Result<(PathBuf, Vec<u8>), Failure> {
    let path = docker_config_path(environment).ok_or_else(|| {
        Failure::usage("there is no place for the login: `HOME` is not set")
            .hint("name a directory with `DOCKER_CONFIG`")
    })?;
    match std::fs::read(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((path, b"{}".to_vec())),
        Err(error) => Err(Failure::file("read", &path, &error)),
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<DockerConfig, Failure> {
    DockerConfig::parse(text)
        .map_err(|error| Failure::new(Kind::Usage, format!("`{}`: {error}", path.display())))
}

fn edited(
    path: &Path,
    text: &[u8],
    registry: &str,
    credentials: Option<&Credentials>,
) -> Result<Vec<u8>, Failure> {
    docker_config::with_login(text, registry, credentials)
        .map_err(|error| Failure::new(Kind::Usage, format!("`{}`: {error}", path.display())))
}

/// Writes the file anew, for its owner's eyes only; it is never there in part.
fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let partial = path.with_file_name(format!(".config.json.{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let written = file.and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    });
    written.map_err(|error| {
        drop(std::fs::remove_file(&partial));
        failed(error)
    })
}
