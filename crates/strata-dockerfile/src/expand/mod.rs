//! Variables, quotes and escapes in a word: `${v:-w}`, `"a $b"`, `\$`.
//!
//! The rules are those of BuildKit's `frontend/dockerfile/shell/lex.go`, which look like a shell's
//! and are not quite. Nothing here knows where values come from: the caller looks them up.

mod lex;
mod pattern;
mod positions;

use std::collections::BTreeSet;

/// Nesting of `${a:-${b:-...}}` beyond this many levels is an error.
pub const DEPTH_MAX: usize = 64;

/// How many bytes the values in one word may have together. A nested `${a//?/${b//?/...}}`
/// multiplies lengths, so without an end a line could ask for more than any memory. Linux takes
/// no argument or variable longer than 128 KiB.
pub const GROWTH_MAX: usize = 1 << 20;

/// What happens to quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quotes {
    /// They guard what they hold and are removed: arguments of instructions.
    #[default]
    Remove,
    /// They guard what they hold and stay: text that is shown.
    Keep,
    /// They are characters like any other: bodies of here-documents.
    Literal,
}

/// Reads words under one set of rules.
///
/// ```
/// use strata_dockerfile::Expander;
///
/// let lookup = |name: &str| (name == "VERSION").then(|| "18".to_owned());
/// let word = Expander::new('\\').word("node:${VERSION}${VARIANT:+-$VARIANT}", &lookup)?;
/// assert_eq!(word, "node:18");
/// # Ok::<(), strata_dockerfile::ExpandError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expander {
    /// The escape character of the file: `\` or a backquote.
    pub escape: char,
    /// What happens to quotes.
    pub quotes: Quotes,
    /// Whether escape characters stay in the result.
    pub keep_escapes: bool,
    /// Whether a variable that is not set stays as written, instead of being empty.
    pub keep_unset: bool,
}

/// Gives a variable's value, or nothing if it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a word became, and which variables that took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The word with everything replaced.
    pub text: String,
    /// The same, split at white space that no quote or escape guards.
    pub words: Vec<String>,
    /// The variables that were set.
    pub used: BTreeSet<String>,
    /// The variables that were not, also where a default stood in for them.
    pub unset: BTreeSet<String>,
}

impl Expander {
    /// The rules for arguments of instructions.
    #[must_use]
    pub const fn new(escape: char) -> Self {
        Self { escape, quotes: Quotes::Remove, keep_escapes: false, keep_unset: false }
    }

    /// The rules for bodies of here-documents, which do not heed the file's escape character.
    #[must_use]
    pub const fn heredoc() -> Self {
        Self { escape: '\\', quotes: Quotes::Literal, keep_escapes: false, keep_unset: false }
    }

    /// The rules for text that is shown: quotes and unknown variables stay as written.
    #[must_use]
    pub const fn display(escape: char) -> Self {
        Self { escape, quotes: Quotes::Keep, keep_escapes: false, keep_unset: true }
    }

    /// The word with its variables replaced.
    ///
    /// # Errors
    ///
    /// If a quote or brace does not close, a `?` modifier strikes, or a modifier is unknown.
    pub fn word(&self, raw: &str, lookup: Lookup<'_>) -> Result<String, ExpandError> {
        self.expand(raw, lookup).map(|expansion| expansion.text)
    }

    /// The words that `raw` is after its variables were replaced.
    ///
    /// # Errors
    ///
    /// As [`Expander::word`].
    pub fn words(&self, raw: &str, lookup: Lookup<'_>) -> Result<Vec<String>, ExpandError> {
        self.expand(raw, lookup).map(|expansion| expansion.words)
    }

    /// The text, the words, and which variables were set and which were not.
    ///
    /// # Errors
    ///
    /// As [`Expander::word`].
    pub fn expand(&self, raw: &str, lookup: Lookup<'_>) -> Result<Expansion, ExpandError> {
        lex::expand(self, raw, lookup)
    }
}

/// Why a word could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpandError {
    /// A quote, brace or slash that was opened is not closed; this is the missing character.
    Unclosed(char),
    /// `${}`, `${:x}` or the like.
    BadSubstitution,
    /// What follows the name in `${name...}` is no modifier we know.
    UnknownModifier(String),
    /// A pattern with a backslash before a character that it cannot escape.
    BadPattern(String),
    /// `${name:?message}` or `${name?message}` of a variable that is not set or is empty.
    Required {
        /// The variable.
        name: String,
        /// The message of the file's author, or ours.
        message: String,
    },
    /// Deeper nesting than [`DEPTH_MAX`].
    TooDeep,
    /// Values with more bytes than [`GROWTH_MAX`].
    TooLong,
}

impl std::fmt::Display for ExpandError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unclosed(missing) => write!(formatter, "missing the closing `{missing}`"),
            Self::BadSubstitution => write!(formatter, "bad substitution: no name in `${{`"),
            Self::UnknownModifier(modifier) => {
                write!(formatter, "unknown modifier `{modifier}` in a substitution")
            }
            Self::BadPattern(pattern) => write!(formatter, "bad escape in pattern `{pattern}`"),
            Self::Required { name, message } => write!(formatter, "`{name}`: {message}"),
            Self::TooDeep => write!(formatter, "more than {DEPTH_MAX} nested substitutions"),
            Self::TooLong => {
                write!(formatter, "the values of its variables are longer than 1 MiB together")
            }
        }
    }
}

impl std::error::Error for ExpandError {}
