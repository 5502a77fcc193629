//! `InvalidBaseImagePlatform`: an image for another platform does not run, or only emulated. It
//! needs to know the image.

use super::{Base, Rule, Subject, platform};
use crate::diagnostic::Diagnostic;

pub(super) const RULE: Rule = Rule::buildkit(
    "InvalidBaseImagePlatform",
    "Base image platform does not match expected target platform",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for stage in subject.counting() {
        let Base::Image(Some(image)) = &stage.base else { continue };
        let asked = stage.from.platform.as_ref();
        let asked = asked.and_then(|word| subject.expand(&subject.globals, word));
        let expected = asked.unwrap_or_else(|| subject.request.platform.to_owned());
        let default = subject.request.build_platform;
        if platform::read(&image.platform, default) != platform::read(&expected, default) {
            let word = &stage.from.image;
            let message =
                format!("`{word}` is for `{}`, the build for `{expected}`", image.platform);
            let hint = format!("get the image for `{expected}`, or build with `--platform`");
            findings.push(RULE.finding(word.span, message).hint(hint));
        }
    }
}
