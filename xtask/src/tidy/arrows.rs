//! Who may use whom: `cargo metadata` against the table of crates in `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};

use super::markdown::{Row, literal, table};
use super::workspace::Workspace;
use super::{ARCHITECTURE, Finding};

const HEADING: [&str; 4] = ["level", "crate", "in one sentence", "may use"];
/// What the sentence of a crate that is not written yet ends with.
const TO_COME: &str = "*(to come)*";

#[derive(Debug)]
struct Place {
    line: usize,
    level: u32,
    may_use: BTreeSet<String>,
    to_come: bool,
}

/// Compares the workspace with the page's table.
pub(super) fn check(workspace: &Workspace, page: &str) -> Vec<Finding> {
    let rows = table(page, &HEADING);
    let mut findings = Vec::new();
    let places = read(&rows, &mut findings);
    if places.is_empty() {
        findings.push(Finding::new(ARCHITECTURE, 1, "there is no table of crates"));
    }
    for member in workspace.members.iter().filter(|member| member.is_product()) {
        let Some(place) = places.get(&member.name) else {
            let message = format!("`{}` is not in {ARCHITECTURE}", member.name);
            findings.push(Finding::new(&member.manifest, 1, message));
            continue;
        };
        for used in member.inside.difference(&place.may_use) {
            let message = format!("`{}` may not use `{used}` ({ARCHITECTURE})", member.name);
            findings.push(Finding::new(&member.manifest, 1, message));
        }
    }
    for (name, place) in &places {
        let exists = workspace.members.iter().any(|member| member.name == *name);
        if exists == place.to_come {
            let message = match exists {
                true => format!("`{name}` is there: take {TO_COME} away"),
                false => format!("there is no crate `{name}`: mark it {TO_COME}"),
            };
            findings.push(Finding::new(ARCHITECTURE, place.line, message));
        }
        for used in &place.may_use {
            if places.get(used).is_none_or(|used| used.level > place.level) {
                let message = format!("`{name}` uses `{used}`, which is not below it");
                findings.push(Finding::new(ARCHITECTURE, place.line, message));
            }
        }
    }
    findings
}

fn read(rows: &[Row<'_>], findings: &mut Vec<Finding>) -> BTreeMap<String, Place> {
    let levels: Vec<(u32, String)> = rows
        .iter()
        .filter_map(|row| Some((row.cells[0].parse().ok()?, literal(row.cells[1])?.to_owned())))
        .collect();
    let mut places = BTreeMap::new();
    for row in rows {
        let [level, name, sentence, may_use] = row.cells[..] else {
            findings.push(Finding::new(ARCHITECTURE, row.line, "the row has not four cells"));
            continue;
        };
        let (Ok(level), Some(name)) = (level.parse(), literal(name)) else {
            findings.push(Finding::new(ARCHITECTURE, row.line, "the row has no level or name"));
            continue;
        };
        let may_use = allowed(may_use, name, &levels);
        let to_come = sentence.ends_with(TO_COME);
        places.insert(name.to_owned(), Place { line: row.line, level, may_use, to_come });
    }
    places
}

/// Reads `–`, `cas, oci`, `all`, `all of level ≤ 2 but store, remote`.
fn allowed(cell: &str, of: &str, levels: &[(u32, String)]) -> BTreeSet<String> {
    let full = |short: &str| format!("strata-{}", short.trim());
    let names = |list: &str| list.split(',').map(full).collect::<BTreeSet<_>>();
    let up_to = |limit: u32| {
        let below = levels.iter().filter(move |(level, name)| *level <= limit && name != of);
        below.map(|(_, name)| name.clone()).collect::<BTreeSet<_>>()
    };
    if matches!(cell, "–" | "-" | "") {
        return BTreeSet::new();
    }
    let Some(rest) = cell.strip_prefix("all") else { return names(cell) };
    let (limit, but) = rest.split_once(" but ").unwrap_or((rest, ""));
    let limit = limit.trim().strip_prefix("of level ≤ ").and_then(|limit| limit.parse().ok());
    let but = names(but);
    up_to(limit.unwrap_or(u32::MAX)).difference(&but).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::workspace::Member;
    use super::*;

    const PAGE: &str = "\
| level | crate | in one sentence | may use |
|---|---|---|---|
| 0 | `strata-cas` | Names. | – |
| 1 | `strata-oci` | Specs. | cas |
| 2 | `strata-store` | Keeps. | cas |
| 3 | `strata-build` | Introduces. | all of level ≤ 2 but store |
| 3 | `strata-replay` | Replays. *(to come)* | cas |
| 4 | `strata` | The program. | all |
";

    fn member(name: &str, inside: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            manifest: format!("crates/{name}/Cargo.toml"),
            inside: inside.iter().map(|&name| name.to_owned()).collect(),
            outside: BTreeSet::new(),
        }
    }

    fn check_with(changed: Member, expected: &[&str]) {
        let mut members = vec![
            member("strata-cas", &[]),
            member("strata-oci", &["strata-cas"]),
            member("strata-store", &["strata-cas"]),
            member("strata-build", &["strata-cas", "strata-oci"]),
            member("strata", &["strata-build", "strata-store"]),
        ];
        members.retain(|member| member.name != changed.name);
        members.push(changed);
        let findings = check(&Workspace { members }, PAGE);
        let messages: Vec<&str> = findings.iter().map(|one| one.message.as_str()).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn arrows_that_the_table_has_not() {
        check_with(member("strata-cas", &[]), &[]);
        check_with(
            member("strata-build", &["strata-store"]),
            &["`strata-build` may not use `strata-store` (docs/architecture.md)"],
        );
        check_with(member("strata-new", &[]), &["`strata-new` is not in docs/architecture.md"]);
        check_with(
            member("strata-replay", &["strata-cas"]),
            &["`strata-replay` is there: take *(to come)* away"],
        );
    }

    #[test]
    fn a_table_whose_arrows_point_up_or_nowhere() {
        let page = "| level | crate | in one sentence | may use |\n|-|-|-|-|\n\
                    | 0 | `strata-cas` | Names. *(to come)* | gone |\n";
        let findings = check(&Workspace::default(), page);
        assert_eq!(findings[0].message, "`strata-cas` uses `strata-gone`, which is not below it");
        assert_eq!(findings[0].line, 3);
        assert_eq!(check(&Workspace::default(), "").len(), 1);
    }
}
