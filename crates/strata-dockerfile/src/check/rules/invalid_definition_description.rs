//! `InvalidDefinitionDescription`: the comment above a stage or an argument is its description
//! if it begins with the name. Experimental, as in BuildKit.

use super::super::options;
use super::{Rule, Subject};
use crate::Kind;
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::buildkit(
    "InvalidDefinitionDescription",
    "Comment for build stage or argument should follow the format: \
     `# <arg/stage name> <description>`",
    check,
)
.experimental()
.of_words();

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for instruction in subject.tree.instructions() {
        let names: Vec<&str> = match &instruction.kind {
            Kind::Arg(all) => all.iter().map(|each| each.name.as_str()).collect(),
            Kind::From(from) => from.alias.iter().map(|alias| alias.value.as_str()).collect(),
            _ => continue,
        };
        let mut comments = instruction.comments.iter();
        let comment = comments.rfind(|comment| options::inline(comment).is_none());
        let (Some(comment), Some(first)) = (comment, names.first()) else { continue };
        let word = comment.text.split(' ').next().unwrap_or_default();
        if !names.contains(&word) {
            let keyword = instruction.keyword;
            let message = format!("a comment above `{keyword}` describes it, but not this one");
            let name = if names.len() > 1 { "<name>" } else { first };
            let hint = format!(
                "write `# {name} <description>`, or put a `#` between comment and instruction"
            );
            findings.push(RULE.finding(comment.span, message).hint(hint));
        }
    }
}
