//! `UndefinedArgInFrom`: in `FROM` only arguments above the first `FROM` are known, and those
//! that say the platform.

use super::{Rule, Subject};
use crate::Span;
use crate::diagnostic::Diagnostic;
use crate::suggest::suggest;

pub(super) const RULE: Rule =
    Rule::buildkit("UndefinedArgInFrom", "`FROM` must use declared `ARG`s", check);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    let expander = subject.expander();
    let globals = &subject.globals;
    for stage in &subject.stages {
        for word in stage.from.platform.iter().chain([&stage.from.image]) {
            let unset = globals.expand(&expander, &word.raw).unwrap_or_default().unset;
            for name in unset.iter().filter(|name| !globals.has(name)) {
                let message = format!("the argument `{name}` is not declared above the first FROM");
                let hint = match suggest(name, globals.names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("write `ARG {name}=<default>` above the first `FROM`"),
                };
                findings.push(RULE.finding(place(subject, word.span, name), message).hint(hint));
            }
        }
    }
}

/// Where in the word the name is.
fn place(subject: &Subject<'_>, span: Span, name: &str) -> Span {
    let text = subject.tree.text(span);
    let at = [format!("${name}"), format!("${{{name}")].iter().find_map(|form| text.find(form));
    let Some(at) = at else { return span };
    let length = text[at..].find(name).map_or(0, |before| before + name.len());
    Span::new(span.start + at, span.start + at + length)
}
