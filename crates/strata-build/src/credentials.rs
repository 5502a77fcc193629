//! What the caller lends to a build: secrets and ssh agents. Nothing of it is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use strata_exec::Secret;

/// Secrets and agents by their ids. It has no `Debug`, since secrets have none.
pub struct Credentials {
    secrets: BTreeMap<String, Secret>,
    agents: BTreeMap<String, PathBuf>,
    nothing: Secret,
}

impl Default for Credentials {
    fn default() -> Self {
        let (secrets, agents) = (BTreeMap::new(), BTreeMap::new());
        Self { secrets, agents, nothing: Secret::new(Vec::new()) }
    }
}

impl Credentials {
    /// Lends a secret under an id, in place of the one that had it.
    pub fn add_secret(&mut self, id: impl Into<String>, secret: Secret) {
        self.secrets.insert(id.into(), secret);
    }

    /// The secret with this id.
    pub fn secret(&self, id: &str) -> Option<&Secret> {
        self.secrets.get(id)
    }

    /// What stands for a secret that nobody has lent.
    pub(crate) fn nothing(&self) -> &Secret {
        &self.nothing
    }

    /// The ids of all secrets, for hints.
    pub fn secret_ids(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// Lends the agent that listens on a socket, under an id.
    pub fn add_agent(&mut self, id: impl Into<String>, socket: impl Into<PathBuf>) {
        self.agents.insert(id.into(), socket.into());
    }

    /// The socket of the agent with this id.
    pub fn agent(&self, id: &str) -> Option<&Path> {
        self.agents.get(id).map(PathBuf::as_path)
    }

    /// The values that output must not show.
    pub(crate) fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.secrets.values().map(Secret::expose)
    }
}
