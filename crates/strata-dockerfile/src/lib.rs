//! Reads a Dockerfile without loss and says what is wrong with it, and where.
//!
//! [`parse`] takes bytes and always answers: a [`SyntaxTree`] that prints back as those very
//! bytes, and the [`Diagnostic`]s found on the way. A file with errors still has a tree, so that an
//! editor or a linter can work on it; a builder stops at the first [`Severity::Error`].
//!
//! The decision behind it: **the meaning is BuildKit's, to the byte.** Whatever BuildKit's frontend
//! hands to `/bin/sh -c`, keeps of a here-document, or takes for a variable, this crate does
//! too, oddities included, because a cache that answers for `docker build` must mean the same file.
//! Where a file is likely to mean something else than its author thinks, that is a warning, not a
//! different reading.
//!
//! Arguments stay as written: each is a [`Word`] with its place. Replacing variables is the job of
//! [`Expander`], with values from whoever knows them. Nothing here reads a file, a clock or an
//! environment, and nothing is ever printed.
//!
//! ```
//! use strata_dockerfile::{Kind, parse};
//!
//! let source = b"FROM node:18 AS build\nRUN npm ci && \\\n    npm test\n";
//! let parse = parse(source);
//! assert!(parse.diagnostics.is_empty());
//! assert_eq!(parse.tree.to_bytes(), source);
//!
//! let Kind::From(from) = &parse.tree.instructions()[0].kind else { unreachable!() };
//! assert_eq!(from.image.raw, "node:18");
//! assert_eq!(parse.tree.instructions()[1].original, "RUN npm ci &&     npm test");
//! ```

mod cache_comment;
mod check;
mod diagnostic;
mod duration;
pub mod expand;
mod fix;
mod flags;
mod format;
mod frontend;
mod heredoc;
mod instruction;
mod json;
mod keyword;
mod mount;
mod parser;
mod read;
mod span;
mod stages;
mod suggest;
mod tree;
mod word;

pub use check::{
    BaseImage, CHECK_ARGUMENT, CheckReport, CheckRequest, INVALID_CHECK_OPTION, Origin, Outline,
    OutlineArgument, OutlineMount, Rule, Shipped, ShippedKind, Target, check, outline,
    sounds_secret, targets,
};
pub use diagnostic::{Diagnostic, Edit, Severity};
pub use duration::read as parse_duration;
pub use expand::{ExpandError, Expander, Expansion, GROWTH_MAX, Quotes};
pub use fix::fixed;
pub use format::format;
pub use frontend::{FOREIGN_FRONTEND, SYNTAX_ARGUMENT, foreign_frontend};
pub use heredoc::Heredoc;
pub use instruction::{
    AddArgs, Check, CommandForm, CopyArgs, Declaration, Files, FromArgs, Healthcheck, Instruction,
    Kind, Network, Onbuild, Pair, RunArgs, Script, Security,
};
pub use keyword::Keyword;
pub use mount::{ExpandValue, Mount, MountKey, MountOption, MountSpec, Sharing};
pub use parser::Parse;
pub use span::{LineIndex, Position, Span, Spanned};
pub use suggest::suggest;
pub use tree::{Comment, Directive, DirectiveName, Line, LineKind, SyntaxTree};
pub use word::Word;

/// Reads a Dockerfile.
#[must_use]
pub fn parse(source: &[u8]) -> Parse {
    parser::parse(source)
}

/// Reads the trigger of an `ONBUILD`, as a base image's config keeps it: one instruction alone.
#[must_use]
pub fn parse_trigger(source: &[u8]) -> Parse {
    parser::parse_trigger(source)
}
