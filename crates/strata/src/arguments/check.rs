//! The flags of `strata check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `strata check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Directory that COPY and ADD read
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(crate) context: PathBuf,
    /// The Dockerfile, `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Value of an ARG; without a value, it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// The stage to check, with those that it needs [default: all of them]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// What the image is for, such as linux/arm64 [env: DOCKER_DEFAULT_PLATFORM]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// How findings are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: CheckFormat,
    /// Mend what can be mended without changing what is built, and say what is left
    #[arg(long)]
    pub(crate) fix: bool,
    /// Docker's `ignorestatus`: warnings are no failure.
    #[arg(skip)]
    pub(crate) ignore_status: bool,
}

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// Under the lines that they are about.
    Text,
    /// As `docker build --call=check,format=json` writes them.
    Json,
    /// SARIF 2.1.0, for code hosts and editors.
    Sarif,
}
