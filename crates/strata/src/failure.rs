//! Why a command came to nothing, in words, with the exit code that a script sees.

use strata_dockerfile::Diagnostic;

use crate::request::Dockerfile;

/// The build or the check failed.
pub const EXIT_BUILD: u8 = 1;
/// The command line, or a file that it names, is wrong.
pub const EXIT_USAGE: u8 = 2;
/// The machine or the network is in the way.
pub const EXIT_ENVIRONMENT: u8 = 3;
/// strata is wrong: what a panic ends with.
pub const EXIT_BUG: u8 = 101;

/// Whose matter it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The build's.
    Build,
    /// The command line's.
    Usage,
    /// The machine's or the network's.
    Environment,
    /// The user's, who sent this signal.
    Signal(u8),
}

/// A failure in words.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// One sentence, lower case, no final full stop.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// Where in the Dockerfile; drawn in place of the message.
    pub(crate) places: Option<Box<Places>>,
    /// Lines to show first, such as the end of a command's output.
    pub(crate) before: Vec<String>,
    /// What else there is to know.
    pub(crate) notes: Vec<String>,
}

/// What is wrong in a Dockerfile, and the Dockerfile for drawing it.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) source: Dockerfile,
    /// At least one.
    pub(crate) findings: Vec<Diagnostic>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            places: None,
            before: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }

    /// What a plain `io::Error` means for a file that the user named.
    pub(crate) fn file(action: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::NotADirectory
            | std::io::ErrorKind::IsADirectory => Kind::Usage,
            _ => Kind::Environment,
        };
        Self::new(kind, format!("cannot {action} `{}`: {}", path.display(), plain(error)))
    }

    /// The same, with the flag that it is about.
    pub(crate) fn about(self, flag: &str) -> Self {
        Self { message: format!("`{flag}`: {}", self.message), ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn hint_if(self, hint: Option<String>) -> Self {
        Self { hint: hint.or(self.hint), ..self }
    }

    /// The same, drawn at places of the Dockerfile.
    pub(crate) fn at(self, source: &Dockerfile, findings: Vec<Diagnostic>) -> Self {
        Self { places: Some(Box::new(Places { source: source.clone(), findings })), ..self }
    }

    pub(crate) fn code(&self) -> u8 {
        match self.kind {
            Kind::Build => EXIT_BUILD,
            Kind::Usage => EXIT_USAGE,
            Kind::Environment => EXIT_ENVIRONMENT,
            Kind::Signal(number) => 128_u8.saturating_add(number),
        }
    }
}

/// The system's words without the number of the error.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "unknown reason".to_owned(),
    }
}
