//! The flags of `strata replay`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `strata replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// Repository, or a directory of its checkout, which is the build context then
    #[arg(value_name = "REPO", default_value = ".")]
    pub(crate) repository: PathBuf,
    /// Commits: `A..B`, `A..`, or one that is the newest [default: HEAD]
    #[arg(long, value_name = "A..B")]
    pub(crate) range: Option<String>,
    /// Only the newest N of them [default: 200, or all of a range that has a beginning]
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// In which order commits are built
    #[arg(long, value_name = "ORDER", default_value = "first-parent")]
    pub(crate) order: ReplayOrder,
    /// The Dockerfile in the repository [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The build context in the repository [default: REPO's place in its checkout]
    #[arg(long, value_name = "DIR")]
    pub(crate) context: Option<PathBuf>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Value of an ARG; without a value, it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// What the image is for, such as linux/arm64 [env: DOCKER_DEFAULT_PLATFORM]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Which scheme's hits the details and gates are about
    #[arg(long, value_name = "SCHEME", default_value = "strata")]
    pub(crate) keys: ReplayKeys,
    /// How the report is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ReplayFormat,
    /// File that the report is written to [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) what_if: WhatIfArguments,
    #[command(flatten)]
    pub(crate) policies: PolicyArguments,
    #[command(flatten)]
    pub(crate) execution: ExecutionArguments,
    /// Take what steps cost from this store's builds where it has them, not from the model
    #[arg(long)]
    pub(crate) measured: bool,
    /// Fail with exit code 1 if fewer steps hit, in per cent
    #[arg(long, value_name = "PERCENT")]
    pub(crate) fail_under: Option<String>,
    /// Compare with an earlier report (JSON); fail with exit code 1 if steps, time or builds
    /// without RUN got worse
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
}

/// Counterfactuals of `strata replay`.
#[derive(Debug, Args)]
#[command(next_help_heading = "What if")]
pub(crate) struct WhatIfArguments {
    /// Replay with this Dockerfile in place of each commit's
    #[arg(long, value_name = "FILE")]
    pub(crate) what_if: Option<PathBuf>,
    /// Replay with this ignore file in place of each commit's
    #[arg(long, value_name = "FILE")]
    pub(crate) what_if_ignore: Option<PathBuf>,
    /// Replay with this line at the end of each commit's ignore file
    #[arg(long, value_name = "PATTERN")]
    pub(crate) ignore: Vec<String>,
    /// Replay with what changes seldom before what changes often
    #[arg(long)]
    pub(crate) reorder: bool,
    /// Replay with the files that name dependencies copied, and those installed, before the rest
    #[arg(long)]
    pub(crate) split_copy: bool,
    /// Search for the few changes that bring most, and write them as a patch
    #[arg(long)]
    pub(crate) advise: bool,
}

/// Caches of limited size.
#[derive(Debug, Args)]
#[command(next_help_heading = "Policies")]
pub(crate) struct PolicyArguments {
    /// Compare eviction policies on the same requests
    #[arg(long)]
    pub(crate) policies: bool,
    /// Sizes of the cache, in per cent of what one build of each repository needs
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_value = "25,50,100,200")]
    pub(crate) capacity: Vec<u64>,
    /// More repositories that share the cache
    #[arg(long, value_name = "REPO")]
    pub(crate) and: Vec<PathBuf>,
    /// How builds of several repositories follow each other
    #[arg(long, value_name = "HOW", default_value = "bursty")]
    pub(crate) interleave: ReplayInterleaving,
}

/// Builds that really run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Real builds")]
pub(crate) struct ExecutionArguments {
    /// Build N commits for real, evenly spread, in the store (`--store`), and compare with what
    /// the replay predicts
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10"
    )]
    pub(crate) execute: Option<usize>,
    /// Run so many of a hundred hits again, to see whether they give the same
    #[arg(long, value_name = "PERCENT[%]", requires = "execute")]
    pub(crate) audit: Option<String>,
    /// Another builder's command for the same commits, such as `docker buildx build`; the
    /// Dockerfile and the context are added to it
    #[arg(long, value_name = "COMMAND", requires = "execute")]
    pub(crate) with: Option<String>,
}

/// How builds of several repositories follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayInterleaving {
    /// About eight builds of one, then another.
    Bursty,
    /// One of each in turn.
    RoundRobin,
}

/// In which order commits are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayOrder {
    /// The main line.
    FirstParent,
    /// All commits by date.
    Date,
    /// All commits, branch after branch.
    Topo,
}

/// Which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayKeys {
    /// The classic builder's.
    Classic,
    /// BuildKit's.
    Buildkit,
    /// strata's without early cutoff.
    StrataDefinition,
    /// strata's.
    Strata,
    /// strata's with every COPY as with `--link`.
    StrataLink,
    /// An estimate of what read sets would give.
    ReadSetEstimate,
}

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayFormat {
    /// For a terminal.
    Text,
    /// For programs.
    Json,
    /// One page for a browser, with plots.
    Html,
    /// Chrome's trace format, for Perfetto.
    Trace,
}
