//! Why a build failed, typed where it happened; the words around it are the program's.

use std::path::PathBuf;

use strata_cas::{StoreError, TreeError, TreePath};
use strata_dockerfile::{Diagnostic, Span};
use strata_exec::{ExecError, Status};
use strata_image::ImageError;
use strata_oci::RegistryError;
use strata_plan::StepIndex;
use strata_scan::ScanError;

use crate::FetchError;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile, or what was asked of it, is wrong.
    #[error("the Dockerfile has errors")]
    Dockerfile(Vec<Diagnostic>),
    /// What was to run again names no step.
    #[error(transparent)]
    NoStep(#[from] crate::NoStep),
    /// A base image could not be had.
    #[error("image `{image}`: {source}")]
    BaseImage {
        /// Its name.
        image: String,
        /// Where the Dockerfile asks for it.
        span: Span,
        /// Why.
        source: BaseImageError,
    },
    /// Something else could not be had.
    #[error("`{what}` can not be fetched: {source}")]
    Fetch {
        /// What, without passwords.
        what: String,
        /// Where the Dockerfile asks for it; empty for a context.
        span: Span,
        /// Why.
        source: FetchError,
    },
    /// A context could not be read.
    #[error("the context{}: {source}", named(context))]
    Context {
        /// Its name; empty for the main one.
        context: String,
        /// Why.
        source: ScanError,
    },
    /// An ignore file could not be understood.
    #[error("the ignore file of the context{}: {message}", named(context))]
    IgnoreFile {
        /// The context's name; empty for the main one.
        context: String,
        /// Line and reason.
        message: String,
    },
    /// A COPY, ADD or mount could not be done.
    #[error("{message}")]
    Copy {
        /// Which words of the Dockerfile.
        span: Span,
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A command failed.
    #[error("`{command}` did not complete successfully: {}", ended(*status))]
    Command {
        /// Which step.
        step: StepIndex,
        /// Which instruction.
        span: Span,
        /// What ran.
        command: String,
        /// How it ended.
        status: Status,
        /// The file with all of its output.
        log: Option<PathBuf>,
    },
    /// A step needs what the user has not allowed.
    #[error("this needs `--allow {entitlement}`")]
    NotAllowed {
        /// Which instruction.
        span: Span,
        /// What it needs.
        entitlement: &'static str,
    },
    /// A mount needs a secret or an ssh agent that the caller has not given.
    #[error("{kind} `{id}` is required and was not given")]
    NotLent {
        /// Which instruction.
        span: Span,
        /// `secret` or `ssh`.
        kind: &'static str,
        /// Its id.
        id: String,
        /// The id of a given one that may be meant.
        nearest: Option<String>,
    },
    /// The user ended the build.
    #[error("cancelled")]
    Cancelled,
    /// An image could not be pushed.
    #[error("push `{name}`: {source}")]
    Push {
        /// Under which name.
        name: String,
        /// Why.
        source: RegistryError,
    },
    /// A layer that is elsewhere could not be fetched.
    #[error("a layer can not be fetched: {0}")]
    Far(RegistryError),
    /// A command could not be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A layer or an image could not be read or written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A tree in the store could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the context changed between scan and use.
    #[error("`{0}` changed while the build was reading it")]
    Changed(TreePath),
    /// The operating system refused.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Split, an image has more layers than engines take.
    #[error("the image would have {count} layers, and engines take {most}")]
    TooManyLayers {
        /// How many.
        count: usize,
        /// How many at most.
        most: usize,
    },
    /// An image from elsewhere is not what it says.
    #[error("the image is not sound: {0}")]
    Unsound(String),
    /// A record or table of the store has something that strata did not write.
    #[error("the store's {what} can not be read: {reason}")]
    Damaged {
        /// Which value.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl BuildError {
    /// The place in the Dockerfile, where there is one.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::BaseImage { span, .. }
            | Self::Fetch { span, .. }
            | Self::Copy { span, .. }
            | Self::Command { span, .. }
            | Self::NotAllowed { span, .. }
            | Self::NotLent { span, .. } => Some(*span),
            _ => None,
        }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    pub(crate) fn copy(span: Span, message: impl Into<String>) -> Self {
        Self::Copy { span, message: message.into(), hint: None }
    }

    pub(crate) fn damaged(what: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |error| Self::Damaged { what, reason: error.to_string() }
    }
}

fn only_for(platforms: &[String]) -> String {
    match platforms.is_empty() {
        true => String::new(),
        false => format!(", only for {}", platforms.join(", ")),
    }
}

fn ended(status: Status) -> String {
    match status {
        Status::Exited(code) => format!("exit code: {code}"),
        Status::Signaled(number) => format!("killed by signal {number}"),
    }
}

fn named(context: &str) -> String {
    if context.is_empty() { String::new() } else { format!(" `{context}`") }
}

/// Why a base image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BaseImageError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layout or archive.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It has no image for the platform.
    #[error("there is none for {wanted}{}", only_for(there))]
    Platform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// Its manifest or config is not one.
    #[error("its {what} is not understood: {reason}")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}
