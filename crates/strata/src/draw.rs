//! Draws a finding under the Dockerfile's line.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use strata_dockerfile::{Diagnostic, Severity, Span};

use crate::request::Dockerfile;

/// Message, place, source line with carets, label, and what to write instead. The finding must be
/// about a place.
pub(crate) fn diagnostic(source: &Dockerfile, finding: &Diagnostic, colors: bool) -> String {
    draw(source, finding, None, colors)
}

/// The same with the finding's code, by which it can be skipped.
pub(crate) fn with_code(source: &Dockerfile, finding: &Diagnostic, colors: bool) -> String {
    draw(source, finding, Some(finding.code), colors)
}

fn draw(
    source: &Dockerfile,
    finding: &Diagnostic,
    code: Option<&'static str>,
    colors: bool,
) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let text = as_text(&source.bytes);
    let title = level.primary_title(finding.message.as_str());
    let title = match code {
        Some(code) => title.id(code),
        None => title,
    };
    let mut group = Group::with_title(title);
    let mut carets = AnnotationKind::Primary.span(range(finding.span, &text));
    if let Some(label) = &finding.label {
        carets = carets.label(label.as_str());
    }
    let snippet = Snippet::source(text.as_ref()).path(source.shown.as_str()).annotation(carets);
    group = group.element(snippet);
    if let Some(hint) = &finding.hint {
        group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
    }
    let renderer = if colors { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// The bytes as text of the same length, so that spans still fit.
fn as_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let visible = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { '?' };
            Cow::Owned(bytes.iter().map(visible).collect())
        }
    }
}

/// Where the carets go: never inside a character, on a line's end or beyond the text.
fn range(span: Span, text: &str) -> Range<usize> {
    let mut start = span.start.min(text.len());
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let trimmed = text[start..end].trim_end().len();
    start..start + trimmed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], finding: &Diagnostic, expected: &str) {
        let source =
            Dockerfile { shown: "Dockerfile".to_owned(), bytes: bytes.to_vec(), path: None };
        assert_eq!(diagnostic(&source, finding, false), expected);
    }

    #[test]
    fn carets_label_and_hint() {
        let finding = Diagnostic::error("x", Span::new(5, 8), "no such image")
            .label("this one")
            .hint("write `b`");
        let expected = "\
error: no such image
 --> Dockerfile:1:6
  |
1 | FROM a:b
  |      ^^^ this one
  |
  = hint: write `b`";
        check(b"FROM a:b\n", &finding, expected);
    }

    #[test]
    fn strange_bytes() {
        let finding = Diagnostic::error("x", Span::new(5, 99), "odd");
        let expected = "error: odd\n --> Dockerfile:1:6\n  |\n1 | FROM ??\n  |      ^^";
        check(b"FROM \xff\xfe\n", &finding, expected);
    }
}
