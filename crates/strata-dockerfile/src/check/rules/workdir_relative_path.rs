//! `WorkdirRelativePath`: a first `WORKDIR` that is relative depends on the base image's. A path
//! that begins with a variable nobody told us is given the benefit of the doubt.

use super::{Base, Rule, Scope, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Kind, Word};

pub(super) const RULE: Rule = Rule::buildkit(
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected \
     results if the base image changes",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    let firsts = firsts(subject);
    subject.walk(|instruction, scope| {
        let Kind::Workdir(word) = &instruction.kind else { return };
        if firsts.contains(&instruction.span.start) && is_relative(subject, scope, word) {
            let message = format!("`{word}` is relative to the base image's working directory");
            let hint = format!("write an absolute path: `WORKDIR /{}`", word.raw.trim_matches('"'));
            findings.push(RULE.finding(word.span, message).hint(hint));
        }
    });
}

/// Where the `WORKDIR`s are that come first: in their stage and in what it starts from.
fn firsts(subject: &Subject<'_>) -> Vec<usize> {
    let mut firsts = Vec::new();
    let mut ends: Vec<bool> = Vec::new();
    for stage in &subject.stages {
        let set = match stage.base {
            Base::Stage(base) => ends.get(base).copied().unwrap_or(false),
            _ => false,
        };
        let mut workdirs = stage.body.iter().filter(|i| matches!(i.kind, Kind::Workdir(_)));
        let first = workdirs.next();
        firsts.extend(first.filter(|_| !set).map(|instruction| instruction.span.start));
        ends.push(set || first.is_some());
    }
    firsts
}

fn is_relative(subject: &Subject<'_>, scope: &Scope, word: &Word) -> bool {
    let Some(expansion) = scope.expand(&subject.expander(), &word.raw) else { return false };
    let doubtful = scope.is_open && word.raw.starts_with('$') && !expansion.unset.is_empty();
    !expansion.text.starts_with('/') && !doubtful
}
