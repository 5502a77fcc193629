//! `LegacyKeyValueFormat`: `ENV key value`, which takes the rest of the line as one value.

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Kind, Pair};

pub(super) const RULE: Rule = Rule::buildkit(
    "LegacyKeyValueFormat",
    "Legacy key/value format with whitespace separator should not be used",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for instruction in subject.instructions() {
        let (Kind::Env(pairs) | Kind::Label(pairs)) = &instruction.kind else { continue };
        for pair in pairs.iter().filter(|pair| pair.legacy) {
            let keyword = instruction.keyword;
            let message = format!("`{keyword} key value` is the old form of `{keyword} key=value`");
            let hint = format!("write `{keyword} {}={}`", pair.key, quoted(pair));
            findings.push(RULE.finding(pair.key.span.join(pair.value.span), message).hint(hint));
        }
    }
}

/// The value as the new form needs it.
fn quoted(pair: &Pair) -> String {
    let value = pair.value.as_str();
    match value.contains(char::is_whitespace) && !value.contains(['"', '\'']) {
        true => format!("\"{value}\""),
        false => value.to_owned(),
    }
}
