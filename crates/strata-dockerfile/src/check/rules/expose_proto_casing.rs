//! `ExposeProtoCasing`: `80/TCP` becomes `80/tcp` in the image.

use super::{Rule, Subject, expose_invalid_format};
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::buildkit(
    "ExposeProtoCasing",
    "Protocol in `EXPOSE` instruction should be lowercase",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    expose_invalid_format::ports(subject, |word, port| {
        let Some((number, protocol)) = port.rsplit_once('/') else { return };
        let lower = protocol.to_lowercase();
        if protocol != lower {
            let message = format!("the protocol `{protocol}` should be in lower case");
            let hint = format!("write `{number}/{lower}`");
            let mut finding = RULE.finding(word.span, message).hint(hint);
            // The word may hold variables or several ports.
            if word.raw == port && subject.tree.text(word.span) == port {
                finding = finding.fix(word.span, format!("{number}/{lower}"));
            }
            findings.push(finding);
        }
    });
}
