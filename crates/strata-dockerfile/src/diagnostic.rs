//! What is wrong with a Dockerfile, as data.
//!
//! Nothing is drawn here: the program puts the message over the source line, the label beside the
//! carets and the hint below.

use crate::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file can be built, but it may not mean what its author thinks.
    Warning,
    /// The file cannot be built.
    Error,
}

/// One finding: what, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the build.
    pub severity: Severity,
    /// A stable name: kebab case for our own, the rule's name (`NoEmptyContinuation`) where the
    /// finding is one of the checks that `docker build --check` knows.
    pub code: &'static str,
    /// One sentence in lower case without a final stop; literals are in backquotes.
    pub message: String,
    /// The text it is about.
    pub span: Span,
    /// A few words for beside the carets.
    pub label: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What mends it without changing what is built; nothing where only a person can tell.
    pub fix: Vec<Edit>,
}

/// Other text in a place of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The text that goes.
    pub span: Span,
    /// The text that comes.
    pub text: String,
}

impl Diagnostic {
    /// A finding that stops the build.
    #[must_use]
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, span, message.into())
    }

    /// A finding that does not.
    #[must_use]
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, span, message.into())
    }

    fn new(severity: Severity, code: &'static str, span: Span, message: String) -> Self {
        Self { severity, code, message, span, label: None, hint: None, fix: Vec::new() }
    }

    /// The same with a few words beside the carets.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with advice, if there is any.
    #[must_use]
    pub fn hint_if(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// The same, and other text in this place mends it.
    #[must_use]
    pub fn fix(mut self, span: Span, text: impl Into<String>) -> Self {
        self.fix.push(Edit { span, text: text.into() });
        self
    }

    /// Whether the finding stops the build.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
