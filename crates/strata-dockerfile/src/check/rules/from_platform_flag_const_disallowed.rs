//! `FromPlatformFlagConstDisallowed`: a fixed platform builds that one, whatever `--platform` the
//! build is given. A stage whose name says the platform is meant so.

use super::{Rule, Subject, platform};
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::buildkit(
    "FromPlatformFlagConstDisallowed",
    "`FROM --platform` flag should not use a constant value",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for stage in &subject.stages {
        let Some(word) = &stage.from.platform else { continue };
        let (os, architecture) = platform::read(&word.raw, subject.request.build_platform);
        let name = stage.name().unwrap_or_default();
        let is_named_so = name.contains(&os) || name.contains(&architecture);
        if word.raw.is_empty() || word.raw.contains('$') || is_named_so {
            continue;
        }
        let message = format!("the platform is always `{word}`, whatever the build is for");
        let hint = "remove the flag, or use `$BUILDPLATFORM`, or let the stage's name say it";
        findings.push(RULE.finding(word.span, message).hint(hint));
    }
}
