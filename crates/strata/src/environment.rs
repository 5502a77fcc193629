//! The environment variables of the process: read once, in one place. What each one means is
//! decided where it is asked for. An empty variable counts as one that is not set.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Environment variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// Those that the process was started with.
    pub(crate) fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(OsStr::new(name)).filter(|value| !value.is_empty())
    }

    /// A variable's value as text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// A variable's value as text; one that is set to nothing is `Some("")`.
    pub(crate) fn exact(&self, name: &str) -> Option<String> {
        let value = self.variables.get(OsStr::new(name));
        value.map(|value| value.to_string_lossy().into_owned())
    }

    /// A variable's value as it is, also an empty one.
    pub(crate) fn bytes(&self, name: &str) -> Option<OsString> {
        self.variables.get(OsStr::new(name)).cloned()
    }

    /// The first of these variables that has a value.
    pub(crate) fn first_text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    /// A variable's value as a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// `$variable/rest`, or `$HOME/in_home/rest` where that variable has no absolute path.
    pub(crate) fn below(&self, variable: &str, in_home: &str, rest: &str) -> Option<PathBuf> {
        let base = self.path(variable).filter(|path| path.is_absolute());
        let base = base.or_else(|| Some(self.path("HOME")?.join(in_home)));
        base.map(|base| base.join(rest))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Self {
        let variables = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: variables.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_or_relative_base_is_no_base() {
        let check = |base: &str, expected: &str| {
            let environment: Environment =
                [("HOME", "/home/a"), ("BASE", base)].into_iter().collect();
            let path = environment.below("BASE", ".local/share", "strata");
            assert_eq!(path, Some(PathBuf::from(expected)));
        };
        check("", "/home/a/.local/share/strata");
        check("data", "/home/a/.local/share/strata");
        check("/data", "/data/strata");
        assert_eq!(Environment::default().below("BASE", ".config", "strata"), None);
    }
}
