//! Each invariant of `docs/architecture.md` names what holds it, each row of
//! `docs/dockerfile-rows.md` and of the table of keys what shows it, and the tests named are there.

use super::markdown::table;
use super::{ARCHITECTURE, Finding, KEYS, LANGUAGE, Text};

/// Looks for every `` `crate::test` `` of the page's table in that crate's sources.
pub(super) fn check(page: &str, sources: &[&Text]) -> Vec<Finding> {
    let rows = table(page, &["no", "invariant", "held by"]);
    let mut findings = Vec::new();
    if rows.is_empty() {
        findings.push(Finding::new(ARCHITECTURE, 1, "there is no table of invariants"));
    }
    for row in &rows {
        let held_by = row.cells.get(2).copied().unwrap_or_default();
        if held_by.is_empty() {
            findings.push(Finding::new(ARCHITECTURE, row.line, "nothing holds this invariant"));
        }
        for test in held_by.split('`').skip(1).step_by(2).filter(|test| !exists(test, sources)) {
            findings.push(Finding::new(ARCHITECTURE, row.line, format!("no test `{test}`")));
        }
    }
    findings
}

/// Every value of the table of keys has a row in the table of its tests, and those are there.
pub(super) fn check_keys(page: &str, sources: &[&Text]) -> Vec<Finding> {
    let values = table(page, &["value", "definition key", "content key", "never"]);
    let rows = table(page, &["row", "held by"]);
    let mut findings = Vec::new();
    if values.is_empty() || rows.is_empty() {
        findings.push(Finding::new(KEYS, 1, "the table of keys or that of its tests is not there"));
    }
    for value in &values {
        if !rows.iter().any(|row| row.cells.first() == value.cells.first()) {
            findings.push(Finding::new(KEYS, value.line, "no row says which tests hold this one"));
        }
    }
    for row in &rows {
        let held_by = row.cells.get(1).copied().unwrap_or_default();
        if !held_by.contains('`') {
            findings.push(Finding::new(KEYS, row.line, "nothing holds this row"));
        }
        let is_there = |name: &&str| name.contains("::") && exists(name, sources);
        for name in held_by.split('`').skip(1).step_by(2).filter(|name| !is_there(name)) {
            findings.push(Finding::new(KEYS, row.line, format!("no test `{name}`")));
        }
    }
    findings
}

/// Looks for every test and `` `cases/NAME` `` of the tables of the language's page; `has_case`
/// tells whether there is a case of that name.
pub(super) fn check_language(
    page: &str,
    sources: &[&Text],
    has_case: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let rows = page.lines().enumerate().filter(|(_, line)| line.starts_with("| "));
    let mut findings = Vec::new();
    for (at, line) in rows.filter(|(_, line)| !line.ends_with("| shown by |")) {
        let mut finding = |message: String| findings.push(Finding::new(LANGUAGE, at + 1, message));
        let cells = line.trim_end().strip_suffix('|').unwrap_or(line);
        let shown_by = cells.rsplit('|').next().unwrap_or_default();
        if !shown_by.contains('`') {
            finding("nothing shows this row".to_owned());
        }
        for name in shown_by.split('`').skip(1).step_by(2) {
            let there = match name.strip_prefix("cases/") {
                Some(case) => has_case(case),
                None => name.contains("::") && exists(name, sources),
            };
            if !there {
                finding(format!("no test `{name}`"));
            }
        }
    }
    if findings.is_empty() && !page.contains("| shown by |") {
        findings.push(Finding::new(LANGUAGE, 1, "there is no table of rows"));
    }
    findings
}

/// What is not of the form `crate::test`, such as a lint, is not a test.
fn exists(literal: &str, sources: &[&Text]) -> bool {
    let Some((member, test)) = literal.split_once("::") else { return true };
    let (folder, function) = (format!("crates/{member}/"), format!("fn {test}("));
    let mut inside = sources.iter().filter(|source| source.path.starts_with(&folder));
    inside.any(|source| source.text.contains(&function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_are_not_there() {
        let path = "crates/strata-a/tests/a.rs".to_owned();
        let source = Text { path, text: "#[test]\nfn holds() {}\n".to_owned() };
        let page = "| no | invariant | held by |\n|---|---|---|\n\
                    | 1 | A. | `strata-a::holds`, `a_lint` |\n| 2 | B. | `strata-a::gone` |\n\
                    | 3 | C. | `strata-b::holds` |\n| 4 | D. | |\n";
        let lines: Vec<usize> = check(page, &[&source]).iter().map(|one| one.line).collect();
        assert_eq!(lines, [4, 5, 6]);
        assert_eq!(check("", &[]).len(), 1);
    }

    #[test]
    fn keys_that_nothing_holds() {
        let path = "crates/strata-a/tests/a.rs".to_owned();
        let source = Text { path, text: "#[test]\nfn holds() {}\n".to_owned() };
        let page = "| value | definition key | content key | never |\n|---|---|---|---|\n\
                    | A | a | a | |\n| B | b | b | |\n\n| row | held by |\n|---|---|\n\
                    | A | `strata-a::holds`, `strata-a::gone` |\n| C | |\n";
        let found = check_keys(page, &[&source]);
        let lines: Vec<usize> = found.iter().map(|one| one.line).collect();
        assert_eq!(lines, [4, 8, 9]);
        assert_eq!(check_keys("", &[]).len(), 1);
    }

    #[test]
    fn rows_that_nothing_shows() {
        let path = "crates/strata-a/tests/a.rs".to_owned();
        let source = Text { path, text: "#[test]\nfn holds() {}\n".to_owned() };
        let page = "| row | how strata reads it | shown by |\n|---|---|---|\n\
                    | A | a | `strata-a::holds`, `cases/one` |\n| B | b | `cases/two` |\n\
                    | C | c | `strata-a::gone` |\n| D | `strata-a::holds` | |\n";
        let found = check_language(page, &[&source], |case| case == "one");
        let lines: Vec<usize> = found.iter().map(|one| one.line).collect();
        assert_eq!(lines, [4, 5, 6]);
        assert_eq!(check_language("", &[], |_| true).len(), 1);
    }
}
