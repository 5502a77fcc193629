//! The syntax tree: every byte of the file, sorted into lines, and what the lines mean.

use crate::{Instruction, LineIndex, Position, Span};

/// A Dockerfile that was read. Nothing of the file is lost: its lines, put together, are the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxTree {
    pub(crate) source: Vec<u8>,
    pub(crate) index: LineIndex,
    pub(crate) lines: Vec<Line>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) directives: Vec<Directive>,
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) escape: char,
}

/// One physical line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The line with its line ending; a byte-order mark belongs to the first line.
    pub span: Span,
    /// What the line is for.
    pub kind: LineKind,
}

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineKind {
    /// Nothing but white space, also inside an instruction.
    Blank,
    /// A comment, also inside an instruction.
    Comment,
    /// A parser directive, such as `# syntax=`.
    Directive,
    /// The first line of an instruction.
    Instruction,
    /// A further line of an instruction.
    Continuation,
    /// A line of a here-document's body.
    HeredocBody,
    /// The line that closes a here-document.
    HeredocEnd,
}

/// A comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// What it says, without the `#` and the white space around.
    pub text: String,
    /// From the `#` to the end of the line.
    pub span: Span,
}

/// A parser directive: a comment at the very top that the parser heeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Which one.
    pub name: DirectiveName,
    /// What follows the equals sign.
    pub value: String,
    /// Where that is.
    pub value_span: Span,
    /// From the `#` to the end of the line.
    pub span: Span,
}

/// The directives there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectiveName {
    /// `# syntax=image`: which frontend should read the file.
    Syntax,
    /// `# escape=` and a backslash or a backquote.
    Escape,
    /// `# check=skip=A,B;error=true`: how to check the file.
    Check,
}

impl DirectiveName {
    /// The name as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Escape => "escape",
            Self::Check => "check",
        }
    }
}

impl SyntaxTree {
    /// The file, byte for byte.
    #[must_use]
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// Prints the tree back, line by line: the file, byte for byte.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let lines = self.lines.iter().filter_map(|line| self.source.get(line.span.range()));
        lines.flatten().copied().collect()
    }

    /// The text at `span`; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self, span: Span) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.source.get(span.range()).unwrap_or_default())
    }

    /// The physical lines, in order and without gaps.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// All comments but the directives, also those inside instructions.
    #[must_use]
    pub fn comments(&self) -> &[Comment] {
        &self.comments
    }

    /// The parser directives, in order.
    #[must_use]
    pub fn directives(&self) -> &[Directive] {
        &self.directives
    }

    /// The value of a directive, if it is given.
    #[must_use]
    pub fn directive(&self, name: DirectiveName) -> Option<&Directive> {
        self.directives.iter().find(|directive| directive.name == name)
    }

    /// The escape character: a backslash, unless a directive says otherwise.
    #[must_use]
    pub fn escape(&self) -> char {
        self.escape
    }

    /// The instructions, in order.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Where the lines start.
    #[must_use]
    pub fn line_index(&self) -> &LineIndex {
        &self.index
    }

    /// The 1-based line that holds the byte at `offset`.
    #[must_use]
    pub fn line_of(&self, offset: usize) -> usize {
        self.index.line_of(offset)
    }

    /// The 1-based line and column of the byte at `offset`.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        self.index.position(offset)
    }
}
