//! `MaintainerDeprecated`: `LABEL` says the same, and tools read it.

use super::{Rule, Subject};
use crate::Kind;
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::buildkit(
    "MaintainerDeprecated",
    "The `MAINTAINER` instruction is deprecated, use a label instead to define an image author",
    check,
)
.of_words();

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for instruction in subject.tree.instructions() {
        if let Kind::Maintainer(author) = &instruction.kind {
            let author = author.raw.trim_matches('"');
            let hint = format!("write `LABEL org.opencontainers.image.authors=\"{author}\"`");
            let message = "`MAINTAINER` is deprecated in favour of a label";
            findings.push(RULE.finding(instruction.keyword_span, message).hint(hint));
        }
    }
}
