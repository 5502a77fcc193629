//! What the arguments, the environment and the configuration file mean together: an argument
//! beats the environment, which beats the file, which beats the default.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use strata_exec::Runtime;
use strata_remote::docker_config::DockerConfig;
use strata_remote::{AskCredentials, Mirror, ProxySettings, RegistrySettings};

use crate::arguments::GlobalArguments;
use crate::config_file::ConfigFile;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Label;
use crate::words::amount;

/// So much of a step's output is shown and logged, if nobody says otherwise.
const LOG_LIMIT_BYTES: u64 = 64 << 20;

/// What holds for every command.
pub(crate) struct Settings {
    /// The store's directory.
    pub(crate) store: PathBuf,
    /// The most that the store may take, in bytes.
    pub(crate) store_size: Option<u64>,
    /// Who makes sandboxes.
    pub(crate) runtime: Runtime,
    /// How many steps may run at a time, where the configuration says so.
    pub(crate) jobs: Option<usize>,
    /// How many bytes of a step's output are shown and logged.
    pub(crate) log_limit_bytes: u64,
    /// How registries are spoken to.
    pub(crate) registry: RegistrySettings,
    /// What `strata serve` does.
    pub(crate) serve: strata_server::ServeTable,
    /// The environment, for keys to places that are found in the store.
    pub(crate) environment: Environment,
}

impl Settings {
    pub(crate) fn new(
        arguments: &GlobalArguments,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let config = config(arguments, environment)?;
        let runtime = arguments.oci_runtime.clone().or_else(|| config.build.oci_runtime.clone());
        Ok(Self {
            store: store(arguments, environment)?,
            store_size: store_size(arguments, &config, environment)?,
            runtime: runtime_of(runtime.as_deref())?,
            jobs: config.build.jobs,
            log_limit_bytes: log_limit(&config, environment)?,
            registry: registry(&config, environment)?,
            environment: environment.clone(),
            serve: config.serve,
        })
    }
}

/// BuildKit's variable, in bytes; -1 is no limit.
fn log_limit(config: &ConfigFile, environment: &Environment) -> Result<u64, Failure> {
    const VARIABLE: &str = "BUILDKIT_STEP_LOG_MAX_SIZE";
    let Some(text) = environment.text(VARIABLE) else {
        return Ok(config.build.log_limit.unwrap_or(LOG_LIMIT_BYTES));
    };
    match text.trim().parse::<i64>() {
        Ok(-1) => Ok(u64::MAX),
        Ok(bytes) if bytes >= 0 => Ok(bytes.unsigned_abs()),
        _ => Err(Failure::usage(format!("`{VARIABLE}={text}`: bytes are expected, or -1"))),
    }
}

fn store(arguments: &GlobalArguments, environment: &Environment) -> Result<PathBuf, Failure> {
    let named = arguments.store.clone().or_else(|| environment.path("STRATA_STORE"));
    named.or_else(|| environment.below("XDG_DATA_HOME", ".local/share", "strata")).ok_or_else(
        || {
            Failure::usage("there is no place for the store: `HOME` is not set")
                .hint("name a directory with `--store` or `STRATA_STORE`")
        },
    )
}

fn store_size(
    arguments: &GlobalArguments,
    config: &ConfigFile,
    environment: &Environment,
) -> Result<Option<u64>, Failure> {
    let named = arguments.store_size.clone().or_else(|| environment.text("STRATA_STORE_SIZE"));
    let Some(text) = named.or_else(|| config.store.size.clone()) else { return Ok(None) };
    let bytes = amount::parse_bytes(&text).filter(|bytes| *bytes > 0);
    bytes.map(Some).ok_or_else(|| {
        Failure::usage(format!("the store's size `{text}` is not one"))
            .hint("write `20GB` or `512MiB`")
    })
}

/// A file that was named must be there; the default one need not.
fn config(arguments: &GlobalArguments, environment: &Environment) -> Result<ConfigFile, Failure> {
    let named = arguments.config.clone().or_else(|| environment.path("STRATA_CONFIG"));
    let default = || environment.below("XDG_CONFIG_HOME", ".config", "strata/config.toml");
    let is_named = named.is_some();
    let Some(path) = named.or_else(default) else { return Ok(ConfigFile::default()) };
    match std::fs::read_to_string(&path) {
        Ok(text) => ConfigFile::parse(&text, &path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => {
            Ok(ConfigFile::default())
        }
        Err(error) => Err(Failure::file("read the configuration", &path, &error)),
    }
}

fn runtime_of(text: Option<&str>) -> Result<Runtime, Failure> {
    match text {
        None | Some("libcontainer") => Ok(Runtime::Libcontainer),
        Some(path) if path.contains('/') => Ok(Runtime::Command(PathBuf::from(path))),
        Some(name) => {
            Err(Failure::usage(format!("`{name}` is not an OCI runtime that strata knows"))
                .hint("`libcontainer`, or the path of runc or crun, such as `/usr/bin/crun`"))
        }
    }
}

fn registry(config: &ConfigFile, environment: &Environment) -> Result<RegistrySettings, Failure> {
    let mut settings = RegistrySettings::default();
    let insecure = config.registry.iter().filter(|(_, table)| table.insecure);
    settings.insecure.extend(insecure.map(|(name, _)| name.clone()));
    for (name, table) in &config.registry {
        let mirror = |endpoint: &String| Mirror {
            endpoint: endpoint.clone(),
            plain_http: settings.insecure.contains(host_of(endpoint)),
        };
        let mirrors: Vec<Mirror> = table.mirrors.iter().map(mirror).collect();
        if !mirrors.is_empty() {
            settings.mirrors.insert(name.clone(), mirrors);
        }
    }
    settings.proxy = ProxySettings {
        http: environment.first_text(&["HTTP_PROXY", "http_proxy"]),
        https: environment.first_text(&["HTTPS_PROXY", "https_proxy"]),
        exceptions: environment.first_text(&["NO_PROXY", "no_proxy"]),
    };
    settings.credentials = credentials(environment);
    settings.extra_certificates = authorities(config, environment)?;
    Ok(settings)
}

/// Authorities that are trusted beside the system's: those of the configuration, and those that
/// Docker and Podman keep for registries (`certs.d/HOST/NAME.crt`).
fn authorities(config: &ConfigFile, environment: &Environment) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = Vec::new();
    for path in config.registry.values().filter_map(|table| table.ca.as_ref()) {
        let text = std::fs::read(path);
        found.push(text.map_err(|error| Failure::file("read", path, &error))?);
    }
    let of_user = ["docker/certs.d", "containers/certs.d"]
        .map(|rest| environment.below("XDG_CONFIG_HOME", ".config", rest));
    let of_machine =
        ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(|path| Some(PathBuf::from(path)));
    for folder in of_user.into_iter().chain(of_machine).flatten() {
        // What can not be read is for others.
        let hosts = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = hosts.flat_map(|host| std::fs::read_dir(host.path()).into_iter().flatten());
        let paths = files.flatten().map(|file| file.path());
        let paths = paths.filter(|path| path.extension().is_some_and(|it| it == "crt"));
        let texts = paths.filter_map(|path| std::fs::read(path).ok());
        found.extend(texts.filter(|text| holds_certificate(text)));
    }
    Ok(found)
}

fn holds_certificate(text: &[u8]) -> bool {
    let marker = b"-----BEGIN CERTIFICATE-----";
    text.windows(marker.len()).any(|part| part == marker)
}

fn host_of(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Where Docker's `config.json` is.
pub(crate) fn docker_config_path(environment: &Environment) -> Option<PathBuf> {
    let directory = environment.path("DOCKER_CONFIG");
    let directory = directory.or_else(|| Some(environment.path("HOME")?.join(".docker")));
    directory.map(|directory| directory.join("config.json"))
}

/// Docker's `config.json`, read when a registry first demands a login. Trouble with it is told
/// and is no reason to stop: the registry may let us in all the same, or says what it wants.
fn credentials(environment: &Environment) -> AskCredentials {
    let path = docker_config_path(environment);
    let printer = crate::printer::Printer::new(environment);
    let config: OnceLock<DockerConfig> = OnceLock::new();
    Arc::new(move |host| {
        let read = || {
            let path = path.as_ref()?;
            let text = std::fs::read(path).ok()?;
            let parsed = DockerConfig::parse(&text);
            let warn = |error| {
                let text = format!("`{}` is not used: {error}", path.display());
                printer.labelled(Label::Warning, &text);
            };
            parsed.map_err(warn).ok()
        };
        let config = config.get_or_init(|| read().unwrap_or_default());
        config.credentials(host).unwrap_or_else(|error| {
            printer.labelled(Label::Warning, &error.to_string());
            None
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(store: Option<&str>) -> GlobalArguments {
        GlobalArguments {
            store: store.map(PathBuf::from),
            store_size: None,
            config: None,
            oci_runtime: None,
        }
    }

    #[test]
    fn an_argument_beats_the_environment_which_beats_the_home() {
        let home: Environment = [("HOME", "/h")].into_iter().collect();
        let both: Environment = [("HOME", "/h"), ("STRATA_STORE", "/e")].into_iter().collect();
        let check = |argument, environment: &Environment, expected: &str| {
            let path = store(&global(argument), environment).expect("a path");
            assert_eq!(path, PathBuf::from(expected));
        };
        check(Some("/a"), &both, "/a");
        check(None, &both, "/e");
        check(None, &home, "/h/.local/share/strata");
        assert_eq!(store(&global(None), &Environment::default()).expect_err("none").code(), 2);
    }

    #[test]
    fn mirrors_speak_http_where_their_host_is_insecure() {
        let text = "[registry.\"docker.io\"]\nmirrors = [\"lan:5000/hub\", \"tls.example\"]\n\
            [registry.\"lan:5000\"]\ninsecure = true\n";
        let config = ConfigFile::parse(text, std::path::Path::new("c")).expect("a configuration");
        let proxied: Environment = [("https_proxy", "p:1")].into_iter().collect();
        let settings = registry(&config, &proxied).expect("settings");
        let plain: Vec<bool> =
            settings.mirrors["docker.io"].iter().map(|mirror| mirror.plain_http).collect();
        assert_eq!(plain, [true, false]);
        assert!(settings.insecure.contains("lan:5000"));
        assert_eq!(settings.proxy.https.as_deref(), Some("p:1"));
    }

    #[test]
    fn authorities_of_other_engines_are_trusted() {
        let home = tempfile::tempdir().expect("a home");
        let write = |name: &str, text: &str| {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            std::fs::write(&path, text).expect("written");
            path
        };
        let certificate = "-----BEGIN CERTIFICATE-----\nx\n";
        write(".config/docker/certs.d/lan:5000/ca.crt", certificate);
        write(".config/docker/certs.d/lan:5000/client.cert", certificate);
        write(".config/containers/certs.d/lan/empty.crt", "");
        let own = write("own.pem", "own");
        let config = |path: &std::path::Path| {
            let text = format!("[registry.lan]\nca = \"{}\"\n", path.display());
            ConfigFile::parse(&text, std::path::Path::new("c")).expect("a configuration")
        };
        let environment: Environment = [("HOME", home.path())].into_iter().collect();
        let found = authorities(&config(&own), &environment).expect("found");
        for expected in ["own", certificate] {
            assert!(found.iter().any(|text| text == expected.as_bytes()), "{expected}");
        }
        assert!(!found.iter().any(Vec::is_empty));
        let gone = authorities(&config(&home.path().join("gone")), &environment);
        assert_eq!(gone.expect_err("no file").code(), 2);
    }

    #[test]
    fn runtimes() {
        assert_eq!(runtime_of(None).expect("default"), Runtime::Libcontainer);
        assert_eq!(runtime_of(Some("/x/crun")).expect("path"), Runtime::Command("/x/crun".into()));
        assert_eq!(runtime_of(Some("crun")).expect_err("no path").code(), 2);
    }
}
