//! `StageNameCasing`: stages are compared in lower case, so their names are written in it.

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule =
    Rule::buildkit("StageNameCasing", "Stage names should be lowercase", check).of_words();

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for alias in subject.stages.iter().filter_map(|stage| stage.from.alias.as_ref()) {
        let written = subject.tree.text(alias.span);
        if written != alias.value {
            let message = format!("the stage name `{written}` should be in lower case");
            let hint = format!("write `{}`, here and where the stage is used", alias.value);
            let finding = RULE.finding(alias.span, message).hint(hint);
            findings.push(finding.fix(alias.span, alias.value.clone()));
        }
    }
}
