//! `FromAsCasing`: `AS` is written in the case of its `FROM`. A `From` in mixed case is the
//! matter of `ConsistentInstructionCasing`.

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;
use crate::{FromArgs, Span};

pub(super) const RULE: Rule = Rule::buildkit(
    "FromAsCasing",
    "The `AS` keyword should match the case of the `FROM` keyword",
    check,
)
.of_words();

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for stage in &subject.stages {
        let Some(span) = as_span(subject, stage.from) else { continue };
        let (from, written) =
            (subject.tree.text(stage.instruction.keyword_span), subject.tree.text(span));
        let expected = match from.as_ref() {
            "FROM" => "AS",
            "from" => "as",
            _ => continue,
        };
        if written != expected {
            let message = format!("`{written}` and `{from}` are not written in the same case");
            let finding = RULE.finding(span, message).hint(format!("write `{expected}`"));
            findings.push(finding.fix(span, expected));
        }
    }
}

/// Where the `AS` is: the last such letters before the name that are not in a comment.
fn as_span(subject: &Subject<'_>, from: &FromArgs) -> Option<Span> {
    let alias = from.alias.as_ref()?;
    let (mut start, mut found) = (from.image.span.end, None);
    let between = subject.tree.source().get(start..alias.span.start)?;
    for (at, line) in between.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_comment = at > 0 && line.trim_ascii_start().starts_with(b"#");
        let last = line.windows(2).rposition(|pair| pair.eq_ignore_ascii_case(b"as"));
        found = last.filter(|_| !is_comment).map(|last| start + last).or(found);
        start += line.len();
    }
    found.map(|found| Span::new(found, found + 2))
}
