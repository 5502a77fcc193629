//! What `cargo metadata` says of the workspace's crates and what they depend on.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The workspace's members.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) members: Vec<Member>,
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Its Cargo.toml, from the workspace's root.
    pub(super) manifest: String,
    /// The members that it depends on, for its tests too.
    pub(super) inside: BTreeSet<String>,
    /// The crates from a registry that it depends on, for its tests too.
    pub(super) outside: BTreeSet<String>,
}

impl Workspace {
    pub(super) fn load(root: &Path) -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let json = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata: {error}"))?;
        Ok(Self::read(&json, &format!("{}/", root.display())))
    }

    fn read(json: &Value, root: &str) -> Self {
        let members = list(&json["packages"]).iter().map(|package| Member::read(package, root));
        Self { members: members.collect() }
    }
}

impl Member {
    fn read(package: &Value, root: &str) -> Self {
        let manifest = text(&package["manifest_path"]);
        let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
        for dependency in list(&package["dependencies"]) {
            let to = if dependency["source"].is_null() { &mut inside } else { &mut outside };
            to.insert(text(&dependency["name"]));
        }
        let manifest = manifest.strip_prefix(root).unwrap_or(&manifest).to_owned();
        Self { name: text(&package["name"]), manifest, inside, outside }
    }

    /// Whether it is one of the product's crates, rather than a tool beside them.
    pub(super) fn is_product(&self) -> bool {
        self.manifest.starts_with("crates/")
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_members_from_registry_crates() {
        let json = serde_json::json!({"packages": [{
            "name": "strata-a",
            "manifest_path": "/w/crates/strata-a/Cargo.toml",
            "dependencies": [
                {"name": "strata-b", "source": null},
                {"name": "tar", "source": "registry+https://example"},
            ],
        }]});
        let workspace = Workspace::read(&json, "/w/");
        let [member] = &workspace.members[..] else { unreachable!() };
        assert!(member.is_product());
        assert_eq!(member.manifest, "crates/strata-a/Cargo.toml");
        assert_eq!(member.inside, BTreeSet::from(["strata-b".to_owned()]));
        assert_eq!(member.outside, BTreeSet::from(["tar".to_owned()]));
    }
}
