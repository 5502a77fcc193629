//! A Dockerfile as it should look, with the meaning that it has.
//!
//! Only what no builder looks at is changed: the case of instructions and of `AS`, white space
//! before and after them, white space at the ends of lines, empty lines, the spelling of
//! directives, the end of the file. The text of commands, and so its indentation, is part of what
//! runs and of the image's history; it stays, as do here-documents, comments and line endings.

use crate::parser::BYTE_ORDER_MARK;
use crate::{Directive, Instruction, Kind, Line, LineKind, Span, SyntaxTree};

/// The file, formatted. Formatting that again changes nothing. A file that is not good UTF-8
/// stays as it is.
///
/// ```
/// let tree = strata_dockerfile::parse(b"from a as b\n\n\nrun   x  \n\n").tree;
/// assert_eq!(strata_dockerfile::format(&tree), b"FROM a AS b\n\nRUN x\n");
/// ```
#[must_use]
pub fn format(tree: &SyntaxTree) -> Vec<u8> {
    match std::str::from_utf8(tree.source()) {
        // A byte-order mark elsewhere is text that could become one.
        Ok(text) if text.rfind(BYTE_ORDER_MARK).is_none_or(|at| at == 0) => {}
        _ => return tree.source().to_vec(),
    }
    let mut formatter = Formatter { tree, out: Vec::new(), blank: None, in_header: true };
    formatter.run();
    formatter.out
}

struct Formatter<'a> {
    tree: &'a SyntaxTree,
    out: Vec<u8>,
    /// The line ending of blank lines that are still to be written, as one.
    blank: Option<&'a [u8]>,
    /// Whether no instruction was written yet: where a directive might appear or disappear.
    in_header: bool,
}

impl<'a> Formatter<'a> {
    fn run(&mut self) {
        if self.tree.source().starts_with(BYTE_ORDER_MARK.to_string().as_bytes()) {
            self.out.extend(BYTE_ORDER_MARK.to_string().as_bytes());
        }
        self.lines();
        if !self.is_empty() && !self.out.ends_with(b"\n") {
            self.out.push(b'\n');
        }
    }

    /// Whether nothing was written but a byte-order mark.
    fn is_empty(&self) -> bool {
        self.out.is_empty() || self.out == BYTE_ORDER_MARK.to_string().as_bytes()
    }

    fn lines(&mut self) {
        let mut instructions = self.tree.instructions().iter().peekable();
        let mut lines = self.tree.lines().iter().peekable();
        while let Some(line) = lines.next() {
            let inside = instructions.next_if(|each| line.span.range().contains(&each.span.start));
            match inside {
                Some(instruction) => {
                    let rest = std::iter::from_fn(|| {
                        lines.next_if(|line| line.span.start < instruction.span.end)
                    });
                    let all: Vec<&Line> = std::iter::once(line).chain(rest).collect();
                    self.instruction(instruction, &all);
                }
                None => self.other(line),
            }
        }
    }

    /// A line between instructions.
    fn other(&mut self, line: &Line) {
        let Content { text, ending, .. } = self.split(line.span);
        if line.kind == LineKind::Blank {
            self.blank = self.blank.or(Some(ending));
            return;
        }
        self.blank_line();
        let directive = self
            .tree
            .directives()
            .iter()
            .find(|each| line.span.range().contains(&each.span.start) && text.starts_with('#'));
        match directive {
            Some(directive) => self.directive(directive),
            // Above the first instruction an indented comment is not the same as any other.
            None if self.in_header => self.out.extend(text.trim_end().as_bytes()),
            None => self.out.extend(text.trim().as_bytes()),
        }
        self.out.extend(ending);
    }

    /// A file does not begin with a blank line, unless what follows would become a directive.
    fn blank_line(&mut self) {
        let wanted = !self.is_empty() || self.in_header;
        if let Some(ending) = self.blank.take().filter(|_| wanted) {
            self.out.extend(ending);
        }
    }

    fn directive(&mut self, directive: &Directive) {
        let (name, value) = (directive.name.as_str(), &directive.value);
        self.out.extend(format!("# {name}={value}").as_bytes());
    }

    fn instruction(&mut self, instruction: &Instruction, lines: &[&Line]) {
        if self.is_empty() {
            self.blank = None;
        }
        self.in_header = false;
        self.blank_line();
        for line in lines {
            let Content { start, text, ending } = self.split(line.span);
            match line.kind {
                // An empty line does not end an instruction, it only looks so.
                LineKind::Blank => continue,
                LineKind::HeredocBody | LineKind::HeredocEnd => self.out.extend(text.as_bytes()),
                LineKind::Instruction => self.first_line(instruction, start, text),
                LineKind::Comment | LineKind::Directive => {
                    self.out.extend(text.trim_end().as_bytes());
                }
                LineKind::Continuation => {
                    self.words(instruction, start, without_end(text));
                }
            }
            self.out.extend(ending);
        }
    }

    /// The line with the keyword.
    fn first_line(&mut self, instruction: &Instruction, start: usize, text: &'a str) {
        let keyword = instruction.keyword_span;
        let from = keyword.end - start;
        if keyword.end > start + text.len() {
            // The keyword itself is spread over lines.
            self.out.extend(without_end(text.trim_start_matches(blank)).as_bytes());
            return;
        }
        let written = &text[keyword.start - start..from];
        self.out.extend(
            match instruction.kind {
                Kind::Unknown => written.to_owned(),
                _ => written.to_ascii_uppercase(),
            }
            .as_bytes(),
        );
        let text = without_end(text);
        let rest = &text[from.min(text.len())..];
        let arguments = rest.trim_start_matches(blank);
        if arguments.is_empty() {
            return;
        }
        self.out.push(b' ');
        self.words(instruction, start + text.len() - arguments.len(), arguments);
    }

    /// Text of an instruction that lies at `start`; the only word in it that is ours is `AS`.
    fn words(&mut self, instruction: &Instruction, start: usize, text: &str) {
        let name = match &instruction.kind {
            Kind::From(from) => from.alias.as_ref().map(|alias| (from.image.span.end, alias.span)),
            _ => None,
        };
        let Some((after, name)) = name else {
            self.out.extend(text.as_bytes());
            return;
        };
        let mut at = 0;
        for word in text.split_inclusive(blank) {
            let place = start + at;
            at += word.len();
            let is_as = word.trim_end().eq_ignore_ascii_case("as");
            if is_as && place >= after && place + word.len() <= name.start {
                self.out.extend(word.to_ascii_uppercase().as_bytes());
            } else {
                self.out.extend(word.as_bytes());
            }
        }
    }

    /// A line's text, without the byte-order mark, and its ending.
    fn split(&self, span: Span) -> Content<'a> {
        let bytes = self.tree.source().get(span.range()).unwrap_or_default();
        let ending = match bytes {
            [.., b'\r', b'\n'] => 2,
            // The end of the file, which gets the line feed that makes this one ending.
            [.., b'\n' | b'\r'] => 1,
            _ => 0,
        };
        let (text, ending) = bytes.split_at(bytes.len() - ending);
        let text = std::str::from_utf8(text).unwrap_or_default();
        match text.strip_prefix(BYTE_ORDER_MARK).filter(|_| span.start == 0) {
            Some(rest) => Content { start: text.len() - rest.len(), text: rest, ending },
            None => Content { start: span.start, text, ending },
        }
    }
}

/// One line.
struct Content<'a> {
    start: usize,
    text: &'a str,
    ending: &'a [u8],
}

/// The text without blanks at its end; with them where they keep a carriage return from becoming
/// part of the line's ending.
fn without_end(text: &str) -> &str {
    let trimmed = text.trim_end_matches(blank);
    if trimmed.ends_with('\r') { text } else { trimmed }
}

fn blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t')
}
