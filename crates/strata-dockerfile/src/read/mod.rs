//! From one logical line to a typed instruction.
//!
//! Every reader gives the instruction, or nothing after it has said what is wrong.

mod command;
mod files;
mod simple;

use crate::diagnostic::Diagnostic;
use crate::flags::{self, Flags};
use crate::json::{self, Array};
use crate::suggest::did_you_mean;
use crate::word::{Piece, is_blank};
use crate::{Heredoc, Instruction, Keyword, Kind, Onbuild, Span, Word};

/// An instruction cut into keyword, flags and the rest.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    whole: Piece<'a>,
    keyword_piece: Piece<'a>,
    pub(crate) keyword: Keyword,
    flags: Vec<Word>,
    rest: Piece<'a>,
}

impl<'a> Head<'a> {
    pub(crate) fn read(whole: Piece<'a>) -> Self {
        let (keyword_piece, arguments) = whole.split_blank();
        let keyword_piece = keyword_piece.trim();
        let keyword = Keyword::read(keyword_piece.text());
        let nothing = whole.split_at(whole.text().len()).1;
        let (flags, rest) = flags::split(arguments.unwrap_or(nothing));
        Self { whole, keyword_piece, keyword, flags, rest: rest.trim() }
    }

    pub(crate) fn keyword_span(&self) -> Span {
        self.keyword_piece.span()
    }

    /// The here-documents that `line`, which this is all or the end of, opens.
    pub(crate) fn heredocs(&self, line: &str) -> Vec<Heredoc> {
        if !line.contains("<<") {
            return Vec::new();
        }
        match self.keyword {
            Keyword::Onbuild => match Head::read(self.rest) {
                inner if inner.keyword == Keyword::Onbuild => Vec::new(),
                inner => inner.heredocs(line),
            },
            keyword if keyword.takes_heredocs() && !self.is_json() => Heredoc::read_all(line),
            _ => Vec::new(),
        }
    }

    fn is_json(&self) -> bool {
        json::read_array(self.rest.text()) != Array::Invalid
    }
}

/// Reads instructions of one file.
pub(crate) struct Reader<'a> {
    escape: char,
    heredocs: &'a [Heredoc],
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        escape: char,
        heredocs: &'a [Heredoc],
        diagnostics: &'a mut Vec<Diagnostic>,
    ) -> Self {
        Self { escape, heredocs, diagnostics }
    }

    /// What the instruction says; `span` is all of it.
    pub(crate) fn kind(&mut self, head: &Head<'_>, span: Span) -> Option<Kind> {
        if head.keyword == Keyword::Unknown {
            return self.unknown(head);
        }
        self.warn_about_comment(head);
        let flags = self.flags(head)?;
        match head.keyword {
            Keyword::Add => self.add(head, flags),
            Keyword::Arg => self.arg(head),
            Keyword::Cmd => self.command(head).map(Kind::Cmd),
            Keyword::Copy => self.copy(head, flags),
            Keyword::Entrypoint => self.command(head).map(Kind::Entrypoint),
            Keyword::Env => self.pairs(head).map(Kind::Env),
            Keyword::Expose => self.expose(head),
            Keyword::From => self.from(head, flags),
            Keyword::Healthcheck => self.healthcheck(head, flags),
            Keyword::Label => self.pairs(head).map(Kind::Label),
            Keyword::Maintainer => self.single(head).map(Kind::Maintainer),
            Keyword::Onbuild => self.onbuild(head, span),
            Keyword::Run => self.run(head, flags),
            Keyword::Shell => self.shell(head),
            Keyword::Stopsignal => self.single(head).map(Kind::Stopsignal),
            Keyword::User => self.single(head).map(Kind::User),
            Keyword::Volume => self.volume(head),
            Keyword::Workdir => self.single(head).map(Kind::Workdir),
            Keyword::Unknown => None,
        }
    }

    fn flags(&mut self, head: &Head<'_>) -> Option<Flags> {
        let heedless = match head.keyword {
            Keyword::Arg | Keyword::Stopsignal => true,
            Keyword::Healthcheck => head.rest.text().eq_ignore_ascii_case("none"),
            _ => false,
        };
        if !heedless {
            return Flags::check(head.keyword, head.flags.clone(), self.diagnostics);
        }
        for flag in &head.flags {
            let message = format!("`{}` has no use for `{flag}`", head.keyword);
            self.diagnostics.push(Diagnostic::warning("ignored-flag", flag.span, message));
        }
        Some(Flags::default())
    }

    /// Says that something is wrong, and gives nothing.
    fn fail<T>(&mut self, diagnostic: Diagnostic) -> Option<T> {
        self.diagnostics.push(diagnostic);
        None
    }

    /// Says that arguments are missing, and gives nothing.
    fn missing<T>(&mut self, head: &Head<'_>, what: &str, example: &str) -> Option<T> {
        let message = format!("`{}` requires {what}", head.keyword);
        let diagnostic = Diagnostic::error("missing-argument", head.whole.trim().span(), message);
        self.fail(diagnostic.hint(format!("write `{example}`")))
    }

    fn unknown<T>(&mut self, head: &Head<'_>) -> Option<T> {
        let word = head.keyword_piece.text();
        let span = head.keyword_span();
        if word.is_empty() {
            let message = "expected an instruction after the continuation";
            return self.fail(Diagnostic::error("unknown-instruction", span, message));
        }
        let hint = if word.starts_with("//") {
            Some(COMMENT_HINT.to_owned())
        } else if word.starts_with(['&', '|', ';', '-', '+', ')', '}', '"', '\'']) {
            Some(format!("does the line above lack a `{}` at its end?", self.escape))
        } else {
            did_you_mean(word, Keyword::ALL.iter().map(|keyword| keyword.as_str()))
        };
        let message = format!("unknown instruction: `{word}`");
        self.fail(Diagnostic::error("unknown-instruction", span, message).hint_if(hint))
    }

    /// The strings of a JSON array, each with the array's place; nothing if it is none, and an
    /// error if it holds other things than strings.
    fn json(&mut self, piece: Piece<'_>) -> Result<Option<Vec<String>>, ()> {
        match json::read_array(piece.text()) {
            Array::Strings(strings) => Ok(Some(strings)),
            Array::Invalid => Ok(None),
            Array::Mixed => {
                let message = "a JSON array here must hold strings only";
                let diagnostic = Diagnostic::error("invalid-json", piece.span(), message);
                self.diagnostics.push(diagnostic.hint("put double quotes around each element"));
                Err(())
            }
        }
    }

    /// The words of a list that may be a JSON array or plain.
    fn json_or_words(&mut self, piece: Piece<'_>) -> Result<Vec<Word>, ()> {
        if let Some(strings) = self.json(piece)? {
            let span = piece.span();
            return Ok(strings.into_iter().map(|raw| Word { raw, span }).collect());
        }
        self.warn_about_json(piece);
        Ok(piece.split_blanks().iter().map(Piece::word).collect())
    }

    /// Warns if something was meant as JSON and is none.
    fn warn_about_json(&mut self, piece: Piece<'_>) {
        let Some(inside) = piece.text().strip_prefix('[') else { return };
        let glued = inside.starts_with(['"', '\'']);
        let spaced = inside.trim_start().starts_with(['"', '\'']);
        let closed = piece.text().ends_with(['"', '\'']) || piece.text().ends_with("\"]");
        if !(glued || spaced && closed && piece.text().ends_with(']')) {
            return;
        }
        let hint = if inside.trim_start().starts_with('\'') {
            "JSON strings are in double quotes"
        } else if inside.contains("] #") || inside.contains("] //") {
            COMMENT_HINT
        } else {
            "the exec form is a JSON array of strings: `[\"program\", \"argument\"]`"
        };
        let message = "this looks like a JSON array but is none, so it is taken as plain text";
        let diagnostic = Diagnostic::warning("not-json", piece.span(), message);
        self.diagnostics.push(diagnostic.hint(hint));
    }

    /// Warns about `WORKDIR /app # comment`, which makes the comment part of the argument.
    fn warn_about_comment(&mut self, head: &Head<'_>) {
        let shell = [Keyword::Run, Keyword::Cmd, Keyword::Entrypoint, Keyword::Healthcheck];
        let other = [Keyword::From, Keyword::Onbuild, Keyword::Maintainer, Keyword::Shell];
        if shell.contains(&head.keyword) || other.contains(&head.keyword) {
            return;
        }
        let text = head.rest.text();
        if !text.contains([' ', '\t']) || !text.contains(['#', '/']) {
            return;
        }
        let words = head.rest.split_words(self.escape);
        let mut later = words.iter().skip(1);
        let Some(mark) = later.find(|word| is_comment_mark(word.text())) else { return };
        let from = mark.span().start;
        let span = Span::new(from, head.rest.span().end.max(from));
        let message = format!("this is part of the arguments of `{}`", head.keyword);
        let diagnostic = Diagnostic::warning("comment-in-arguments", span, message);
        self.diagnostics.push(diagnostic.label("not a comment").hint(COMMENT_HINT));
    }

    fn onbuild(&mut self, head: &Head<'_>, span: Span) -> Option<Kind> {
        if head.rest.is_empty() {
            return self.missing(head, "at least one argument", "ONBUILD <instruction>");
        }
        let inner = Head::read(head.rest);
        if matches!(inner.keyword, Keyword::Onbuild | Keyword::From | Keyword::Maintainer) {
            let message = format!("`{}` is not allowed as an `ONBUILD` trigger", inner.keyword);
            return self.fail(Diagnostic::error("invalid-onbuild", inner.keyword_span(), message));
        }
        let before = self.diagnostics.len();
        let span = Span::new(inner.keyword_span().start, span.end);
        let kind = self.kind(&inner, span).unwrap_or(Kind::Unknown);
        for diagnostic in self.diagnostics.iter_mut().skip(before) {
            if !GRAMMAR_CODES.contains(&diagnostic.code) {
                diagnostic.severity = crate::Severity::Warning;
            }
        }
        let mut expression = after_keyword(head).to_owned();
        for heredoc in self.heredocs {
            expression.extend(["\n", &heredoc.body, &heredoc.name]);
        }
        let instruction = Box::new(Instruction {
            span,
            keyword_span: inner.keyword_span(),
            keyword: inner.keyword,
            original: head.rest.text().to_owned(),
            comments: Vec::new(),
            kind,
        });
        Some(Kind::Onbuild(Onbuild { expression, instruction }))
    }
}

/// Errors that BuildKit finds before it asks what an instruction is for, so in triggers too.
const GRAMMAR_CODES: [&str; 3] = ["missing-equals", "missing-value", "invalid-json"];

pub(super) const COMMENT_HINT: &str = "a comment is a `#` at the start of its own line";

fn after_keyword<'a>(head: &Head<'a>) -> &'a str {
    let text = head.whole.text();
    text[head.keyword_piece.text().len()..].trim_start_matches(|c| is_blank(c) || c == '\n')
}

/// Whether a word looks like the start of a comment.
fn is_comment_mark(word: &str) -> bool {
    word.starts_with('#') || word == "//"
}
