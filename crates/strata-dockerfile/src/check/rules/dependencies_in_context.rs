//! `dependencies-in-context`: what was installed outside is large, for another machine, and
//! replaced in the image anyway.

use super::{Rule, Subject, shipped};
use crate::ShippedKind;
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::ours(
    "dependencies-in-context",
    "Installed dependencies should be left out of the context",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    shipped::each(subject, ShippedKind::Dependencies, |word, paths| {
        let message = format!(
            "`{word}` takes {} along: dependencies that were installed for another machine",
            shipped::shown(paths)
        );
        let hint = "write `**/node_modules` into `.dockerignore`, and install in the image";
        findings.push(RULE.finding(word.span, message).hint(hint));
    });
}
