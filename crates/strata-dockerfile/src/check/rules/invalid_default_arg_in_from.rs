//! `InvalidDefaultArgInFrom`: without build arguments the image's name must be one, too. A name
//! without variables is not a matter of defaults; BuildKit reports it here nevertheless.

use std::collections::BTreeMap;

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::buildkit(
    "InvalidDefaultArgInFrom",
    "Default value for global `ARG` results in an empty or invalid base image name",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    let defaults = subject.global_arguments(&BTreeMap::new());
    for image in subject.stages.iter().map(|stage| &stage.from.image) {
        let Some(name) = subject.expand(&defaults, image) else { return };
        let is_valid = is_possible(&name) && (subject.request.is_image_name)(&name);
        if image.raw.contains('$') && !is_valid {
            let message = match name.as_str() {
                "" => format!("without build arguments, `{image}` is empty"),
                name => format!("without build arguments, `{image}` is `{name}`: no image name"),
            };
            let hint = "give the `ARG` a default that makes a name, such as `latest` for a tag";
            findings.push(RULE.finding(image.span, message).hint(hint));
        }
    }
}

/// What every name must hold to, whatever else the caller knows about names.
fn is_possible(name: &str) -> bool {
    !name.is_empty() && !name.ends_with([':', '/', '@']) && !name.starts_with([':', '/', '@'])
}
