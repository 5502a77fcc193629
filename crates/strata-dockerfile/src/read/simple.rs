//! `FROM` and the instructions that only describe the image.

use super::{COMMENT_HINT, Head, Reader, is_comment_mark};
use crate::diagnostic::Diagnostic;
use crate::flags::Flags;
use crate::suggest::suggest;
use crate::word::Piece;
use crate::{Declaration, FromArgs, Kind, Pair, Span, Spanned, Word};

impl Reader<'_> {
    pub(super) fn from(&mut self, head: &Head<'_>, mut flags: Flags) -> Option<Kind> {
        let words = head.rest.split_blanks();
        let alias = match words.as_slice() {
            [] => return self.missing(head, "an image", "FROM <image>"),
            [_] => None,
            [_, word, name] if word.text().eq_ignore_ascii_case("as") => {
                Some(self.stage_name(name)?)
            }
            _ => return self.extra_words(head, &words),
        };
        let image = words.first()?.word();
        Some(Kind::From(FromArgs { image, platform: flags.value("platform"), alias }))
    }

    fn stage_name(&mut self, piece: &Piece<'_>) -> Option<Spanned<String>> {
        let value = piece.text().to_lowercase();
        let span = piece.span();
        let starts = value.starts_with(|c: char| c.is_ascii_lowercase());
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
        if starts && value.chars().all(allowed) {
            return Some(Spanned { value, span });
        }
        let message = format!("invalid name for build stage: `{}`", piece.text());
        let hint = "a name starts with a letter and has only letters, digits, `-`, `_` and `.`";
        self.fail(Diagnostic::error("invalid-stage-name", span, message).hint(hint))
    }

    /// More words after the image than `AS name`.
    fn extra_words<T>(&mut self, head: &Head<'_>, words: &[Piece<'_>]) -> Option<T> {
        let text = |index: usize| words.get(index).map_or("", Piece::text);
        let has_name = text(1).eq_ignore_ascii_case("as") && words.len() > 2;
        let first = words.get(if has_name { 3 } else { 1 })?.span();
        let span = Span::new(first.start, head.rest.span().end);
        let message = "`FROM` requires either one or three arguments";
        let (label, hint) = if let Some(mark) = words.iter().skip(1).find(|word| is_mark(word)) {
            let hint = format!("{COMMENT_HINT}; move `{}` to a line above", rest_from(head, mark));
            ("not a comment", hint)
        } else if words.len() == 2 && text(1).eq_ignore_ascii_case("as") {
            ("a name is missing", format!("write `FROM {} AS <name>`", text(0)))
        } else if words.len() == 3 && suggest(text(1), ["as"]).is_some() {
            ("not `AS`", format!("write `FROM {} AS {}`", text(0), text(2)))
        } else if words.len() == 2 {
            let hint = format!("to name the stage, write `FROM {} AS {}`", text(0), text(1));
            ("unexpected", hint)
        } else {
            ("unexpected", "write `FROM <image>` or `FROM <image> AS <name>`".to_owned())
        };
        let diagnostic = Diagnostic::error("too-many-arguments", span, message);
        self.fail(diagnostic.label(label).hint(hint))
    }

    /// `ENV` and `LABEL`: `key=value ...`, or `key value` as it once was.
    pub(super) fn pairs(&mut self, head: &Head<'_>) -> Option<Vec<Pair>> {
        let example = format!("{} <name>=<value>", head.keyword);
        let words = head.rest.split_words(self.escape);
        let Some(first) = words.first() else {
            return self.missing(head, "at least one argument", &example);
        };
        if !first.text().contains('=') {
            let (key, value) = head.rest.split_blank();
            let Some(value) = value else {
                let message = format!("`{}` requires a name and a value", head.keyword);
                let diagnostic = Diagnostic::error("missing-value", first.span(), message);
                return self.fail(diagnostic.hint(format!("write `{example}`")));
            };
            self.warn_about_spaces(value);
            let (key, value) = (key.word(), value.word());
            return Some(vec![Pair { key, value, legacy: true }]);
        }
        words.iter().map(|word| self.pair(head, word)).collect()
    }

    /// Warns about `ENV a = b`, which is the old form: the value is `= b`.
    fn warn_about_spaces(&mut self, value: Piece<'_>) {
        if value.text().starts_with('=') {
            let message = format!("the value is `{}`, with the equals sign", value.text());
            let diagnostic = Diagnostic::warning("equals-in-value", value.span(), message);
            self.diagnostics.push(diagnostic.hint("write no space around the `=`"));
        }
    }

    fn pair(&mut self, head: &Head<'_>, word: &Piece<'_>) -> Option<Pair> {
        let Some((key, value)) = split_equals(*word) else {
            let message = format!("cannot find `=` in `{}`", word.text());
            let diagnostic = Diagnostic::error("missing-equals", word.span(), message);
            let hint = match is_mark(word) {
                true => COMMENT_HINT,
                false => "write `name=value`, with double quotes around values with spaces",
            };
            return self.fail(diagnostic.hint(hint));
        };
        if key.is_empty() {
            return self.blank_name(head, word);
        }
        Some(Pair { key: key.word(), value: value.word(), legacy: false })
    }

    pub(super) fn arg(&mut self, head: &Head<'_>) -> Option<Kind> {
        let words = head.rest.split_words(self.escape);
        if words.is_empty() {
            return self.missing(head, "at least one argument", "ARG <name>=<default>");
        }
        let declarations = words.iter().map(|word| match split_equals(*word) {
            None => Some(Declaration { name: word.word(), default: None }),
            Some((name, _)) if name.is_empty() => self.blank_name(head, word),
            Some((name, value)) => {
                Some(Declaration { name: name.word(), default: Some(value.word()) })
            }
        });
        declarations.collect::<Option<Vec<_>>>().map(Kind::Arg)
    }

    fn blank_name<T>(&mut self, head: &Head<'_>, word: &Piece<'_>) -> Option<T> {
        let message = format!("`{}` names cannot be blank", head.keyword);
        let hint = "write no space around the `=`";
        self.fail(Diagnostic::error("blank-name", word.span(), message).hint(hint))
    }

    pub(super) fn expose(&mut self, head: &Head<'_>) -> Option<Kind> {
        let words = head.rest.split_blanks();
        if words.is_empty() {
            return self.missing(head, "at least one argument", "EXPOSE <port>");
        }
        Some(Kind::Expose(words.iter().map(Piece::word).collect()))
    }

    pub(super) fn volume(&mut self, head: &Head<'_>) -> Option<Kind> {
        let words = self.json_or_words(head.rest).ok()?;
        if words.is_empty() {
            return self.missing(head, "at least one argument", "VOLUME <path>");
        }
        let trimmed = words.into_iter().map(|word| {
            let raw = word.raw.trim().to_owned();
            Word { raw, span: word.span }
        });
        let volumes: Vec<Word> = trimmed.collect();
        if let Some(blank) = volumes.iter().find(|word| word.raw.is_empty()) {
            let message = "`VOLUME` cannot be an empty string";
            return self.fail(Diagnostic::error("empty-volume", blank.span, message));
        }
        Some(Kind::Volume(volumes))
    }

    /// Instructions whose argument is the whole rest of the line.
    pub(super) fn single(&mut self, head: &Head<'_>) -> Option<Word> {
        if head.rest.is_empty() {
            let example = format!("{} <value>", head.keyword);
            return self.missing(head, "exactly one argument", &example);
        }
        Some(head.rest.word())
    }
}

fn is_mark(word: &Piece<'_>) -> bool {
    is_comment_mark(word.text()) || word.text().starts_with("//")
}

fn rest_from<'a>(head: &Head<'a>, mark: &Piece<'a>) -> &'a str {
    let text = head.rest.text();
    text.find(mark.text()).map_or("", |at| &text[at..])
}

fn split_equals<'a>(word: Piece<'a>) -> Option<(Piece<'a>, Piece<'a>)> {
    let at = word.text().find('=')?;
    let (key, value) = word.split_at(at);
    Some((key, value.split_at(1).1))
}
