//! The comma-separated fields of `--mount`.

use super::invalid;
use crate::diagnostic::Diagnostic;
use crate::flags::tail_word;
use crate::{Span, Word};

/// Splits at commas as CSV does: a field in double quotes may hold commas.
pub(super) fn fields(raw: &Word) -> Result<Vec<Word>, Box<Diagnostic>> {
    let bad_quote = || {
        let diagnostic = invalid(raw.span, format!("bad quotes in the mount options `{raw}`"));
        Box::new(diagnostic.hint("put double quotes around a whole `key=value`"))
    };
    let mut fields = Vec::new();
    let mut rest = raw.raw.as_str();
    loop {
        let tail = tail_word(raw, rest);
        let (text, length) = field(rest).ok_or_else(bad_quote)?;
        let exact = tail.span.len() == rest.len();
        let end = if exact { tail.span.start + length } else { tail.span.end };
        fields.push(Word { raw: text, span: Span::new(tail.span.start, end) });
        match rest[length..].strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// One field and how many bytes it took.
fn field(text: &str) -> Option<(String, usize)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let length = text.find(',').unwrap_or(text.len());
        return (!text[..length].contains('"')).then(|| (text[..length].to_owned(), length));
    };
    let mut value = String::new();
    let mut rest = quoted;
    loop {
        let (inside, after) = rest.split_once('"')?;
        value.push_str(inside);
        match after.strip_prefix('"') {
            Some(more) => {
                value.push('"');
                rest = more;
            }
            None if after.is_empty() || after.starts_with(',') => {
                return Some((value, text.len() - after.len()));
            }
            None => return None,
        }
    }
}
