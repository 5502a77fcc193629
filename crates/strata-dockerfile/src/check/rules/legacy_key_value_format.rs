//! `LegacyKeyValueFormat`: `ENV key value`, which takes the rest of the line as one value.

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Kind, Pair, Word};

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
            let span = pair.key.span.join(pair.value.span);
            let finding = RULE.finding(span, message).hint(hint);
            findings.push(match fixed(subject, pair) {
                Some(text) => finding.fix(span, text),
                None => finding,
            });
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

/// The pair in the new form, where that is sure to mean the same.
fn fixed(subject: &Subject<'_>, pair: &Pair) -> Option<String> {
    let (key, value) = (pair.key.as_str(), pair.value.as_str());
    let special = ['"', '\'', subject.tree.escape()];
    let is_written = |word: &Word| subject.tree.text(word.span) == word.raw;
    // The old form ends a key at fewer kinds of white space than the new one.
    let key_is_plain = !key.contains(special) && !key.contains(char::is_whitespace);
    if !key_is_plain || !is_written(&pair.key) || !is_written(&pair.value) {
        return None;
    }
    match value.contains(char::is_whitespace) {
        false if value.contains(special) && !is_one_word(value) => None,
        false => Some(format!("{key}={value}")),
        true if is_one_word(value) => Some(format!("{key}={value}")),
        true if value.contains(special) => None,
        true => Some(format!("{key}=\"{value}\"")),
    }
}

/// Whether the value is one text in double quotes, with nothing in them that would end it.
fn is_one_word(value: &str) -> bool {
    let inside = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.is_some_and(|inside| !inside.contains(['"', '\'', '\\', '`']))
}
