//! `changing-arg-too-early`: every `RUN` below an `ARG` sees it, so a value that is another one in
//! every build makes each of them run, also those that do not use it. An argument whose name says
//! that it is there to break the cache is let be.

use super::{Rule, Stage, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Declaration, Instruction, Kind};

pub(super) const RULE: Rule = Rule::ours(
    "changing-arg-too-early",
    "An `ARG` that differs from build to build should stand just above what uses it",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for stage in subject.counting() {
        for (at, instruction) in stage.body.iter().enumerate() {
            let Kind::Arg(declarations) = &instruction.kind else { continue };
            let changing = declarations.iter().filter(|each| changes(&each.name.raw));
            findings.extend(changing.filter_map(|each| finding(subject, stage, at, each)));
        }
    }
}

fn finding(
    subject: &Subject<'_>,
    stage: &Stage<'_>,
    at: usize,
    declaration: &Declaration,
) -> Option<Diagnostic> {
    let name = declaration.name.as_str();
    let below = &stage.body[at + 1..];
    let user = below.iter().position(|each| uses(subject, each, name));
    let before = &below[..user.unwrap_or(below.len())];
    let runs: Vec<_> = before.iter().filter(|each| matches!(each.kind, Kind::Run(_))).collect();
    let line = subject.tree.line_of(runs.first()?.span.start);
    let others = match runs.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let message =
        format!("a new value of `{name}` makes the `RUN` in line {line}{others} run again");
    let hint = match user.and_then(|user| below.get(user)) {
        Some(user) => {
            let line = subject.tree.line_of(user.span.start);
            format!("move it down to line {line}, which is the first to use it")
        }
        None => "nothing in this stage uses it: remove it, or move it to the end".to_owned(),
    };
    Some(RULE.finding(declaration.name.span, message).hint(hint))
}

/// Whether the name is that of something which is another one in every build.
fn changes(name: &str) -> bool {
    const ALONE: [&str; 13] = [
        "revision",
        "rev",
        "commit",
        "sha",
        "gitsha",
        "githash",
        "gitcommit",
        "date",
        "timestamp",
        "builddate",
        "buildtime",
        "buildnumber",
        "buildid",
    ];
    const PAIRS: [(&str, &[&str]); 3] = [
        ("build", &["number", "num", "no", "id", "time"]),
        ("git", &["ref", "hash", "describe"]),
        ("vcs", &["ref"]),
    ];
    let lower = name.to_lowercase();
    let parts: Vec<&str> = lower.split('_').collect();
    let is_pair = |pair: &[&str]| {
        PAIRS.iter().any(|(first, seconds)| pair[0] == *first && seconds.contains(&pair[1]))
    };
    let is_meant = parts.iter().any(|part| part.contains("cache") || part.contains("bust"));
    !is_meant && (parts.iter().any(|part| ALONE.contains(part)) || parts.windows(2).any(is_pair))
}

/// Whether the instruction says the name, in whatever way.
fn uses(subject: &Subject<'_>, instruction: &Instruction, name: &str) -> bool {
    let text = subject.tree.text(instruction.span);
    let belongs = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !belongs(letter)).any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_changes() {
        for name in ["REVISION", "GIT_COMMIT", "BUILD_DATE", "BUILD_NUMBER", "VCS_REF", "SHA"] {
            assert!(changes(name), "{name}");
        }
        for name in ["VERSION", "NODE_VERSION", "CACHE_DATE", "BUILD", "UPDATE", "REF", "BUILD_ENV"]
        {
            assert!(!changes(name), "{name}");
        }
    }
}
