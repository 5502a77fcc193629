//! The `--name=value` words between an instruction's keyword and its arguments.

use crate::diagnostic::Diagnostic;
use crate::suggest::did_you_mean;
use crate::word::{Piece, Word};
use crate::{Keyword, Span};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// Nothing, or `true` or `false`.
    Switch,
    /// A value, once.
    Value,
    /// A value, any number of times.
    Values,
}

/// The flags that an instruction knows.
fn known(keyword: Keyword) -> &'static [(&'static str, Takes)] {
    use Takes::{Switch, Value, Values};
    match keyword {
        Keyword::Add => &[
            ("chown", Value),
            ("chmod", Value),
            ("link", Switch),
            ("keep-git-dir", Switch),
            ("checksum", Value),
            ("unpack", Switch),
            ("exclude", Values),
        ],
        Keyword::Copy => &[
            ("from", Value),
            ("chown", Value),
            ("chmod", Value),
            ("link", Switch),
            ("parents", Switch),
            ("exclude", Values),
        ],
        Keyword::From => &[("platform", Value)],
        Keyword::Healthcheck => &[
            ("interval", Value),
            ("timeout", Value),
            ("start-period", Value),
            ("start-interval", Value),
            ("retries", Value),
        ],
        Keyword::Run => {
            &[("mount", Values), ("network", Value), ("security", Value), ("device", Values)]
        }
        _ => &[],
    }
}

/// The flags of one instruction, checked.
#[derive(Debug, Default)]
pub(crate) struct Flags(Vec<Flag>);

#[derive(Debug)]
struct Flag {
    name: &'static str,
    value: Option<Word>,
}

impl Flags {
    /// The value of a flag that takes one.
    pub(crate) fn value(&mut self, name: &str) -> Option<Word> {
        let at = self.0.iter().position(|flag| flag.name == name)?;
        self.0.remove(at).value
    }

    /// The values of a flag that may come more than once, in order.
    pub(crate) fn values(&mut self, name: &str) -> Vec<Word> {
        std::iter::from_fn(|| self.value(name)).collect()
    }

    /// Whether a switch is on, or nothing if it is not given.
    pub(crate) fn switch(&mut self, name: &str) -> Option<bool> {
        let at = self.0.iter().position(|flag| flag.name == name)?;
        let value = self.0.remove(at).value;
        Some(value.is_none_or(|value| value.raw.eq_ignore_ascii_case("true")))
    }

    /// Checks the raw flags of an instruction; gives nothing if one is wrong.
    pub(crate) fn check(
        keyword: Keyword,
        raw: Vec<Word>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let mut flags = Self::default();
        let mut sound = true;
        for word in raw {
            match flags.read(keyword, &word) {
                Ok(flag) => flags.0.push(flag),
                Err(diagnostic) => {
                    sound = false;
                    diagnostics.push(*diagnostic);
                }
            }
        }
        sound.then_some(flags)
    }

    fn read(&self, keyword: Keyword, word: &Word) -> Result<Flag, Box<Diagnostic>> {
        let text = word.raw.strip_prefix("--").unwrap_or(&word.raw);
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let found = known(keyword).iter().find(|(known, _)| *known == name);
        let (name, takes) = *found.ok_or_else(|| Box::new(unknown(keyword, name, word.span)))?;
        if takes != Takes::Values && self.0.iter().any(|flag| flag.name == name) {
            let message = format!("flag `--{name}` is given twice");
            return Err(Box::new(Diagnostic::error("duplicate-flag", word.span, message)));
        }
        match (takes, value) {
            (Takes::Switch, None) => {}
            (Takes::Switch, Some(value)) if is_bool(value) => {}
            (Takes::Switch, Some(value)) => return Err(Box::new(not_bool(name, value, word.span))),
            (Takes::Value | Takes::Values, Some(_)) => {}
            (Takes::Value | Takes::Values, None) => {
                return Err(Box::new(no_value(name, word.span)));
            }
        }
        let value = value.map(|value| tail_word(word, value));
        Ok(Flag { name, value })
    }
}

fn is_bool(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

/// The end of a word as a word. Where quotes were removed its place is the whole word's.
pub(crate) fn tail_word(word: &Word, tail: &str) -> Word {
    let exact = word.span.len() == word.raw.len();
    let start = if exact { word.span.end - tail.len() } else { word.span.start };
    Word { raw: tail.to_owned(), span: Span::new(start, word.span.end) }
}

fn unknown(keyword: Keyword, name: &str, span: Span) -> Diagnostic {
    let flags = known(keyword);
    let message = format!("unknown flag `--{name}` for `{keyword}`");
    let list = flags.iter().map(|(known, _)| format!("`--{known}`")).collect::<Vec<_>>();
    let hint = did_you_mean(name, flags.iter().map(|(known, _)| *known))
        .map(|hint| hint.replacen('`', "`--", 1))
        .unwrap_or_else(|| match list.as_slice() {
            [] => format!("`{keyword}` has no flags"),
            list => format!("`{keyword}` knows {}", list.join(", ")),
        });
    Diagnostic::error("unknown-flag", span, message).hint(hint)
}

fn not_bool(name: &str, value: &str, span: Span) -> Diagnostic {
    let message = format!("flag `--{name}` must be `true` or `false`, not `{value}`");
    Diagnostic::error("invalid-flag-value", span, message)
}

fn no_value(name: &str, span: Span) -> Diagnostic {
    let message = format!("flag `--{name}` needs a value");
    let hint = format!("write `--{name}=<value>`, with an equals sign and no space");
    Diagnostic::error("missing-flag-value", span, message).hint(hint)
}

/// Takes the flags off the front of an instruction's arguments.
///
/// Quotes and backslashes are removed here already, as in BuildKit; a lone `--` ends the flags.
pub(crate) fn split<'a>(arguments: Piece<'a>) -> (Vec<Word>, Piece<'a>) {
    let mut flags = Vec::new();
    let mut rest = arguments;
    loop {
        let text = rest.text();
        let blanks = text.len() - text.trim_start().len();
        rest = rest.split_at(blanks).1;
        if !rest.text().starts_with("--") {
            return (flags, rest);
        }
        let (raw, length) = read_flag(rest.text());
        let (flag, tail) = rest.split_at(length);
        rest = tail;
        match raw.as_str() {
            "--" => return (flags, rest),
            _ => flags.push(Word { raw, span: flag.span() }),
        }
    }
}

/// A flag without its quotes, and how many bytes it took.
fn read_flag(text: &str) -> (String, usize) {
    let mut raw = String::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (None, blank) if blank.is_whitespace() => return (raw, at),
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), close) if open == close => quote = None,
            (_, '\\') => raw.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => raw.push(letter),
        }
    }
    (raw, text.len())
}
