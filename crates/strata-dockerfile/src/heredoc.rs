//! Here-documents: `RUN <<EOF` and the lines up to `EOF`.
//!
//! Finding them means lexing the whole line as BuildKit does, since `"<<EOF"` in quotes is none.

use crate::{Expander, Quotes, Span};

/// A here-document of `RUN`, `COPY` or `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Heredoc {
    /// The delimiter, which is also the file's name in `COPY` and `ADD`.
    pub name: String,
    /// Whether variables are expanded in the body: no part of the delimiter was quoted.
    pub expand: bool,
    /// Whether it was opened with `<<-`, which takes the tabs off the start of each line.
    pub chomp: bool,
    /// The number before `<<`, or 0.
    pub fd: u32,
    /// The lines between, as written: tabs are still there, and so are carriage returns.
    pub body: String,
    /// Where the body lies, without the line of the delimiter.
    pub body_span: Span,
}

impl Heredoc {
    /// The body as it is used: without leading tabs if it was opened with `<<-`.
    #[must_use]
    pub fn content(&self) -> String {
        if !self.chomp {
            return self.body.clone();
        }
        self.body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// The first line of the body, with `...` if there are more: for progress.
    #[must_use]
    pub fn summary(&self) -> String {
        let body = self.body.trim();
        match body.split_once('\n') {
            Some((first, _)) => format!("{}...", first.trim_end_matches('\r')),
            None => body.to_owned(),
        }
    }

    /// Whether `line`, without its line ending, closes this one.
    pub(crate) fn is_closed_by(&self, line: &str) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        let line = if self.chomp { line.trim_start_matches('\t') } else { line };
        line == self.name
    }

    /// Reads one word; nothing if it does not open a here-document.
    pub(crate) fn read(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let fd = &word[..word.len() - rest.len()];
        let rest = rest.strip_prefix("<<")?;
        let chomp = rest.starts_with('-');
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        let delimiter = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
        if delimiter.is_empty() || delimiter.contains('<') {
            return None;
        }
        let name = single_word(delimiter, Quotes::Remove)?;
        let quoted = single_word(delimiter, Quotes::Keep)?;
        let expand = quotes_in(&name) == quotes_in(&quoted);
        let fd = fd.parse().unwrap_or(0);
        Some(Self { name, expand, chomp, fd, ..Self::default() })
    }

    /// Those that a logical line opens, in order.
    pub(crate) fn read_all(line: &str) -> Vec<Self> {
        if !line.contains("<<") {
            return Vec::new();
        }
        let words = lexer(Quotes::Keep, true).words(line, &|_| None).unwrap_or_default();
        words.iter().filter_map(|word| Self::read(word)).collect()
    }
}

/// The rules here never heed the file's own escape character, and neither do BuildKit's.
fn lexer(quotes: Quotes, keep_escapes: bool) -> Expander {
    Expander { escape: '\\', quotes, keep_escapes, keep_unset: true }
}

fn single_word(text: &str, quotes: Quotes) -> Option<String> {
    let words = lexer(quotes, false).words(text, &|_| None).ok()?;
    <[String; 1]>::try_from(words).ok().map(|[word]| word)
}

fn quotes_in(word: &str) -> usize {
    word.matches(['\'', '"']).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[(&str, bool, bool, u32)]) {
        let found = Heredoc::read_all(line);
        let found: Vec<_> =
            found.iter().map(|doc| (doc.name.as_str(), doc.expand, doc.chomp, doc.fd)).collect();
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn delimiters() {
        check("RUN <<EOF", &[("EOF", true, false, 0)]);
        check("RUN <<-EOF", &[("EOF", true, true, 0)]);
        check("RUN << -EOF", &[("-EOF", true, false, 0)]);
        check("RUN 4<<EOF", &[("EOF", true, false, 4)]);
        check("RUN <<'EOF'", &[("EOF", false, false, 0)]);
        check("RUN <<eo'f'", &[("eof", false, false, 0)]);
        check(r"RUN <<eo\'f", &[("eo'f", true, false, 0)]);
        check(r"RUN <<'e'o\'f", &[("eo'f", false, false, 0)]);
        check("RUN <<'one two'", &[("one two", false, false, 0)]);
        check("RUN <<$EOF", &[("$EOF", true, false, 0)]);
        check("RUN <<  EOF  > foo", &[("EOF", true, false, 0)]);
        check("COPY <<a <<b /", &[("a", true, false, 0), ("b", true, false, 0)]);
    }

    #[test]
    fn not_delimiters() {
        for line in ["RUN '<<EOF'", r#"RUN "<<EOF""#, "RUN <<<EOF", "RUN <<", "RUN x<<EOF"] {
            check(line, &[]);
        }
        check("RUN echo it's <<EOF", &[]);
        check("RUN <<- EOF", &[]);
        check("RUN echo $((1<<2))", &[]);
    }

    #[test]
    fn tabs_are_chomped_on_every_line() {
        let body = "\thello\n\t\tworld\n".to_owned();
        let heredoc = Heredoc { chomp: true, body, ..Heredoc::default() };
        assert_eq!(heredoc.content(), "hello\nworld\n");
        assert_eq!(heredoc.summary(), "hello...");
    }
}
