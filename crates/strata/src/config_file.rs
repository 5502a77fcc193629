//! The configuration file: TOML, every key optional, unknown keys are errors.
//!
//! ```toml
//! [registry."docker.io"]
//! mirrors = ["127.0.0.1:5000"]
//!
//! [registry."registry.lan:5000"]
//! insecure = true
//! ca = "/etc/ssl/lan.pem"
//!
//! [store]
//! size = "20GB"
//!
//! [build]
//! jobs = 4
//! oci-runtime = "/usr/bin/crun"
//! log-limit = 1048576
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use strata_dockerfile::{LineIndex, suggest};

use crate::failure::Failure;

/// All that the file can say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConfigFile {
    /// By the registry's name in image names.
    pub(crate) registry: BTreeMap<String, RegistryTable>,
    pub(crate) store: StoreTable,
    pub(crate) build: BuildTable,
    /// What `strata serve` does.
    pub(crate) serve: strata_server::ServeTable,
}

/// `[store]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreTable {
    /// The most that it may take on disk.
    pub(crate) size: Option<String>,
}

/// `[registry."NAME"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegistryTable {
    /// Where to look first.
    pub(crate) mirrors: Vec<String>,
    /// Whether plain http will do.
    pub(crate) insecure: bool,
    /// A PEM file with the authority that its certificate is of.
    pub(crate) ca: Option<std::path::PathBuf>,
}

/// `[build]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BuildTable {
    /// How many steps may run at a time.
    pub(crate) jobs: Option<usize>,
    /// `libcontainer` or a path.
    pub(crate) oci_runtime: Option<String>,
    /// How many bytes of a step's output are shown and logged.
    pub(crate) log_limit: Option<u64>,
}

impl ConfigFile {
    /// Reads the text of the file at `path`.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| LineIndex::new(text.as_bytes()).line_of(span.start));
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            let message = error.message().trim().lines().collect::<Vec<_>>().join(", ");
            Failure::usage(format!("{}{line}: {message}", path.display()))
                .hint_if(nearest(&message))
        })
    }
}

/// serde names the wrong key first and then those that there are.
fn nearest(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next().filter(|_| message.starts_with("unknown field"))?;
    let known: Vec<&str> = quoted.collect();
    Some(match suggest(wrong, known.iter().copied()) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("the keys here are `{}`", known.join("`, `")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_key() {
        let text = "[registry.\"docker.io\"]\nmirrors = [\"127.0.0.1:5000\"]\ninsecure = true\n\
            [store]\nsize = \"9GB\"\n[build]\njobs = 3\noci-runtime = \
                \"/usr/bin/crun\"\nlog-limit = 9\n";
        let config = ConfigFile::parse(text, Path::new("c")).expect("a configuration");
        let hub = &config.registry["docker.io"];
        assert!(hub.insecure && hub.mirrors == ["127.0.0.1:5000"]);
        assert_eq!(config.store.size.as_deref(), Some("9GB"));
        assert_eq!((config.build.jobs, config.build.log_limit), (Some(3), Some(9)));
        assert_eq!(config.build.oci_runtime.as_deref(), Some("/usr/bin/crun"));
        assert_eq!(ConfigFile::parse("", Path::new("c")).expect("empty"), ConfigFile::default());
    }

    #[test]
    fn says_where_a_wrong_key_is_and_what_to_write() {
        let check = |text: &str, message: &str, hint: Option<&str>| {
            let failure = ConfigFile::parse(text, Path::new("c")).expect_err(text);
            assert!(failure.message.starts_with(message), "{}", failure.message);
            assert_eq!((failure.hint.as_deref(), failure.code()), (hint, 2));
        };
        let typo = "[registry.a]\n\nmirors = []\n";
        check(typo, "c:3: unknown field `mirors`", Some("did you mean `mirrors`?"));
        let other = "c:1: unknown field `zebra`";
        let keys = "the keys here are `registry`, `store`, `build`, `serve`";
        check("[zebra]\n", other, Some(keys));
        check("[build]\njobs = \"x\"\n", "c:2: invalid type", None);
    }
}
