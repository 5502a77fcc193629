//! The flags of `strata cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

/// `strata cache`.
#[derive(Debug, Args)]
pub(crate) struct CacheArguments {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

/// What is done with cache mounts.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List cache mounts
    #[command(visible_alias = "list")]
    Ls {
        /// How the list is written; JSON has one object a line
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        format: Format,
    },
    /// Write cache mounts to a tar, to import it on another machine
    Export {
        /// Their ids, or their keys as `ls` shows them [default: all]
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// The file; `-` for standard output. A name that ends in `.zst` is compressed
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Take in cache mounts that `export` wrote, or a tar of one cache's files
    Import {
        /// The tar, or a tar compressed with zstd; `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The cache that a tar from elsewhere is for
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// Throw away what is in a cache of that name
        #[arg(long)]
        replace: bool,
    },
    /// Remove cache mounts
    #[command(visible_alias = "remove")]
    Rm {
        /// Their ids, or their keys as `ls` shows them
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,
        /// Every one
        #[arg(short, long)]
        all: bool,
    },
}
