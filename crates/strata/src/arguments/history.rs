//! The flags of the commands that look back at builds.

use clap::Args;

use super::Format;

/// `strata builds`.
#[derive(Debug, Args)]
pub(crate) struct BuildsArguments {
    /// How the list is written; JSON has one object a line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// `strata why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArguments {
    /// A step: its number, `stage.number`, or a part of its text [default: all of them]
    #[arg(value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Which build: its id, or a number that counts back from 1, the latest
    #[arg(long, value_name = "N|ID", default_value = "1")]
    pub(crate) build: String,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// `strata stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArguments {
    /// Only projects whose name has this in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) project: Option<String>,
    /// Only the newest N builds of each project
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}
