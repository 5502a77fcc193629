//! The flags of the commands that deal with the store as a whole.

use clap::Args;

use super::Format;

/// `strata du`.
#[derive(Debug, Args)]
pub(crate) struct DuArguments {
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// `strata prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Also what the latest builds use, up to what named images need
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only what fits: `until=24h`, `until=2026-01-31`, `type=record`, `project=DIR`
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Stop when the store takes no more than this, such as `20GB`
    #[arg(long, value_name = "SIZE", alias = "keep-storage", alias = "reserved-space")]
    pub(crate) max_used_space: Option<String>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// `strata fsck`.
#[derive(Debug, Args)]
pub(crate) struct FsckArguments {
    /// Mend what is found: what is damaged is removed and made again when it is needed
    #[arg(long)]
    pub(crate) repair: bool,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}
