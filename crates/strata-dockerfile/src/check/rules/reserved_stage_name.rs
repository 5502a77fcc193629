//! `ReservedStageName`: `scratch` and `context` mean something already.

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule =
    Rule::buildkit("ReservedStageName", "Reserved words should not be used as stage names", check);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for alias in subject.stages.iter().filter_map(|stage| stage.from.alias.as_ref()) {
        let meaning = match alias.value.as_str() {
            "scratch" => "the empty image",
            "context" => "the build context",
            _ => continue,
        };
        let message = format!("`{}` is reserved: it means {meaning}", alias.value);
        findings.push(RULE.finding(alias.span, message).hint("give the stage another name"));
    }
}
