//! `CopyIgnoredFile`: what the ignore file leaves out is not there to be copied. Experimental, as
//! in BuildKit, and silent if the ignore file has `!` rules.

use super::{Rule, Subject};
use crate::Kind;
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::buildkit(
    "CopyIgnoredFile",
    "Attempting to copy a file that is excluded by .dockerignore",
    check,
)
.experimental();

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    let Some(is_ignored) = subject.request.is_ignored else { return };
    subject.walk(|instruction, scope| {
        let files = match &instruction.kind {
            Kind::Copy(copy) if copy.from.is_none() => &copy.files,
            Kind::Add(add) => &add.files,
            _ => return,
        };
        for word in &files.sources {
            let Some(source) = subject.expand(scope, word) else { continue };
            let path = clean(&source);
            let is_local = !path.is_empty() && !source.contains("://");
            if is_local && is_ignored(&path) {
                let message = format!("`{source}` is left out of the context by the ignore file");
                let hint = "take it out of the ignore file, or do not copy it";
                findings.push(RULE.finding(word.span, message).hint(hint));
            }
        }
    });
}

/// The path without `.`, `..`, slashes at the ends and empty parts.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
