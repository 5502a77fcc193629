//! `JSONArgsRecommended`: in shell form a shell is process 1, and it passes no signals on. Who
//! chose a shell with `SHELL` meant it.

use super::{Base, Rule, Stage, Subject};
use crate::diagnostic::Diagnostic;
use crate::{CommandForm, Kind};

pub(super) const RULE: Rule = Rule::buildkit(
    "JSONArgsRecommended",
    "JSON arguments recommended for `ENTRYPOINT` and `CMD` to prevent unintended behavior \
     related to OS signals",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    let mut ends: Vec<bool> = Vec::new();
    for stage in &subject.stages {
        let mut has_shell = starts_with_shell(stage, &ends);
        for instruction in stage.body {
            let (form, keyword) = match &instruction.kind {
                Kind::Shell(_) => {
                    has_shell = true;
                    continue;
                }
                Kind::Cmd(form) | Kind::Entrypoint(form) => (form, instruction.keyword),
                _ => continue,
            };
            let CommandForm::Shell(text) = form else { continue };
            if has_shell || !stage.counts {
                continue;
            }
            let message = format!("`{keyword}` in shell form: signals reach the shell only");
            let hint = as_json(text).map_or_else(
                || "write a JSON array".to_owned(),
                |json| format!("write `{keyword} {json}`"),
            );
            findings.push(RULE.finding(instruction.keyword_span, message).hint(hint));
        }
        ends.push(has_shell);
    }
}

fn starts_with_shell(stage: &Stage<'_>, ends: &[bool]) -> bool {
    match &stage.base {
        Base::Stage(base) => ends.get(*base).copied().unwrap_or(false),
        Base::Image(Some(image)) => image.has_shell,
        Base::Image(None) | Base::Scratch => false,
    }
}

/// The command as a JSON array, if it needs no shell.
fn as_json(text: &str) -> Option<String> {
    let needs_shell = |c: char| "$&|;<>()`\\\"'*?[]#~=%!{}\n".contains(c);
    if text.trim().is_empty() || text.contains(needs_shell) {
        return None;
    }
    let words = text.split_whitespace().map(|word| format!("\"{word}\""));
    Some(format!("[{}]", words.collect::<Vec<_>>().join(", ")))
}
