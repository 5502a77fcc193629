//! Words: pieces of an instruction that remember where they were written.
//!
//! An instruction may be spread over lines, with comments between them. BuildKit reads it as one
//! logical line; so do we, but every piece can be traced back to the source.

use std::ops::Range;

use crate::Span;

/// An argument as written, after continuations were removed and before variables are expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Word {
    /// The text. Quotes and escapes are still in it, except in flags, where BuildKit removes them
    /// while it looks for the flag's end.
    pub raw: String,
    /// Where it was written.
    pub span: Span,
}

impl Word {
    /// The text as a slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.raw
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.raw)
    }
}

/// One instruction with its continuations joined, and the way back to the source.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogicalLine {
    pub(crate) text: String,
    /// Sorted pairs: from this offset in `text` on, text is from this offset of the source on.
    origins: Vec<(usize, usize)>,
}

impl LogicalLine {
    /// Appends text that lies at `source_offset`.
    pub(crate) fn push(&mut self, text: &str, source_offset: usize) {
        self.origins.push((self.text.len(), source_offset));
        self.text.push_str(text);
    }

    /// The whole line as a piece.
    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece { line: self, start: 0, end: self.text.len() }
    }

    fn origin(&self, offset: usize) -> usize {
        let after = self.origins.partition_point(|(at, _)| *at <= offset);
        let found = after.checked_sub(1).and_then(|index| self.origins.get(index));
        found.map_or(0, |(at, source)| source + (offset - at))
    }
}

/// A slice of a logical line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    line: &'a LogicalLine,
    start: usize,
    end: usize,
}

impl<'a> Piece<'a> {
    pub(crate) fn text(&self) -> &'a str {
        &self.line.text[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub(crate) fn span(&self) -> Span {
        let start = self.line.origin(self.start);
        if self.is_empty() {
            return Span::new(start, start);
        }
        Span::new(start, self.line.origin(self.end - 1) + 1)
    }

    pub(crate) fn word(&self) -> Word {
        Word { raw: self.text().to_owned(), span: self.span() }
    }

    /// A part, by offsets into this piece's text.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        Self { line: self.line, start: self.start + range.start, end: self.start + range.end }
    }

    /// The parts before and from `offset`.
    pub(crate) fn split_at(&self, offset: usize) -> (Self, Self) {
        (self.slice(0..offset), self.slice(offset..self.end - self.start))
    }

    pub(crate) fn trim(&self) -> Self {
        let rest = self.trim_start();
        rest.slice(0..rest.text().trim_end().len())
    }

    pub(crate) fn trim_start(&self) -> Self {
        let text = self.text();
        self.slice(text.len() - text.trim_start().len()..text.len())
    }

    /// Whether there is more than white space from `offset` on that lies on a later line than it.
    pub(crate) fn has_later_line(&self, offset: usize) -> bool {
        let offset = self.start + offset;
        let later = self.line.origins.iter().find(|(at, _)| *at > offset);
        later.is_some_and(|(at, _)| *at < self.end)
    }

    /// The part before the first blank and the part after the blanks, if there is a blank.
    pub(crate) fn split_blank(&self) -> (Self, Option<Self>) {
        let text = self.text();
        let Some(at) = text.find(is_blank) else { return (*self, None) };
        let (head, tail) = self.split_at(at);
        let blanks = tail.text().len() - tail.text().trim_start_matches(is_blank).len();
        (head, Some(tail.split_at(blanks).1))
    }

    /// The parts between blanks; quotes do not guard anything.
    pub(crate) fn split_blanks(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut rest = if self.is_empty() { None } else { Some(*self) };
        while let Some(piece) = rest {
            let (head, tail) = piece.split_blank();
            parts.push(head);
            rest = tail;
        }
        parts
    }

    /// The words of `ENV`, `LABEL` and `ARG`: white space separates them unless a quote or an
    /// escape guards it. Quotes and escapes stay; an escape at the very end is dropped.
    pub(crate) fn split_words(&self, escape: char) -> Vec<Self> {
        let mut words = Vec::new();
        let mut state = WordState::default();
        let mut letters = self.text().char_indices();
        while let Some((at, letter)) = letters.next() {
            if state.quote.is_none() && letter.is_whitespace() {
                words.extend(state.finish(self, at));
                continue;
            }
            state.start.get_or_insert(at);
            if letter == escape && state.quote != Some('\'') {
                if letters.next().is_none() {
                    words.extend(state.finish(self, at));
                    return words;
                }
            } else if state.quote == Some(letter) {
                state.quote = None;
            } else if state.quote.is_none() && matches!(letter, '\'' | '"') {
                state.quote = Some(letter);
            }
        }
        words.extend(state.finish(self, self.text().len()));
        words
    }
}

/// A word that is being read.
#[derive(Default)]
struct WordState {
    start: Option<usize>,
    quote: Option<char>,
}

impl WordState {
    fn finish<'a>(&mut self, whole: &Piece<'a>, end: usize) -> Option<Piece<'a>> {
        self.quote = None;
        let start = self.start.take()?;
        (start < end).then(|| whole.slice(start..end))
    }
}

/// The blanks that separate arguments: narrower than Unicode's white space.
pub(crate) fn is_blank(letter: char) -> bool {
    matches!(letter, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut line = LogicalLine::default();
        line.push(text, 0);
        let pieces = line.piece().split_words('\\');
        pieces.iter().map(|piece| piece.text().to_owned()).collect()
    }

    #[test]
    fn words_are_guarded_by_quotes_and_escapes() {
        assert_eq!(words("foo bar"), ["foo", "bar"]);
        assert_eq!(words(r"foo\ bar"), [r"foo\ bar"]);
        assert_eq!(words("foo  'abc xyz'"), ["foo", "'abc xyz'"]);
        assert_eq!(words(r#"a="b \" c" d"#), [r#"a="b \" c""#, "d"]);
        assert_eq!(words(r"a='b\' c"), [r"a='b\'", "c"]);
        assert_eq!(words(r"a=b \"), ["a=b"]);
        assert_eq!(words(r"a=b\"), ["a=b"]);
    }

    #[test]
    fn pieces_know_where_they_came_from() {
        let mut line = LogicalLine::default();
        line.push("RUN a ", 10);
        line.push("b c", 30);
        let parts = line.piece().split_blanks();
        let spans: Vec<Span> = parts.iter().map(Piece::span).collect();
        let expected = [(10, 13), (14, 15), (30, 31), (32, 33)];
        assert_eq!(spans, expected.map(|(start, end)| Span::new(start, end)));
    }
}
