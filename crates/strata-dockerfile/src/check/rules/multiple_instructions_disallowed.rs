//! `MultipleInstructionsDisallowed`: of `CMD`, `ENTRYPOINT` and `HEALTHCHECK` the last one in a
//! stage counts; the report is about the ones that do not.

use std::collections::BTreeMap;

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Keyword, Kind};

pub(super) const RULE: Rule = Rule::buildkit(
    "MultipleInstructionsDisallowed",
    "Multiple instructions of the same type should not be used in the same stage",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for stage in subject.counting() {
        let mut last: BTreeMap<Keyword, _> = BTreeMap::new();
        for instruction in stage.body {
            if !matches!(
                instruction.kind,
                Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Healthcheck(_)
            ) {
                continue;
            }
            let keyword = instruction.keyword;
            if let Some(before) = last.insert(keyword, instruction.keyword_span) {
                let line = subject.tree.line_of(instruction.keyword_span.start);
                let message =
                    format!("this `{keyword}` has no effect: the one in line {line} replaces it");
                findings.push(RULE.finding(before, message).hint("remove one of them"));
            }
        }
    }
}
