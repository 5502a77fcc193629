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
            findings.push(RULE.finding(span, message).hint(format!("write `{expected}`")));
        }
    }
}

/// Where the `AS` is: the last such word before the name. Comments may lie between.
fn as_span(subject: &Subject<'_>, from: &FromArgs) -> Option<Span> {
    let alias = from.alias.as_ref()?;
    let start = from.image.span.end;
    let between = subject.tree.text(Span::new(start, alias.span.start));
    let last = between.split_whitespace().next_back().filter(|w| w.eq_ignore_ascii_case("as"));
    let at = match last {
        Some(word) => between.rfind(word)?,
        None => between.to_ascii_lowercase().rfind("as")?,
    };
    Some(Span::new(start + at, start + at + 2))
}
