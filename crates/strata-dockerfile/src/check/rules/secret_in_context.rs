//! `secret-in-context`: what is copied into a layer can be read by all who have the image, also if
//! a later step removes it.

use super::{Rule, Subject, shipped};
use crate::ShippedKind;
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule =
    Rule::ours("secret-in-context", "Secrets should be left out of the context", check);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    shipped::each(subject, ShippedKind::Secret, |word, paths| {
        let shown = shipped::shown(paths);
        let why = match paths {
            [_] => "it looks like a secret, and stays in the layer",
            _ => "they look like secrets, and stay in the layer",
        };
        let message = format!("`{word}` takes {shown} along: {why}");
        let path = paths.first().map_or("", String::as_str);
        let hint = format!(
            "write `{path}` into `.dockerignore`, and give it to the step that needs it with \
             `RUN --mount=type=secret`"
        );
        findings.push(RULE.finding(word.span, message).hint(hint));
    });
}
