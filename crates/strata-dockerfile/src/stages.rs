//! What can only be said about the whole file: that it has stages, and that all else is in them.

use crate::diagnostic::Diagnostic;
use crate::{Keyword, Span, SyntaxTree};

/// Reports instructions before the first `FROM`, and files without any.
pub(crate) fn check(tree: &SyntaxTree, diagnostics: &mut Vec<Diagnostic>) {
    let instructions = tree.instructions();
    let stray = instructions.iter().take_while(|each| each.keyword != Keyword::From);
    let mut stray = stray.filter(|each| !matches!(each.keyword, Keyword::Arg | Keyword::Unknown));
    if let Some(stray) = stray.next() {
        let message =
            format!("no build stage in current context: `{}` is not in one", stray.keyword);
        let diagnostic = Diagnostic::error("no-build-stage", stray.keyword_span, message)
            .hint("a stage begins with `FROM <image>`; only `ARG` may come before the first one");
        diagnostics.push(diagnostic);
    } else if instructions.is_empty() {
        let message = "file with no instructions";
        let diagnostic = Diagnostic::error("no-instructions", Span::default(), message);
        diagnostics.push(diagnostic.hint("begin with `FROM <image>`"));
    } else if !instructions.iter().any(|each| each.keyword == Keyword::From)
        && !diagnostics.iter().any(Diagnostic::is_error)
    {
        let last = instructions.last().map_or_else(Span::default, |last| last.span);
        let message = "dockerfile contains no stages to build";
        let diagnostic = Diagnostic::error("no-build-stage", last, message);
        diagnostics.push(diagnostic.hint("a stage begins with `FROM <image>`"));
    }
}
