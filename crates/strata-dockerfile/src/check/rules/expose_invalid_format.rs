//! `ExposeInvalidFormat`: `EXPOSE` names a port of the container; addresses and ports of the host
//! are for whoever runs it.

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Kind, Word};

pub(super) const RULE: Rule = Rule::buildkit(
    "ExposeInvalidFormat",
    "IP address and host-port mapping should not be used in `EXPOSE` instruction",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    ports(subject, |word, port| {
        if let Some((before, container)) = port.rsplit_once(':').filter(|(b, _)| !b.is_empty()) {
            let message = format!("`EXPOSE` takes no address and no port of the host: `{before}`");
            let hint = format!("write `EXPOSE {container}`");
            findings.push(RULE.finding(word.span, message).hint(hint));
        }
    });
}

/// Visits the ports of every `EXPOSE`, with the word that each one is of.
pub(super) fn ports(subject: &Subject<'_>, mut visit: impl FnMut(&Word, &str)) {
    let expander = subject.expander();
    subject.walk(|instruction, scope| {
        let Kind::Expose(words) = &instruction.kind else { return };
        for word in words {
            let expansion = scope.expand(&expander, &word.raw).unwrap_or_default();
            expansion.words.iter().for_each(|port| visit(word, port));
        }
    });
}
