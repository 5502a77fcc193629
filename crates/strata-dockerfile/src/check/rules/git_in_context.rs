//! `git-in-context`: every commit changes `.git`, and with it the step that copies it.

use super::{Rule, Subject, shipped};
use crate::ShippedKind;
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule =
    Rule::ours("git-in-context", "A repository's `.git` should be left out of the context", check);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    shipped::each(subject, ShippedKind::Repository, |word, paths| {
        let message = format!(
            "`{word}` takes {} along: every commit changes the step and those below it",
            shipped::shown(paths)
        );
        let hint = "write `**/.git` into `.dockerignore`";
        findings.push(RULE.finding(word.span, message).hint(hint));
    });
}
