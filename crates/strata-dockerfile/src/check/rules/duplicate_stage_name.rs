//! `DuplicateStageName`: of two stages with one name, what follows sees the second only.

use std::collections::BTreeMap;

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule =
    Rule::buildkit("DuplicateStageName", "Stage names should be unique", check);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    let mut seen = BTreeMap::new();
    for alias in subject.stages.iter().filter_map(|stage| stage.from.alias.as_ref()) {
        if let Some(line) = seen.insert(&alias.value, subject.tree.line_of(alias.span.start)) {
            let message = format!("the stage name `{}` is taken by line {line}", alias.value);
            findings.push(RULE.finding(alias.span, message).hint("give it a name of its own"));
        }
    }
}
