//! From bytes to lines to instructions: continuations, comments, directives, here-documents.
//!
//! What an instruction says is read elsewhere (`read`); here it is only found.

use crate::cache_comment;
use crate::diagnostic::Diagnostic;
use crate::read::{Head, Reader};
use crate::tree::{Comment, Directive, DirectiveName, Line, LineKind, SyntaxTree};
use crate::word::LogicalLine;
use crate::{Heredoc, Instruction, Kind, LineIndex, Span, frontend, stages};

/// What came of reading a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parse {
    /// The file.
    pub tree: SyntaxTree,
    /// What is wrong with it, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parse {
    /// Whether the file cannot be built.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// See [`crate::parse`].
pub(crate) fn parse(source: &[u8]) -> Parse {
    let mut parse = parse_lines(source);
    if let Some(foreign) = frontend::of_another_language(source) {
        // Whatever else is wrong with it as a Dockerfile is beside the point.
        parse.diagnostics = vec![foreign];
        return parse;
    }
    stages::check(&parse.tree, &mut parse.diagnostics);
    sort(&mut parse.diagnostics);
    parse
}

/// See [`crate::parse_trigger`].
pub(crate) fn parse_trigger(source: &[u8]) -> Parse {
    let mut parse = parse_lines(source);
    if parse.tree.instructions.len() != 1 {
        let span = Span::new(0, source.len());
        let message = "an `ONBUILD` trigger must be one instruction";
        parse.diagnostics.push(Diagnostic::error("invalid-onbuild", span, message));
    }
    sort(&mut parse.diagnostics);
    parse
}

pub(crate) const BYTE_ORDER_MARK: char = '\u{FEFF}';

fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
}

fn parse_lines(source: &[u8]) -> Parse {
    let text = readable(source);
    let index = LineIndex::new(source);
    let mut parser = Parser::new(&text, &index);
    while parser.step() {}
    report_bad_bytes(source, &mut parser);
    let Parser { lines, comments, directives, instructions, escape, diagnostics, .. } = parser;
    let tree = SyntaxTree {
        source: source.to_vec(),
        index,
        lines,
        comments,
        directives,
        instructions,
        escape,
    };
    Parse { tree, diagnostics }
}

/// The source as text of the same length: each byte that is not UTF-8 becomes a `?`.
fn readable(source: &[u8]) -> String {
    let mut text = String::with_capacity(source.len());
    for chunk in source.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|_| text.push('?'));
    }
    text
}

/// One diagnostic for each run of bad bytes; in comments they do no harm.
fn report_bad_bytes(source: &[u8], parser: &mut Parser<'_>) {
    let mut offset = 0;
    let mut lines = parser.lines.iter();
    let mut line = lines.next();
    let mut last_line_start = None;
    for chunk in source.utf8_chunks() {
        offset += chunk.valid().len();
        while line.is_some_and(|line| line.span.end <= offset) {
            line = lines.next();
        }
        let span = Span::new(offset, offset + chunk.invalid().len());
        offset = span.end;
        let Some(line) = line.filter(|_| !span.is_empty()) else { continue };
        if last_line_start.replace(line.span.start) == Some(line.span.start) {
            continue;
        }
        let message = "this is not UTF-8";
        let diagnostic = match line.kind {
            LineKind::Comment => Diagnostic::warning("invalid-utf-8", span, message),
            _ => Diagnostic::error("invalid-utf-8", span, message),
        };
        parser.diagnostics.push(diagnostic.hint("save the file with UTF-8 as its encoding"));
    }
}

struct Parser<'a> {
    text: &'a str,
    index: &'a LineIndex,
    /// How many lines were read.
    at: usize,
    lines: Vec<Line>,
    comments: Vec<Comment>,
    comments_above: Vec<Comment>,
    directives: Vec<Directive>,
    directives_seen: Vec<DirectiveName>,
    directives_may_follow: bool,
    after_shebang: bool,
    after_indented: bool,
    instructions: Vec<Instruction>,
    escape: char,
    diagnostics: Vec<Diagnostic>,
}

/// A physical line without byte-order mark and line ending.
#[derive(Clone, Copy)]
struct Content<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Content<'a> {
    fn trim_start(self) -> Self {
        let text = self.text.trim_start();
        Self { text, start: self.start + (self.text.len() - text.len()) }
    }

    fn span(self) -> Span {
        Span::new(self.start, self.start + self.text.len())
    }
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, index: &'a LineIndex) -> Self {
        Self {
            text,
            index,
            at: 0,
            lines: Vec::new(),
            comments: Vec::new(),
            comments_above: Vec::new(),
            directives: Vec::new(),
            directives_seen: Vec::new(),
            directives_may_follow: true,
            after_shebang: false,
            after_indented: false,
            instructions: Vec::new(),
            escape: '\\',
            diagnostics: Vec::new(),
        }
    }

    /// The next line, which becomes one of `kind` unless that is changed.
    fn next_line(&mut self, kind: LineKind) -> Option<Content<'a>> {
        let span = self.index.line_span(self.at + 1).filter(|span| !span.is_empty())?;
        self.at += 1;
        self.lines.push(Line { span, kind });
        let line = &self.text[span.range()];
        let text = line.trim_end_matches(['\r', '\n']);
        match text.strip_prefix(BYTE_ORDER_MARK).filter(|_| span.start == 0) {
            Some(rest) => Some(Content { text: rest, start: text.len() - rest.len() }),
            None => Some(Content { text, start: span.start }),
        }
    }

    /// What the line that was read last is for.
    fn mark(&mut self, kind: LineKind) {
        if let Some(line) = self.lines.last_mut() {
            line.kind = kind;
        }
    }

    /// Reads a comment, a directive, a blank line or an instruction, if there is one.
    fn step(&mut self) -> bool {
        let Some(line) = self.next_line(LineKind::Instruction) else { return false };
        let (indent, line) = (line.start, line.trim_start());
        if line.text.starts_with('#') {
            self.after_indented |= line.start > indent;
            self.comment_or_directive(line);
            return true;
        }
        self.directives_may_follow = false;
        if line.text.is_empty() {
            self.mark(LineKind::Blank);
        } else {
            self.instruction(line);
        }
        true
    }

    fn comment_or_directive(&mut self, line: Content<'a>) {
        let is_shebang = self.at == 1 && line.text.starts_with("#!");
        self.after_shebang |= is_shebang;
        if self.directives_may_follow && !is_shebang {
            if let Some(directive) = read_directive(line) {
                self.mark(LineKind::Directive);
                self.directive(directive);
                return;
            }
            self.directives_may_follow = false;
        }
        let comment = self.comment(line);
        if comment.text.is_empty() {
            self.comments_above.clear();
        } else {
            self.comments_above.push(comment);
        }
    }

    fn comment(&mut self, line: Content<'a>) -> Comment {
        self.mark(LineKind::Comment);
        let text = line.text.strip_prefix('#').unwrap_or(line.text).trim().to_owned();
        let comment = Comment { text, span: line.span() };
        self.comments.push(comment.clone());
        comment
    }

    fn directive(&mut self, directive: Directive) {
        let name = directive.name;
        if self.directives_seen.contains(&name) {
            let message = format!("only one `{}` directive can be used", name.as_str());
            let diagnostic = Diagnostic::error("duplicate-directive", directive.span, message);
            self.diagnostics.push(diagnostic);
        }
        self.directives_seen.push(name);
        // BuildKit looks for the others in another way: behind a `#!` line too, but only as long
        // as no line is indented.
        if name == DirectiveName::Escape && !self.after_shebang {
            match directive.value.as_str() {
                "\\" => self.escape = '\\',
                "`" => self.escape = '`',
                other => {
                    let message = format!("`{other}` cannot be the escape character");
                    let diagnostic =
                        Diagnostic::error("invalid-escape", directive.value_span, message)
                            .hint("only a backslash and a backquote can");
                    self.diagnostics.push(diagnostic);
                }
            }
        }
        if name == DirectiveName::Escape || !self.after_indented {
            self.directives.push(directive);
        }
    }

    fn instruction(&mut self, first: Content<'a>) {
        let (logical, mut end) = self.logical_line(first);
        let whole = logical.piece().trim();
        let head = Head::read(logical.piece().trim_start());
        let mut heredocs = head.heredocs(&logical.text);
        for heredoc in &mut heredocs {
            if !self.heredoc(heredoc, &mut end) {
                let message = format!("unterminated heredoc: no line is `{}`", heredoc.name);
                let diagnostic = Diagnostic::error("unterminated-heredoc", whole.span(), message);
                let hint = "the closing line must hold the delimiter and nothing else";
                self.diagnostics.push(diagnostic.hint(hint));
                end = end.max(heredoc.body_span.end);
            }
        }
        let span = Span::new(first.start, end);
        let comments = std::mem::take(&mut self.comments_above);
        self.diagnostics.extend(cache_comment::check(&comments));
        let mut reader = Reader::new(self.escape, &heredocs, &mut self.diagnostics);
        let kind = reader.kind(&head, span).unwrap_or(Kind::Unknown);
        self.instructions.push(Instruction {
            span,
            keyword_span: head.keyword_span(),
            keyword: head.keyword,
            original: whole.text().to_owned(),
            comments,
            kind,
        });
    }

    /// Joins an instruction's lines; also says where the last of them ends.
    fn logical_line(&mut self, first: Content<'a>) -> (LogicalLine, usize) {
        let mut logical = LogicalLine::default();
        let (text, mut continues) = self.split_continuation(first.text);
        logical.push(text, first.start);
        let mut end = first.span().end;
        let mut empty: Vec<Span> = Vec::new();
        while continues {
            let Some(line) = self.next_line(LineKind::Continuation) else { break };
            let content = line.trim_start();
            if content.text.starts_with('#') {
                self.comment(content);
            } else if content.text.is_empty() {
                self.mark(LineKind::Blank);
                empty.extend(self.lines.last().map(|line| line.span));
            } else {
                let (text, more) = self.split_continuation(line.text);
                logical.push(text, line.start);
                end = line.span().end;
                continues = more;
            }
        }
        if let Some(first) = empty.first() {
            let message = "empty line inside an instruction";
            let span = Span::new(first.start, first.start);
            let diagnostic = Diagnostic::warning("NoEmptyContinuation", span, message);
            let diagnostic = diagnostic.hint("remove the line, or write a `#` in it");
            self.diagnostics.push(empty.iter().fold(diagnostic, |each, line| each.fix(*line, "")));
        }
        (logical, end)
    }

    /// A line without its continuation character, and whether it had one.
    fn split_continuation(&self, line: &'a str) -> (&'a str, bool) {
        match line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest, true),
            _ => (line, false),
        }
    }

    /// Reads a body to its delimiter; says whether that was found.
    fn heredoc(&mut self, heredoc: &mut Heredoc, end: &mut usize) -> bool {
        let mut start = None;
        while let Some(line) = self.next_line(LineKind::HeredocBody) {
            let span = self.lines.last().map_or_else(Span::default, |line| line.span);
            let start = *start.get_or_insert(span.start);
            if heredoc.is_closed_by(&self.text[span.range()]) {
                self.mark(LineKind::HeredocEnd);
                heredoc.body_span = Span::new(start, span.start);
                heredoc.body = self.text[heredoc.body_span.range()].to_owned();
                *end = line.span().end;
                return true;
            }
            heredoc.body_span = Span::new(start, span.end);
        }
        heredoc.body = self.text[heredoc.body_span.range()].to_owned();
        false
    }
}

/// `# name = value` with a name we know.
fn read_directive(line: Content<'_>) -> Option<Directive> {
    let text = line.text.strip_prefix('#')?.trim_start();
    let (name, value) = text.split_once('=')?;
    let name = match name.trim_end().to_ascii_lowercase().as_str() {
        "syntax" => DirectiveName::Syntax,
        "escape" => DirectiveName::Escape,
        "check" => DirectiveName::Check,
        _ => return None,
    };
    let start = line.span().end - value.trim_start().len();
    let value = value.trim().to_owned();
    let value_span = Span::new(start, start + value.len());
    (!value.is_empty()).then(|| Directive { name, value_span, value, span: line.span() })
}
