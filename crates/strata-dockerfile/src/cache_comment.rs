//! `# cache: ttl=24h` above an instruction: how old its cached result may be. It is a comment, so
//! that other builders pass over it.
//!
//! Only what reads `NAME=VALUE` after `cache:` is taken for an option: prose stays prose.

use std::time::Duration;

use crate::tree::Comment;
use crate::{Diagnostic, Instruction, Span};

const CODE: &str = "cache-comment";

impl Instruction {
    /// How old a cached result of it may be, as the comment above it says.
    #[must_use]
    pub fn cache_ttl(&self) -> Option<Duration> {
        let ttls = self.comments.iter().flat_map(options).filter_map(|option| match option {
            ("ttl", value) => duration(value),
            _ => None,
        });
        ttls.last()
    }
}

/// What is wrong with the options in comments.
pub(crate) fn check(comments: &[Comment]) -> Vec<Diagnostic> {
    comments
        .iter()
        .flat_map(|comment| options(comment).filter_map(|it| wrong(comment, it)))
        .collect()
}

fn wrong(comment: &Comment, (name, value): (&str, &str)) -> Option<Diagnostic> {
    // What the comment says ends where the comment does.
    let span = |text: &str| {
        let left = comment.text.rfind(text).map_or(0, |at| comment.text.len() - at);
        let Span { start, end } = comment.span;
        Span::new(end.saturating_sub(left).max(start), end)
    };
    match name {
        "ttl" if duration(value).is_none() => {
            let message = format!("`{value}` is not a time");
            let diagnostic = Diagnostic::error(CODE, span(value), message);
            Some(diagnostic.hint("a number and a unit: `90s`, `30m`, `24h`, `7d`"))
        }
        "ttl" => None,
        name => {
            let message = format!("`{name}` is no option of `# cache:`");
            Some(Diagnostic::warning(CODE, span(name), message).hint("there is `ttl`"))
        }
    }
}

/// The options of a comment: `ttl` and `24h`.
fn options(comment: &Comment) -> impl Iterator<Item = (&str, &str)> {
    let rest = comment.text.strip_prefix("cache:").unwrap_or_default();
    let words: Vec<&str> = rest.split([',', ' ', '\t']).filter(|word| !word.is_empty()).collect();
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let options: Option<Vec<(&str, &str)>> = words
        .into_iter()
        .map(|word| word.split_once('=').filter(|(name, _)| is_name(name)))
        .collect();
    // One word that is no option makes it prose.
    options.unwrap_or_default().into_iter()
}

/// `90s`, `1h30m`, `7d`.
fn duration(text: &str) -> Option<Duration> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        let unit = rest[end..].chars().next()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(seconds)?)?;
        rest = &rest[end + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text), expected.map(Duration::from_secs), "{text}");
        };
        check("90s", Some(90));
        check("24h", Some(86_400));
        check("1h30m", Some(5_400));
        check("7d", Some(604_800));
        check("2w", Some(1_209_600));
        check("0s", Some(0));
        for bad in ["", "24", "h", "-1h", "1.5h", "1y", "1h ", "99999999999999999999h"] {
            check(bad, None);
        }
        check("99999999999999999w", None);
    }

    #[test]
    fn a_comment_is_about_the_instruction_below_it() {
        let text = b"FROM scratch\n# cache: ttl=24h\n# for the mirror's sake\nRUN a\nRUN b\n\
            # cache: ttl=1m, ttl=2m\nRUN c\n# cache: warm this up\nRUN d\n#cache:ttl=3s\nRUN e\n\
            # cache: ttl=1h\n#\nRUN f\n";
        let parse = crate::parse(text);
        assert!(!parse.has_errors());
        let ttls: Vec<Option<u64>> = parse.tree.instructions()[1..]
            .iter()
            .map(|instruction| instruction.cache_ttl().map(|ttl| ttl.as_secs()))
            .collect();
        assert_eq!(ttls, [Some(86_400), None, Some(120), None, Some(3), None]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let find = |text: &str| {
            let text = format!("FROM scratch\n{text}\nRUN a\n");
            let found = crate::parse(text.as_bytes()).diagnostics;
            let shown = |found: &Diagnostic| {
                (found.is_error(), text[found.span.range()].to_owned(), found.message.clone())
            };
            found.iter().map(shown).collect::<Vec<_>>()
        };
        let tomorrow = "`tomorrow` is not a time".to_owned();
        assert_eq!(find("# cache: ttl=tomorrow"), [(true, "tomorrow".to_owned(), tomorrow)]);
        let typo = "`tll` is no option of `# cache:`".to_owned();
        assert_eq!(find("# cache: tll=1h"), [(false, "tll=1h".to_owned(), typo)]);
        assert_eq!(find("# cache: a = b is prose"), []);
    }
}
