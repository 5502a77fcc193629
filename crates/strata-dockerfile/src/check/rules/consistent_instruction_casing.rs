//! `ConsistentInstructionCasing`: all instructions in capitals, or all in lower case, as most of
//! the file is. An `ARG` above the first `FROM` is neither counted nor reported, as in BuildKit.

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::buildkit(
    "ConsistentInstructionCasing",
    "All instructions of a file should be written in the same case, upper or lower",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    let stages = subject.stages.iter();
    let instructions =
        stages.flat_map(|stage| std::iter::once(stage.instruction).chain(stage.body));
    let spans: Vec<_> = instructions.map(|instruction| instruction.keyword_span).collect();
    let count = |belongs: fn(&char) -> bool| {
        let all = |span: &&_| subject.tree.text(**span).chars().all(|letter| belongs(&letter));
        spans.iter().filter(all).count()
    };
    let lower = count(char::is_ascii_lowercase) > count(char::is_ascii_uppercase);
    for span in spans {
        let written = subject.tree.text(span);
        let (expected, case) = match lower {
            true => (written.to_ascii_lowercase(), "lower case"),
            false => (written.to_ascii_uppercase(), "upper case"),
        };
        if written != expected {
            let message = format!("`{written}` should be in {case}, as most instructions are");
            let finding = RULE.finding(span, message).hint(format!("write `{expected}`"));
            findings.push(finding.fix(span, expected));
        }
    }
}
