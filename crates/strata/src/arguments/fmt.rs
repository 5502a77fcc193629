//! The flags of `strata fmt`.

use std::path::PathBuf;

use clap::Args;

/// `strata fmt`.
#[derive(Debug, Args)]
pub(crate) struct FmtArguments {
    /// The Dockerfiles, `-` for standard input to standard output
    #[arg(value_name = "FILE", default_value = "Dockerfile")]
    pub(crate) files: Vec<PathBuf>,
    /// Write nothing; name the files that are not formatted, and fail if there are any
    #[arg(long)]
    pub(crate) check: bool,
    /// Write nothing; show what would change, and fail if anything would
    #[arg(long)]
    pub(crate) diff: bool,
}
