//! `RedundantTargetPlatform`: `FROM` is for the target's platform anyway.

use super::{Rule, Subject};
use crate::Span;
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::buildkit(
    "RedundantTargetPlatform",
    "Setting platform to predefined `$TARGETPLATFORM` in `FROM` is redundant as this is the \
     default behavior",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    let target = subject.globals.value("TARGETPLATFORM");
    for word in subject.stages.iter().filter_map(|stage| stage.from.platform.as_ref()) {
        let expansion = subject.globals.expand(&subject.expander(), &word.raw);
        let Some(expansion) = expansion.filter(|expansion| expansion.unset.is_empty()) else {
            continue;
        };
        let only = expansion.used.iter().eq(["TARGETPLATFORM"].iter());
        if only && Some(expansion.text) == target {
            let message = format!("`--platform={word}` is what `FROM` does anyway");
            let finding = RULE.finding(word.span, message).hint("remove the flag");
            findings.push(match flag(subject, word.span) {
                Some(flag) => finding.fix(flag, ""),
                None => finding,
            });
        }
    }
}

/// The flag with the blanks after it, if it is written plainly, with the value in `span`.
fn flag(subject: &Subject<'_>, span: Span) -> Option<Span> {
    const NAME: &str = "--platform=";
    let start = span.start.checked_sub(NAME.len())?;
    let source = subject.tree.source();
    let is_plain = source.get(start..span.start)? == NAME.as_bytes();
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let blanks = source.get(span.end..)?.iter().take_while(is_blank).count();
    (is_plain && blanks > 0).then(|| Span::new(start, span.end + blanks))
}
