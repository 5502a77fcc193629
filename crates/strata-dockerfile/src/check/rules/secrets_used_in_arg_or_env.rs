//! `SecretsUsedInArgOrEnv`: values of `ENV` are in the image, those of `ARG` in its history.
//! Which names sound like secrets is BuildKit's list.

use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Keyword, Kind, Word};

pub(super) const RULE: Rule = Rule::buildkit(
    "SecretsUsedInArgOrEnv",
    "Sensitive data should not be used in the `ARG` or `ENV` instructions",
    check,
);

const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const NO_SECRET: [&str; 3] = ["public", "file", "version"];

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    subject.walk(|instruction, scope| {
        let names: Vec<(&Word, String)> = match &instruction.kind {
            Kind::Arg(all) => all.iter().map(|each| (&each.name, each.name.raw.clone())).collect(),
            Kind::Env(pairs) => {
                let name = |word| subject.expand(scope, word).unwrap_or_default();
                pairs.iter().map(|pair| (&pair.key, name(&pair.key))).collect()
            }
            _ => return,
        };
        for (word, name) in names.into_iter().filter(|(_, name)| sounds_secret(name)) {
            let keyword = instruction.keyword;
            let place = if keyword == Keyword::Env { "the image" } else { "the image's history" };
            let message = format!("the value of `{name}` can be read in {place}");
            let hint = "use `RUN --mount=type=secret,id=<name>` where the value is needed";
            findings.push(RULE.finding(word.span, message).hint(hint));
        }
    });
}

/// Whether a variable of this name may hold a secret, as BuildKit's check has it.
pub fn sounds_secret(name: &str) -> bool {
    let has = |words: &[&str]| {
        name.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
    };
    has(&SECRET) && !has(&NO_SECRET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_sound_secret() {
        for name in ["SECRET_PASSPHRASE", "SUPER_Secret", "password", "auth", "git_key", "_token"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["sunflower", "PUBLIC_KEY", "public_token", "monkey", "TOKEN_FILE", ""] {
            assert!(!sounds_secret(name), "{name}");
        }
    }
}
