//! Every crate that we depend on directly has its line in `docs/dependencies.md`, and no other.

use std::collections::BTreeMap;

use super::markdown::{literal, table};
use super::workspace::Workspace;
use super::{DEPENDENCIES, Finding};

/// Compares what the workspace uses with the page's tables.
pub(super) fn check(workspace: &Workspace, page: &str) -> Vec<Finding> {
    let rows = table(page, &["crate"]);
    let mut written: BTreeMap<&str, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for row in &rows {
        let Some(name) = literal(row.cells[0]) else { continue };
        if row.cells.len() < 3 || row.cells.iter().any(|cell| cell.is_empty()) {
            let message = format!("`{name}`: a cell is missing or empty");
            findings.push(Finding::new(DEPENDENCIES, row.line, message));
        }
        if written.insert(name, row.line).is_some() {
            findings.push(Finding::new(DEPENDENCIES, row.line, format!("`{name}` is here twice")));
        }
    }
    for member in &workspace.members {
        for name in member.outside.iter().filter(|name| !written.contains_key(name.as_str())) {
            let message = format!("`{name}` has no line in {DEPENDENCIES}");
            findings.push(Finding::new(&member.manifest, 1, message));
        }
    }
    for (name, line) in written {
        if !workspace.members.iter().any(|member| member.outside.contains(name)) {
            findings.push(Finding::new(DEPENDENCIES, line, format!("nothing uses `{name}`")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::workspace::Member;
    use super::*;

    #[test]
    fn lines_that_are_missing_and_lines_too_many() {
        let member = Member {
            name: "strata-a".to_owned(),
            manifest: "crates/strata-a/Cargo.toml".to_owned(),
            inside: [].into(),
            outside: ["tar".to_owned(), "serde".to_owned()].into(),
        };
        let page = "| crate | what for | why |\n|---|---|---|\n\
                    | `serde` | data | |\n| `clap` | flags | all use it |\n";
        let findings = check(&Workspace { members: vec![member] }, page);
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "docs/dependencies.md:3: `serde`: a cell is missing or empty",
                "crates/strata-a/Cargo.toml:1: `tar` has no line in docs/dependencies.md",
                "docs/dependencies.md:4: nothing uses `clap`",
            ]
        );
    }
}
