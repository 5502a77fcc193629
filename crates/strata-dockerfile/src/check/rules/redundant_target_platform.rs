//! `RedundantTargetPlatform`: `FROM` is for the target's platform anyway.

use super::{Rule, Subject};
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
            findings.push(RULE.finding(word.span, message).hint("remove the flag"));
        }
    }
}
