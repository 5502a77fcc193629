//! `apt-get-update-alone`: a list of packages that is a layer of its own gets old: a later install
//! changes and runs, the list comes from the cache.

use super::shell_words::{Command, commands, program};
use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Kind, Span};

pub(super) const RULE: Rule = Rule::ours(
    "apt-get-update-alone",
    "`apt-get update` and `apt-get install` should be one `RUN`",
    check,
);

/// What may stand beside it without making use of the list.
const IDLE: [&str; 9] = ["set", "echo", "rm", "sed", "cat", "true", "export", "cp", "mv"];

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for instruction in subject.instructions() {
        let Kind::Run(run) = &instruction.kind else { continue };
        let commands = commands(&run.form);
        if !commands.iter().any(is_update) || !commands.iter().all(is_update_or_idle) {
            continue;
        }
        let text = subject.tree.text(instruction.span);
        let at = text.find("apt").map(|at| instruction.span.start + at);
        let end = |at: usize| text[at - instruction.span.start..].find("update").map(|to| at + to);
        let span = at.and_then(|at| Some(Span::new(at, end(at)? + "update".len())));
        let message = "the package list is cached: what is installed from it later may be gone";
        let hint = "write `apt-get update && apt-get install …` as one `RUN`";
        findings.push(RULE.finding(span.unwrap_or(instruction.keyword_span), message).hint(hint));
    }
}

fn is_update(command: &Command) -> bool {
    is_apt(command) && command.iter().any(|word| word == "update")
}

fn is_apt(command: &Command) -> bool {
    matches!(program(command).0, "apt-get" | "apt" | "aptitude")
}

fn is_update_or_idle(command: &Command) -> bool {
    let (name, sub) = program(command);
    let cleans = is_apt(command) && matches!(sub, Some("clean" | "autoclean"));
    is_update(command) || cleans || IDLE.contains(&name)
}
